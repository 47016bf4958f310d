//! Cuts bytes into frames: JSON objects and StatsD lines. It does no I/O.
//!
//! The first byte of a message decides between the two. Objects may come one a line, one
//! after the other, spread over lines, or in a list; brackets in strings are text. The scan
//! is linear, and resumes where the last bytes ended.
//!
//! If the end of a broken object is unknown, the framer skips the line that the
//! object begins on, and resumes at the next line. So a sender that stops in
//! the middle of a message does not damage the next message.

use memchr::memchr;

use super::rejection::Rejection;
use super::statsd::TypedValue;
use crate::reason::Reason;

/// The limit on nesting of objects and lists. A message needs two levels; the rest is for
/// keys that are ignored. The limit also bounds how often a byte is scanned, since each
/// opening bracket may be tried as the start of a message.
const MAX_DEPTH: u32 = 16;

/// Finds messages in a stream of bytes.
#[derive(Debug)]
pub struct Framer {
    max_message: usize,
    list: List,
    /// Progress in the current object or line.
    scan: Scan,
    /// Whether the rest of the line belongs to an abandoned message.
    skipping: bool,
}

/// A message cut out of the bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame<'b> {
    /// A JSON object, from bracket to bracket.
    Object(&'b [u8]),
    /// A line, without its newline.
    Line(&'b [u8]),
    /// One of several typed values of a StatsD line. The framer never produces these: it
    /// leaves lines whole.
    Value(Box<TypedValue<'b>>),
    /// Bytes that are neither.
    Invalid(Rejection),
}

/// The position in a list of objects. Its brackets and commas belong to no
/// message, so a list may be longer than a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Outside,
    /// After `[`: an object or the end follows.
    Start,
    /// After a comma: an object follows.
    Comma,
    /// After an object: a comma or the end follows.
    Object,
}

/// Progress of scanning an object or line.
#[derive(Debug, Default)]
struct Scan {
    /// The number of scanned bytes.
    at: usize,
    depth: u32,
    /// One bit for each open bracket, the innermost lowest: set for a list.
    lists: u32,
    last: Token,
    in_string: bool,
    /// Whether the last byte was a backslash in a string.
    escaped: bool,
}

/// The last token outside of strings and white space.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Token {
    #[default]
    Open,
    Comma,
    Colon,
    Value,
}

enum Step {
    /// Bytes between messages.
    Blank(usize),
    /// An object of this length.
    Object(usize),
    /// The length of a line, without and with its newline.
    Line(usize, usize),
    Unfinished,
    Invalid(Reason, String),
}

impl Framer {
    /// A framer for messages of at most `max_message` bytes.
    pub fn new(max_message: usize) -> Self {
        Framer {
            max_message,
            list: List::Outside,
            scan: Scan::default(),
            skipping: false,
        }
    }

    /// Changes the limit. An unfinished message is scanned again with the new limit.
    pub fn set_max_message(&mut self, max_message: usize) {
        self.max_message = max_message;
        self.scan = Scan::default();
    }

    /// Skips the rest of the current line, after its message was abandoned.
    pub fn skip_line(&mut self) {
        self.scan = Scan::default();
        self.list = List::Outside;
        self.skipping = true;
    }

    /// Passes each complete message in `bytes` to `each`, and returns the number of
    /// consumed bytes. The rest is an unfinished message: pass it again, followed by the
    /// next bytes. With `end` no more bytes follow: an unfinished message is invalid, and
    /// all bytes are consumed.
    pub fn feed<'b>(
        &mut self,
        bytes: &'b [u8],
        end: bool,
        mut each: impl FnMut(Frame<'b>),
    ) -> usize {
        let mut from = 0;
        while from < bytes.len() {
            let rest = &bytes[from..];
            let used = match self.step(rest, end) {
                Step::Blank(length) => length,
                Step::Object(length) => {
                    each(Frame::Object(&rest[..length]));
                    length
                }
                Step::Line(length, used) => {
                    let line = &rest[..length];
                    each(Frame::Line(line.strip_suffix(b"\r").unwrap_or(line)));
                    used
                }
                Step::Unfinished => break,
                Step::Invalid(reason, problem) => {
                    each(Frame::Invalid(Rejection::new(reason, problem)));
                    self.list = List::Outside;
                    self.skipping = true;
                    0
                }
            };
            if used > 0 || self.skipping {
                self.scan = Scan::default();
            }
            from += used;
        }
        if end {
            if self.list != List::Outside {
                let problem = "the list ends without `]`";
                each(Frame::Invalid(Rejection::new(Reason::Truncated, problem)));
            }
            *self = Framer::new(self.max_message);
        }
        from
    }

