//! The labels of one series as canonical text.

use std::borrow::Cow;
use std::fmt;

use super::canonical::is_plain_label;
use super::escaping::shared_label;
use super::write_label_value;
use super::{Label, Labels};

/// The labels of a series, `a="b",c="d"`: sorted by name, each name once,
/// values escaped as in text 0.0.4, names in quotes where they need them,
/// without braces. Two series of a family are the same if and only if these
/// texts are equal.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelText(Box<str>);

/// Why labels cannot be those of a series.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// A label has an empty name.
    #[error("a label has no name")]
    NoName,
    /// The name has NUL in it, which readers take for the end of the text.
    #[error("label {0:?} has NUL in its name")]
    Nul(String),
    /// A label is called `__name__`, under some escaping scheme.
    #[error("label {0:?} is the name of the metric itself")]
    MetricName(String),
    /// Two labels have this name. Characters that need quotes are shown as
    /// underscores, as readers of the legacy characters see them.
    #[error("label {0:?} is given twice")]
    Repeated(String),
}

impl LabelText {
    /// The labels of a parsed sample, in any order.
    ///
    /// # Errors
    ///
    /// A name that cannot be a label's, or that comes twice.
    pub fn of(labels: &Labels<'_>) -> Result<Self, LabelError> {
        Self::from_escaped(labels.iter().map(|label| (label.name, label.value)))
    }

    /// Labels in any order, with names and values escaped as the parser gives
    /// them.
    ///
    /// # Errors
    ///
    /// A name that cannot be a label's, or that comes twice.
    pub fn from_escaped<'a>(
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, LabelError> {
        Self::of_pairs(labels.into_iter().collect())
    }

    /// Labels in any order, with names and values that have no escapes.
    ///
    /// # Errors
    ///
    /// A name that cannot be a label's, or that comes twice.
    pub fn from_plain<'a>(
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, LabelError> {
        let labels: Vec<(&str, &str)> = labels.into_iter().collect();
        if !labels
            .iter()
            .any(|(name, value)| is_to_be_escaped(name) || is_to_be_escaped(value))
        {
            return Self::of_pairs(labels);
        }
        let escaped: Vec<(Cow<'_, str>, Cow<'_, str>)> = labels
            .into_iter()
            .map(|(name, value)| (escaped(name), escaped(value)))
            .collect();
        Self::from_escaped(escaped.iter().map(|(name, value)| (&**name, &**value)))
    }

    /// Builds the text from escaped, unsorted labels.
    fn of_pairs(mut labels: Vec<(&str, &str)>) -> Result<Self, LabelError> {
        labels.sort_unstable_by_key(|(name, _)| *name);
        check_names(&labels)?;
        // Exact if no name needs quotes, so that the conversion to a boxed text
        // copies nothing.
        let length: usize = labels
            .iter()
            .map(|(name, value)| name.len() + value.len() + 4)
            .sum();
        let mut text = String::with_capacity(length.saturating_sub(1));
        for (name, value) in labels {
            write_label(&mut text, name, value);
        }
        Ok(LabelText(text.into_boxed_str()))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The labels, escaped.
    pub fn iter(&self) -> LabelPairs<'_> {
        label_pairs(&self.0)
    }
}

impl fmt::Display for LabelText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The labels of a canonical text.
pub fn label_pairs(canonical: &str) -> LabelPairs<'_> {
    LabelPairs {
        text: canonical,
        at: 0,
    }
}

/// Iterator over the labels of a canonical text; see [`label_pairs`].
#[derive(Debug, Clone)]
pub struct LabelPairs<'t> {
    text: &'t str,
    at: usize,
}

impl LabelPairs<'_> {
    /// Byte at which the next label begins in the text.
    pub fn offset(&self) -> usize {
        self.at
    }
}

impl<'t> Iterator for LabelPairs<'t> {
    type Item = Label<'t>;

