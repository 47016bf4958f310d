//! What a checked batch will do to the registry.

use std::sync::Arc;
use std::time::Instant;

use super::family::SeriesAddress;
use super::rejection::SeriesName;
use super::reservation::Reservation;
use super::series::SeriesState;
use super::time::Nanos;
use crate::exposition::{Kind, LabelText};

/// A batch that [`Registry::check`](super::Registry::check) has accepted: each
/// series and family that it names, as it will be.
///
/// It is valid only until the registry changes in another way.
#[derive(Debug)]
pub struct Changeset {
    pub(super) at: Instant,
    pub(super) families: Vec<PlannedFamily>,
    pub(super) series: Vec<PlannedSeries>,
    pub(super) reservation: Reservation,
}

/// A family that the batch names, as it will be.
#[derive(Debug)]
pub(super) struct PlannedFamily {
    /// Its id, if it exists.
    pub id: Option<u32>,
    /// Hash of the name.
    pub hash: u64,
    pub name: Arc<str>,
    pub kind: Kind,
    pub help: Option<Arc<str>>,
    /// Whether the batch gives the family its help text.
    pub gets_help: bool,
    /// Whether the batch gives an untyped family its type.
    pub gets_type: bool,
    /// Bounds for new histograms.
    pub bounds: Option<Arc<[f64]>>,
    /// Whether the batch replaces the family.
    pub is_replaced: bool,
    /// Number of series before the batch.
    pub series_before: usize,
    /// Number of series after the batch.
    pub series_after: usize,
    /// Index of the first new series in the changeset.
    pub first_new: Option<usize>,
}

/// A series that the batch names, as it will be.
#[derive(Debug)]
pub(super) struct PlannedSeries {
    /// Index of its family in the changeset.
    pub family: u32,
    /// Hash of the labels.
    pub hash: u64,
    /// Where it is, if it exists.
    pub address: Option<SeriesAddress>,
    pub labels: LabelText,
    /// `None` if it will not exist.
    pub state: Option<SeriesState>,
    pub deadline: Nanos,
}

impl Changeset {
    /// What the changeset takes and gives back. The caller makes sure that no
    /// other producer has the same names and series before it commits.
    pub fn reservation(&self) -> &Reservation {
        &self.reservation
    }

    /// Name and labels of a series, by its index in the changeset, shortened for
    /// messages.
    pub fn series_name(&self, index: u32) -> String {
        let series = &self.series[index as usize];
        let family = &self.families[series.family as usize];
        SeriesName::new(&family.name, series.labels.as_str()).to_string()
    }

    /// Number of series that will be added.
    pub fn added_series(&self) -> usize {
        let added = |series: &&PlannedSeries| series.address.is_none() && series.state.is_some();
        self.series.iter().filter(added).count()
    }

    /// Number of existing series that will be removed. Those that are removed
    /// because their family is replaced are not counted.
    pub fn removed_series(&self) -> usize {
        let removed = |series: &&PlannedSeries| series.address.is_some() && series.state.is_none();
        self.series.iter().filter(removed).count()
    }

    /// The values that the named series will have. Copies only numbers and
    /// shared names, since callers hold the registry's lock.
    pub fn totals(&self) -> SeriesTotals {
        let total = |state: &SeriesState| match state {
            SeriesState::Number(value) => *value,
            SeriesState::Window(window) => window.value(),
            SeriesState::Histogram(histogram) => histogram.count,
            SeriesState::Summary(summary) => summary.count.or(summary.sum).unwrap_or_default(),
        };
        let names = self.families.iter().map(|family| &family.name);
        let series = self.series.iter();
        SeriesTotals {
            families: names.map(Arc::clone).collect(),
            series: series
                .map(|series| (series.family, series.state.as_ref().map(total)))
                .collect(),
        }
    }
}

/// Values of the series that a batch names, in the order in which it first
/// names them.
#[derive(Debug)]
pub struct SeriesTotals {
    families: Vec<Arc<str>>,
    /// Each series' index in `families`, and its value.
    series: Vec<(u32, Option<f64>)>,
}

impl SeriesTotals {
    /// The family and the value of each series. A histogram or a summary is
    /// represented by its count, or by its sum if it has no count. `None` for a
    /// series that does not exist afterwards.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Option<f64>)> {
        let series = self.series.iter();
        series.map(|(family, total)| (&self.families[*family as usize], *total))
    }
}
