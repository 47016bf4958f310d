//! What is stored of aggregated families.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::exact::Exact;
use crate::exposition::Kind;
use crate::registry::block::parts::BlockParts;
use crate::registry::block::{BlockValues, SLOTS};
use crate::registry::labels::LabelTexts;
use crate::registry::series::histogram::{Fractions, Histogram};
use crate::registry::series::summary::Summary;
use crate::registry::series::window::Window;
use crate::registry::time::NEVER;

/// How the registry's time relates to the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockRecord {
    /// Wall time in nanoseconds since 1970.
    pub wall: u64,
    /// The registry's time then, in nanoseconds. Deadlines and windows count in
    /// it.
    pub time: u64,
}

/// An aggregated family without its series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AggregatedRecord<'r> {
    /// The type.
    pub kind: Kind,
    /// The help text, escaped as in the text format.
    #[serde(borrow)]
    pub help: Option<Cow<'r, str>>,
    /// Bounds for new histograms.
    pub bounds: Option<Vec<Exact>>,
}

/// One block of an aggregated family: a few of its series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockRecord<'r> {
    /// Bounds of the block's histograms, each once.
    pub bounds: Vec<Vec<Exact>>,
    /// The series in the order of their slots.
    #[serde(borrow)]
    pub series: Vec<SeriesRecord<'r>>,
}

/// One series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesRecord<'r> {
    /// Its place in the block.
    pub slot: u8,
    /// Its labels in canonical form: `a="b",c="d"`.
    #[serde(borrow)]
    pub labels: Cow<'r, str>,
    /// When it expires, in the registry's time.
    pub expires: Option<u64>,
    /// Its exact state.
    pub value: ValueRecord,
}

/// The exact state of a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueRecord {
    /// A counter, a gauge or an untyped value.
    Number(Exact),
    /// A gauge that shows a sliding window.
    Window {
        /// Whether the mean is shown, or else the sum.
        mean: bool,
        /// Length of a step in nanoseconds.
        step: u64,
        /// Steps with values: number since time 0, sum and count.
        steps: Vec<(u64, Exact, u64)>,
    },
    /// A classic histogram.
    Histogram {
        /// Index of its bounds in [`BlockRecord::bounds`].
        bounds: u32,
        /// The cumulative count at each bound.
        counts: Vec<Exact>,
        /// Number of all observations.
        count: Exact,
        /// Sum of the observations.
        sum: Option<Exact>,
        /// What the counts leave out, in units of 2^-64: for each bound, and then
        /// for the number of all.
        fractions: Option<Vec<u64>>,
    },
    /// A summary without quantiles.
    Summary {
        /// Sum of the observations.
        sum: Option<Exact>,
        /// Number of observations.
        count: Option<Exact>,
        /// What the count leaves out, in units of 2^-64.
        fraction: u64,
    },
}

impl BlockRecord<'_> {
    /// The record of a block.
    pub fn of(parts: &BlockParts) -> BlockRecord<'_> {
        let mut bounds: Vec<&Arc<[f64]>> = Vec::new();
        let series = parts.labels.iter().map(|(slot, labels)| {
            let value = match (&parts.values, parts.windows.get(&(slot as u8))) {
                (_, Some(window)) => ValueRecord::of_window(window),
                (BlockValues::Numbers(numbers), None) => ValueRecord::Number(Exact(numbers[slot])),
                (BlockValues::Histograms(histograms), None) => {
                    ValueRecord::of_histogram(&histograms[slot], &mut bounds)
                }
                (BlockValues::Summaries(summaries), None) => {
                    ValueRecord::of_summary(summaries[slot])
                }
            };
            SeriesRecord {
                slot: slot as u8,
                labels: Cow::Borrowed(labels),
                expires: Some(parts.deadline(slot)).filter(|deadline| *deadline != NEVER),
                value,
            }
        });
        let series = series.collect();
        let exact = |bounds: &&Arc<[f64]>| bounds.iter().copied().map(Exact).collect();
        BlockRecord {
            bounds: bounds.iter().map(exact).collect(),
            series,
        }
    }

    /// The block of the record. `shared` are bounds of histograms that may be the
    /// same as these; new ones are added.
    ///
    /// # Errors
    ///
    /// What is wrong with the record.
    pub fn to_parts(&self, shared: &mut Vec<Arc<[f64]>>) -> Result<BlockParts, &'static str> {
        let ascends = self.series.is_sorted_by(|a, b| a.slot < b.slot);
        let slots = self
            .series
            .last()
            .map_or(0, |last| usize::from(last.slot) + 1);
        if !ascends || slots > SLOTS {
            return Err("the places of its series are not those of a block");
        }
        let bounds = self.bounds.iter().map(|bounds| share(bounds, shared));
        let bounds: Vec<Arc<[f64]>> = bounds.collect::<Result<_, _>>()?;
        let mut values = match self.series.first().map(|first| &first.value) {
            Some(ValueRecord::Histogram { .. }) => {
                BlockValues::Histograms(vec![Histogram::default(); slots])
            }
            Some(ValueRecord::Summary { .. }) => {
                BlockValues::Summaries(vec![Summary::default(); slots])
            }
            _ => BlockValues::Numbers(vec![0.0; slots]),
        };
        let mut windows = BTreeMap::new();
        let mut deadlines = Vec::new();
        for series in &self.series {
            let slot = usize::from(series.slot);
            match (&mut values, &series.value) {
                (BlockValues::Numbers(numbers), ValueRecord::Number(number)) => {
                    numbers[slot] = number.0;
                }
                (BlockValues::Numbers(_), ValueRecord::Window { mean, step, steps }) => {
                    let steps = steps
                        .iter()
                        .map(|(number, sum, count)| (*number, sum.0, *count));
                    let steps: Vec<(u64, f64, u64)> = steps.collect();
                    let window = Window::restored(*mean, *step, &steps);
                    let window = window.ok_or("a window has impossible values")?;
                    windows.insert(series.slot, Box::new(window));
                }
                (BlockValues::Histograms(histograms), ValueRecord::Histogram { .. }) => {
                    histograms[slot] = series.value.to_histogram(&bounds)?;
                }
                (
                    BlockValues::Summaries(summaries),
                    ValueRecord::Summary {
                        sum,
                        count,
                        fraction,
                    },
                ) => {
                    summaries[slot] = Summary {
                        sum: sum.map(|sum| sum.0),
                        count: count.map(|count| count.0),
                        fraction: *fraction,
                    };
                }
                _ => return Err("its series have values of several types"),
            }
            if let Some(deadline) = series.expires {
                deadlines.resize(slots, NEVER);
                deadlines[slot] = deadline;
            }
        }
        let labels = self.series.iter();
        let labels = labels.map(|series| (usize::from(series.slot), &*series.labels));
        Ok(BlockParts {
            labels: LabelTexts::of(labels),
            values,
            windows,
            deadlines,
        })
    }
}

