//! What a plan makes of the registry, for whoever is to be told.

use std::sync::Arc;

use super::planner::{Changeset, PlannedSeries};
use super::state::State;

/// What series come to, in the order in which the batch names them first.
#[derive(Debug)]
pub struct SeriesTotals {
    families: Vec<Arc<str>>,
    /// The places of their families, and what they come to.
    series: Vec<(u32, Option<f64>)>,
}

impl SeriesTotals {
    /// The family of each series and its value; of a histogram and a summary
    /// its count, or its sum where it has no count. `None` where the series
    /// does not live.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Option<f64>)> {
        let series = self.series.iter();
        series.map(|(family, total)| (&self.families[*family as usize], *total))
    }
}

impl Changeset {
    /// Series that live and will not.
    pub fn removed_series(&self) -> usize {
        let gone = |series: &&PlannedSeries| series.slot.is_some() && series.state.is_none();
        self.series.iter().filter(gone).count()
    }

    /// What the series that the batch names will come to. Nothing is looked
    /// up or copied but numbers, since others wait meanwhile.
    pub fn totals(&self) -> SeriesTotals {
        let names = self.families.iter().map(|family| &family.name);
        let total = |state: &State| match state {
            State::Value(value) => *value,
            State::Window(window) => window.value(),
            State::Histogram(histogram) => histogram.count,
            State::Summary(summary) => summary.count.or(summary.sum).unwrap_or_default(),
        };
        let series = self.series.iter();
        SeriesTotals {
            families: names.map(Arc::clone).collect(),
            series: series
                .map(|series| (series.family, series.state.as_ref().map(total)))
                .collect(),
        }
    }
}
