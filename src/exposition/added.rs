//! Labels that are added to every sample of a text.

use std::borrow::Cow;

use super::Labels;

/// A label that is added to every sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddedLabel<'a> {
    /// The label's name, escaped.
    pub name: &'a str,
    /// The label's value, escaped.
    pub value: &'a str,
    /// What happens if a sample has a label of that name.
    pub conflict: LabelConflict,
}

impl AddedLabel<'_> {
    /// Approximate number of bytes that the label adds to a sample.
    pub(super) fn len(&self) -> usize {
        self.name.len() + self.value.len() + 4
    }
}

/// How an added label and a sample's own label of the same name are resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelConflict {
    /// Prefix the name of the sample's own label with `exported_`.
    Rename,
    /// Replace the sample's own label.
    Override,
    /// Keep the sample's own label and add none.
    Keep,
}

/// Merges a sample's sorted labels with the added ones, sorted by name. `out` is a buffer that is
/// reused for every sample.
pub(super) fn merge_added<'l>(
    out: &mut Vec<(Cow<'l, str>, &'l str)>,
    labels: &Labels<'l>,
    added: &[AddedLabel<'l>],
) {
    out.clear();
    for label in labels {
        let taken = added.iter().find(|added| added.name == label.name);
        let name = match taken.map(|added| added.conflict) {
            Some(LabelConflict::Override) => continue,
            Some(LabelConflict::Rename) => Cow::Owned(renamed(label.name, labels, added, out)),
            Some(LabelConflict::Keep) | None => Cow::Borrowed(label.name),
        };
        out.push((name, label.value));
    }
    for label in added {
        if label.conflict != LabelConflict::Keep || labels.value(label.name).is_none() {
            out.push((Cow::Borrowed(label.name), label.value));
        }
    }
    if !out.is_sorted_by(|a, b| a.0 <= b.0) {
        out.sort_unstable();
    }
}

/// A free name for a label: `exported_` is prefixed until no other label has the name, as
/// Prometheus does for labels of a target. Labels in `out` may have been renamed.
fn renamed(
    name: &str,
    labels: &Labels<'_>,
    added: &[AddedLabel<'_>],
    out: &[(Cow<'_, str>, &str)],
) -> String {
    let mut name = format!("exported_{name}");
    while labels.value(&name).is_some()
        || added.iter().any(|added| added.name == name)
        || out.iter().any(|(taken, _)| *taken == name)
    {
        name.insert_str(0, "exported_");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{InputFormat, Parser};

    #[test]
    fn labels_that_are_renamed_differ() {
        let line = "m{a=\"1\",exported_a=\"2\",exported_exported_a=\"3\"} 1\n";
        let mut labels = Labels::new();
        Parser::new(line, InputFormat::Text)
            .next(&mut labels)
            .unwrap();
        let added = [("a", "x"), ("exported_a", "y")].map(|(name, value)| AddedLabel {
            name,
            value,
            conflict: LabelConflict::Rename,
        });
        let mut out = Vec::new();
        merge_added(&mut out, &labels, &added);
        let named: Vec<(String, &str)> = out
            .iter()
            .map(|(name, value)| (name.replace("exported_", "e_"), *value))
            .collect();
        let expected = [
            ("a", "x"),
            ("e_a", "y"),
            ("e_e_a", "3"),
            ("e_e_e_a", "1"),
            ("e_e_e_e_a", "2"),
        ];
        assert_eq!(
            named,
            expected.map(|(name, value)| (name.to_owned(), value))
        );
    }
}