impl ValueRecord {
    fn of_window(window: &Window) -> Self {
        let steps = window.steps();
        ValueRecord::Window {
            mean: window.is_mean(),
            step: window.step(),
            steps: steps
                .map(|(number, sum, count)| (number, Exact(sum), count))
                .collect(),
        }
    }

    /// The record of a histogram. Its bounds are added to `bounds` unless they are
    /// there.
    fn of_histogram<'b>(histogram: &'b Histogram, bounds: &mut Vec<&'b Arc<[f64]>>) -> Self {
        let own = &histogram.bounds;
        let is_own = |other: &&Arc<[f64]>| Arc::ptr_eq(other, own) || ***other == **own;
        let index = bounds.iter().position(is_own).unwrap_or_else(|| {
            bounds.push(own);
            bounds.len() - 1
        });
        ValueRecord::Histogram {
            bounds: index as u32,
            counts: histogram.counts.iter().copied().map(Exact).collect(),
            count: Exact(histogram.count),
            sum: histogram.sum.map(Exact),
            fractions: histogram
                .fractions
                .as_ref()
                .map(|fractions| fractions.as_slice().to_vec()),
        }
    }

    fn of_summary(summary: Summary) -> Self {
        ValueRecord::Summary {
            sum: summary.sum.map(Exact),
            count: summary.count.map(Exact),
            fraction: summary.fraction,
        }
    }

    fn to_histogram(&self, all_bounds: &[Arc<[f64]>]) -> Result<Histogram, &'static str> {
        let ValueRecord::Histogram {
            bounds,
            counts,
            count,
            sum,
            fractions,
        } = self
        else {
            return Err("a series of a histogram has another value");
        };
        let bounds = all_bounds.get(*bounds as usize);
        let bounds = bounds.ok_or("a histogram has no bounds")?;
        let lengths = fractions.as_ref().map_or(bounds.len() + 1, Vec::len);
        if counts.len() != bounds.len() || lengths != bounds.len() + 1 {
            return Err("a histogram has not one count for each bound");
        }
        Ok(Histogram {
            bounds: Arc::clone(bounds),
            counts: counts.iter().map(|count| count.0).collect(),
            count: count.0,
            sum: sum.map(|sum| sum.0),
            fractions: fractions.clone().map(Fractions::from),
        })
    }
}

/// The bounds as one of `shared`, or added to it.
///
/// # Errors
///
/// The bounds are not those of a histogram.
pub fn share(bounds: &[Exact], shared: &mut Vec<Arc<[f64]>>) -> Result<Arc<[f64]>, &'static str> {
    /// The most bounds that are compared. Nearly all families have one.
    const MOST: usize = 16;
    let same = |other: &&Arc<[f64]>| {
        let mut pairs = other.iter().zip(bounds);
        other.len() == bounds.len() && pairs.all(|(a, b)| *a == b.0)
    };
    if let Some(same) = shared.iter().find(same) {
        return Ok(Arc::clone(same));
    }
    let ascend = bounds.is_sorted_by(|a, b| a.0 < b.0);
    if !ascend || bounds.iter().any(|bound| !bound.0.is_finite()) {
        return Err("the bounds of a histogram do not ascend");
    }
    let new: Arc<[f64]> = bounds.iter().map(|bound| bound.0).collect();
    if shared.len() < MOST {
        shared.push(Arc::clone(&new));
    }
    Ok(new)
}
