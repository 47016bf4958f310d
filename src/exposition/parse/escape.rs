//! Escapes. Text holds three: `\\`, `\"` and `\n`. What must be escaped has
//! one way to be written, so two escaped texts are equal exactly where their
//! meanings are.

use std::borrow::Cow;

use memchr::memchr;

/// What an escaped name or label value means.
///
/// A backslash before any other character stands for itself, as the scrape
/// parser has it; the [`Parser`](super::Parser) lets none through.
pub fn unescape(escaped: &str) -> Cow<'_, str> {
    unescaped(escaped, true)
}

/// What an escaped help means. `\"` keeps its backslash in text, where the
/// scrape parser leaves it, and loses it in OpenMetrics.
pub fn unescape_help(escaped: &str, format: super::InputFormat) -> Cow<'_, str> {
    unescaped(escaped, format == super::InputFormat::OpenMetrics)
}

fn unescaped(escaped: &str, quotes: bool) -> Cow<'_, str> {
    if memchr(b'\\', escaped.as_bytes()).is_none() {
        return Cow::Borrowed(escaped);
    }
    let mut out = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        let (meant, taken) = match rest.as_bytes().get(at + 1) {
            Some(b'\\') => ('\\', 2),
            Some(b'n') => ('\n', 2),
            Some(b'"') if quotes => ('"', 2),
            _ => ('\\', 1),
        };
        out.push(meant);
        rest = &rest[at + taken..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Where the first backslash stands that begins no escape.
pub(super) fn bad_escape(escaped: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = memchr(b'\\', &escaped[from..]) {
        let at = from + at;
        if !matches!(escaped.get(at + 1), Some(b'\\' | b'"' | b'n')) {
            return Some(at);
        }
        from = at + 2;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::InputFormat;
    use super::*;

    #[test]
    fn the_three_escapes_are_undone() {
        assert!(matches!(unescape("plain"), Cow::Borrowed("plain")));
        assert_eq!(unescape(r#"a\\b\"c\nd"#), "a\\b\"c\nd");
        assert_eq!(unescape(r"\\n"), r"\n");
        assert_eq!(unescape(r"\x\"), r"\x\");
        assert_eq!(unescape_help(r#"\"\n"#, InputFormat::Text), "\\\"\n");
        assert_eq!(unescape_help(r#"\"\n"#, InputFormat::OpenMetrics), "\"\n");
    }

    #[test]
    fn a_backslash_that_begins_no_escape_is_found() {
        for (text, at) in [
            ("", None),
            (r#"\\\"\n"#, None),
            (r"a\x", Some(1)),
            (r"a\", Some(1)),
            (r"\\\", Some(2)),
        ] {
            assert_eq!(bad_escape(text.as_bytes()), at, "{text}");
        }
    }
}
