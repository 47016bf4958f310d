//! The labels of one sample.

use std::ops::Index;

/// A label as written: its value is escaped, and so is its name if it is
/// quoted. [`unescape`](super::unescape) removes the escapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label<'t> {
    /// The name, escaped, without quotes.
    pub name: &'t str,
    /// The value, escaped, without quotes.
    pub value: &'t str,
}

/// The labels of a sample, in a buffer that is used again for every sample.
#[derive(Debug, Clone, Default)]
pub struct Labels<'t> {
    labels: Vec<Label<'t>>,
    /// Buffer for finding a repeated name among many.
    names: Vec<&'t str>,
}

/// Up to this number, comparing each name with each other is cheaper than
/// sorting.
const FEW: usize = 12;

impl<'t> Labels<'t> {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The labels in their current order.
    pub fn iter(&self) -> std::slice::Iter<'_, Label<'t>> {
        self.labels.iter()
    }

    /// The labels in their current order.
    pub fn as_slice(&self) -> &[Label<'t>] {
        &self.labels
    }

    /// The escaped value of the label with that name as written.
    pub fn value(&self, name: &str) -> Option<&'t str> {
        self.iter()
            .find(|label| label.name == name)
            .map(|label| label.value)
    }

    /// Sorts by name. Labels that are sorted already, as most are, cost one
    /// comparison each.
    pub fn sort(&mut self) {
        if !self.labels.is_sorted_by(|a, b| a.name <= b.name) {
            self.labels.sort_unstable();
        }
    }

    /// Removes all labels.
    pub fn clear(&mut self) {
        self.labels.clear();
    }

    pub(super) fn push(&mut self, label: Label<'t>) {
        self.labels.push(label);
    }

    /// A name that comes twice.
    pub(super) fn repeated(&mut self) -> Option<&'t str> {
        if self.labels.is_sorted_by(|a, b| a.name < b.name) {
            return None;
        }
        if self.labels.len() <= FEW {
            return self.labels.iter().enumerate().find_map(|(at, label)| {
                let before = &self.labels[..at];
                let twice = before.iter().any(|other| other.name == label.name);
                twice.then_some(label.name)
            });
        }
        self.names.clear();
        self.names
            .extend(self.labels.iter().map(|label| label.name));
        self.names.sort_unstable();
        let mut pairs = self.names.windows(2);
        pairs.find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
    }
}

impl<'t> Index<usize> for Labels<'t> {
    type Output = Label<'t>;

    fn index(&self, at: usize) -> &Label<'t> {
        &self.labels[at]
    }
}

impl<'t> FromIterator<Label<'t>> for Labels<'t> {
    fn from_iter<I: IntoIterator<Item = Label<'t>>>(labels: I) -> Self {
        Labels {
            labels: labels.into_iter().collect(),
            names: Vec::new(),
        }
    }
}

impl<'a, 't> IntoIterator for &'a Labels<'t> {
    type Item = &'a Label<'t>;
    type IntoIter = std::slice::Iter<'a, Label<'t>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels<'t>(names: &[&'t str]) -> Labels<'t> {
        let mut labels = Labels::new();
        for name in names {
            labels.push(Label { name, value: "" });
        }
        labels
    }

    #[test]
    fn repeated_names_are_found_among_few_and_many() {
        assert_eq!(labels(&[]).repeated(), None);
        assert_eq!(labels(&["b", "a"]).repeated(), None);
        assert_eq!(labels(&["a", "a"]).repeated(), Some("a"));
        let many: Vec<String> = (0..50).rev().map(|n| format!("l{n}")).collect();
        let mut names: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(labels(&names).repeated(), None);
        names.push("l7");
        assert_eq!(labels(&names).repeated(), Some("l7"));
    }

    #[test]
    fn labels_are_sorted_by_name() {
        let mut labels = labels(&["b", "c", "a"]);
        labels.sort();
        let names: Vec<&str> = labels.iter().map(|label| label.name).collect();
        assert_eq!(names, ["a", "b", "c"]);
    }
}
