//! The labels of a series: its sender's, and those that are put on it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::Fault;
use crate::exposition::{LabelText, is_plain_label};
use crate::reason::Reason;

/// A sender's labels, as they were written.
pub type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// What there may be of labels.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub count: usize,
    /// Bytes of a name, and of a value.
    pub length: usize,
}

/// The labels with those of `added`, as one text. Those added go before the
/// sender's; or, with `keep`, after them, so that what an operation was given
/// where it began stays. Of several with one name the last counts. One that is
/// empty is none, as Prometheus has it.
pub fn label_text<'a>(
    mut labels: Pairs<'a>,
    added: &'a [(String, String)],
    keep: bool,
    bounds: Bounds,
) -> Result<LabelText, Fault> {
    let bad = |problem: String| Fault::new(Reason::BadLabels, problem);
    for (name, value) in &labels {
        if !is_plain_label(name) || name.starts_with("__") {
            return Err(bad(format!(
                "{name:?} is no name of a label: letters, digits and underscores, not two of them first"
            )));
        }
        if name.len() > bounds.length || value.len() > bounds.length {
            return Err(bad(format!(
                "label {name:?}: names and values may have {} bytes (operations.max_label_length)",
                bounds.length
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
    // Equal names stay in their order.
    labels.sort_by(|(a, _), (b, _)| a.cmp(b));
    labels.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            std::mem::swap(later, kept);
        }
        same
    });
    labels.retain(|(_, value)| !value.is_empty());
    if labels.len() > bounds.count {
        return Err(bad(format!(
            "there are {} labels, and {} may be (operations.max_labels)",
            labels.len(),
            bounds.count
        )));
    }
    LabelText::from_plain(labels.iter().map(|(name, value)| (&**name, &**value)))
        .map_err(|fault| bad(fault.to_string()))
}

/// The labels of a file: lines of `key=value`. Lines without `=` or without a
/// key are passed over, and quotes in values are left out. A key's characters
/// that no label has become underscores, as Kubernetes' own labels need it.
pub fn of_file(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once('=')?;
            let name = label_name(key.trim())?;
            Some((name, value.trim().replace('"', "")))
        })
        .collect()
}

fn label_name(key: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut name: String = key.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    (!name.is_empty() && !name.starts_with("__") && name != "le").then_some(name)
}

/// What metrics-server calls the source of what comes in at a socket: the
/// last words before `.sock`, or else all of its name.
pub fn source_app(socket: &str) -> &str {
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

    const BOUNDS: Bounds = Bounds {
        count: 3,
        length: 10,
    };

    fn text(labels: &[(&str, &str)], added: &[(&str, &str)], keep: bool) -> Result<String, Fault> {
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        let added: Vec<(String, String)> = added
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        label_text(labels, &added, keep, BOUNDS).map(|text| text.to_string())
    }

    #[test]
    fn labels_are_sorted_and_the_last_of_a_name_counts() {
        let labels = [("b", "1"), ("a", "x\"y"), ("b", "2"), ("c", "")];
        assert_eq!(text(&labels, &[], false).unwrap(), "a=\"x\\\"y\",b=\"2\"");
        assert_eq!(text(&[], &[], false).unwrap(), "");
    }

    #[test]
    fn what_is_added_goes_first_unless_it_is_kept() {
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
    fn bad_labels_are_refused() {
        for (labels, words) in [
            (&[("", "1")][..], "no name of a label"),
            (&[("a b", "1")], "no name of a label"),
            (&[("a:b", "1")], "no name of a label"),
            (&[("9", "1")], "no name of a label"),
            (&[("__name__", "1")], "no name of a label"),
            (&[("a", "12345678901")], "max_label_length"),
            (&[("a2345678901", "1")], "max_label_length"),
            (
                &[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")],
                "max_labels",
            ),
        ] {
            let fault = text(labels, &[], false).unwrap_err();
            assert_eq!(fault.reason, Reason::BadLabels);
            assert!(fault.message.contains(words), "{labels:?}: {fault}");
        }
    }

    #[test]
    fn a_file_of_labels_is_read_line_by_line() {
        let read = of_file(
            "app=\"web\"\n a.b/c = x=\"y\" \r\nnothing\n=x\n# c=1\n__x=1\nle=1\n9=z\nempty=\n",
        );
        let read: Vec<(&str, &str)> = read.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(
            read,
            [("_9", "z"), ("a_b_c", "x=y"), ("app", "web"), ("empty", "")],
            "`# c` is a key that begins with two underscores"
        );
    }

    #[test]
    fn an_app_is_named_by_its_socket() {
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