    fn next(&mut self) -> Option<Label<'t>> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let (name, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let end = closing_quote(quoted)?;
                (&quoted[..end], end + 2)
            }
            None => {
                let end = rest.find('=')?;
                (&rest[..end], end)
            }
        };
        let value = rest.get(after + 2..)?;
        let end = closing_quote(value)?;
        // Past the closing quote and the comma.
        self.at = (self.at + after + 2 + end + 2).min(self.text.len());
        Some(Label {
            name,
            value: &value[..end],
        })
    }
}

/// Index of the first quote that is not escaped.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

/// Appends a label to a canonical text.
fn write_label(text: &mut String, name: &str, value: &str) {
    if !text.is_empty() {
        text.push(',');
    }
    if is_plain_label(name) {
        text.push_str(name);
    } else {
        text.push('"');
        text.push_str(name);
        text.push('"');
    }
    text.push_str("=\"");
    text.push_str(value);
    text.push('"');
}

fn is_to_be_escaped(text: &str) -> bool {
    text.bytes()
        .any(|byte| matches!(byte, b'\\' | b'"' | b'\n'))
}

fn escaped(text: &str) -> Cow<'_, str> {
    if !is_to_be_escaped(text) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    write_label_value(&mut escaped, text);
    Cow::Owned(escaped)
}

/// Checks the names of sorted labels.
fn check_names(labels: &[(&str, &str)]) -> Result<(), LabelError> {
    const METRIC: &str = "__name__";
    if let Some((first, _)) = labels.first()
        && first.is_empty()
    {
        return Err(LabelError::NoName);
    }
    let mut all_plain = true;
    for (place, (name, _)) in labels.iter().enumerate() {
        if *name == METRIC {
            return Err(LabelError::MetricName((*name).to_owned()));
        }
        if place > 0 && labels[place - 1].0 == *name {
            return Err(LabelError::Repeated((*name).to_owned()));
        }
        all_plain &= is_plain_label(name);
    }
    if all_plain {
        return Ok(());
    }
    if let Some((name, _)) = labels.iter().find(|(name, _)| name.contains('\0')) {
        return Err(LabelError::Nul((*name).to_owned()));
    }
    match shared_label(&labels.iter().map(|(name, _)| *name)) {
        Some(name) if name == METRIC => Err(LabelError::MetricName(name)),
        Some(name) => Err(LabelError::Repeated(name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_escaped_and_quoted() {
        let text = LabelText::from_plain([("b", "x\"\\\n"), ("a", "1"), ("é é", "2")]).unwrap();
        assert_eq!(
            text.as_str(),
            "a=\"1\",b=\"x\\\"\\\\\\n\",\"é é\"=\"2\"",
            "{text}"
        );
        let pairs: Vec<_> = text.iter().map(|label| (label.name, label.value)).collect();
        assert_eq!(
            pairs,
            [("a", "1"), ("b", "x\\\"\\\\\\n"), ("é é", "2")],
            "and are read back"
        );
        assert_eq!(LabelText::from_escaped(pairs).unwrap(), text);
        assert_eq!(LabelText::from_plain([]).unwrap(), LabelText::default());
        assert_eq!(LabelText::default().iter().next(), None);
    }

    #[test]
    fn invalid_and_repeated_names_are_rejected() {
        let rejected = |labels: &[(&str, &str)]| LabelText::from_plain(labels.iter().copied());
        let repeated = |name: &str| Err(LabelError::Repeated(name.to_owned()));
        assert_eq!(
            rejected(&[("a", "1"), ("b", "1"), ("a", "2")]),
            repeated("a")
        );
        assert_eq!(rejected(&[("a.b", "1"), ("a_b", "2")]), repeated("a_b"));
        assert_eq!(rejected(&[("", "1")]), Err(LabelError::NoName));
        let nul = Err(LabelError::Nul("a\0b".to_owned()));
        assert_eq!(rejected(&[("a", "1"), ("a\0b", "1")]), nul);
        let metric = Err(LabelError::MetricName("__name__".to_owned()));
        assert_eq!(rejected(&[("__name__", "1")]), metric);
        assert_eq!(rejected(&[("..name..", "1")]), metric);
    }
}
