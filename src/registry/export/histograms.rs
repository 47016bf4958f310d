//! The stored form of histograms.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::exact::Exact;
use crate::registry::batch::NativeSpec;
use crate::registry::series::histogram::{Fractions, Histogram};
use crate::registry::series::native::Native;

/// A histogram without native buckets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistogramRecord {
    /// Index of its bounds in [`BlockRecord::bounds`](super::records::BlockRecord::bounds).
    pub bounds: u32,
    /// The cumulative count at each bound.
    pub counts: Vec<Exact>,
    /// Number of all observations.
    pub count: Exact,
    /// Sum of the observations.
    pub sum: Option<Exact>,
    /// Fractions that the counts leave out, in units of 2^-64: one for each bound, then one for the
    /// number of all observations.
    pub fractions: Option<Vec<u64>>,
}

/// The native buckets of a histogram.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NativeRecord {
    /// The current schema.
    pub schema: i8,
    /// Maximum number of buckets.
    pub max_buckets: u32,
    /// The place of each bucket.
    pub places: Vec<i32>,
    /// The count of each bucket.
    pub counts: Vec<Exact>,
    /// Fractions that the counts leave out, in units of 2^-64. Empty if there are none.
    pub fractions: Vec<u64>,
}

impl HistogramRecord {
    /// The record of a histogram. Its bounds are added to `bounds` unless they are already there.
    pub fn of<'b>(histogram: &'b Histogram, bounds: &mut Vec<&'b Arc<[f64]>>) -> Self {
        let own = &histogram.bounds;
        let is_own = |other: &&Arc<[f64]>| Arc::ptr_eq(other, own) || ***other == **own;
        let index = bounds.iter().position(is_own).unwrap_or_else(|| {
            bounds.push(own);
            bounds.len() - 1
        });
        HistogramRecord {
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

    /// The histogram of the record. `all_bounds` are those of the block.
    ///
    /// # Errors
    ///
    /// What is wrong with the record.
    pub fn to_histogram(&self, all_bounds: &[Arc<[f64]>]) -> Result<Histogram, &'static str> {
        let bounds = all_bounds.get(self.bounds as usize);
        let bounds = bounds.ok_or("a histogram has no bounds")?;
        let lengths = self.fractions.as_ref().map_or(bounds.len() + 1, Vec::len);
        if self.counts.len() != bounds.len() || lengths != bounds.len() + 1 {
            return Err("a histogram does not have one count for each bound");
        }
        Ok(Histogram {
            bounds: Arc::clone(bounds),
            counts: self.counts.iter().map(|count| count.0).collect(),
            count: self.count.0,
            sum: self.sum.map(|sum| sum.0),
            fractions: self.fractions.clone().map(Fractions::from),
            native: None,
        })
    }
}

impl NativeRecord {
    /// The record of native buckets.
    pub fn of(native: &Native) -> Self {
        let NativeSpec {
            schema,
            max_buckets,
        } = native.spec();
        let (places, counts, fractions) = native.buckets();
        NativeRecord {
            schema,
            max_buckets,
            places: places.to_vec(),
            counts: counts.iter().copied().map(Exact).collect(),
            fractions: fractions.to_vec(),
        }
    }

    /// The native buckets of the record.
    ///
    /// # Errors
    ///
    /// What is wrong with the record.
    pub fn to_native(&self) -> Result<Native, &'static str> {
        let spec = NativeSpec {
            schema: self.schema,
            max_buckets: self.max_buckets,
        };
        let counts = self.counts.iter().map(|count| count.0).collect();
        Native::restored(spec, self.places.clone(), counts, self.fractions.clone())
    }
}
