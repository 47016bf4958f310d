//! One line of StatsD, with DogStatsD's additions.
//!
//! ```text
//! name:value|type|@rate|#tag:value,tag
//! name:value:value|ms
//! ```
//!
//! What a line says is read here; what becomes of it is said in
//! [`operation`](super::operation).

use std::borrow::Cow;
use std::str;

use super::Fault;
use crate::telemetry::Reason;

/// A line as it was written.
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

/// Reads a line.
pub fn parse(line: &[u8]) -> Result<Line<'_>, Fault> {
    let line = str::from_utf8(line)
        .map_err(|_| Fault::new(Reason::InvalidUtf8, "the line is not UTF-8"))?
        .trim_end();
    if line.starts_with("_e{") || line.starts_with("_sc|") {
        return Err(Fault::new(
            Reason::Unsupported,
            "events and service checks of DogStatsD are not taken: they are no metrics",
        ));
    }
    let malformed = |problem: String| Fault::new(Reason::Malformed, problem);
    let Some((name, rest)) = line.split_once(':') else {
        return Err(malformed(format!(
            "expected a JSON object or a line such as name:1|c, not {line:?}"
        )));
    };
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
        None => return Err(malformed(format!("there is no `|` and type in {line:?}"))),
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

impl<'a> Line<'a> {
    /// Each value as a finite number.
    pub fn numbers(&self) -> impl Iterator<Item = Result<f64, Fault>> {
        self.values
            .split(':')
            .map(|text| number(text).ok_or_else(|| not_a_number(text)))
    }

    /// What each value does to a gauge. With a sign it is a difference.
    pub fn gauges(&self) -> impl Iterator<Item = Result<Gauge, Fault>> {
        self.values.split(':').map(|text| {
            let value = number(text).ok_or_else(|| not_a_number(text))?;
            if text.starts_with(['+', '-']) {
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
    pub fn tags(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        self.tags
            .split(',')
            .filter(|tag| !tag.is_empty())
            .map(|tag| match tag.split_once(':') {
                Some((name, value)) => (plain(name, false), Cow::Borrowed(value)),
                None => (plain(tag, false), Cow::Borrowed("true")),
            })
    }
}

/// A finite number.
fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
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
        assert_eq!(numbers("a:1.5:-2:1e3|ms"), [1.5, -2.0, 1000.0]);
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
