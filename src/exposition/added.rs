//! Labels that are put on every sample of a text.

use std::borrow::Cow;

use super::Labels;

/// A label that is put on every sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddedLabel<'a> {
    /// Name and value as they stand in a text, escaped.
    pub name: &'a str,
    pub value: &'a str,
    pub clash: LabelConflict,
}

impl AddedLabel<'_> {
    /// Bytes that it takes on a sample, about.
    pub(super) fn len(&self) -> usize {
        self.name.len() + self.value.len() + 4
    }
}

/// What becomes of a label of that name that a sample has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelConflict {
    /// It gets `exported_` before its name.
    Rename,
    /// The added one takes its place.
    Override,
    /// It stays, and none is added.
    Keep,
}

/// A sample's labels with those that are added, sorted by name. `labels` are
/// sorted. The buffer serves sample after sample.
pub(super) fn put_on<'l>(
    out: &mut Vec<(Cow<'l, str>, &'l str)>,
    labels: &Labels<'l>,
    added: &[AddedLabel<'l>],
) {
    out.clear();
    for label in labels {
        let taken = added.iter().find(|added| added.name == label.name);
        let name = match taken.map(|added| added.clash) {
            Some(LabelConflict::Override) => continue,
            Some(LabelConflict::Rename) => Cow::Owned(renamed(label.name, labels, added)),
            Some(LabelConflict::Keep) | None => Cow::Borrowed(label.name),
        };
        out.push((name, label.value));
    }
    for label in added {
        if label.clash != LabelConflict::Keep || labels.value(label.name).is_none() {
            out.push((Cow::Borrowed(label.name), label.value));
        }
    }
    if !out.is_sorted_by(|a, b| a.0 <= b.0) {
        out.sort_unstable();
    }
}

/// A free name, as the reference finds one for labels of a target: with
/// `exported_` again and again while the longer name is taken as well.
fn renamed(name: &str, labels: &Labels<'_>, added: &[AddedLabel<'_>]) -> String {
    let mut name = format!("exported_{name}");
    while labels.value(&name).is_some() || added.iter().any(|added| added.name == name) {
        name.insert_str(0, "exported_");
    }
    name
}
