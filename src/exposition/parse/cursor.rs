//! A position in a line, and the tokens that can be read from there.

use memchr::memchr2;

use super::error::{LineError, ParseProblem};
use super::{InputFormat, number};

#[derive(Debug)]
pub(super) struct Cursor<'t> {
    pub(super) line: &'t str,
    pub(super) format: InputFormat,
    /// In bytes, always at a character boundary.
    pub(super) at: usize,
}

/// Where a byte is allowed in an unquoted name.
const LABEL_START: u8 = 1;
/// First byte of a metric's name.
const METRIC_START: u8 = 2;
/// Any other byte of a label's name.
const LABEL: u8 = 4;
/// Any other byte of a metric's name.
const METRIC: u8 = 8;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let it = byte as u8;
        classes[byte] = if it.is_ascii_alphabetic() || it == b'_' {
            LABEL_START | METRIC_START | LABEL | METRIC
        } else if it == b':' {
            METRIC_START | METRIC
        } else if it.is_ascii_digit() {
            LABEL | METRIC
        } else {
            0
        };
        byte += 1;
    }
    classes
};

fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// Steps of eight bytes before the search is left to `memchr2`, which costs
/// about as much to start. Most label values end within them.
const STEPS: usize = 4;

/// Index of the first quote or backslash from `at` on, or the length of
/// `bytes`.
#[inline]
pub(in crate::exposition) fn quote_or_backslash(bytes: &[u8], mut at: usize) -> usize {
    for _ in 0..STEPS {
        let Some(eight) = bytes[at..].first_chunk::<8>() else {
            break;
        };
        let word = u64::from_le_bytes(*eight);
        let found = zeros(word ^ repeated(b'"')) | zeros(word ^ repeated(b'\\'));
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    memchr2(b'"', b'\\', &bytes[at..]).map_or(bytes.len(), |more| at + more)
}

const fn repeated(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The top bit of each byte that is zero. Bytes above the first zero may be
/// reported too, so only the lowest bit counts.
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(repeated(1)) & !word & repeated(0x80)
}

/// Characters of a token that an error shows.
pub(super) const SHOWN: usize = 40;

impl<'t> Cursor<'t> {
    pub(super) fn new(line: &'t str, format: InputFormat) -> Self {
        Cursor {
            line,
            format,
            at: 0,
        }
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.line.as_bytes().get(self.at).copied()
    }

    /// Skips `byte` if it is next. Returns whether it was.
    #[inline]
    pub(super) fn skip(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// Skips blanks, if the format allows them.
    #[inline]
    pub(super) fn blanks(&mut self) {
        if self.format == InputFormat::Text {
            while let Some(b' ' | b'\t') = self.peek() {
                self.at += 1;
            }
        }
    }

    pub(super) fn rest(&self) -> &'t str {
        &self.line[self.at..]
    }

    /// An unquoted metric name, as far as it reaches.
    #[inline]
    pub(super) fn metric_name(&mut self) -> Option<&'t str> {
        self.name(METRIC_START, METRIC)
    }

    #[inline]
    pub(super) fn label_name(&mut self) -> Option<&'t str> {
        self.name(LABEL_START, LABEL)
    }

    #[inline]
    fn name(&mut self, first: u8, others: u8) -> Option<&'t str> {
        let rest = &self.line.as_bytes()[self.at..];
        if !is(*rest.first()?, first) {
            return None;
        }
        let length = rest
            .iter()
            .position(|byte| !is(*byte, others))
            .unwrap_or(rest.len());
        let start = self.at;
        self.at += length;
        Some(&self.line[start..self.at])
    }

    /// The text between the quote here and the next one, escaped.
    #[inline]
    pub(super) fn quoted(&mut self) -> Result<&'t str, Box<LineError>> {
        let bytes = self.line.as_bytes();
        let start = self.at + 1;
        let mut at = start;
        loop {
            at = quote_or_backslash(bytes, at);
            match bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(&self.line[start..at]);
                }
                Some(_) if matches!(bytes.get(at + 1), Some(b'\\' | b'"' | b'n')) => at += 2,
                Some(_) => {
                    self.at = at;
                    return Err(self.unexpected(r#"\\, \" or \n, the only escapes"#));
                }
                None => {
                    self.at = bytes.len();
                    return Err(self.unexpected("a closing '\"'"));
                }
            }
        }
    }

    /// A name in quotes. It may not be empty, nor have NUL in it, which
    /// Prometheus' scrape parser takes for the end of the text.
    pub(super) fn quoted_name(
        &mut self,
        expected: &'static str,
    ) -> Result<&'t str, Box<LineError>> {
        let start = self.at;
        let name = self.quoted()?;
        if name.is_empty() || name.contains('\0') {
            let found = if name.is_empty() { "\"\"" } else { "NUL in it" };
            return Err(LineError::new(
                start,
                ParseProblem::unexpected(expected, found),
            ));
        }
        Ok(name)
    }

    /// Everything up to the next blank.
    #[inline]
    pub(super) fn token(&mut self) -> &'t str {
        let rest = &self.line.as_bytes()[self.at..];
        let blank =
            |byte: &u8| *byte == b' ' || (*byte == b'\t' && self.format == InputFormat::Text);
        let length = rest.iter().position(blank).unwrap_or(rest.len());
        let start = self.at;
        self.at += length;
        &self.line[start..self.at]
    }

    /// The blanks before a value, and its number.
    #[inline]
    pub(super) fn value(&mut self) -> Result<(f64, &'t str), Box<LineError>> {
        match self.format {
            InputFormat::Text => self.blanks(),
            InputFormat::OpenMetrics => self.one_blank("a blank and the value")?,
        }
        let start = self.at;
        let text = self.token();
        match number::float(text) {
            Some(value) => Ok((value, text)),
            None => {
                self.at = start;
                Err(self.unexpected_token("a number as the value"))
            }
        }
    }

    pub(super) fn one_blank(&mut self, expected: &'static str) -> Result<(), Box<LineError>> {
        if self.skip(b' ') {
            Ok(())
        } else {
            Err(self.unexpected(expected))
        }
    }

    /// The error for an unexpected character at the position.
    #[cold]
    pub(super) fn unexpected(&self, expected: &'static str) -> Box<LineError> {
        let found = match self.rest().chars().next() {
            None => "the end of the line".to_owned(),
            Some(' ') => "a blank".to_owned(),
            Some('\t') => "a tab".to_owned(),
            Some('\0') => "NUL".to_owned(),
            Some('\'') => "\"'\"".to_owned(),
            Some('"') => "'\"'".to_owned(),
            Some(other) => format!("{other:?}"),
        };
        LineError::new(self.at, ParseProblem::unexpected(expected, found))
    }

    /// The error for an unexpected token at the position.
    #[cold]
    pub(super) fn unexpected_token(&self, expected: &'static str) -> Box<LineError> {
        let token = self.rest().split([' ', '\t']).next().unwrap_or_default();
        if token.is_empty() {
            return self.unexpected(expected);
        }
        let mut shown: String = token.chars().take(SHOWN).collect();
        if shown.len() < token.len() {
            shown.push('…');
        }
        LineError::new(
            self.at,
            ParseProblem::unexpected(expected, format!("{shown:?}")),
        )
    }
}
