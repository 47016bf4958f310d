//! One line of StatsD, with DogStatsD's additions.
//!
//! ```text
//! name:value|type|@rate|#tag:value,tag
//! name:value:value|type                     packed: DogStatsD
//! name:value|type:value|type|@rate          etsy's StatsD
//! ```
//!
//! Values before a type share it, as DogStatsD packs them. A colon after a type
//! or a rate begins the next value, with a type of its own, as in etsy's
//! StatsD: each of these is a message of its own, see [`cut`]. Tags hold for
//! the whole line.
//!
//! This module reads lines; [`operation`](super::operation) makes changes of
//! them.

use std::borrow::Cow;
use std::str;

use memchr::memchr;

use super::Fault;
use crate::reason::Reason;

/// A name with values of one type, as they were written.
#[derive(Debug, PartialEq)]
pub struct Line<'a> {
    /// With each character that Prometheus does not take as an underscore.
    pub name: Cow<'a, str>,
    pub kind: Kind,
    /// One value, or several with colons between.
    values: &'a str,
    /// From 0, not included, to 1: what part of the events was sent.
    pub rate: f64,
    tags: &'a str,
}

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    /// In milliseconds.
    Timer,
    /// A histogram or a distribution: of any unit.
    Histogram,
    Set,
}

/// What a gauge's value does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Gauge {
    Set(f64),
    Add(f64),
}

/// One of several typed values of a line, not yet read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    name: &'a str,
    /// `value|type|@rate`
    text: &'a str,
    /// Those of the whole line.
    tags: &'a str,
}

impl<'a> Piece<'a> {
    pub fn read(&self) -> Result<Line<'a>, Fault> {
        let mut line = read(self.name, self.text)?;
        line.tags = self.tags;
        Ok(line)
    }
}

/// The typed values of a line that has several; `None` for any other line,
/// which [`parse`] reads whole.
pub fn cut(line: &[u8]) -> Option<Vec<Piece<'_>>> {
    let (bar, colon) = (memchr(b'|', line)?, memchr(b':', line)?);
    if bar < colon || !begins_another(&line[bar + 1..]) || is_of_dogstatsd_alone(line) {
        return None;
    }
    let line = str::from_utf8(line).ok()?.trim_end();
    let (name, rest) = (&line[..colon], &line[colon + 1..]);
    let mut pieces = Vec::new();
    let (mut tags, mut start, mut at) = ("", 0, bar - colon);
    let mut is_type = true;
    for section in rest[at..].split('|') {
        match next_value(section.as_bytes(), is_type) {
            // What follows the colon is a value, and the next section its type.
            Some(next) => {
                pieces.push(&rest[start..at + next]);
                start = at + next + 1;
                is_type = true;
            }
            None => {
                if !is_type && let Some(section) = section.strip_prefix('#') {
                    tags = section;
                }
                is_type = false;
            }
        }
        at += section.len() + 1;
    }
    pieces.push(&rest[start..]);
    let piece = |text| Piece { name, text, tags };
    Some(pieces.into_iter().map(piece).collect())
}

/// Whether another value begins in these sections, which follow a value.
fn begins_another(mut sections: &[u8]) -> bool {
    let mut is_type = true;
    // Without a colon there is none, as in most lines.
    while memchr(b':', sections).is_some() {
        let end = memchr(b'|', sections);
        let section = &sections[..end.unwrap_or(sections.len())];
        if next_value(section, is_type).is_some() {
            return true;
        }
        let Some(end) = end else { return false };
        sections = &sections[end + 1..];
        is_type = false;
    }
    false
}

/// Where in a section the colon is after which another value begins.
fn next_value(section: &[u8], is_type: bool) -> Option<usize> {
    match section.first() {
        // Tags, container, time, external data: colons are text in them.
        Some(b'#' | b'c' | b'T' | b'e') if !is_type => None,
        _ => memchr(b':', section),
    }
}

/// Whether a line is an event or a service check.
fn is_of_dogstatsd_alone(line: &[u8]) -> bool {
    line.starts_with(b"_e{") || line.starts_with(b"_sc|")
}

