//! Reads JSON documents: objects that map names of apps to text, or to lists of lines.
//!
//! Documents follow one another on a connection, with or without white space between them.
//! [`Framer`] finds the end of each in one linear scan, which continues as bytes arrive.
//! [`decode`] then parses the document once.

use std::cell::Cell;
use std::fmt;
use std::str;

use memchr::memchr2;
use serde::Deserializer as _;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::{Message, MessageError};
use crate::exposition::Text;
use crate::json;
use crate::reason::Reason;

/// Finds the end of a document.
///
/// It knows strings, escapes and brackets, and the bytes that may occur between them. So it
/// finds most errors as soon as they arrive, without waiting for the end of the document,
/// which might never come.
#[derive(Debug, Default)]
pub struct Framer {
    /// The number of scanned bytes of the document.
    scanned: usize,
    /// The number of open brackets: 1 inside the object, 2 inside a list.
    depth: u8,
    in_string: bool,
    /// Whether the last byte was a backslash inside a string.
    escaped: bool,
}

/// The result of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// The document is incomplete.
    Incomplete,
    /// The document ends after this many bytes.
    Ends(usize),
    /// The byte at this offset is not allowed there. [`invalid`] explains the error.
    Invalid(usize),
}

impl Framer {
    /// Continues the scan. `bytes` is the received part of the document, from its first
    /// byte; it grows from call to call.
    pub fn scan(&mut self, bytes: &[u8]) -> Scan {
        let mut at = self.scanned;
        while at < bytes.len() {
            if self.in_string {
                at = self.scan_string(bytes, at);
                continue;
            }
            match bytes[at] {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                b'{' if self.depth == 0 => self.depth = 1,
                _ if self.depth == 0 => return Scan::Invalid(at),
                b'"' => self.in_string = true,
                b',' | b':' => {}
                b'[' if self.depth == 1 => self.depth = 2,
                b']' if self.depth == 2 => self.depth = 1,
                b'}' if self.depth == 1 => {
                    *self = Framer::default();
                    return Scan::Ends(at + 1);
                }
                _ => return Scan::Invalid(at),
            }
            at += 1;
        }
        self.scanned = at;
        Scan::Incomplete
    }

    /// Scans within a string, and returns the offset at which to continue.
    fn scan_string(&mut self, bytes: &[u8], mut at: usize) -> usize {
        if self.escaped {
            self.escaped = false;
            at += 1;
        }
        loop {
            let Some(found) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) else {
                return bytes.len();
            };
            at += found;
            if bytes[at] == b'"' {
                self.in_string = false;
                return at + 1;
            }
            if at + 1 == bytes.len() {
                self.escaped = true;
                return bytes.len();
            }
            at += 2;
        }
    }
}

/// Parses one document of at most `max_apps` apps.
pub fn decode(document: &[u8], max_apps: usize) -> Result<Message, MessageError> {
    let text = str::from_utf8(document).map_err(|problem| {
        let (line, column) = position(document, problem.valid_up_to());
        MessageError::new(Reason::InvalidUtf8, "the text is not UTF-8").at(line, column)
    })?;
    let mut parser = serde_json::Deserializer::from_str(text);
    let too_many = Cell::new(false);
    parser
        .deserialize_map(DocumentVisitor {
            max_apps,
            too_many: &too_many,
        })
        .and_then(|message| parser.end().map(|()| message))
        .map_err(|problem| {
            let mut error = explain(&problem);
            if too_many.get() {
                error.reason = Reason::TooManyApps;
            }
            error
        })
}

/// Explains why the last byte of `document` is not allowed there.
pub fn invalid(document: &[u8]) -> MessageError {
    // The byte may be the first one of an incomplete character.
    let cut = str::from_utf8(document).is_err_and(|problem| problem.error_len().is_none());
    match decode(document, usize::MAX) {
        Err(error) if error.reason != Reason::Truncated && !cut => error,
        // The parser would continue, since the byte begins a value, but the value is
        // neither a string nor a list.
        _ => {
            let last = document.len() - 1;
            let (line, column) = position(document, last);
            let problem = format!(
                "expected text or a list of lines, not {}",
                shown(document[last])
            );
            MessageError::new(Reason::Malformed, problem).at(line, column)
        }
    }
}

/// Explains why a document ends too early; an earlier error takes precedence.
pub fn incomplete(document: &[u8]) -> MessageError {
    let (line, column) = position(document, document.len());
    match decode(document, usize::MAX) {
        Err(error) if error.reason != Reason::Truncated => error,
        _ => MessageError::new(Reason::Truncated, "the document ends too early").at(line, column),
    }
}

/// Formats a byte for an error message.
pub fn shown(byte: u8) -> String {
    if byte.is_ascii_graphic() {
        format!("`{}`", char::from(byte))
    } else {
        format!("byte {byte:#04x}")
    }
}

/// The line and column, from 1, of the byte at `offset`.
fn position(document: &[u8], offset: usize) -> (usize, usize) {
    let before = &document[..offset];
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    (line, offset - line_start + 1)
}

fn explain(problem: &serde_json::Error) -> MessageError {
    let reason = if problem.is_eof() {
        Reason::Truncated
    } else {
        Reason::Malformed
    };
    MessageError::new(reason, json::cause(problem)).at(problem.line(), problem.column())
}

/// Visits the object of a document.
struct DocumentVisitor<'a> {
    /// The limit on apps. Without it, a document with very many short names would take far
    /// more memory than its size.
    max_apps: usize,
    /// Set if the document has more apps.
    too_many: &'a Cell<bool>,
}

impl<'de> Visitor<'de> for DocumentVisitor<'_> {
    type Value = Message;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of app names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Message, A::Error> {
        let mut message = Message::default();
        while let Some(name) = entries.next_key::<String>()? {
            let text = entries.next_value_seed(TextSeed { name: &name })?;
            if message.apps.len() == self.max_apps {
                self.too_many.set(true);
                let limit = self.max_apps;
                let problem =
                    format!("the document has more than {limit} apps (receiver.max_apps)");
                return Err(de::Error::custom(problem));
            }
            message.apps.push((name, text));
        }
        Ok(message)
    }
}

/// Reads the value for one app: a string, or a list of lines.
struct TextSeed<'a> {
    name: &'a str,
}

impl<'de> DeserializeSeed<'de> for TextSeed<'_> {
    type Value = Text;

    fn deserialize<D: de::Deserializer<'de>>(self, value: D) -> Result<Text, D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TextSeed<'_> {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "text or a list of lines for app {:?}", self.name)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
        Ok(Text::new(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Text, A::Error> {
        let mut lines: Vec<String> = Vec::new();
        while let Some(line) = items.next_element_seed(LineSeed { name: self.name })? {
            lines.push(line);
        }
        Ok(Text::from_lines(&lines))
    }
}

/// Reads one line of a list. Like [`TextSeed`], it accepts any value: asked for a string,
/// the parser would report other values one byte too early.
struct LineSeed<'a> {
    name: &'a str,
}

impl<'de> DeserializeSeed<'de> for LineSeed<'_> {
    type Value = String;

    fn deserialize<D: de::Deserializer<'de>>(self, value: D) -> Result<String, D::Error> {
        value.deserialize_any(self)
    }
}

impl Visitor<'_> for LineSeed<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a line of text for app {:?}", self.name)
    }

    fn visit_str<E: de::Error>(self, line: &str) -> Result<String, E> {
        Ok(line.to_owned())
    }
}