    fn step(&mut self, bytes: &[u8], end: bool) -> Step {
        if self.skipping {
            return match memchr(b'\n', bytes) {
                Some(newline) => {
                    self.skipping = false;
                    Step::Blank(newline + 1)
                }
                None => Step::Blank(bytes.len()),
            };
        }
        if self.scan.at > 0 {
            return match bytes[0] {
                b'{' => self.object(bytes, end),
                _ => self.line(bytes, end),
            };
        }
        let blank = bytes.iter().take_while(|byte| is_blank(**byte)).count();
        if blank > 0 {
            return Step::Blank(blank);
        }
        let next = match (bytes[0], self.list) {
            (b'{', List::Object) => {
                return Step::Invalid(Reason::Malformed, "expected `,` or `]`, not `{`".to_owned());
            }
            (b'{', _) => return self.object(bytes, end),
            (b'[', List::Outside) => List::Start,
            (b',', List::Object) => List::Comma,
            (b']', List::Start | List::Object) => List::Outside,
            (_, List::Outside) => return self.line(bytes, end),
            (other, _) => {
                let problem = format!("expected a message in the list, not {}", describe(other));
                return Step::Invalid(Reason::Malformed, problem);
            }
        };
        self.list = next;
        Step::Blank(1)
    }

    fn line(&mut self, bytes: &[u8], end: bool) -> Step {
        let newline = memchr(b'\n', &bytes[self.scan.at..]).map(|at| at + self.scan.at);
        let length = newline.unwrap_or(bytes.len());
        if length > self.max_message {
            return self.too_long();
        }
        match newline {
            Some(newline) => Step::Line(newline, newline + 1),
            None if end => Step::Line(length, length),
            None => {
                self.scan.at = length;
                Step::Unfinished
            }
        }
    }

    fn object(&mut self, bytes: &[u8], end: bool) -> Step {
        let limit = bytes.len().min(self.max_message);
        match self.scan.run(&bytes[..limit]) {
            Ok(Some(length)) => {
                if self.list != List::Outside {
                    self.list = List::Object;
                }
                Step::Object(length)
            }
            Ok(None) if bytes.len() > self.max_message => self.too_long(),
            Ok(None) if end => Step::Invalid(
                Reason::Truncated,
                "the message ends without its last `}`".to_owned(),
            ),
            Ok(None) => Step::Unfinished,
            Err(problem) => Step::Invalid(Reason::Malformed, problem),
        }
    }

    fn too_long(&self) -> Step {
        let problem = format!(
            "the message has more than {} bytes (operations.max_message)",
            self.max_message
        );
        Step::Invalid(Reason::TooLarge, problem)
    }
}

impl Scan {
    /// Continues the scan of an object. `bytes` begins with its first byte. Returns the
    /// length of the object if it ends within them.
    fn run(&mut self, bytes: &[u8]) -> Result<Option<usize>, String> {
        let mut at = self.at;
        while at < bytes.len() {
            if self.in_string {
                if self.escaped {
                    self.escaped = false;
                    at += 1;
                    continue;
                }
                // Most bytes are in strings, so strings have their own loop. They are too
                // short for `memchr` to pay.
                let Some(length) = bytes[at..].iter().position(|byte| ends_string_run(*byte))
                else {
                    at = bytes.len();
                    break;
                };
                at += length + 1;
                match bytes[at - 1] {
                    b'"' => {
                        self.in_string = false;
                        self.last = Token::Value;
                    }
                    b'\\' => self.escaped = true,
                    _ => return Err("a string does not end on its line".to_owned()),
                }
                continue;
            }
            let byte = bytes[at];
            at += 1;
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                b'"' if self.last != Token::Value => self.in_string = true,
                b'{' | b'[' if self.takes_value() => {
                    if self.depth == MAX_DEPTH {
                        return Err(format!(
                            "objects and lists are nested more than {MAX_DEPTH} deep"
                        ));
                    }
                    self.depth += 1;
                    self.lists = self.lists << 1 | u32::from(byte == b'[');
                    self.last = Token::Open;
                }
                b'}' | b']' if self.in_list() == (byte == b']') => {
                    self.depth -= 1;
                    self.lists >>= 1;
                    self.last = Token::Value;
                    if self.depth == 0 {
                        return Ok(Some(at));
                    }
                }
                b',' => self.last = Token::Comma,
                b':' => self.last = Token::Colon,
                b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.' => {
                    self.last = Token::Value;
                }
                other => return Err(format!("unexpected {}", describe(other))),
            }
        }
        self.at = at;
        Ok(None)
    }

    fn in_list(&self) -> bool {
        self.lists & 1 == 1
    }

    /// Whether an object or a list may start here.
    fn takes_value(&self) -> bool {
        self.depth == 0
            || self.last == Token::Colon
            || (self.in_list() && self.last != Token::Value)
    }
}

/// Whether a byte ends a run of plain text in a string: the closing quote, a
/// backslash, or a newline, which no string contains.
fn ends_string_run(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | b'\n')
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn describe(byte: u8) -> String {
    if byte.is_ascii_graphic() {
        format!("`{}`", char::from(byte))
    } else {
        format!("byte {byte:#04x}")
    }
}

#[cfg(test)]
mod tests;
