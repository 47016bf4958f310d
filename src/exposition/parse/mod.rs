//! Reads exposition text line by line, in place: nothing is copied, and
//! nothing is allocated for a line.
//!
//! It takes what both of the reference's readers take, the scrape parser and
//! `expfmt`; `docs/compliance.md` lists where it decides otherwise. What spans
//! lines, such as a family's kind or a series that is there twice, is the
//! business of [`Families`](super::Families).

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

/// Which text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputFormat {
    /// Text 0.0.4.
    Text,
    /// OpenMetrics 1.0, UTF-8 names included.
    OpenMetrics,
}

/// One line that says something. Names are as they were written, without the
/// quotes but still escaped; [`unescape`] tells what they mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ParsedLine<'t> {
    /// `help` is still escaped: see [`unescape_help`].
    Help {
        name: &'t str,
        help: &'t str,
    },
    Type {
        name: &'t str,
        kind: Kind,
    },
    Unit {
        name: &'t str,
        unit: &'t str,
    },
    /// A head of text 0.0.4 that names no family or no kind. `expfmt` reads it
    /// as a comment; the scrape parser refuses the whole text.
    Incomplete {
        /// What is missing at this byte of the line.
        expected: &'static str,
        at: usize,
    },
    Sample(Sample<'t>),
    /// `# EOF`, which ends OpenMetrics and nothing else.
    Eof,
}

/// One value of one series; its labels are in the [`Labels`] beside it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'t> {
    pub name: &'t str,
    pub value: f64,
    pub value_text: &'t str,
    pub timestamp: Option<Timestamp<'t>>,
    /// From its `{` on. OpenMetrics only.
    pub exemplar: Option<&'t str>,
    /// The whole line, without its line feed.
    pub raw: &'t str,
}

/// When a sample was taken, if its sender says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp<'t> {
    pub milliseconds: i64,
    /// As written: milliseconds in text, seconds in OpenMetrics.
    pub text: &'t str,
}

/// Reads a text entry by entry.
#[derive(Debug, Clone)]
pub struct Parser<'t> {
    text: &'t str,
    format: InputFormat,
    /// Where the next line begins.
    next: usize,
    /// The last line that was read, from 1.
    number: usize,
    line: &'t str,
    ended: bool,
}

impl<'t> Parser<'t> {
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

    /// The next entry, or `None` where the text ends. The labels of a sample
    /// are put into `labels`. After an error, it goes on with the next line.
    #[inline]
    pub fn next(&mut self, labels: &mut Labels<'t>) -> Result<Option<ParsedLine<'t>>, ParseError> {
        while self.advance() {
            match self.entry(labels) {
                Ok(Some(entry)) => return Ok(Some(entry)),
                Ok(None) => {}
                Err(fault) => return Err(self.error(&fault)),
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

    /// The line that was read last, from 1. Before the first, 0.
    pub fn line(&self) -> usize {
        self.number
    }

    /// What an [`ParsedLine::Incomplete`] on the line that was read last would be
    /// refused with.
    pub(super) fn incomplete(&self, expected: &'static str, at: usize) -> ParseError {
        let reason = ParseProblem::unexpected(expected, "the end of the line");
        self.error(&LineError::new(at, reason))
    }

    /// Where that line begins in the text, in bytes.
    pub(super) fn line_start(&self) -> usize {
        offset(self.text, self.line)
    }

    /// The fault as an error on the line that was read last.
    pub(super) fn error(&self, fault: &LineError) -> ParseError {
        fault.on(self.line, self.number.max(1))
    }

    /// To the next line; `false` where there is none.
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

    /// What the line says, if anything.
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

/// A line that was a sample, read once more.
pub(super) fn sample<'t>(
    line: &'t str,
    format: InputFormat,
    labels: &mut Labels<'t>,
) -> Option<Sample<'t>> {
    let mut cursor = Cursor::new(line, format);
    cursor.blanks();
    cursor.sample(labels).ok()
}

/// The metric's name that a line begins with, without quotes.
#[inline]
pub(super) fn bare_name(line: &str) -> Option<&str> {
    Cursor::new(line, InputFormat::Text).metric_name()
}

/// The same of a label's name.
#[inline]
pub(super) fn bare_label(line: &str) -> Option<&str> {
    Cursor::new(line, InputFormat::Text).label_name()
}

/// How many bytes into `line` its slice `part` begins.
pub(super) fn offset(line: &str, part: &str) -> usize {
    part.as_ptr() as usize - line.as_ptr() as usize
}
