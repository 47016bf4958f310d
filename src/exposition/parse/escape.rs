//! Escapes of text: `\\`, `\"` and `\n`. A text has one escaped form only, so
//! two escaped texts are equal if and only if the texts are.

use std::borrow::Cow;

use memchr::memchr;

/// The name or label value without escapes.
///
/// A backslash before any other character stands for itself, as in Prometheus'
/// scrape parser; the [`Parser`](super::Parser) rejects it.
pub fn unescape(escaped: &str) -> Cow<'_, str> {
    unescaped(escaped, true)
}

/// The help without escapes. `\"` keeps its backslash in text 0.0.4, as in
/// Prometheus' scrape parser, and loses it in OpenMetrics.
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
        let (character, taken) = match rest.as_bytes().get(at + 1) {
            Some(b'\\') => ('\\', 2),
            Some(b'n') => ('\n', 2),
            Some(b'"') if quotes => ('"', 2),
            _ => ('\\', 1),
        };
        out.push(character);
        rest = &rest[at + taken..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Index of the first backslash that begins no escape.
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
    fn escapes_are_removed() {
        assert!(matches!(unescape("plain"), Cow::Borrowed("plain")));
        assert_eq!(unescape(r#"a\\b\"c\nd"#), "a\\b\"c\nd");
        assert_eq!(unescape(r"\\n"), r"\n");
        assert_eq!(unescape(r"\x\"), r"\x\");
        assert_eq!(unescape_help(r#"\"\n"#, InputFormat::Text), "\\\"\n");
        assert_eq!(unescape_help(r#"\"\n"#, InputFormat::OpenMetrics), "\"\n");
    }

    #[test]
    fn invalid_escapes_are_found() {
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
