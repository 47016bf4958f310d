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

/// Puts a sample's sorted labels together with the added ones, sorted by name.
/// `out` is a buffer that is used again for every sample.
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
            Some(LabelConflict::Rename) => Cow::Owned(renamed(label.name, labels, added)),
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

/// A free name for a label: `exported_` is prefixed until the name is not
/// taken, as Prometheus does for labels of a target.
fn renamed(name: &str, labels: &Labels<'_>, added: &[AddedLabel<'_>]) -> String {
    let mut name = format!("exported_{name}");
    while labels.value(&name).is_some() || added.iter().any(|added| added.name == name) {
        name.insert_str(0, "exported_");
    }
    name
}
