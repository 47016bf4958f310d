//! What a plan makes of the registry, for whoever is to be told.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::plan::Plan;
use super::state::State;
use crate::exposition::LabelText;

/// What series come to, by their families' names and their labels.
#[derive(Debug, Default)]
pub struct Totals(HashMap<Arc<str>, HashMap<LabelText, f64>>);

impl Totals {
    /// The value of a series; of a histogram and a summary its count, or its
    /// sum where it has no count. `None` where the plan has no such series.
    pub fn of(&self, family: &str, labels: &LabelText) -> Option<f64> {
        self.0.get(family)?.get(labels).copied()
    }
}

impl Plan {
    /// Families that are not there yet and will be.
    pub fn created(&self) -> HashSet<Arc<str>> {
        let families = self.families.iter();
        families
            .filter(|family| family.id.is_none() && family.lives())
            .map(|family| Arc::clone(&family.name))
            .collect()
    }

    /// What the series that the batch names will come to.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for series in &self.series {
            let total = match &series.state {
                Some(State::Value(value)) => *value,
                Some(State::Window(window)) => window.value(),
                Some(State::Histogram(histogram)) => histogram.count,
                Some(State::Summary(summary)) => summary.count.or(summary.sum).unwrap_or_default(),
                None => continue,
            };
            let family = &self.families[series.family as usize].name;
            let of_family = totals.0.entry(Arc::clone(family)).or_default();
            of_family.insert(series.labels.clone(), total);
        }
        totals
    }
}
