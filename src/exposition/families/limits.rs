//! What one sender's text may hold.

use crate::exposition::parse::{self, Labels, LimitKind, LineError, ParseProblem, Sample};

/// What one sender's text may hold. Without limits until told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextLimits {
    /// Families that the text names, whether they have samples or not.
    pub families: usize,
    pub samples: usize,
    /// Labels on one sample, its name not counted.
    pub labels: usize,
    /// Bytes of a label's name, and of its value or a metric's name, as
    /// written: escaped, without quotes.
    pub label_name: usize,
    pub label_value: usize,
    /// Bytes of the text once labels are put on its samples.
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
    /// Whether the sample alone keeps to them.
    pub(in crate::exposition) fn hold(
        &self,
        sample: &Sample<'_>,
        labels: &Labels<'_>,
    ) -> Result<(), Box<LineError>> {
        let at = |part: &str| parse::offset(sample.raw, part);
        if labels.len() > self.labels {
            let first_over = labels[self.labels].name;
            let at = at(first_over);
            return Err(passed(at, LimitKind::LabelsPerSample, self.labels));
        }
        if sample.name.len() > self.label_value {
            let at = at(sample.name);
            return Err(passed(at, LimitKind::LabelValueBytes, self.label_value));
        }
        for label in labels {
            if label.name.len() > self.label_name {
                let at = at(label.name);
                return Err(passed(at, LimitKind::LabelNameBytes, self.label_name));
            }
            if label.value.len() > self.label_value {
                let at = at(label.value);
                return Err(passed(at, LimitKind::LabelValueBytes, self.label_value));
            }
        }
        Ok(())
    }
}

pub(super) fn passed(at: usize, limit: LimitKind, allowed: usize) -> Box<LineError> {
    LineError::new(at, ParseProblem::Limit { limit, allowed })
}
