//! The native part of a histogram: buckets whose bounds grow by a constant factor.
//!
//! Schema `n` has 2^n buckets between a power of two and the next. Bucket 0 ends at 1. Buckets
//! exist once they have an observation. Past the limit, each two neighbours become one, as in
//! Prometheus' library for Go.
//!
//! Source: <https://prometheus.io/docs/specs/native_histograms/>.

use std::sync::LazyLock;

use super::histogram::{HALF, add_to_count, split_count};
use crate::exposition::protobuf::{ClassicPart, NativeParts, native_message};
use crate::registry::batch::NativeSpec;

/// Values no farther than this from 0 are in the zero bucket. 2^-128 is the default of Prometheus'
/// library for Go.
const ZERO_THRESHOLD: f64 = f64::from_bits((1023 - 128) << 52);

/// The finest and the coarsest schema.
pub const FINEST: i8 = 8;
pub const COARSEST: i8 = -4;

/// More than the number of any bucket. In the finest schema they go from -32,767 to 262,144.
const OFFSET: i32 = 1 << 20;

/// Weights count buckets in steps of this size, so that few observations change a weight.
const WEIGHT_STEP: usize = 16;

/// Up to this count every whole number is exact.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Bounds of the finest schema, from 0.5 to just below 1.
static BOUNDS: LazyLock<[f64; 256]> =
    LazyLock::new(|| std::array::from_fn(|index| (index as f64 / 256.0).exp2() / 2.0));

/// The native part of one histogram.
///
/// Buckets are in the order of their bounds, each at a place: the number of the bucket plus an
/// offset above zero, the negative of that below, and 0 for the zero bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct Native {
    /// The current schema, which the limit makes coarser.
    schema: i8,
    /// Maximum number of buckets, without the zero bucket.
    max_buckets: u32,
    places: Vec<i32>,
    counts: Vec<f64>,
    /// Fractions of the counts in units of 2^-64, as in [`Fractions`](super::histogram::Fractions),
    /// but starting at 0. Empty until a count with a fraction is added.
    fractions: Vec<u64>,
}

impl Native {
    /// A histogram without observations.
    pub fn new(spec: NativeSpec) -> Self {
        Native {
            schema: spec.schema,
            max_buckets: spec.max_buckets,
            places: Vec::new(),
            counts: Vec::new(),
            fractions: Vec::new(),
        }
    }

