//! Texts to compare: small ones for each rule, and mutants of all.

use exporter_proxy::exposition::InputFormat;

/// For each rule of text 0.0.4, texts that keep it and texts that break it.
pub const TEXT: &[&str] = &[
    "",
    "\n",
    "m 1",
    "m 1\n",
    " \t\n",
    " m 1\n",
    "m 1 \n",
    "m 1 2 \n",
    "m 1\t2\n",
    "m 1 -2\n",
    "m 1 +2\n",
    "m 1 2.5\n",
    "m 1 9223372036854775807\n",
    "m 1 9223372036854775808\n",
    "m 1 2 3\n",
    "m\n",
    "m \n",
    "m {} 1\n",
    "m{}1\n",
    "m-5\n",
    "m{a=\"b\"}\n",
    "m{a=\"b\" c=\"d\"} 1\n",
    "m{,} 1\n",
    "m{a=\"b\",,} 1\n",
    "m{a=\"b\",} 1\n",
    "m{a=\"b\n\"} 1\n",
    "m{a=\"b\\x\"} 1\n",
    "m{a=\"b} 1\n",
    "m{a=b} 1\n",
    "m{a:b=\"c\"} 1\n",
    "m{1=\"c\"} 1\n",
    "m{a=\"b\"} {c=\"d\"} 1\n",
    "m{a=\"1\",a=\"1\"} 1\n",
    "m{a=\"1\",\"a\"=\"2\"} 1\n",
    "m{__name__=\"n\"} 1\n",
    "m{\"__name__\"=\"n\"} 1\n",
    "m{\"\"=\"n\"} 1\n",
    "m{\"n\"} 1\n",
    "{} 1\n",
    "{\"\"} 1\n",
    "{m} 1\n",
    "{\"m\",\"n\"} 1\n",
    "{\"m\" a=\"b\"} 1\n",
    "{\"m\",a=\"b\"} 1\n",
    "{\"a\"=\"b\",\"m\"} 1\n",
    "{\"m\\x\"} 1\n",
    "{\"m\\n\"} 1\n",
    "{\"m\\n\",\"l\\\\\\\"\"=\"v\"} 1\n",
    "{\"m\0\"} 1\n",
    "\"m\" 1\n",
    "m{a=\"\0\"} 1\n",
    "m\0 1\n",
    "\0m 1\n",
    "m 1\0\n",
    "# HELP m \0\n",
    "# comment \0\nm 1\n",
    "#comment \0\nm 1\n",
    "m 1\r\n",
    "# HELP m a\r\nn 1\n",
    "# comment\r\nn 1\n",
    "\r\n",
    "1m 1\n",
    "é 1\n",
    "m.n 1\n",
    "# HELP m a\\b\n",
    "# HELP m a\\\n",
    "# HELP m a\\\\b\\nc\\\"d\n",
    "# HELP m a\n# HELP m b\n",
    "# HELP m\n# HELP m b\n",
    "# HELP m \n# HELP m b\n# HELP m \n",
    "# HELP m a\nm 1\n# HELP m a\n",
    "# HELP 1m a\n",
    "# HELP m\"n\" a\n",
    "# HELP m.n a\n",
    "# HELP \n",
    "# HELP\n",
    "#HELP m a\n#HELP m a\n",
    "#TYPE m gauge\nm 1\n",
    "#TYPE m COUNTER\nm 1\n",
    "# TYPE m\n",
    "# TYPE m \n",
    "# TYPE m\nm 1\n",
    "# TYPE m\n# TYPE m gauge\nm 1\n# TYPE m\t\n",
    "# TYPE \n",
    "# TYPE\t\nm 1\n",
    "# TYPE \"m.n\"\nm 1\n",
    "# HELP \t\nm 1\n",
    "# TYPE m gauge \n",
    "# TYPE m  gauge\n",
    "# TYPE\tm\tgauge\n",
    "# TYPE m Gauge\n",
    "# TYPE m unknown\n",
    "# TYPE m info\n",
    "# TYPE m gaugehistogram\n",
    "# TYPE m gauge_histogram\n",
    "# TYPE m gauge\n# TYPE m gauge\n",
    "# TYPE m gauge\n# TYPE m counter\n",
    "m 1\n# TYPE m untyped\n",
    "# TYPE m summary\n# TYPE m_sum gauge\n",
    "# TYPE m summary\n# HELP m_sum a\n# HELP m b\n",
    "# TYPE m histogram\nm_bucket{le=\"x\"} 1\n",
    "# TYPE m histogram\nm_bucket{le=\"1\"} -1\n",
    "# TYPE m histogram\nm_bucket{le=\"1\"} -0\n",
    "# TYPE m histogram\nm{le=\"1\"} -1\n",
    "# TYPE m histogram\nm_count -1\n",
    "# TYPE m histogram\nm_count NaN\n",
    "# TYPE m histogram\nm_count -Inf\n",
    "# TYPE m histogram\nm_sum{le=\"x\"} 1\n",
    "# TYPE m histogram\nm_bucket{le=\"1\",le=\"2\"} 1\n",
    "# TYPE m summary\nm{quantile=\"x\"} 1\n",
    "# TYPE m summary\nm{quantile=\"1_0\"} 1\n",
    "# TYPE _sum summary\n_sum_count 1\n_sum 1\n",
    "m 1\nm 2\n",
    "m{a=\"1\",b=\"2\"} 1\nm{b=\"2\",a=\"1\"} 1\n",
    "m 1 1\nm 1 2\n",
    "m 1 2\nm 1 1\n",
    "m 1 1\nm 2 1\n",
    "m 1\nm 2 1\n",
    "m 1 1\nn 1 1\nm 2 2\nm 3 1\n",
    "# UNIT m_seconds seconds\n# EOF\nm 1\n",
];

