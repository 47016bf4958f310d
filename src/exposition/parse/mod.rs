//! Parses exposition text line by line, in place: nothing is copied, and
//! nothing is allocated for a line.
//!
//! The parser accepts what both of Prometheus' readers accept, the scrape
//! parser and `expfmt`; `docs/compliance.md` lists where it differs. What spans
//! lines, such as the kind of a family or a repeated series, is checked by
//! [`Families`](super::Families).

mod cursor;
mod error;
mod escape;
mod head;
mod labels;
mod number;
mod sample;
#[cfg(test)]
mod tests;

use memchr::memchr;

use self::cursor::Cursor;
use super::Kind;

pub(super) use self::cursor::quote_or_backslash;
pub(super) use self::error::LineError;
pub(super) use self::number::float;

pub use self::error::{LimitKind, ParseError, ParseProblem};
pub use self::escape::{unescape, unescape_help};
pub use self::labels::{Label, Labels};

/// The format of a text that is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputFormat {
    /// Text 0.0.4.
    Text,
    /// OpenMetrics 1.0, with UTF-8 names.
    OpenMetrics,
}

/// A line of a text, other than a comment or a blank one. Names are escaped and
/// without quotes; [`unescape`] removes the escapes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ParsedLine<'t> {
    /// `# HELP`.
    Help {
        /// The family.
        name: &'t str,
        /// The help, escaped; [`unescape_help`] removes the escapes.
        help: &'t str,
    },
    /// `# TYPE`.
    Type {
        /// The family.
        name: &'t str,
        /// The family's kind.
        kind: Kind,
    },
    /// `# UNIT`, in OpenMetrics.
    Unit {
        /// The family.
        name: &'t str,
        /// The unit, escaped.
        unit: &'t str,
    },
    /// Metadata of text 0.0.4 without a family or a kind. `expfmt` reads it as
    /// a comment; Prometheus' scrape parser refuses the whole text.
    Incomplete {
        /// What is missing.
        expected: &'static str,
        /// Byte of the line at which it is missing.
        at: usize,
    },
    /// A sample.
    Sample(Sample<'t>),
    /// `# EOF`, which ends OpenMetrics and means nothing in text 0.0.4.
    Eof,
}

/// One value of one series; its labels are in the [`Labels`] given to the
/// parser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'t> {
    /// The metric's name, escaped, without quotes.
    pub name: &'t str,
    /// The value.
    pub value: f64,
    /// The value as written.
    pub value_text: &'t str,
    /// The time of the sample, if it has one.
    pub timestamp: Option<Timestamp<'t>>,
    /// The exemplar, from its `{` on. OpenMetrics only.
    pub exemplar: Option<&'t str>,
    /// The whole line, without its line feed.
    pub raw: &'t str,
}

/// The time of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp<'t> {
    /// Milliseconds since 1970.
    pub milliseconds: i64,
    /// As written: milliseconds in text 0.0.4, seconds in OpenMetrics.
    pub text: &'t str,
}

/// A parser of exposition text.
#[derive(Debug, Clone)]
pub struct Parser<'t> {
    text: &'t str,
    format: InputFormat,
    /// Byte at which the next line begins.
    next: usize,
    /// Number of the current line, from 1.
    number: usize,
    line: &'t str,
    ended: bool,
}

impl<'t> Parser<'t> {
    /// A parser at the beginning of a text.
    pub fn new(text: &'t str, format: InputFormat) -> Self {
        Parser {
            text,
            format,
            next: 0,
            number: 0,
            line: "",
            ended: false,
        }
    }

    /// The next line that is neither blank nor a comment; `None` at the end of
    /// the text. The labels of a sample are put into `labels`.
    ///
    /// # Errors
    ///
    /// A line that is not of the format. The parser then continues with the next line.
    #[inline]
    pub fn next(&mut self, labels: &mut Labels<'t>) -> Result<Option<ParsedLine<'t>>, ParseError> {
        while self.advance() {
            match self.entry(labels) {
                Ok(Some(entry)) => return Ok(Some(entry)),
                Ok(None) => {}
                Err(error) => return Err(self.error(&error)),
            }
        }
        if self.format == InputFormat::OpenMetrics && !self.ended {
            self.ended = true;
            return Err(self.error(&LineError::new(
                self.line.len(),
                ParseProblem::unexpected("\"# EOF\"", "the end of the text"),
            )));
        }
        Ok(None)
    }

    /// Number of the current line, from 1; 0 before the first.
    pub fn line(&self) -> usize {
        self.number
    }

    /// The error for a [`ParsedLine::Incomplete`] on the current line.
    pub(super) fn incomplete(&self, expected: &'static str, at: usize) -> ParseError {
        let problem = ParseProblem::unexpected(expected, "the end of the line");
        self.error(&LineError::new(at, problem))
    }

    /// Byte of the text at which the current line begins.
    pub(super) fn line_start(&self) -> usize {
        offset(self.text, self.line)
    }

    /// Places an error on the current line.
    pub(super) fn error(&self, error: &LineError) -> ParseError {
        error.on(self.line, self.number.max(1))
    }

    /// Goes to the next line; `false` at the end of the text.
    #[inline]
    fn advance(&mut self) -> bool {
        let rest = &self.text[self.next..];
        if rest.is_empty() {
            return false;
        }
        let length = memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len());
        self.line = &rest[..length];
        self.next = (self.next + length + 1).min(self.text.len());
        self.number += 1;
        true
    }

    /// Parses the current line; `None` for a blank line or a comment.
    #[inline]
    fn entry(&mut self, labels: &mut Labels<'t>) -> Result<Option<ParsedLine<'t>>, Box<LineError>> {
        if self.line.ends_with('\r') {
            return Err(LineError::new(
                self.line.len() - 1,
                ParseProblem::CarriageReturn,
            ));
        }
        if self.ended {
            return Err(LineError::new(
                0,
                ParseProblem::unexpected("the end of the text after \"# EOF\"", "more"),
            ));
        }
        let mut cursor = Cursor::new(self.line, self.format);
        cursor.blanks();
        match cursor.peek() {
            Some(b'#') => {
                let entry = cursor.head()?;
                self.ended = matches!(entry, Some(ParsedLine::Eof));
                Ok(entry)
            }
            None if self.format == InputFormat::Text => Ok(None),
            _ => cursor.sample(labels).map(|it| Some(ParsedLine::Sample(it))),
        }
    }
}

/// Parses a line again that is known to be a sample.
pub(super) fn sample<'t>(
    line: &'t str,
    format: InputFormat,
    labels: &mut Labels<'t>,
) -> Option<Sample<'t>> {
    let mut cursor = Cursor::new(line, format);
    cursor.blanks();
    cursor.sample(labels).ok()
}

/// The unquoted metric name that a line begins with.
#[inline]
pub fn bare_name(line: &str) -> Option<&str> {
    Cursor::new(line, InputFormat::Text).metric_name()
}

/// The unquoted label name that a line begins with.
#[inline]
pub(super) fn bare_label(line: &str) -> Option<&str> {
    Cursor::new(line, InputFormat::Text).label_name()
}

/// Byte of `line` at which its slice `part` begins.
pub(super) fn offset(line: &str, part: &str) -> usize {
    part.as_ptr() as usize - line.as_ptr() as usize
}
