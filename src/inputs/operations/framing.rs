//! Cuts what came into messages: JSON objects, and lines of StatsD. Pure.
//!
//! The first byte of a message tells which it is. Objects stand one on a line,
//! one after the other, over several lines, or in a list; brackets in strings
//! are text. The scan is linear, and goes on where the bytes before left off.
//!
//! Where an object is broken so that its end cannot be known, the line that it
//! begins on is passed over, and the next line is looked at. So a sender that
//! stops in the middle of a message does not spoil the one after it.

use memchr::memchr;

use super::Fault;
use super::statsd::Piece;
use crate::reason::Reason;

/// How deep objects and lists may lie in one another. A message has a list of
/// bounds or an object of labels in it; the rest is for what is passed over.
/// It also bounds how often a byte is looked at, since each bracket that opens
/// may be the beginning of a message that is tried.
const DEEPEST: u32 = 16;

/// Finds messages in bytes that come piece by piece.
#[derive(Debug)]
pub struct Framer {
    longest: usize,
    list: List,
    /// The object or line being looked at.
    scan: Scan,
    /// A message is broken or too long, and its line is not over.
    skipping: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub enum Found<'b> {
    /// An object, from bracket to bracket.
    Object(&'b [u8]),
    /// A line, without its end.
    Line(&'b [u8]),
    /// One of several typed values of a line. The framer leaves lines whole.
    Value(Box<Piece<'b>>),
    /// Something that is neither.
    Broken(Fault),
}

/// Where we are in a list of objects. Its brackets and commas are no part of
/// any message, so a list may be longer than a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Outside,
    /// After `[`: an object or the end.
    Begun,
    /// After a comma: an object.
    Comma,
    /// After an object: a comma or the end.
    Object,
}

/// How far an object has been scanned.
#[derive(Debug, Default)]
struct Scan {
    /// Bytes that have been seen.
    at: usize,
    depth: u32,
    /// A bit for each bracket that is open, the innermost lowest: set for a
    /// list.
    lists: u32,
    last: Last,
    in_string: bool,
    /// The byte before was a backslash, in a string.
    escaped: bool,
}

/// What stood last, outside of strings and white space.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Last {
    #[default]
    Open,
    Comma,
    Colon,
    Value,
}

enum Step {
    /// Bytes that are no part of a message.
    Blank(usize),
    /// An object of this length.
    Object(usize),
    /// A line of this length, and the bytes that it takes with its end.
    Line(usize, usize),
    Unfinished,
    Broken(Reason, String),
}

impl Framer {
    /// For messages of at most `longest` bytes.
    pub fn new(longest: usize) -> Self {
        Framer {
            longest,
            list: List::Outside,
            scan: Scan::default(),
            skipping: false,
        }
    }

    /// Passes over what comes up to the end of the line: it is the rest of a
    /// message that was given up.
    pub fn skip_line(&mut self) {
        self.scan = Scan::default();
        self.list = List::Outside;
        self.skipping = true;
    }

    /// Gives each message in `bytes` to `each`, and returns how many bytes are
    /// done with. The rest begins an unfinished message, and is to be given
    /// again with what comes after it. With `end`, nothing comes after it, and
    /// all is done with.
    pub fn feed<'b>(
        &mut self,
        bytes: &'b [u8],
        end: bool,
        mut each: impl FnMut(Found<'b>),
    ) -> usize {
        let mut from = 0;
        while from < bytes.len() {
            let rest = &bytes[from..];
            let used = match self.step(rest, end) {
                Step::Blank(length) => length,
                Step::Object(length) => {
                    each(Found::Object(&rest[..length]));
                    length
                }
                Step::Line(length, used) => {
                    let line = &rest[..length];
                    each(Found::Line(line.strip_suffix(b"\r").unwrap_or(line)));
                    used
                }
                Step::Unfinished => break,
                Step::Broken(reason, problem) => {
                    each(Found::Broken(Fault::new(reason, problem)));
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
                let problem = "the list ends too early: it has no `]`";
                each(Found::Broken(Fault::new(Reason::Truncated, problem)));
            }
            *self = Framer::new(self.longest);
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
                return Step::Broken(Reason::Malformed, "expected `,` or `]`, not `{`".to_owned());
            }
            (b'{', _) => return self.object(bytes, end),
            (b'[', List::Outside) => List::Begun,
            (b',', List::Object) => List::Comma,
            (b']', List::Begun | List::Object) => List::Outside,
            (_, List::Outside) => return self.line(bytes, end),
            (other, _) => {
                let problem = format!("expected a message in the list, not {}", shown(other));
                return Step::Broken(Reason::Malformed, problem);
            }
        };
        self.list = next;
        Step::Blank(1)
    }

