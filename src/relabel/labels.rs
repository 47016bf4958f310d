//! The labels of one series, while rules change them.

use std::borrow::Cow;

/// Labels with names and values without escapes. No label has an empty value: setting one
/// removes the label, as in Prometheus.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct LabelSet<'t>(Vec<(Cow<'t, str>, Cow<'t, str>)>);

impl<'t> LabelSet<'t> {
    /// No labels.
    pub fn new() -> Self {
        LabelSet::default()
    }

    /// The value of a label; empty if it does not exist.
    pub fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// Sets a label. An empty value removes it.
    pub fn set(&mut self, name: impl Into<Cow<'t, str>>, value: impl Into<Cow<'t, str>>) {
        let (name, value) = (name.into(), value.into());
        let found = self.0.iter().position(|(known, _)| *known == name);
        match found {
            Some(at) if value.is_empty() => drop(self.0.swap_remove(at)),
            Some(at) => self.0[at].1 = value,
            None if value.is_empty() => {}
            None => self.0.push((name, value)),
        }
    }

    /// Adds a label that does not exist yet. An empty value adds none.
    pub fn add(&mut self, name: impl Into<Cow<'t, str>>, value: impl Into<Cow<'t, str>>) {
        let value = value.into();
        if !value.is_empty() {
            self.0.push((name.into(), value));
        }
    }

    /// Becomes a copy of other labels, in its own memory.
    pub fn copy_from(&mut self, other: &Self) {
        self.0.clear();
        self.0.extend_from_slice(&other.0);
    }

    /// Removes a label, if it exists.
    pub fn remove(&mut self, name: &str) {
        self.retain(|known| known != name);
    }

    /// Keeps the labels whose names `keep` accepts.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|(name, _)| keep(name));
    }

    /// Removes all labels, but keeps the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The number of labels.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sorts the labels by name, byte by byte.
    pub fn sort(&mut self) {
        self.0.sort_unstable();
    }

    /// Whether other labels are the same, in any order.
    pub fn has_same(&self, other: &Self) -> bool {
        let mut labels = other.iter();
        self.len() == other.len() && labels.all(|(name, value)| self.get(name) == value)
    }

    /// Names and values, in the order of the last [`sort`](Self::sort) or of being set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl<'t> IntoIterator for LabelSet<'t> {
    type Item = (Cow<'t, str>, Cow<'t, str>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'t, N: Into<Cow<'t, str>>, V: Into<Cow<'t, str>>> FromIterator<(N, V)> for LabelSet<'t> {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(pairs: T) -> Self {
        let mut labels = LabelSet::new();
        for (name, value) in pairs {
            labels.set(name, value);
        }
        labels
    }
}
