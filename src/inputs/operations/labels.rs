//! Puts together the labels of a series: the sender's and added ones.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::rejection::Rejection;
use crate::exposition::{LabelText, is_plain_label};
use crate::reason::Reason;

/// A sender's labels, unescaped, in the order sent.
pub(super) type LabelPairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Limits of the labels of one series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LabelLimits {
    pub(super) count: usize,
    /// The limit on the length of a name and of a value, in bytes.
    pub(super) length: usize,
}

/// Combines the sender's labels with `added` as [`merge_labels`] does, into one text sorted
/// by name.
///
/// # Errors
///
/// A name is invalid, or a limit is exceeded.
pub(super) fn label_text<'a>(
    labels: LabelPairs<'a>,
    added: &'a [(String, String)],
    keep: bool,
    limits: LabelLimits,
) -> Result<LabelText, Rejection> {
    for (name, _) in &labels {
        if !is_plain_label(name) || name.starts_with("__") {
            let problem = format!(
                "invalid label name {name:?}: use letters, digits and underscores, and neither a digit nor \"__\" first"
            );
            return Err(Rejection::new(Reason::BadLabels, problem));
        }
    }
    let labels = merge_labels(labels, added, keep, limits)?;
    LabelText::from_plain(labels.iter().map(|(name, value)| (&**name, &**value)))
        .map_err(|error| Rejection::new(Reason::BadLabels, error.to_string()))
}

/// Combines the sender's labels with `added`, sorted by name.
///
/// Added labels override the sender's. With `keep`, the sender's override the added ones, so
/// that a forwarded operation keeps the labels that it got where it began. Of several labels
/// with one name, the last one counts. An empty value removes the label, as in Prometheus.
///
/// # Errors
///
/// A limit is exceeded.
pub(super) fn merge_labels<'a>(
    mut labels: LabelPairs<'a>,
    added: &'a [(String, String)],
    keep: bool,
    limits: LabelLimits,
) -> Result<LabelPairs<'a>, Rejection> {
    let bad = |problem: String| Rejection::new(Reason::BadLabels, problem);
    for (name, value) in &labels {
        if name.len() > limits.length || value.len() > limits.length {
            return Err(bad(format!(
                "label {name:?}: the name or the value has more than {} bytes (operations.max_label_length)",
                limits.length
            )));
        }
    }
    if !added.is_empty() {
        let at = if keep { 0 } else { labels.len() };
        let added = added
            .iter()
            .map(|(name, value)| (Cow::Borrowed(&**name), Cow::Borrowed(&**value)));
        labels.splice(at..at, added);
    }
    // The sort is stable: equal names keep their order.
    labels.sort_by(|(a, _), (b, _)| a.cmp(b));
    labels.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            std::mem::swap(later, kept);
        }
        same
    });
    labels.retain(|(_, value)| !value.is_empty());
    if labels.len() > limits.count {
        return Err(bad(format!(
            "the series has {} labels, and the limit is {} (operations.max_labels)",
            labels.len(),
            limits.count
        )));
    }
    Ok(labels)
}

/// Parses a file of labels: lines of `key=value`, as Kubernetes' downward API writes them.
/// Lines without `=` or without a key are ignored, and quotes in values are removed.
/// Characters that are not allowed in label names become underscores.
pub(super) fn parse_label_file(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once('=')?;
            let name = label_name(key.trim())?;
            Some((name, value.trim().replace('"', "")))
        })
        .collect()
}

fn label_name(key: &str) -> Option<String> {
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut name: String = key
        .chars()
        .map(|c| if valid(c) { c } else { '_' })
        .collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    (!name.is_empty() && !name.starts_with("__") && name != "le").then_some(name)
}

/// The value of `source_app` for a socket, by metrics-server's rules: the last word before
/// `.sock`, or else the whole name. A word may contain single hyphens.
pub(super) fn source_app(socket: &str) -> &str {
    let Some(path) = socket.strip_suffix(".sock") else {
        return socket;
    };
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let start = path.rfind(|c| !word(c)).map_or(0, |at| {
        at + path[at..].chars().next().map_or(0, char::len_utf8)
    });
    let words = &path[start..];
    let words = words.rsplit("--").next().unwrap_or(words);
    let words = words.trim_start_matches('-');
    if words.is_empty() || words.ends_with('-') {
        return socket;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: LabelLimits = LabelLimits {
        count: 3,
        length: 10,
    };

    fn text(
        labels: &[(&str, &str)],
        added: &[(&str, &str)],
        keep: bool,
    ) -> Result<String, Rejection> {
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        let added: Vec<(String, String)> = added
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        label_text(labels, &added, keep, LIMITS).map(|text| text.to_string())
    }

    #[test]
    fn labels_are_sorted_and_the_last_of_equal_names_counts() {
        let labels = [("b", "1"), ("a", "x\"y"), ("b", "2"), ("c", "")];
        assert_eq!(text(&labels, &[], false).unwrap(), "a=\"x\\\"y\",b=\"2\"");
        assert_eq!(text(&[], &[], false).unwrap(), "");
    }

    #[test]
    fn added_labels_override_the_senders_unless_those_are_kept() {
        let added = [("a", "site"), ("b", "file"), ("b", "config")];
        let labels = [("a", "own")];
        assert_eq!(
            text(&labels, &added, false).unwrap(),
            "a=\"site\",b=\"config\""
        );
        assert_eq!(
            text(&labels, &added, true).unwrap(),
            "a=\"own\",b=\"config\""
        );
    }

    #[test]
    fn invalid_labels_are_rejected() {
        for (labels, words) in [
            (&[("", "1")][..], "invalid label name"),
            (&[("a b", "1")], "invalid label name"),
            (&[("a:b", "1")], "invalid label name"),
            (&[("9", "1")], "invalid label name"),
            (&[("__name__", "1")], "invalid label name"),
            (&[("a", "12345678901")], "max_label_length"),
            (&[("a2345678901", "1")], "max_label_length"),
            (
                &[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")],
                "max_labels",
            ),
        ] {
            let error = text(labels, &[], false).unwrap_err();
            assert_eq!(error.reason, Reason::BadLabels);
            assert!(error.message.contains(words), "{labels:?}: {error}");
        }
    }

    #[test]
    fn a_file_of_labels_is_parsed_line_by_line() {
        let read = parse_label_file(
            "app=\"web\"\n a.b/c = x=\"y\" \r\nnothing\n=x\n# c=1\n__x=1\nle=1\n9=z\nempty=\n",
        );
        let read: Vec<(&str, &str)> = read.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(
            read,
            [("_9", "z"), ("a_b_c", "x=y"), ("app", "web"), ("empty", "")],
            "`# c` becomes `__c`, which is reserved"
        );
    }

    #[test]
    fn source_app_is_the_last_word_of_the_sockets_name() {
        for (socket, app) in [
            ("/run/app-one.sock", "app-one"),
            ("a.b.sock", "b"),
            ("/run/x/y_2.sock", "y_2"),
            ("/run/a--b.sock", "b"),
            ("/run/-b.sock", "b"),
            ("/run/b-.sock", "/run/b-.sock"),
            ("/run/é.sock", "/run/é.sock"),
            ("/run/éa.sock", "a"),
            ("/run/.sock", "/run/.sock"),
            (":9999", ":9999"),
            ("/run/app", "/run/app"),
        ] {
            assert_eq!(source_app(socket), app, "{socket}");
        }
    }
}