    fn line(&mut self, bytes: &[u8], end: bool) -> Step {
        let newline = memchr(b'\n', &bytes[self.scan.at..]).map(|at| at + self.scan.at);
        let length = newline.unwrap_or(bytes.len());
        if length > self.longest {
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
        let limit = bytes.len().min(self.longest);
        match self.scan.run(&bytes[..limit]) {
            Ok(Some(length)) => {
                if self.list != List::Outside {
                    self.list = List::Object;
                }
                Step::Object(length)
            }
            Ok(None) if bytes.len() > self.longest => self.too_long(),
            Ok(None) if end => Step::Broken(
                Reason::Truncated,
                "the message ends too early: a bracket is open".to_owned(),
            ),
            Ok(None) => Step::Unfinished,
            Err(problem) => Step::Broken(Reason::Malformed, problem),
        }
    }

    fn too_long(&self) -> Step {
        let problem = format!(
            "a message may have {} bytes (operations.max_message)",
            self.longest
        );
        Step::Broken(Reason::TooLarge, problem)
    }
}

impl Scan {
    /// Scans on. `bytes` is the object from its first byte. Its length, once it
    /// ends.
    fn run(&mut self, bytes: &[u8]) -> Result<Option<usize>, String> {
        let mut at = self.at;
        while at < bytes.len() {
            if self.in_string {
                if self.escaped {
                    self.escaped = false;
                    at += 1;
                    continue;
                }
                // Most bytes are in strings, so these have a loop of their own.
                // They are too short for a wider search to pay.
                let Some(length) = bytes[at..].iter().position(|byte| ends_text(*byte)) else {
                    at = bytes.len();
                    break;
                };
                at += length + 1;
                match bytes[at - 1] {
                    b'"' => {
                        self.in_string = false;
                        self.last = Last::Value;
                    }
                    b'\\' => self.escaped = true,
                    _ => return Err("a string goes over the end of its line".to_owned()),
                }
                continue;
            }
            let byte = bytes[at];
            at += 1;
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                b'"' if self.last != Last::Value => self.in_string = true,
                b'{' | b'[' if self.takes_value() => {
                    if self.depth == DEEPEST {
                        return Err(format!("brackets are more than {DEEPEST} deep"));
                    }
                    self.depth += 1;
                    self.lists = self.lists << 1 | u32::from(byte == b'[');
                    self.last = Last::Open;
                }
                b'}' | b']' if self.in_list() == (byte == b']') => {
                    self.depth -= 1;
                    self.lists >>= 1;
                    self.last = Last::Value;
                    if self.depth == 0 {
                        return Ok(Some(at));
                    }
                }
                b',' => self.last = Last::Comma,
                b':' => self.last = Last::Colon,
                b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.' => {
                    self.last = Last::Value;
                }
                other => return Err(format!("{} cannot stand where it does", shown(other))),
            }
        }
        self.at = at;
        Ok(None)
    }

    fn in_list(&self) -> bool {
        self.lists & 1 == 1
    }

    /// Whether an object or a list can stand here.
    fn takes_value(&self) -> bool {
        self.depth == 0 || self.last == Last::Colon || (self.in_list() && self.last != Last::Value)
    }
}

