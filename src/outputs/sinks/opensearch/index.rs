//! The name of the index of a document: a pattern with the date.

use std::fmt::{self, Write as _};

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};

/// Limit on the length of an index name in OpenSearch, in bytes.
const MAX_NAME: usize = 255;

/// Room for the date and text of a pattern within [`MAX_NAME`].
const MAX_PATTERN: usize = 128;

/// The name of an index, with `{index}` and parts of the date: `{index}-%Y-%m-%d`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexPattern {
    written: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Index,
    /// A part of the date, as `strftime` writes it: `%Y`.
    Date(&'static str),
}

/// The parts of the date that a pattern can have.
const DATES: [&str; 8] = ["%Y", "%m", "%d", "%H", "%G", "%V", "%j", "%y"];

impl IndexPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// The required form, as the end of a sentence.
    pub fn parse(written: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{what}, not {written:?}");
        if written.is_empty() || written.len() > MAX_PATTERN {
            return Err(wrong(&format!("must have 1 to {MAX_PATTERN} bytes")));
        }
        let mut parts = Vec::new();
        let mut rest = written;
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("{index}") {
                parts.push(Part::Index);
                rest = after;
            } else if let Some(date) = DATES.iter().find(|date| rest.starts_with(**date)) {
                parts.push(Part::Date(date));
                rest = &rest[date.len()..];
            } else {
                let mut others = rest.char_indices().skip(1);
                let next = others.find(|(_, c)| matches!(c, '{' | '%'));
                let text = &rest[..next.map_or(rest.len(), |(at, _)| at)];
                if !text.chars().all(is_index_char) {
                    return Err(wrong(&format!(
                        "can only have {{index}}, lower-case letters, digits, \"-\", \"_\", \".\" and {}",
                        DATES.join(", ")
                    )));
                }
                parts.push(Part::Text(text.to_owned()));
                rest = &rest[text.len()..];
            }
        }
        if let Some(Part::Text(text)) = parts.first()
            && !text.starts_with(|c: char| c.is_ascii_alphanumeric())
        {
            return Err(wrong(
                "must begin with a letter, a digit, {index}, or a part of the date such as %Y",
            ));
        }
        Ok(IndexPattern {
            written: written.to_owned(),
            parts,
        })
    }

    /// Appends the name for a document that names `index`, at a time in nanoseconds since
    /// 1970.
    pub fn write(&self, index: &str, nanos: i64, name: &mut String) {
        let date = DateTime::<Utc>::from_timestamp_nanos(nanos);
        for part in &self.parts {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Index => name.push_str(index),
                // The formats are valid, and writing to memory cannot fail.
                Part::Date(format) => {
                    let _ = write!(name, "{}", date.format(format));
                }
            }
        }
    }

    /// The pattern with `*` for `{index}` and the date.
    pub fn wildcard(&self) -> String {
        let mut pattern = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => pattern.push_str(text),
                Part::Index | Part::Date(_) => pattern.push('*'),
            }
        }
        pattern
    }
}

impl Default for IndexPattern {
    fn default() -> Self {
        IndexPattern {
            written: "{index}-%Y-%m-%d".to_owned(),
            parts: vec![
                Part::Index,
                Part::Text("-".to_owned()),
                Part::Date("%Y"),
                Part::Text("-".to_owned()),
                Part::Date("%m"),
                Part::Text("-".to_owned()),
                Part::Date("%d"),
            ],
        }
    }
}

impl fmt::Display for IndexPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl Serialize for IndexPattern {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Whether OpenSearch accepts the name, with room for a date.
pub fn is_index_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= MAX_NAME - MAX_PATTERN
        && name.chars().all(is_index_char)
}

fn is_index_char(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.')
}