/// Reads a line whose values have one type.
pub fn parse(line: &[u8]) -> Result<Line<'_>, Fault> {
    if is_of_dogstatsd_alone(line) {
        return Err(Fault::new(
            Reason::Unsupported,
            "events and service checks of DogStatsD are not taken: they are no metrics",
        ));
    }
    let line = str::from_utf8(line)
        .map_err(|_| Fault::new(Reason::InvalidUtf8, "the line is not UTF-8"))?
        .trim_end();
    let Some((name, rest)) = line.split_once(':') else {
        return Err(malformed(format!(
            "expected a JSON object or a line such as name:1|c, not {line:?}"
        )));
    };
    read(name, rest)
}

/// Reads `values|type|@rate|#tags`.
fn read<'a>(name: &'a str, rest: &'a str) -> Result<Line<'a>, Fault> {
    let mut sections = rest.split('|');
    let values = sections.next().unwrap_or_default();
    let kind = match sections.next() {
        Some("c") => Kind::Counter,
        Some("g") => Kind::Gauge,
        Some("ms") => Kind::Timer,
        Some("h" | "d") => Kind::Histogram,
        Some("s") => Kind::Set,
        Some(other) => {
            return Err(Fault::new(
                Reason::BadOperation,
                format!("the type must be one of c, g, ms, h, d, s, not {other:?}"),
            ));
        }
        None => {
            let line = format!("{name}:{rest}");
            return Err(malformed(format!("there is no `|` and type in {line:?}")));
        }
    };
    let mut read = Line {
        name: metric_name(name)?,
        kind,
        values,
        rate: 1.0,
        tags: "",
    };
    for section in sections {
        match section.as_bytes().first() {
            Some(b'@') => {
                read.rate = number(&section[1..])
                    .filter(|rate| *rate > 0.0 && *rate <= 1.0)
                    .ok_or_else(|| {
                        let problem =
                            format!("the rate must be above 0 and at most 1, not {section:?}");
                        Fault::new(Reason::BadValue, problem)
                    })?;
            }
            Some(b'#') => read.tags = &section[1..],
            // Container, time, external data, cardinality: not metrics' labels.
            Some(b'c' | b'T' | b'e') | None => {}
            Some(_) => return Err(malformed(format!("what is {section:?} after the type?"))),
        }
    }
    Ok(read)
}

fn malformed(problem: String) -> Fault {
    Fault::new(Reason::Malformed, problem)
}

impl<'a> Line<'a> {
    /// Each value as a finite number; a time is not below 0.
    pub fn numbers(&self) -> impl Iterator<Item = Result<f64, Fault>> {
        self.values.split(':').map(|text| {
            let value = number(text).ok_or_else(|| not_a_number(text))?;
            if self.kind == Kind::Timer && value < 0.0 {
                let problem = format!("a time cannot be below 0, as {text:?} is");
                return Err(Fault::new(Reason::BadValue, problem));
            }
            Ok(value)
        })
    }

    /// What each value does to a gauge. With a sign it is a difference.
    pub fn gauges(&self) -> impl Iterator<Item = Result<Gauge, Fault>> {
        self.values.split(':').map(|text| {
            let value = number(text).ok_or_else(|| not_a_number(text))?;
            if text.trim_start().starts_with(['+', '-']) {
                Ok(Gauge::Add(value))
            } else {
                Ok(Gauge::Set(value))
            }
        })
    }

    /// The member of a set: any text, colons included.
    pub fn member(&self) -> Result<&'a str, Fault> {
        if self.values.is_empty() {
            return Err(Fault::new(
                Reason::BadValue,
                "the value of the set is empty",
            ));
        }
        Ok(self.values)
    }

    /// Names and values of the tags. One that has no value is `"true"`.
    ///
    /// Clients for PHP write `#` before each tag and not only before the first;
    /// others put a blank after a comma. No name of a tag begins so.
    pub fn tags(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        self.tags
            .split(',')
            .map(|tag| tag.trim_start_matches([' ', '#']))
            .filter(|tag| !tag.is_empty())
            .map(|tag| match tag.split_once(':') {
                Some((name, value)) => (plain(name, false), Cow::Borrowed(value)),
                None => (plain(tag, false), Cow::Borrowed("true")),
            })
    }
}

/// A finite number, with blanks around it or not.
fn number(text: &str) -> Option<f64> {
    text.trim()
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
}

fn not_a_number(text: &str) -> Fault {
    Fault::new(Reason::BadValue, format!("{text:?} is no finite number"))
}