/// Values in either format.
pub const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "+1",
    "1.",
    ".1",
    ".",
    "-.5",
    "1e5",
    "1E5",
    "1e+5",
    "1e-5",
    "1e",
    "e1",
    "1e400",
    "-1e400",
    "1e-400",
    "1e308",
    "4.9e-324",
    "1_0",
    "0x1",
    "0x1p4",
    "0b1",
    "0o7",
    "1f",
    "1p2",
    "NaN",
    "nan",
    "+NaN",
    "-nan",
    "Inf",
    "+Inf",
    "-inf",
    "infinity",
    "-INFINITY",
    "infinit",
    "Infinity1",
    "9007199254740993",
    "0.1234567890123456789",
    "123456789012345.6",
    "--1",
    "1,0",
    "\u{661}",
    "true",
    "00012",
    "1234609",
    "179769313486231580000000000000",
];

/// For each rule of OpenMetrics, texts that keep it and texts that break it.
pub const OPEN_METRICS: &[&str] = &[
    "",
    "\n",
    "m 1\n",
    "m 1\n# EOF\n",
    "m 1\n# EOF",
    "m 1\n# EOF\n\n",
    "m 1\n# EOF\0\n",
    "m 1\n# EOF\nm 1\n",
    "m 1\n# EOFx\n",
    "m 1\n#EOF\n",
    "m 1\n\n# EOF\n",
    " m 1\n# EOF\n",
    "m  1\n# EOF\n",
    "m\t1\n# EOF\n",
    "m 1 \n# EOF\n",
    "m 1  2\n# EOF\n",
    "m 1 2 \n# EOF\n",
    "m 1 2 3\n# EOF\n",
    "m 1 -2.5\n# EOF\n",
    "m 1 NaN\n# EOF\n",
    "m 1 1e300\n# EOF\n",
    "m 1 1e500\n# EOF\n",
    "m\n# EOF\n",
    "m{} 1\n# EOF\n",
    "m{}1\n# EOF\n",
    "m {} 1\n# EOF\n",
    "m{ a=\"b\"} 1\n# EOF\n",
    "m{a=\"b\", c=\"d\"} 1\n# EOF\n",
    "m{a=\"b\",} 1\n# EOF\n",
    "m{,} 1\n# EOF\n",
    "m{a=\"b\"c=\"d\"} 1\n# EOF\n",
    "m{a=\"b\\x\"} 1\n# EOF\n",
    "m{a=\"b\\\\\\\"\\n\"} 1\n# EOF\n",
    "m{a=\"b\n\"} 1\n# EOF\n",
    "{\"m\nn\"} 1\n# EOF\n",
    "m{a=\"\0\"} 1\n# EOF\n",
    "{\"m\0\"} 1\n# EOF\n",
    "{\"m\"} 1\n# EOF\n",
    "{\"m\",a=\"b\"} 1\n# EOF\n",
    "{a=\"b\",\"m\"} 1\n# EOF\n",
    "{a=\"b\",\"m\",} 1\n# EOF\n",
    "{\"m\",\"n\"} 1\n# EOF\n",
    "{a=\"b\"} 1\n# EOF\n",
    "{\"\"} 1\n# EOF\n",
    "m{\"n\"} 1\n# EOF\n",
    "m{a=\"1\",a=\"2\"} 1\n# EOF\n",
    "m{__name__=\"n\"} 1\n# EOF\n",
    "m 1 # {} 1\n# EOF\n",
    "m 1 # {a=\"b\"} 1 2\n# EOF\n",
    "m 1 3 # {a=\"b\"} 1 2\n# EOF\n",
    "m 1 # {a=\"b\"}\n# EOF\n",
    "m 1 # {a=\"b\"} 1 NaN\n# EOF\n",
    "m 1 # {a=\"b\"} 1 2 3\n# EOF\n",
    "m 1 # {a=\"b\"} x\n# EOF\n",
    "m 1 # {\"a\"} 1\n# EOF\n",
    "m 1 # {a=\"b\",} 1\n# EOF\n",
    "m 1 # {a=\"b\"c=\"d\"} 1\n# EOF\n",
    "m 1 # {a=\"b\\y\"} 1\n# EOF\n",
    "m 1 #{a=\"b\"} 1\n# EOF\n",
    "m 1 # a\n# EOF\n",
    "m 1 # {__name__=\"n\"} 1\n# EOF\n",
    "m 1 # {a=\"b\",a=\"b\"} 1\n# EOF\n",
    "# comment\n# EOF\n",
    "#\n# EOF\n",
    "# HELP m\n# EOF\n",
    "# HELP \"\" a\n# EOF\n",
    "# HELP m \n# EOF\n",
    "# HELP  m a\n# EOF\n",
    "# HELP m a\\b\n# EOF\n",
    "# HELP m a\\\n# EOF\n",
    "# HELP m a\n# HELP m a\n# EOF\n",
    "# HELP m \n# HELP m \n# EOF\n",
    "# HELP m \n# HELP m a\n# EOF\n",
    "# UNIT m \n# UNIT m \n# EOF\n",
    "# TYPE m\n# EOF\n",
    "# TYPE m \n# EOF\n",
    "# HELP m a\r\n# EOF\n",
    "# HELP \"m.n\" a\n# EOF\n",
    "# HELP m",
    "# TYPE m counter\n# TYPE m gauge\n# EOF\n",
    "m 1\n# TYPE m gauge\n# EOF\n",
    "# TYPE m untyped\n# EOF\n",
    "# TYPE m  gauge\n# EOF\n",
    "# TYPE m gauge \n# EOF\n",
    "# TYPE m histogram\nm_bucket{le=\"x\"} 1\n# EOF\n",
    "# TYPE m histogram\nm_count -1\n# EOF\n",
    "# UNIT m_seconds seconds\n# UNIT m_seconds seconds\n# EOF\n",
    "# UNIT m seconds\n# EOF\n",
    "# UNIT seconds seconds\n# EOF\n",
    "# UNIT m \n# EOF\n",
    "# UNIT m\n# EOF\n",
    "m 1\nm 2\n# EOF\n",
    "m 1 1\nm 2 2\n# EOF\n",
    "m 1 2\nm 2 1\n# EOF\n",
    "m 1 1\nm 2 1.000\n# EOF\n",
    "m 1\nm 2 1\n# EOF\n",
    "m 1\r\n# EOF\r\n",
];

