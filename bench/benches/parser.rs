//! The parser of exposition text, beside other parsers on the same bytes: `cargo bench -p bench
//! --bench parser`. Prints a Markdown table.
//!
//! Each round runs every reader once, so that other load on the machine affects all of them.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use exporter_proxy::exposition::{Families, InputFormat, Labels, ParsedLine, Parser, TextLimits};

const APPS: usize = 1_000;
const SERIES: usize = 100;
const ROUNDS: usize = 15;
/// Rounds for readers that take seconds.
const SLOW_ROUNDS: usize = 3;

/// Reads the texts and returns the number of samples (or lines).
type Reader = fn(&[String]) -> usize;

fn main() {
    if !bench::is_measuring() {
        return;
    }
    let texts: Vec<String> = (0..APPS).map(app).collect();
    let bytes: usize = texts.iter().map(String::len).sum();
    let readers: [(&str, usize, Reader); 6] = [
        ("count lines, `memchr`", ROUNDS, count_lines),
        ("`Parser`", ROUNDS, parser),
        ("`Parser`, labels sorted", ROUNDS, parser_sorting),
        ("`Families`", ROUNDS, families),
        ("crate `prometheus-parse`", SLOW_ROUNDS, prometheus_parse),
        (
            "crate `openmetrics-parser`",
            SLOW_ROUNDS,
            openmetrics_parser,
        ),
    ];
    let mut times = vec![Vec::new(); readers.len()];
    for round in 0..ROUNDS {
        for ((name, rounds, read), times) in readers.iter().zip(&mut times) {
            if round >= *rounds {
                continue;
            }
            let start = Instant::now();
            let seen = black_box(read(black_box(&texts)));
            times.push(start.elapsed());
            assert!(seen >= APPS * SERIES, "{name} saw {seen}");
        }
    }

    println!("{APPS} apps x {SERIES} series, {bytes} bytes, one core\n");
    println!("| Reader | best | median | ns a line, median | times `Parser` |");
    println!("| --- | --- | --- | --- | --- |");
    let parser = median(&mut times[1]);
    for ((name, ..), times) in readers.iter().zip(&mut times) {
        let median = median(times);
        let lines = (APPS * (SERIES + 2)) as f64;
        println!(
            "| {name} | {:.0} MB/s | {:.0} MB/s | {:.1} | {:.2} |",
            rate(bytes, times[0]),
            rate(bytes, median),
            median.as_secs_f64() * 1e9 / lines,
            median.as_secs_f64() / parser.as_secs_f64(),
        );
    }
}

/// Parses and sorts the labels of each sample.
fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn rate(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64() / 1e6
}

/// The text of one app.
fn app(number: usize) -> String {
    let mut text = String::from(
        "# HELP load_requests_total Requests handled.\n# TYPE load_requests_total counter\n",
    );
    for series in 0..SERIES {
        let value = 1_234_567 + number * 7 + series;
        writeln!(
            text,
            "load_requests_total{{app=\"load_{number:05}\",code=\"200\",\
             handler=\"/api/v1/items\",series=\"{series:04}\"}} {value}"
        )
        .expect("writing to a String cannot fail");
    }
    text
}

fn count_lines(texts: &[String]) -> usize {
    texts
        .iter()
        .map(|text| memchr::memchr_iter(b'\n', text.as_bytes()).count())
        .sum()
}

fn parser(texts: &[String]) -> usize {
    read(texts, |_| {})
}

fn parser_sorting(texts: &[String]) -> usize {
    read(texts, Labels::sort)
}

fn read<'t>(texts: &'t [String], mut each: impl FnMut(&mut Labels<'t>)) -> usize {
    let mut labels = Labels::new();
    let mut samples = 0;
    for text in texts {
        let mut parser = Parser::new(text, InputFormat::Text);
        while let Some(entry) = parser.next(&mut labels).expect("a valid text") {
            if let ParsedLine::Sample(sample) = entry {
                each(&mut labels);
                black_box((sample, &labels));
                samples += 1;
            }
        }
    }
    samples
}

fn families(texts: &[String]) -> usize {
    texts
        .iter()
        .map(|text| {
            let families = Families::parse(text, InputFormat::Text, &TextLimits::default());
            black_box(families).expect("a valid text").samples()
        })
        .sum()
}

fn prometheus_parse(texts: &[String]) -> usize {
    texts
        .iter()
        .map(|text| {
            let lines = text.lines().map(|line| Ok(line.to_owned()));
            let scrape = prometheus_parse::Scrape::parse(lines);
            black_box(scrape).expect("a valid text").samples.len()
        })
        .sum()
}

fn openmetrics_parser(texts: &[String]) -> usize {
    texts
        .iter()
        .map(|text| {
            let exposition = openmetrics_parser::prometheus::parse_prometheus(text);
            let exposition = black_box(exposition).expect("a valid text");
            let families = exposition.families.values();
            families
                .map(|family| family.iter_samples().count())
                .sum::<usize>()
        })
        .sum()
}
