//! Limits on one sender's text.

use crate::exposition::parse::{self, Labels, LimitKind, LineError, ParseProblem, Sample};

/// Limits on one sender's text. The default has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextLimits {
    /// Families that the text names, with or without samples.
    pub families: usize,
    /// Samples in the text.
    pub samples: usize,
    /// Labels on one sample, without its name.
    pub labels: usize,
    /// Bytes of a label's name as written: escaped, without quotes.
    pub label_name: usize,
    /// Bytes of a label's value, and of a metric's name, as written: escaped,
    /// without quotes.
    pub label_value: usize,
    /// Bytes of the text together with the labels added to its samples.
    pub text: usize,
}

impl Default for TextLimits {
    fn default() -> Self {
        TextLimits {
            families: usize::MAX,
            samples: usize::MAX,
            labels: usize::MAX,
            label_name: usize::MAX,
            label_value: usize::MAX,
            text: usize::MAX,
        }
    }
}

impl TextLimits {
    /// Checks the limits on labels and names of one sample.
    pub(in crate::exposition) fn check(
        &self,
        sample: &Sample<'_>,
        labels: &Labels<'_>,
    ) -> Result<(), Box<LineError>> {
        let at = |part: &str| parse::offset(sample.raw, part);
        if labels.len() > self.labels {
            let first_over = labels[self.labels].name;
            let at = at(first_over);
            return Err(exceeded(at, LimitKind::LabelsPerSample, self.labels));
        }
        if sample.name.len() > self.label_value {
            let at = at(sample.name);
            return Err(exceeded(at, LimitKind::LabelValueBytes, self.label_value));
        }
        for label in labels {
            if label.name.len() > self.label_name {
                let at = at(label.name);
                return Err(exceeded(at, LimitKind::LabelNameBytes, self.label_name));
            }
            if label.value.len() > self.label_value {
                let at = at(label.value);
                return Err(exceeded(at, LimitKind::LabelValueBytes, self.label_value));
            }
        }
        Ok(())
    }
}

/// The error for a limit that is exceeded at byte `at` of the line.
pub(super) fn exceeded(at: usize, limit: LimitKind, allowed: usize) -> Box<LineError> {
    LineError::new(at, ParseProblem::Limit { limit, allowed })
}