    /// The native part of a stored histogram.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn restored(
        spec: NativeSpec,
        places: Vec<i32>,
        counts: Vec<f64>,
        fractions: Vec<u64>,
    ) -> Result<Self, &'static str> {
        let is_sound = (COARSEST..=FINEST).contains(&spec.schema)
            && places.len() == counts.len()
            && (fractions.is_empty() || fractions.len() == counts.len())
            && places.is_sorted_by(|a, b| a < b)
            && places.iter().all(|place| {
                let (place, offset) = (place.unsigned_abs(), OFFSET.unsigned_abs());
                place == 0 || (offset / 2..2 * offset).contains(&place)
            })
            && counts
                .iter()
                .all(|count| count.is_finite() && *count >= 0.0);
        is_sound
            .then_some(Native {
                schema: spec.schema,
                max_buckets: spec.max_buckets,
                places,
                counts,
                fractions,
            })
            .ok_or("a histogram has impossible native buckets")
    }

    /// The current schema and the limit.
    pub fn spec(&self) -> NativeSpec {
        NativeSpec {
            schema: self.schema,
            max_buckets: self.max_buckets,
        }
    }

    /// The places, the counts and their fractions, as [`restored`](Self::restored) takes them.
    pub fn buckets(&self) -> (&[i32], &[f64], &[u64]) {
        (&self.places, &self.counts, &self.fractions)
    }

    /// Approximate memory, also of the encoded message, in bytes. It grows in steps.
    pub fn weight(&self) -> usize {
        const FIXED: usize = 96 + 128;
        const BUCKET: usize = size_of::<i32>() + size_of::<f64>() + 4;
        let fraction = usize::from(!self.fractions.is_empty()) * size_of::<u64>();
        FIXED + self.places.len().next_multiple_of(WEIGHT_STEP) * (BUCKET + fraction)
    }

    /// Whether an observation leaves the weight as it is: it needs no new bucket that would begin a
    /// step or exceed the limit.
    pub fn has_room_for(&self, value: f64, times: f64) -> bool {
        let has_fractions = times.fract() == 0.0 || !self.fractions.is_empty();
        let buckets = self.places.len();
        let has_room = !buckets.is_multiple_of(WEIGHT_STEP) && buckets < self.max_buckets as usize;
        has_fractions && (has_room || self.places.binary_search(&self.place_of(value)).is_ok())
    }

    /// Adds a finite observation that counts `times`, which is finite and not negative.
    pub fn observe(&mut self, value: f64, times: f64) {
        let place = self.place_of(value);
        let found = self.places.binary_search(&place);
        let is_new = found.is_err();
        let at = found.unwrap_or_else(|at| {
            self.places.insert(at, place);
            self.counts.insert(at, 0.0);
            if !self.fractions.is_empty() {
                self.fractions.insert(at, 0);
            }
            at
        });
        let more = split_count(times);
        if more.1 > 0 && self.fractions.is_empty() {
            self.fractions = vec![0; self.counts.len()];
        }
        match self.fractions.get_mut(at) {
            Some(fraction) => add_to_count(&mut self.counts[at], fraction, more),
            None => self.counts[at] += more.0,
        }
        if is_new {
            while self.populated() > self.max_buckets as usize && self.schema > COARSEST {
                self.halve();
            }
        }
    }

    /// The number of buckets that count against the limit.
    fn populated(&self) -> usize {
        self.places.len() - usize::from(self.places.binary_search(&0).is_ok())
    }

    /// Halves the resolution: each two neighbouring buckets become one.
    fn halve(&mut self) {
        self.schema -= 1;
        let mut kept = 0;
        for at in 0..self.places.len() {
            let place = match self.places[at] {
                0 => 0,
                place => place.signum() * (coarser(place.abs() - OFFSET, 1) + OFFSET),
            };
            if kept > 0 && self.places[kept - 1] == place {
                let count = self.counts[at];
                let fraction = self.fractions.get(at).copied().unwrap_or_default();
                match self.fractions.get_mut(kept - 1) {
                    Some(own) => add_to_count(&mut self.counts[kept - 1], own, (count, fraction)),
                    None => self.counts[kept - 1] += count,
                }
                continue;
            }
            self.places[kept] = place;
            self.counts[kept] = self.counts[at];
            if !self.fractions.is_empty() {
                self.fractions[kept] = self.fractions[at];
            }
            kept += 1;
        }
        self.places.truncate(kept);
        self.counts.truncate(kept);
        self.fractions.truncate(kept);
    }

    fn place_of(&self, value: f64) -> i32 {
        let size = value.abs();
        if size <= ZERO_THRESHOLD {
            return 0;
        }
        // Above the threshold no number is subnormal, so its fraction and exponent are in its bits.
        let bits = size.to_bits();
        let exponent = (bits >> 52) as i32 - 1022;
        let fraction = f64::from_bits(bits & ((1 << 52) - 1) | 1022 << 52);
        let in_power = BOUNDS.partition_point(|bound| *bound < fraction) as i32;
        let finest = in_power + (exponent - 1) * BOUNDS.len() as i32;
        let number = coarser(finest, u32::from((FINEST - self.schema).unsigned_abs()));
        let place = number + OFFSET;
        if value < 0.0 { -place } else { place }
    }

    /// The encoded message `io.prometheus.client.Histogram` with a classic part; `None` if the
    /// counts are too large to be exact.
    ///
    /// Counts are rounded so that they add up to the number of all observations, as the cumulative
    /// counts of classic buckets do.
    pub fn message(&self, classic: &ClassicPart<'_>) -> Option<Vec<u8>> {
        let (mut whole, mut fraction) = (0.0, HALF);
        let mut rounded = Vec::with_capacity(self.places.len());
        for (at, place) in self.places.iter().enumerate() {
            let before = whole;
            let more = self.fractions.get(at).copied().unwrap_or_default();
            add_to_count(&mut whole, &mut fraction, (self.counts[at], more));
            rounded.push((*place, (whole - before) as u64));
        }
        if whole > MAX_EXACT || whole != classic.count {
            return None;
        }
        let zero = self.places.partition_point(|place| *place < 0);
        let (negative, rest) = rounded.split_at(zero);
        let (zero_count, positive) = match rest {
            [(0, count), positive @ ..] => (*count, positive),
            positive => (0, positive),
        };
        let numbered = |(place, count): &(i32, u64)| (place.abs() - OFFSET, *count);
        let negative: Vec<(i32, u64)> = negative.iter().rev().map(numbered).collect();
        let positive: Vec<(i32, u64)> = positive.iter().map(numbered).collect();
        Some(native_message(
            classic,
            &NativeParts {
                schema: self.schema,
                zero_threshold: ZERO_THRESHOLD,
                zero_count,
                negative: &negative,
                positive: &positive,
            },
        ))
    }
}

/// The number that a bucket has in a schema that is coarser by `steps`.
fn coarser(number: i32, steps: u32) -> i32 {
    (number + (1 << steps) - 1) >> steps
}

impl NativeSpec {
    /// The schema with the largest factor from one bucket to the next that is at most `factor`,
    /// between the finest and the coarsest one. `None` if the factor is 1 or less, which asks for
    /// no native buckets.
    pub fn schema_of(factor: f64) -> Option<i8> {
        if factor <= 1.0 {
            return None;
        }
        let schema = -factor.log2().log2().floor();
        Some(schema.clamp(f64::from(COARSEST), f64::from(FINEST)) as i8)
    }
}

#[cfg(test)]
mod tests;
