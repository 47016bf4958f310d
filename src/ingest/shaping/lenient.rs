//! Tolerant reading: keeps the lines of a text that can be read.

use std::borrow::Cow;
use std::hash::BuildHasher;

use super::Layout;
use crate::exposition::{InputFormat, Mistakes, ParseError, TextLimits, TimestampPolicy};

/// Limit on mistakes that show only when whole families are put together, such as two bounds that
/// are the same number. The text is read again after each.
pub const MAX_ROUNDS: usize = 8;

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Lines left out of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Their number.
    pub lines: usize,
    /// What is wrong with the first of them.
    pub first: Option<ParseError>,
}

impl Skipped {
    /// Skipped lines, with the error of the first.
    pub fn new(lines: usize, first: ParseError) -> Self {
        Skipped {
            lines,
            first: Some(first),
        }
    }
}

/// Removes a byte order mark, and carriage returns at the ends of lines.
pub fn tidy(text: &str) -> Cow<'_, str> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    match memchr::memchr(b'\r', text.as_bytes()) {
        None => Cow::Borrowed(text),
        Some(_) => {
            let text = text.replace("\r\n", "\n");
            Cow::Owned(match text.strip_suffix('\r') {
                Some(text) => text.to_owned(),
                None => text,
            })
        }
    }
}

/// Leaves out the lines of a text that cannot be read. `None` if all can be read.
///
/// # Errors
///
/// The text exceeds a limit, or none of its samples can be read.
pub fn clean(
    text: &str,
    format: InputFormat,
    limits: &TextLimits,
    timestamps: TimestampPolicy,
    hash: &impl BuildHasher,
    layout: Layout,
) -> Result<Option<(String, Skipped)>, ParseError> {
    let mistakes = Mistakes::find(text, format, limits, timestamps, hash)?;
    let Some(first) = mistakes.first else {
        return Ok(None);
    };
    if mistakes.samples == 0 {
        return Err(first);
    }
    let skipped = Skipped::new(mistakes.lines.len(), first);
    Ok(Some((without(text, &mistakes.lines, layout), skipped)))
}

/// The text without the lines of these numbers, which ascend.
pub fn without(text: &str, lines: &[usize], layout: Layout) -> String {
    let mut out = String::with_capacity(text.len() + 1);
    let mut left_out = lines.iter().peekable();
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        if left_out.next_if(|it| **it == number).is_none() {
            out.push_str(line);
        } else if layout == Layout::Lines {
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_and_byte_order_marks_are_removed() {
        for (given, tidied) in [
            ("a 1\n", "a 1\n"),
            ("\u{feff}a 1\r\nb 2\r\n", "a 1\nb 2\n"),
            ("a 1\r", "a 1"),
            ("a{b=\"\r\"} 1\n", "a{b=\"\r\"} 1\n"),
            ("\u{feff}", ""),
        ] {
            assert_eq!(tidy(given), tidied, "{given:?}");
        }
    }

    #[test]
    fn lines_are_left_out_by_number() {
        let text = "a\nb\nc\nd";
        assert_eq!(without(text, &[1, 3], Layout::Compact), "b\nd");
        assert_eq!(without(text, &[1, 4], Layout::Lines), "\nb\nc\n\n");
    }
}
