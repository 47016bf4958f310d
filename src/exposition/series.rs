//! Series in canonical text, and their identity.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::ops::Deref;
use std::sync::Arc;

use super::canonical::{is_plain_name, write_sample_start};
use super::output_format::OutputFormat;
use super::parse::{self, InputFormat, Labels};

/// The identity of a series: a hash of its name and sorted labels in canonical
/// text. Characters that need quotes count as underscores, since series that
/// are equal then are equal to readers of legacy characters. `plain` skips that
/// conversion for a series that has none.
pub fn hash_series(hash: &impl BuildHasher, series: &str, plain: bool) -> u64 {
    if plain {
        hash.hash_one(series)
    } else {
        hash.hash_one(underscored(series))
    }
}

/// The hashes of a family's series. Most families have one, which needs no
/// allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeriesHashes {
    /// One series.
    One(u64),
    /// Any number of series other than one. Texts with the same series share them.
    Several(Arc<[u64]>),
}

impl Default for SeriesHashes {
    fn default() -> Self {
        SeriesHashes::Several(Arc::default())
    }
}

impl From<Vec<u64>> for SeriesHashes {
    fn from(series: Vec<u64>) -> Self {
        match series.as_slice() {
            [one] => SeriesHashes::One(*one),
            several => SeriesHashes::Several(several.into()),
        }
    }
}

impl From<&[u64]> for SeriesHashes {
    fn from(series: &[u64]) -> Self {
        match series {
            [one] => SeriesHashes::One(*one),
            several => SeriesHashes::Several(several.into()),
        }
    }
}

impl Deref for SeriesHashes {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        match self {
            SeriesHashes::One(one) => std::slice::from_ref(one),
            SeriesHashes::Several(series) => series,
        }
    }
}

impl SeriesHashes {
    /// The hashes of the series in lines of canonical text, in order, each once.
    pub fn of_lines(lines: &str, hash: &impl BuildHasher) -> Self {
        let mut hashes: Vec<u64> = Vec::new();
        for line in lines.lines() {
            let series = series_of(line);
            // A value may look like a quoted name, which only costs a closer look.
            let has_quoted_name =
                series.contains("{\"") || series.contains(",\"") || series.starts_with('"');
            let hash = if series.contains("=\"\"") {
                hash_series(hash, &without_empty_labels(line), !has_quoted_name)
            } else {
                hash_series(hash, series, !has_quoted_name)
            };
            // The points of one series follow one another.
            if hashes.last() != Some(&hash) {
                hashes.push(hash);
            }
        }
        hashes.into()
    }
}

/// Name and labels of a line without the labels that have no value, which readers treat as
/// absent: the series that they see.
pub(super) fn without_empty_labels(line: &str) -> Cow<'_, str> {
    let mut labels = Labels::new();
    let Some(sample) = parse::sample(line, InputFormat::Text, &mut labels) else {
        return Cow::Borrowed(series_of(line));
    };
    let mut series = String::with_capacity(line.len());
    let pairs = labels.iter().map(|label| (label.name, label.value));
    let pairs = pairs.filter(|(_, value)| !value.is_empty());
    write_sample_start(&mut series, sample.name, pairs);
    Cow::Owned(series)
}

/// Name and labels of a line of canonical text.
pub(super) fn series_of(line: &str) -> &str {
    // Nothing after the labels has a brace.
    let labels_end = memchr::memrchr(b'}', line.as_bytes()).map_or(0, |brace| brace + 1);
    let end = memchr::memchr(b' ', &line.as_bytes()[labels_end..]);
    &line[..end.map_or(line.len(), |end| labels_end + end)]
}

/// Name and labels with underscores for characters that need quotes.
fn underscored(series: &str) -> String {
    // The conversion needs a whole line, with a value.
    let shown = OutputFormat::UNDERSCORES.convert(&format!("{series} 0\n"), None);
    shown.map_or_else(
        || series.to_owned(),
        |shown| shown.trim_end_matches(" 0\n").to_owned(),
    )
}

/// Whether an escaped text can be a family's name, in quotes if it needs them.
/// NUL is not allowed, since readers take it for the end of the text.
pub fn is_family_name(escaped: &str) -> bool {
    if escaped.is_empty() {
        return false;
    }
    if is_plain_name(escaped) {
        return true;
    }
    let mut chars = escaped.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' | '\n' | '\0' => return false,
            '\\' if !matches!(chars.next(), Some('\\' | '"' | 'n')) => return false,
            _ => {}
        }
    }
    true
}

/// Writes `name{labels}`. The name consists of two pieces; the labels are
/// canonical pieces, which are joined with commas. Empty pieces are skipped.
pub fn write_series(out: &mut String, name: [&str; 2], quoted: bool, labels: [&str; 3]) {
    let mut before = '{';
    if quoted {
        out.push_str("{\"");
        before = ',';
    }
    out.push_str(name[0]);
    out.push_str(name[1]);
    if quoted {
        out.push('"');
    }
    for piece in labels {
        if !piece.is_empty() {
            out.push(before);
            out.push_str(piece);
            before = ',';
        }
    }
    if before == ',' {
        out.push('}');
    }
}

/// Whether a family's name needs quotes.
pub fn needs_quotes(name: &str) -> bool {
    !is_plain_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_written_with_quotes_and_braces_as_needed() {
        let written = |name, labels| {
            let mut out = String::new();
            write_series(&mut out, [name, "_sum"], needs_quotes(name), labels);
            out
        };
        assert_eq!(written("m", ["", "", ""]), "m_sum");
        assert_eq!(written("m", ["a=\"1\"", "", ""]), "m_sum{a=\"1\"}");
        let three = ["a=\"1\"", "le=\"2\"", "z=\"3\""];
        assert_eq!(written("m", three), "m_sum{a=\"1\",le=\"2\",z=\"3\"}");
        assert_eq!(written("m.n", ["", "", ""]), "{\"m.n_sum\"}");
        let one = ["", "a=\"1\"", ""];
        assert_eq!(written("m.n", one), "{\"m.n_sum\",a=\"1\"}");
    }

    #[test]
    fn family_names_cannot_break_their_line() {
        for name in ["m", "a:b", "my.metric", "é", "a\\\"b", "a\\nb", "1"] {
            assert!(is_family_name(name), "{name}");
        }
        for name in ["", "a\"b", "a\nb", "a\\", "a\\x", "a\0b"] {
            assert!(!is_family_name(name), "{name:?}");
        }
    }
}