/// The name of a family: dots and such become underscores.
fn metric_name(name: &str) -> Result<Cow<'_, str>, Fault> {
    if name.is_empty() {
        return Err(Fault::new(Reason::BadName, "the name is empty"));
    }
    // These are how other dialects write tags, or no StatsD at all.
    let odd = |c: char| c.is_control() || ",;=#\"'[]{}<>()".contains(c);
    if name.contains(odd) {
        let problem = format!("the name has characters that no name has: {name:?}");
        return Err(Fault::new(Reason::BadName, problem));
    }
    Ok(plain(name, true))
}

fn plain(name: &str, colons: bool) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    let digit = name.starts_with(|c: char| c.is_ascii_digit());
    if !digit && name.chars().all(fits) {
        return Cow::Borrowed(name);
    }
    let mut plain = String::with_capacity(name.len() + 1);
    if digit {
        plain.push('_');
    }
    plain.extend(name.chars().map(|c| if fits(c) { c } else { '_' }));
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn read(line: &str) -> Line<'_> {
        parse(line.as_bytes()).unwrap_or_else(|fault| panic!("{line}: {fault}"))
    }

    fn numbers(line: &str) -> Vec<f64> {
        read(line).numbers().map(Result::unwrap).collect()
    }

    #[test]
    fn all_types_are_read() {
        for (line, kind) in [
            ("a:1|c", Kind::Counter),
            ("a:1|g", Kind::Gauge),
            ("a:1|ms", Kind::Timer),
            ("a:1|h", Kind::Histogram),
            ("a:1|d", Kind::Histogram),
            ("a:1|s", Kind::Set),
        ] {
            assert_eq!(read(line).kind, kind, "{line}");
            assert_eq!(read(line).rate, 1.0);
        }
        assert_eq!(numbers("a:1.5:2:1e3|ms"), [1.5, 2.0, 1000.0]);
        assert_eq!(read("a:x:y|s").member(), Ok("x:y"));
    }

    #[test]
    fn a_sign_makes_a_difference() {
        let gauges: Vec<Gauge> = read("a:3:+1:-2.5|g").gauges().map(Result::unwrap).collect();
        assert_eq!(gauges, [Gauge::Set(3.0), Gauge::Add(1.0), Gauge::Add(-2.5)]);
    }

    #[test]
    fn rates_and_tags_follow_in_any_order() {
        for line in [
            "a:1|c|@0.1|#k:v,flag,k8s.io/x:y:z,9:1,",
            "a:1|c|#k:v,flag,k8s.io/x:y:z,9:1|@0.1|c:abc|T1656581400|e:x",
        ] {
            let line = read(line);
            assert_eq!(line.rate, 0.1);
            let tags: Vec<_> = line.tags().collect();
            let expected = [
                ("k", "v"),
                ("flag", "true"),
                ("k8s_io_x", "y:z"),
                ("_9", "1"),
            ];
            assert_eq!(tags.len(), expected.len());
            for ((name, value), expected) in tags.iter().zip(expected) {
                assert_eq!((&**name, &**value), expected);
            }
        }
    }

    #[track_caller]
    fn cut_into(line: &str) -> Vec<(&str, &str, &str)> {
        let pieces = cut(line.as_bytes()).unwrap_or_default();
        let parts = pieces.iter().map(|it| (it.name, it.text, it.tags));
        parts.collect()
    }

    #[test]
    fn a_colon_after_a_type_or_a_rate_begins_another_value() {
        let cases: [(&str, &[&str], &str); 9] = [
            ("a:1|c:2|c", &["1|c", "2|c"], ""),
            (
                "a:200|ms:300|ms:5|c|@0.1:6|g",
                &["200|ms", "300|ms", "5|c|@0.1", "6|g"],
                "",
            ),
            ("a:1:2|c:3:4|ms", &["1:2|c", "3:4|ms"], ""),
            ("a:1|c:", &["1|c", ""], ""),
            ("a:1|c:2", &["1|c", "2"], ""),
            ("a:1|x:2|c", &["1|x", "2|c"], ""),
            ("a:1|c|y:2|c", &["1|c|y", "2|c"], ""),
            ("a:1|c:2|c|#k:v,t \n", &["1|c", "2|c|#k:v,t"], "k:v,t"),
            (
                "a:1|c|#k:v|@0.5:2|c|c:x:y",
                &["1|c|#k:v|@0.5", "2|c|c:x:y"],
                "k:v",
            ),
        ];
        for (line, texts, tags) in cases {
            let expected: Vec<_> = texts.iter().map(|text| ("a", *text, tags)).collect();
            assert_eq!(cut_into(line), expected, "{line}");
        }
    }

    #[test]
    fn what_dogstatsd_writes_is_one_message() {
        for line in [
            "a:1|c",
            "a:1:2:3|c|@0.5",
            "a:x:y|s",
            "a:1|c|#k:v,k8s.io/x:y:z",
            "a:1|c|@0.5|#k:v|c:ci-83:4|T1656581400|e:it-false,cn-x:y",
            "a:1|c|c:2|c",
            "a:1",
            "a",
            "|:1|c:2|c",
            "",
            "_e{5,4}:title|text|t:info|#k:v",
            "_sc|a|0|m:it is: fine",
        ] {
            assert_eq!(cut(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn a_hash_before_each_tag_is_no_part_of_its_name() {
        let tags = |line: &str| -> Vec<(String, String)> {
            let line = read(line);
            let tags = line.tags();
            tags.map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect()
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let both = [pair("tag1", "bar"), pair("tag2", "baz")];
        for line in [
            "foo:100|c|#tag1:bar,#tag2:baz",
            "foo:100|c|##tag1:bar,#tag2:baz",
            "foo:100|c|#tag1:bar, tag2:baz",
            "foo:100|c|#,tag1:bar,#,tag2:baz,",
            "foo:100|c|#tag1:bar,tag2:baz|@1",
        ] {
            assert_eq!(tags(line), both, "{line}");
        }
        assert_eq!(
            tags("foo:1|c|#color:#fff,c#:1,#flag,a:b#c"),
            [
                pair("color", "#fff"),
                pair("c_", "1"),
                pair("flag", "true"),
                pair("a", "b#c")
            ]
        );
    }

    #[test]
    fn times_are_not_below_0() {
        let fault = read("a:1:-2|ms").numbers().find_map(Result::err).unwrap();
        assert_eq!(fault.reason, Reason::BadValue);
        assert_eq!(numbers("a:1:-2|h"), [1.0, -2.0]);
    }

    use proptest::prelude::*;

    proptest! {
        /// However a line is cut, its pieces are its text but for the colons
        /// between them, and none is to be cut again.
        #[test]
        fn a_line_is_its_pieces(line in "a:[1:|c#@Te,sg. ]{0,40}") {
            if let Some(pieces) = cut(line.as_bytes()) {
                let texts: Vec<&str> = pieces.iter().map(|piece| piece.text).collect();
                prop_assert!(texts.len() > 1);
                prop_assert_eq!(texts.join(":"), line.trim_end()["a:".len()..].to_owned());
                for text in texts {
                    let piece = format!("a:{text}");
                    prop_assert_eq!(cut(piece.as_bytes()), None);
                }
            }
        }
    }

    #[test]
    fn names_become_names_of_prometheus() {
        for (line, name) in [
            ("a.b-c/d e:1|c", "a_b_c_d_e"),
            ("1st:1|c", "_1st"),
            ("\u{e9}t\u{e9}:1|c", "_t_"),
        ] {
            assert_eq!(read(line).name, name);
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (line, reason) in [
            ("", Reason::Malformed),
            ("a", Reason::Malformed),
            ("a:1", Reason::Malformed),
            ("a:1|c|x", Reason::Malformed),
            (":1|c", Reason::BadName),
            ("a,b=c:1|c", Reason::BadName),
            ("\"a\": \"b\",", Reason::Malformed),
            ("a:1|x", Reason::BadOperation),
            ("a:1|", Reason::BadOperation),
            ("a:1|c|@0", Reason::BadValue),
            ("a:1|c|@2", Reason::BadValue),
            ("a:1|c|@NaN", Reason::BadValue),
            ("_e{1,1}:a|b", Reason::Unsupported),
            ("_sc|a|0", Reason::Unsupported),
        ] {
            assert_eq!(parse(line.as_bytes()).unwrap_err().reason, reason, "{line}");
        }
        assert!(parse(b"a\xff:1|c").is_err());
        for line in ["a:|c", "a:x|c", "a:NaN|c", "a:inf|c", "a:1:|c"] {
            assert!(read(line).numbers().any(|number| number.is_err()), "{line}");
        }
        assert!(read("a:|s").member().is_err());
    }
}