/// Text that a mutation inserts: tokens with a meaning for parsers.
const PIECES: &[&str] = &[
    "\n",
    " ",
    "\t",
    "\r",
    "\0",
    "{",
    "}",
    "\"",
    "\\",
    "\\n",
    ",",
    "=",
    "#",
    "# ",
    "# TYPE ",
    "# HELP ",
    "# UNIT ",
    "# EOF\n",
    ":",
    "_",
    ".",
    "-",
    "1",
    "9",
    "e",
    "é",
    "m",
    "_sum",
    "_count",
    "_bucket",
    "_total",
    "le=\"1\",",
    "quantile=\"x\"",
    "\"n\"",
    " # {} 1",
    "NaN",
    " 1",
    "{}",
];

/// `rounds` mutants of a text, the same in each run.
pub fn mutants(text: &str, seed: u64, rounds: usize) -> Vec<String> {
    let mut random = Random(seed | 1);
    (0..rounds)
        .map(|_| {
            let mut mutant = text.to_owned();
            for _ in 0..=random.below(2) {
                mutate(&mut mutant, &mut random);
            }
            mutant
        })
        .collect()
}

fn mutate(text: &mut String, random: &mut Random) {
    let at = edge(text, random);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    match random.below(7) {
        0 | 1 => text.insert_str(at, PIECES[random.below(PIECES.len())]),
        2 if at < text.len() => {
            text.remove(at);
        }
        3 if at < text.len() => {
            text.remove(at);
            text.insert_str(at, PIECES[random.below(PIECES.len())]);
        }
        4 if !lines.is_empty() => {
            let mut lines = lines.clone();
            lines.insert(
                random.below(lines.len() + 1),
                lines[random.below(lines.len())],
            );
            *text = lines.concat();
        }
        5 if !lines.is_empty() => {
            let mut lines = lines.clone();
            let moved = lines.remove(random.below(lines.len()));
            lines.insert(random.below(lines.len() + 1), moved);
            *text = lines.concat();
        }
        _ => {
            let end = floor(text, at + random.below(4));
            text.replace_range(at..end.max(at), "");
        }
    }
}

fn edge(text: &str, random: &mut Random) -> usize {
    floor(text, random.below(text.len() + 1))
}

/// The last character boundary up to `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

pub fn as_word(format: InputFormat) -> &'static str {
    match format {
        InputFormat::Text => "text",
        InputFormat::OpenMetrics => "openmetrics",
    }
}

/// Marsaglia's xorshift: the same texts on every machine and in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}
