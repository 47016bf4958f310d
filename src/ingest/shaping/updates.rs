//! Shapes updates of aggregated series.

use std::sync::Arc;

use super::step::{Outcome, check, escaped, problem};
use super::{SenderLabels, Shaping};
use crate::exposition::protobuf::DecodedNative;
use crate::exposition::{LabelText, ShapedCounts, labels_text, parse_labels, unescape};
use crate::ingest::Group;
use crate::relabel::{LabelSet, NAME_LABEL, Touch};

/// The series of an update.
#[derive(Debug)]
pub struct Series<'u> {
    /// The family, escaped.
    pub family: &'u mut Arc<str>,
    /// The labels.
    pub labels: &'u mut LabelText,
}

impl Shaping<'_> {
    /// Shapes a native histogram, as a series with the name of its family. Returns whether to keep
    /// it. The text of its family is shaped separately.
    pub fn apply_to_native(&self, group: &Group, native: &mut DecodedNative) -> bool {
        let Some(labels) = parse_labels(&native.native.labels) else {
            return true;
        };
        let group: Vec<(&str, &str)> = group.pairs().collect();
        let mut set: LabelSet<'_> = labels.into_iter().collect();
        set.set(NAME_LABEL, unescape(&native.family).into_owned());
        let mut before = LabelSet::new();
        for step in self.steps(SenderLabels::Group(&group)) {
            let name = set.get(NAME_LABEL).to_owned();
            let sets = (&mut set, &mut before);
            if step.apply_to_sample(((&*name).into(), ""), None, sets) == Outcome::Dropped {
                return false;
            }
        }
        set.sort();
        let family = escaped(set.get(NAME_LABEL)).into_owned();
        let labels = set.iter().filter(|(name, _)| *name != NAME_LABEL);
        let labels: Vec<(&str, &str)> = labels.collect();
        let labels = labels_text(&labels);
        native.family = family;
        native.native.labels = labels.into();
        true
    }

    /// Shapes the series of an update, and adds what is done to `counts`. Returns whether to keep
    /// it.
    ///
    /// # Errors
    ///
    /// Rules leave the series without a valid name or labels.
    pub fn apply_to_series(
        &self,
        series: &mut Series<'_>,
        counts: &mut ShapedCounts,
    ) -> Result<bool, String> {
        for shape in &self.shapes {
            let step = shape.step(&[]);
            let name = unescape(series.family).into_owned();
            if !step.keeps((&*name).into()) {
                counts.dropped += 1;
                return Ok(false);
            }
            let screen = step.screen.of_name(step.rules, &name);
            if step.added.is_empty() && screen.touch == Touch::Never {
                continue;
            }
            let mut set = LabelSet::new();
            set.set(NAME_LABEL, &*name);
            for label in series.labels.iter() {
                let (name, value) = (unescape(label.name), unescape(label.value));
                set.set(name.into_owned(), value.into_owned());
            }
            let before = set.clone();
            if !step.apply_to_labels((&*name).into(), &mut set) {
                counts.dropped += 1;
                return Ok(false);
            }
            if set.has_same(&before) {
                continue;
            }
            // Labels that are added do not count.
            let mut labelled = before.clone();
            step.add_labels(&mut labelled);
            if !set.has_same(&labelled) {
                counts.changed += 1;
            }
            check(&before, &set)?;
            let new = set.get(NAME_LABEL);
            let pairs = set.iter().filter(|(name, _)| *name != NAME_LABEL);
            let labels = LabelText::from_plain(pairs)
                .map_err(|error| problem(&before, &format!("with wrong labels: {error}")))?;
            if new != name {
                *series.family = Arc::from(&*escaped(new));
            }
            *series.labels = labels;
        }
        Ok(true)
    }
}
