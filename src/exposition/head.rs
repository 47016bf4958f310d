//! The head of a family in canonical text, and the samples after it.

use super::output_format::read_open_metrics_line;
use super::parse::{InputFormat, Labels, ParsedLine, Parser, float};
use super::series::series_of;
use super::{Kind, unescape, unescape_help};

/// What the lines before a family's samples say, without escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyHead {
    /// The name.
    pub name: String,
    /// The kind, which can be one that only OpenMetrics has.
    pub kind: Kind,
    /// The help; empty if there is none.
    pub help: String,
    /// The unit; empty if there is none.
    pub unit: String,
}

impl FamilyHead {
    /// Reads the head at the beginning of canonical text. Also returns its length in bytes.
    /// `None` if the text does not begin with one.
    pub fn read(text: &str) -> Option<(Self, usize)> {
        let mut head: Option<FamilyHead> = None;
        let mut help = None;
        let mut length = 0;
        for line in text.split_inclusive('\n') {
            if let Some(head) = &mut head {
                if let Some((kind, unit, more)) = read_open_metrics_line(line) {
                    head.kind = kind;
                    head.unit = unescape(unit).into_owned();
                    length += more;
                }
                break;
            }
            match Parser::new(line, InputFormat::Text).next(&mut Labels::new()) {
                Ok(Some(ParsedLine::Help { name, help: text })) => help = Some((name, text)),
                Ok(Some(ParsedLine::Type { name, kind })) => {
                    let help = help.filter(|(of, _)| *of == name);
                    let help = help.map(|(_, text)| unescape_help(text, InputFormat::Text));
                    head = Some(FamilyHead {
                        name: unescape(name).into_owned(),
                        kind,
                        help: help.unwrap_or_default().into_owned(),
                        unit: String::new(),
                    });
                }
                _ => break,
            }
            length += line.len();
        }
        Some((head?, length))
    }
}

/// A sample in canonical text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CanonicalSample<'t> {
    /// Name and labels.
    pub series: &'t str,
    /// The value.
    pub value: f64,
    /// Milliseconds since 1970, if it has a time.
    pub timestamp: Option<i64>,
}

impl<'t> CanonicalSample<'t> {
    /// Splits a line without its line feed. `None` if it is not canonical text.
    pub fn read(line: &'t str) -> Option<Self> {
        let series = series_of(line);
        let rest = line.get(series.len() + 1..)?;
        let (value, timestamp) = match memchr::memchr(b' ', rest.as_bytes()) {
            Some(blank) => (&rest[..blank], Some(rest[blank + 1..].parse().ok()?)),
            None => (rest, None),
        };
        Some(CanonicalSample {
            series,
            value: float(value)?,
            timestamp,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(name: &str, kind: Kind, help: &str, unit: &str) -> FamilyHead {
        FamilyHead {
            name: name.to_owned(),
            kind,
            help: help.to_owned(),
            unit: unit.to_owned(),
        }
    }

    #[test]
    fn heads_are_read_with_help_and_unit() {
        let text = "# HELP a b\\nc\n# TYPE a counter\na 1\n";
        let read = FamilyHead::read(text).unwrap();
        assert_eq!(read, (head("a", Kind::Counter, "b\nc", ""), text.len() - 4));
        let text = "# TYPE \"a.b\" gauge\n# \"OpenMetrics\" stateset s\n{\"a.b\"} 1\n";
        let (read, length) = FamilyHead::read(text).unwrap();
        assert_eq!(read, head("a.b", Kind::StateSet, "", "s"));
        assert_eq!(&text[length..], "{\"a.b\"} 1\n");
        assert_eq!(FamilyHead::read("a 1\n"), None);
        assert_eq!(FamilyHead::read("# HELP a b\na 1\n"), None);
        // The help of another family.
        let (read, _) = FamilyHead::read("# HELP b x\n# TYPE a gauge\n").unwrap();
        assert_eq!(read.help, "");
    }

    #[test]
    fn samples_are_split() {
        for (line, series, value, timestamp) in [
            ("m 1", "m", 1.0, None),
            (
                "m{a=\"} 1 2\"} +Inf 15",
                "m{a=\"} 1 2\"}",
                f64::INFINITY,
                Some(15),
            ),
            ("{\"m.n\"} -0.5 -1", "{\"m.n\"}", -0.5, Some(-1)),
        ] {
            let sample = CanonicalSample::read(line).unwrap();
            assert_eq!(
                (sample.series, sample.value, sample.timestamp),
                (series, value, timestamp)
            );
        }
        for line in ["", "m", "m x", "m 1 x", "m 1 2 3"] {
            assert_eq!(CanonicalSample::read(line), None, "{line}");
        }
    }
}