/// Whether a byte in a string is more than text: its end, a backslash, or the
/// end of the line, where none goes on.
fn ends_text(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | b'\n')
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn shown(byte: u8) -> String {
    if byte.is_ascii_graphic() {
        format!("`{}`", char::from(byte))
    } else {
        format!("byte {byte:#04x}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is found in bytes that come in pieces of that size.
    fn found(bytes: &[u8], piece: usize, longest: usize) -> Vec<String> {
        let mut framer = Framer::new(longest);
        let mut all = Vec::new();
        let mut kept = Vec::new();
        let mut note = |found: Found<'_>| {
            all.push(match found {
                Found::Object(object) => format!("O {}", String::from_utf8_lossy(object)),
                Found::Line(line) => format!("L {}", String::from_utf8_lossy(line)),
                Found::Value(_) => unreachable!("the framer leaves lines whole"),
                Found::Broken(fault) => format!("! {}", fault.reason),
            });
        };
        for piece in bytes.chunks(piece) {
            kept.extend_from_slice(piece);
            let used = framer.feed(&kept, false, &mut note);
            kept.drain(..used);
        }
        let used = framer.feed(&kept, true, &mut note);
        assert_eq!(used, kept.len());
        all
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        for piece in [1, 2, 3, 7, 1000] {
            let found = found(text.as_bytes(), piece, 100);
            assert_eq!(found, expected, "{text:?} in pieces of {piece}");
        }
    }

    #[test]
    fn objects_stand_in_every_way() {
        let two = ["O {\"a\":1}", "O {\"b\":2}"];
        for text in [
            "{\"a\":1}\n{\"b\":2}\n",
            "{\"a\":1}{\"b\":2}",
            "  {\"a\":1} \r\n\r\n{\"b\":2}\r\n",
            "[{\"a\":1},{\"b\":2}]",
            "[ {\"a\":1}\n,\n{\"b\":2} ]\n",
            "[{\"a\":1}][{\"b\":2}][]",
        ] {
            check(text, &two);
        }
        check(
            "{\n  \"a\": {\n    \"b\": [1, {\"c\": null}]\n  }\n}\n",
            &["O {\n  \"a\": {\n    \"b\": [1, {\"c\": null}]\n  }\n}"],
        );
    }

    #[test]
    fn brackets_in_strings_are_text() {
        for object in [
            r#"{"a":"{"}"#,
            r#"{"a":"}]{["}"#,
            r#"{"a":"\"}"}"#,
            r#"{"a\\":"\\"}"#,
        ] {
            check(
                &format!("{object}{object}"),
                &[&format!("O {object}"), &format!("O {object}")],
            );
        }
    }

    #[test]
    fn lines_and_objects_may_be_mixed() {
        check(
            "a:1|c\r\n{\"b\":2}c:3|g\n\nd:4|ms",
            &["L a:1|c", "O {\"b\":2}", "L c:3|g", "L d:4|ms"],
        );
    }

    #[test]
    fn what_is_broken_ends_with_its_line() {
        check("{\"a\":1\n{\"b\":2}\n", &["! malformed", "O {\"b\":2}"]);
        check("{\"a\":\"x\n{\"b\":2}\n", &["! malformed", "O {\"b\":2}"]);
        check("{\"a\":]}\n{\"b\":2}", &["! malformed", "O {\"b\":2}"]);
        check("{\"a\" \"b\"}\nc:1|c", &["! malformed", "L c:1|c"]);
        check(
            "[{\"a\":1} {\"b\":2}]\n{\"c\":3}",
            &["O {\"a\":1}", "! malformed", "O {\"c\":3}"],
        );
        check("[1,2]\n{\"c\":3}", &["! malformed", "O {\"c\":3}"]);
        check("[{\"a\":1},", &["O {\"a\":1}", "! truncated"]);
        check("{\"a\":1", &["! truncated"]);
        check("{\"a\":\n{\"b\":2}", &["! truncated", "O {\"b\":2}"]);
    }

    #[test]
    fn what_is_too_long_ends_with_its_line() {
        let long = "x".repeat(200);
        check(&format!("{long}\na:1|c"), &["! too_large", "L a:1|c"]);
        check(
            &format!("{{\"a\":\"{long}\"}}\n{{\"b\":2}}"),
            &["! too_large", "O {\"b\":2}"],
        );
        let exact = format!("{{\"a\":\"{}\"}}", "x".repeat(92));
        check(&format!("{exact}{exact}"), &[&*format!("O {exact}"); 2]);
        let list = format!("[{}]", vec!["{\"a\":1}"; 100].join(","));
        check(&list, &["O {\"a\":1}"; 100]);
    }

    #[test]
    fn deep_brackets_cost_no_more_than_their_depth() {
        let text = "{\"a\":\n".repeat(50_000);
        let mut framer = Framer::new(1 << 20);
        let mut broken = 0;
        framer.feed(text.as_bytes(), true, |_| broken += 1);
        assert_eq!(broken, 50_000);
    }

    proptest! {
        /// However the bytes are cut, the same is found, and nothing panics.
        #[test]
        fn pieces_do_not_matter(
            text in proptest::collection::vec(
                prop_oneof![
                    Just("{"), Just("}"), Just("["), Just("]"), Just("\""), Just("\\"),
                    Just("\n"), Just(","), Just(":"), Just("a"), Just("1"), Just(" "),
                    Just("{\"a\":1}"), Just("a:1|c\n"), Just("\u{e9}"),
                ],
                0..60,
            ),
            piece in 1_usize..20,
        ) {
            let text = text.concat();
            let whole = found(text.as_bytes(), text.len().max(1), 30);
            prop_assert_eq!(found(text.as_bytes(), piece, 30), whole);
        }
    }
}
