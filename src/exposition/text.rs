//! A sender's exposition text.

use std::iter::once;
use std::str::Utf8Error;

use bytes::Bytes;
use memchr::memchr_iter;

/// Exposition text in UTF-8. It is empty or ends in a line feed, so that texts
/// can be joined without gluing two lines into one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text(Bytes);

impl Text {
    /// Copies `text` into an allocation of its exact size, so that the text
    /// does not keep a receive buffer alive.
    pub fn new(text: &str) -> Self {
        Text::joined(&[text])
    }

    /// A text of lines, each of which gets a line feed. No lines give one empty
    /// line, as the first senders of such lists expect.
    pub fn from_lines(lines: &[String]) -> Self {
        let size = lines.iter().map(|line| line.len() + 1).sum::<usize>();
        let mut joined = Vec::with_capacity(size.max(1));
        for line in lines {
            joined.extend_from_slice(line.as_bytes());
            joined.push(b'\n');
        }
        if lines.is_empty() {
            joined.push(b'\n');
        }
        Text(Bytes::from(joined))
    }

    /// The pieces as one text.
    pub fn joined(pieces: &[&str]) -> Self {
        let size = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let mut joined = Vec::with_capacity(size + 1);
        for piece in pieces {
            joined.extend_from_slice(piece.as_bytes());
        }
        if joined.last().is_some_and(|last| *last != b'\n') {
            joined.push(b'\n');
        }
        // Exact if the line feed was there already, so that the memory kept is
        // the size of the text.
        joined.shrink_to_fit();
        Text(Bytes::from(joined))
    }

    /// Texts one after the other. A single one is shared, not copied.
    pub fn concat(pieces: &[Bytes]) -> Self {
        match pieces {
            [piece] => Text(piece.clone()),
            pieces => Text(Bytes::from(pieces.concat())),
        }
    }

    /// A text that was just written. A missing last line feed is added.
    pub fn of_string(mut text: String) -> Self {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.shrink_to_fit();
        Text(Bytes::from(text))
    }

    /// Bytes of an earlier text, shared. `None` unless they are UTF-8 and empty or end in a line
    /// feed.
    pub fn from_bytes(bytes: Bytes) -> Option<Self> {
        let is_whole = bytes.last().is_none_or(|last| *last == b'\n');
        (is_whole && std::str::from_utf8(&bytes).is_ok()).then_some(Text(bytes))
    }

    /// A text that was received into memory of its exact size. It is copied only if it lacks
    /// its last line feed.
    ///
    /// # Errors
    ///
    /// It is not UTF-8.
    pub fn from_body(body: Bytes) -> Result<Self, Utf8Error> {
        let text = std::str::from_utf8(&body)?;
        if !text.is_empty() && !text.ends_with('\n') {
            return Ok(Text::new(text));
        }
        Ok(Text(body))
    }

    /// Whole lines of a larger text.
    pub(super) fn of_lines(lines: Bytes) -> Self {
        debug_assert!(lines.is_empty() || lines.ends_with(b"\n"));
        Text(lines)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // It was made from text, and pieces are cut at line feeds.
        std::str::from_utf8(&self.0).expect("a text is UTF-8")
    }

    /// The text as shared bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The text as shared bytes.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Size in bytes, with the added line feed.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Number of lines that are neither blank nor comments: in well-formed text,
/// the number of samples.
pub fn sample_lines(text: &[u8]) -> usize {
    let starts = once(0).chain(memchr_iter(b'\n', text).map(|end| end + 1));
    let samples = starts.filter(|start| {
        let first = text[*start..]
            .iter()
            .find(|byte| !matches!(byte, b' ' | b'\t' | b'\r'));
        first.is_some_and(|byte| !matches!(byte, b'#' | b'\n'))
    });
    samples.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_last_newline_is_added() {
        for (given, kept) in [
            ("", ""),
            ("m 1", "m 1\n"),
            ("m 1\n", "m 1\n"),
            ("\nm 1\n\n", "\nm 1\n\n"),
            ("m 1\r", "m 1\r\n"),
        ] {
            assert_eq!(Text::new(given).bytes(), kept, "{given:?}");
        }
    }

    #[test]
    fn a_body_is_shared_if_it_is_whole() {
        let body = Bytes::from_static(b"m 1\n");
        let text = Text::from_body(body.clone()).unwrap();
        assert_eq!(text.bytes().as_ptr(), body.as_ptr());
        assert_eq!(text, Text::new("m 1"));
        let partial = Text::from_body(body.slice(..3));
        assert_eq!(partial, Ok(Text::new("m 1")));
        assert_eq!(Text::from_body(Bytes::new()), Ok(Text::default()));
        let problem = Text::from_body(Bytes::from_static(b"m\xff 1\n"));
        assert_eq!(problem.unwrap_err().valid_up_to(), 1);
    }

    #[test]
    fn lines_each_get_a_newline() {
        let lines = |lines: &[&str]| {
            let owned: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            Text::from_lines(&owned)
        };
        assert_eq!(lines(&["a 1", "b 2"]).bytes(), "a 1\nb 2\n");
        assert_eq!(lines(&[""]).bytes(), "\n");
        assert_eq!(lines(&[]).bytes(), "\n");
    }

    #[test]
    fn sample_lines_exclude_comments_and_blank_lines() {
        let text = b"# HELP m h\n# TYPE m gauge\nm 1\n\n  \n  # c\n m{a=\"#\"} 2\n";
        assert_eq!(sample_lines(text), 2);
        assert_eq!(sample_lines(b""), 0);
    }
}
