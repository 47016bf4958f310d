//! The stored form of aggregated families.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::exact::Exact;
use super::histograms::{HistogramRecord, NativeRecord};
use crate::exposition::Kind;
use crate::registry::batch::{MAX_AGE_BUCKETS, QuantileSpec};
use crate::registry::block::parts::BlockParts;
use crate::registry::block::{BlockValues, SLOTS};
use crate::registry::labels::LabelTexts;
use crate::registry::series::histogram::Histogram;
use crate::registry::series::quantiles::Quantiles;
use crate::registry::series::summary::Summary;
use crate::registry::series::window::Window;
use crate::registry::time::NEVER;

/// How the registry's time relates to the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockRecord {
    /// Wall time in nanoseconds since 1970.
    pub wall: u64,
    /// The registry's time at that moment, in nanoseconds. Deadlines and windows use it.
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
        /// Whether the mean is shown instead of the sum.
        mean: bool,
        /// Length of a step in nanoseconds.
        step: u64,
        /// Steps with values: number since time 0, sum and count.
        steps: Vec<(u64, Exact, u64)>,
    },
    /// A histogram without native buckets.
    Histogram(HistogramRecord),
    /// A summary without quantiles.
    Summary {
        /// Sum of the observations.
        sum: Option<Exact>,
        /// Number of observations.
        count: Option<Exact>,
        /// The fraction that the count leaves out, in units of 2^-64.
        fraction: u64,
    },
    /// A summary with quantiles of recent observations, which are not stored.
    Observed {
        /// Sum of the observations.
        sum: Option<Exact>,
        /// Number of observations.
        count: Option<Exact>,
        /// The fraction that the count leaves out, in units of 2^-64.
        fraction: u64,
        /// The quantiles.
        quantiles: Vec<Exact>,
        /// How long an observation counts, in nanoseconds.
        max_age: u64,
        /// The steps in which observations are forgotten.
        age_buckets: u32,
    },
    /// A histogram with native buckets.
    Native(HistogramRecord, NativeRecord),
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
                    ValueRecord::of_summary(&summaries[slot])
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

    /// The block of the record. Histograms take equal bounds from `shared`; new ones are added
    /// there.
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
            Some(ValueRecord::Histogram(_) | ValueRecord::Native(..)) => {
                BlockValues::Histograms(vec![Histogram::default(); slots])
            }
            Some(ValueRecord::Summary { .. } | ValueRecord::Observed { .. }) => {
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
                (BlockValues::Histograms(histograms), value) => {
                    histograms[slot] = value.to_histogram(&bounds)?;
                }
                (BlockValues::Summaries(summaries), value) => {
                    summaries[slot] = value.to_summary()?;
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

    fn of_histogram<'b>(histogram: &'b Histogram, bounds: &mut Vec<&'b Arc<[f64]>>) -> Self {
        let classic = HistogramRecord::of(histogram, bounds);
        match &histogram.native {
            None => ValueRecord::Histogram(classic),
            Some(native) => ValueRecord::Native(classic, NativeRecord::of(native)),
        }
    }

    fn of_summary(summary: &Summary) -> Self {
        let (sum, count) = (summary.sum.map(Exact), summary.count.map(Exact));
        let fraction = summary.fraction;
        match &summary.quantiles {
            None => ValueRecord::Summary {
                sum,
                count,
                fraction,
            },
            Some(quantiles) => {
                let spec = quantiles.spec();
                ValueRecord::Observed {
                    sum,
                    count,
                    fraction,
                    quantiles: spec.quantiles.iter().copied().map(Exact).collect(),
                    max_age: u64::try_from(spec.max_age.as_nanos()).unwrap_or(u64::MAX),
                    age_buckets: spec.age_buckets,
                }
            }
        }
    }

    fn to_summary(&self) -> Result<Summary, &'static str> {
        match self {
            ValueRecord::Summary {
                sum,
                count,
                fraction,
            } => Ok(Summary {
                sum: sum.map(|sum| sum.0),
                count: count.map(|count| count.0),
                fraction: *fraction,
                quantiles: None,
            }),
            ValueRecord::Observed {
                sum,
                count,
                fraction,
                quantiles,
                max_age,
                age_buckets,
            } => {
                let quantiles: Box<[f64]> = quantiles.iter().map(|quantile| quantile.0).collect();
                let is_valid = quantiles.is_sorted_by(|a, b| a < b)
                    && quantiles.iter().all(|it| (0.0..=1.0).contains(it))
                    && (1..=MAX_AGE_BUCKETS).contains(age_buckets);
                if !is_valid {
                    return Err("a summary has impossible quantiles");
                }
                let spec = QuantileSpec {
                    quantiles,
                    max_age: Duration::from_nanos(*max_age),
                    age_buckets: *age_buckets,
                };
                // Without observations, the time does not matter.
                let quantiles = Quantiles::new(Arc::new(spec), 0);
                Ok(Summary {
                    sum: sum.map(|sum| sum.0),
                    count: count.map(|count| count.0),
                    fraction: *fraction,
                    quantiles: Some(Box::new(quantiles)),
                })
            }
            _ => Err("a series of a summary has another value"),
        }
    }

    fn to_histogram(&self, all_bounds: &[Arc<[f64]>]) -> Result<Histogram, &'static str> {
        match self {
            ValueRecord::Histogram(classic) => classic.to_histogram(all_bounds),
            ValueRecord::Native(classic, native) => Ok(Histogram {
                native: Some(Box::new(native.to_native()?)),
                ..classic.to_histogram(all_bounds)?
            }),
            _ => Err("a series of a histogram has another value"),
        }
    }
}

/// Returns equal bounds from `shared`, or adds these.
///
/// # Errors
///
/// The bounds are not those of a histogram.
pub fn share(bounds: &[Exact], shared: &mut Vec<Arc<[f64]>>) -> Result<Arc<[f64]>, &'static str> {
    /// How many of `shared` are compared. Nearly all families have only one set of bounds.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_stored_without_observations() {
        let spec = Arc::new(QuantileSpec {
            quantiles: [0.5, 0.9].into(),
            max_age: Duration::from_secs(60),
            age_buckets: 2,
        });
        let mut quantiles = Quantiles::new(Arc::clone(&spec), 7);
        quantiles.observe(3.0, 1.0, 7);
        let summary = Summary {
            sum: Some(3.0),
            count: Some(1.0),
            fraction: 5,
            quantiles: Some(Box::new(quantiles)),
        };
        let record = ValueRecord::of_summary(&summary);
        let bytes = postcard::to_allocvec(&record).unwrap();
        let restored: ValueRecord = postcard::from_bytes(&bytes).unwrap();
        let restored = restored.to_summary().unwrap();
        assert!(restored.has_same_shape(&summary));
        assert_eq!(
            (restored.sum, restored.count, restored.fraction),
            (Some(3.0), Some(1.0), 5)
        );
        let values: Vec<f64> = restored.values().collect();
        assert!(values[0].is_nan() && values[1].is_nan());
    }

    #[test]
    fn damaged_quantiles_are_refused() {
        for (quantiles, age_buckets) in [
            (&[0.9, 0.5][..], 1),
            (&[-0.1], 1),
            (&[f64::NAN], 1),
            (&[0.5], 0),
            (&[0.5], MAX_AGE_BUCKETS + 1),
        ] {
            let record = ValueRecord::Observed {
                sum: None,
                count: None,
                fraction: 0,
                quantiles: quantiles.iter().copied().map(Exact).collect(),
                max_age: 1,
                age_buckets,
            };
            assert!(record.to_summary().is_err(), "{record:?}");
        }
    }
}
