//! JSON documents: an object of app name to text, or to a list of lines.
//!
//! Documents follow one another on a connection with nothing or white space
//! between them. [`Framer`] finds where each ends in one linear scan that
//! goes on where the bytes before left off; [`decode`] parses it, once.

use std::cell::Cell;
use std::fmt;
use std::str;

use memchr::memchr2;
use serde::Deserializer as _;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::{Failure, Message};
use crate::exposition::Text;
use crate::reason::Reason;

/// Finds the end of a document.
///
/// It knows strings, escapes and brackets, and which bytes can stand between
/// them in a document of ours. So it stops at most faults when they come, and
/// not only once the document ends, which a faulty one might never do.
#[derive(Debug, Default)]
pub struct Framer {
    /// Bytes of the document that have been seen.
    scanned: usize,
    /// The brackets that are open: an object, and in it perhaps a list.
    depth: u8,
    in_string: bool,
    /// The byte before was a backslash, in a string.
    escaped: bool,
}

/// What a scan came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// The document goes on past what is here.
    Unfinished,
    /// The document ends after so many bytes.
    Ends(usize),
    /// The byte at this place cannot stand there. The parser says why.
    Faulty(usize),
}

impl Framer {
    /// Scans on. `bytes` is the document from its first byte, as far as it is
    /// here, and grows from call to call.
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
                _ if self.depth == 0 => return Scan::Faulty(at),
                b'"' => self.in_string = true,
                b',' | b':' => {}
                b'[' if self.depth == 1 => self.depth = 2,
                b']' if self.depth == 2 => self.depth = 1,
                b'}' if self.depth == 1 => {
                    *self = Framer::default();
                    return Scan::Ends(at + 1);
                }
                _ => return Scan::Faulty(at),
            }
            at += 1;
        }
        self.scanned = at;
        Scan::Unfinished
    }

    /// Scans the inside of a string, and returns where to go on.
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

/// Parses one document.
pub fn decode(document: &[u8], max_apps: usize) -> Result<Message, Failure> {
    let text = str::from_utf8(document).map_err(|problem| {
        let (line, column) = position(document, problem.valid_up_to());
        Failure::new(Reason::InvalidUtf8, "the text is not UTF-8").at(line, column)
    })?;
    let mut parser = serde_json::Deserializer::from_str(text);
    let over = Cell::new(false);
    parser
        .deserialize_map(Document {
            max_apps,
            over: &over,
        })
        .and_then(|message| parser.end().map(|()| message))
        .map_err(|problem| {
            let mut failure = explain(&problem);
            if over.get() {
                failure.reason = Reason::TooManyApps;
            }
            failure
        })
}

/// Why the last byte of `document` cannot stand where it does.
pub fn fault(document: &[u8]) -> Failure {
    // The byte may be the first of a character that is not here as a whole.
    let cut = str::from_utf8(document).is_err_and(|problem| problem.error_len().is_none());
    match decode(document, usize::MAX) {
        Err(failure) if failure.reason != Reason::Truncated && !cut => failure,
        // The parser would read on: the byte may begin a value of some kind,
        // but no text and no list.
        _ => {
            let last = document.len() - 1;
            let (line, column) = position(document, last);
            let problem = format!(
                "expected text or a list of lines, not {}",
                shown(document[last])
            );
            Failure::new(Reason::Malformed, problem).at(line, column)
        }
    }
}

/// What is wrong with a document that ends too early, that aside if possible.
pub fn unfinished(document: &[u8]) -> Failure {
    let (line, column) = position(document, document.len());
    match decode(document, usize::MAX) {
        Err(failure) if failure.reason != Reason::Truncated => failure,
        _ => Failure::new(Reason::Truncated, "the document ends too early").at(line, column),
    }
}

/// A byte for a message.
pub fn shown(byte: u8) -> String {
    if byte.is_ascii_graphic() {
        format!("`{}`", char::from(byte))
    } else {
        format!("byte {byte:#04x}")
    }
}

/// Line and column, from 1, of the byte at `offset`.
fn position(document: &[u8], offset: usize) -> (usize, usize) {
    let before = &document[..offset];
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    (line, offset - line_start + 1)
}

fn explain(problem: &serde_json::Error) -> Failure {
    // The parser ends its message with the position, which stands elsewhere here.
    let full = problem.to_string();
    let message = full
        .rsplit_once(" at line ")
        .map_or(full.as_str(), |(message, _)| message);
    let reason = if problem.is_eof() {
        Reason::Truncated
    } else {
        Reason::Malformed
    };
    Failure::new(reason, message).at(problem.line(), problem.column())
}

/// Reads the object.
struct Document<'a> {
    /// No more apps than can be known are taken from a document, each of which
    /// costs far more than its few bytes here.
    max_apps: usize,
    /// Set where there are more.
    over: &'a Cell<bool>,
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = Message;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of app names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Message, A::Error> {
        let mut message = Message::default();
        while let Some(name) = entries.next_key::<String>()? {
            let text = entries.next_value_seed(AppText { name: &name })?;
            if message.apps.len() == self.max_apps {
                self.over.set(true);
                let limit = self.max_apps;
                let problem = format!("more than {limit} apps (receiver.max_apps) in one document");
                return Err(de::Error::custom(problem));
            }
            message.apps.push((name, text));
        }
        Ok(message)
    }
}

/// Reads the value of one app: text, or a list of lines.
struct AppText<'a> {
    name: &'a str,
}

impl<'de> DeserializeSeed<'de> for AppText<'_> {
    type Value = Text;

    fn deserialize<D: de::Deserializer<'de>>(self, value: D) -> Result<Text, D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AppText<'_> {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "text or a list of lines for app {:?}", self.name)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
        Ok(Text::new(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Text, A::Error> {
        let mut lines: Vec<String> = Vec::new();
        while let Some(line) = items.next_element_seed(Line { name: self.name })? {
            lines.push(line);
        }
        Ok(Text::from_lines(&lines))
    }
}

/// Reads one line of a list. It takes whatever is there, as [`AppText`] does:
/// asked for a string, the parser would place anything else a byte too early.
struct Line<'a> {
    name: &'a str,
}

impl<'de> DeserializeSeed<'de> for Line<'_> {
    type Value = String;

    fn deserialize<D: de::Deserializer<'de>>(self, value: D) -> Result<String, D::Error> {
        value.deserialize_any(self)
    }
}

impl Visitor<'_> for Line<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a line of text for app {:?}", self.name)
    }

    fn visit_str<E: de::Error>(self, line: &str) -> Result<String, E> {
        Ok(line.to_owned())
    }
}
