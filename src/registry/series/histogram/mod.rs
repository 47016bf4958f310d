//! Classic histograms, and how they are added up.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::native::Native;
use super::sum_of;
use crate::exposition::protobuf::ClassicPart;
use crate::registry::batch::BoundsPolicy;
use crate::registry::rejection::{Rejection, SeriesName};

/// The state of one histogram.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// Upper bounds: finite and ascending. Series of a family share them where
    /// they are equal.
    pub bounds: Arc<[f64]>,
    /// Number of observations up to each bound, so they never decrease. They are
    /// whole numbers, as OpenMetrics requires.
    pub counts: Box<[f64]>,
    /// Number of all observations: the `+Inf` bucket.
    pub count: f64,
    /// Sum of the observations.
    pub sum: Option<f64>,
    /// Fractions of the counts; `None` until a count with a fraction is added.
    pub fractions: Option<Fractions>,
    /// The same observations in native buckets, if the first one asked for them.
    pub native: Option<Box<Native>>,
}

/// Fractions of counts that are not shown yet.
///
/// A sampled observation is weighted by 1 / rate, for example 3.33. Fractions
/// are carried exactly, so that each shown count is the true one, rounded,
/// after any number of samples.
///
/// There is one for each bound and then one for the count, in units of 2^-64.
/// Each starts at a half, so that the overflow into the count rounds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Fractions(Box<[u64]>);

/// As [`Fractions::as_slice`] returned them.
impl From<Vec<u64>> for Fractions {
    fn from(fractions: Vec<u64>) -> Self {
        Fractions(fractions.into())
    }
}

/// Initial value of a fraction.
pub const HALF: u64 = 1 << 63;

impl Fractions {
    fn new(bounds: usize) -> Self {
        Fractions(vec![HALF; bounds + 1].into())
    }

    /// The fractions of the bounds and of the count.
    pub fn as_slice(&self) -> &[u64] {
        &self.0
    }
}

/// Splits a count into its whole number and its fraction in units of 2^-64.
pub fn split_count(count: f64) -> (f64, u64) {
    const UNITS: f64 = 18_446_744_073_709_551_616.0;
    let whole = count.trunc();
    (whole, ((count - whole) * UNITS) as u64)
}

/// Adds a split count to a count and its fraction.
pub fn add_to_count(count: &mut f64, fraction: &mut u64, (whole, more): (f64, u64)) {
    let (sum, overflows) = fraction.overflowing_add(more);
    *fraction = sum;
    *count += whole + f64::from(u8::from(overflows));
}

/// A histogram from a push, checked. Its counts may have fractions.
#[derive(Debug, PartialEq)]
pub struct PushedHistogram {
    bounds: Vec<f64>,
    counts: Vec<f64>,
    count: f64,
    sum: Option<f64>,
}

impl PushedHistogram {
    /// Checks a histogram; see [`Change::Histogram`](crate::registry::Change)
    /// for the arguments.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] if a number is not valid, or if they contradict one
    /// another.
    pub fn new(
        buckets: &[(f64, f64)],
        sum: Option<f64>,
        count: Option<f64>,
        series: SeriesName<'_>,
    ) -> Result<Self, Rejection> {
        let (infinite, buckets) = match buckets.split_last() {
            Some(((f64::INFINITY, count), rest)) => (Some(*count), rest),
            _ => (None, buckets),
        };
        let bounds = checked_bounds(buckets.iter().map(|(bound, _)| *bound), series)?;
        if let Some(sum) = sum {
            series.check_finite("the sum", sum)?;
        }
        for (what, count) in [("the count", count), ("the +Inf bucket", infinite)] {
            if let Some(count) = count {
                series.check_count(what, count)?;
            }
        }
        let total = match (count, infinite) {
            (Some(count), Some(infinite)) if count != infinite => {
                return Err(series.inconsistent("its count differs from its +Inf bucket"));
            }
            (Some(count), _) | (None, Some(count)) => count,
            (None, None) => {
                return Err(series.inconsistent("it has neither a count nor a +Inf bucket"));
            }
        };
        let mut before = 0.0;
        let mut counts = Vec::with_capacity(buckets.len());
        for (_, count) in buckets {
            series.check_count("a bucket", *count)?;
            if *count < before {
                return Err(series.inconsistent(
                    "a bucket is less than the one before it, but buckets are cumulative",
                ));
            }
            before = *count;
            counts.push(*count);
        }
        if before > total {
            return Err(series.inconsistent("a bucket is greater than its count"));
        }
        Ok(PushedHistogram {
            bounds,
            counts,
            count: total,
            sum,
        })
    }

    /// A histogram without observations. A last `+Inf` is dropped from `bounds`.
    ///
    /// # Errors
    ///
    /// [`Rejection::Inconsistent`] if the bounds do not ascend.
    pub fn empty(bounds: &[f64], series: SeriesName<'_>) -> Result<Self, Rejection> {
        let bounds = match bounds {
            [rest @ .., f64::INFINITY] => rest,
            bounds => bounds,
        };
        let bounds = checked_bounds(bounds.iter().copied(), series)?;
        Ok(PushedHistogram {
            counts: vec![0.0; bounds.len()],
            bounds,
            count: 0.0,
            sum: None,
        })
    }

    /// The state of a new series. It shares `bounds` if they are equal.
    pub fn into_histogram(self, bounds: Option<&Arc<[f64]>>) -> Histogram {
        let shared = bounds.filter(|bounds| ***bounds == *self.bounds);
        let is_whole = self.is_whole();
        let mut histogram = Histogram {
            bounds: shared.map_or_else(|| Arc::from(&*self.bounds), Arc::clone),
            counts: vec![0.0; self.counts.len()].into(),
            count: 0.0,
            sum: self.sum,
            fractions: None,
            native: None,
        };
        if is_whole {
            histogram.counts = self.counts.into_boxed_slice();
            histogram.count = self.count;
        } else {
            histogram.add_counts(&self);
        }
        histogram
    }

    /// The count at the greatest bound that is not above `bound`.
    fn count_up_to(&self, bound: f64) -> f64 {
        last_bound_up_to(&self.bounds, bound).map_or(0.0, |index| self.counts[index])
    }

    /// Whether all counts are whole numbers, as nearly always.
    fn is_whole(&self) -> bool {
        let mut counts = self.counts.iter().chain([&self.count]);
        counts.all(|count| count.fract() == 0.0)
    }
}

fn checked_bounds(
    bounds: impl Iterator<Item = f64>,
    series: SeriesName<'_>,
) -> Result<Vec<f64>, Rejection> {
    // -0 becomes 0: the two are equal, but would be written as two bounds.
    let bounds: Vec<f64> = bounds.map(|bound| bound + 0.0).collect();
    if bounds.iter().any(|bound| !bound.is_finite()) {
        return Err(series.inconsistent("a bucket bound is NaN, or infinite but not the last"));
    }
    if !bounds.is_sorted_by(|a, b| a < b) {
        return Err(series.inconsistent("its bucket bounds do not ascend"));
    }
    Ok(bounds)
}

impl Histogram {
    /// Number of lines that the histogram is shown in: a bucket for each bound
    /// and `+Inf`, the count, and the sum.
    pub fn lines(&self) -> usize {
        self.bounds.len() + 2 + usize::from(self.sum.is_some())
    }

    /// The encoded message with the native buckets; `None` without any.
    pub fn native_message(&self) -> Option<Vec<u8>> {
        self.native.as_ref()?.message(&ClassicPart {
            count: self.count,
            sum: self.sum,
            bounds: &self.bounds,
            counts: &self.counts,
        })
    }

    /// What the native buckets add to the memory, in bytes.
    pub fn native_weight(&self) -> usize {
        let native = self.native.as_ref();
        // The message has the classic buckets too.
        native.map_or(0, |native| native.weight() + 16 * self.bounds.len())
    }

    /// The values of these lines, in order.
    pub fn values(&self) -> impl Iterator<Item = f64> {
        let buckets = self.counts.iter().copied().chain([self.count]);
        buckets.chain(self.sum).chain([self.count])
    }

    /// Adds a pushed histogram.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] if the policy does not allow the pushed bounds, if the histogram has native
    /// buckets, or if a sum becomes infinite. The histogram is then in an undefined state.
    pub fn merge(
        &mut self,
        pushed: &PushedHistogram,
        policy: BoundsPolicy,
        series: SeriesName<'_>,
    ) -> Result<(), Rejection> {
        if self.native.is_some() {
            return Err(series.inconsistent(
                "it has native buckets of observations, and pushed counts have none",
            ));
        }
        if *self.bounds == *pushed.bounds {
            self.add_counts(pushed);
        } else {
            let bounds = match policy {
                BoundsPolicy::Reject => return Err(series.bounds_conflict("")),
                BoundsPolicy::Common => self
                    .common_bounds(pushed)
                    .ok_or_else(|| series.bounds_conflict(", and none are in common"))?,
                BoundsPolicy::Union => self.all_bounds(pushed),
            };
            self.set_bounds(&bounds);
            self.add_counts(&PushedHistogram {
                counts: bounds
                    .iter()
                    .map(|bound| pushed.count_up_to(*bound))
                    .collect(),
                bounds,
                ..*pushed
            });
        }
        self.sum = sum_of(self.sum, pushed.sum);
        self.check_finite(series)
    }

    /// Adds the counts of a pushed histogram with the same bounds.
    fn add_counts(&mut self, pushed: &PushedHistogram) {
        let counts = self.counts.iter_mut().chain([&mut self.count]);
        let more = pushed.counts.iter().chain([&pushed.count]);
        if pushed.is_whole() {
            for (count, more) in counts.zip(more) {
                *count += more;
            }
            return;
        }
        let bounds = pushed.counts.len();
        let Fractions(fractions) = self.fractions.get_or_insert_with(|| Fractions::new(bounds));
        for ((count, fraction), more) in counts.zip(fractions).zip(more) {
            add_to_count(count, fraction, split_count(*more));
        }
    }

    /// Changes the bounds. The count at a new bound is that of the greatest old
    /// bound below it.
    fn set_bounds(&mut self, bounds: &[f64]) {
        let sources: Vec<Option<usize>> = bounds
            .iter()
            .map(|bound| last_bound_up_to(&self.bounds, *bound))
            .collect();
        self.counts = sources
            .iter()
            .map(|source| source.map_or(0.0, |index| self.counts[index]))
            .collect();
        if let Some(Fractions(fractions)) = &mut self.fractions {
            let of_count = fractions[fractions.len() - 1];
            let of_bounds = sources
                .iter()
                .map(|source| source.map_or(HALF, |index| fractions[index]));
            *fractions = of_bounds.chain([of_count]).collect();
        }
        self.bounds = Arc::from(bounds);
    }

    /// Adds one observation with a weight.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] if a number is not valid, or if a sum becomes infinite. The histogram is
    /// then in an undefined state.
    pub fn observe(
        &mut self,
        value: f64,
        times: f64,
        series: SeriesName<'_>,
    ) -> Result<(), Rejection> {
        series.check_finite("the observation", value)?;
        series.check_count("the weight of the observation", times)?;
        let first = self.bounds.partition_point(|bound| *bound < value);
        let counts = self.counts[first..].iter_mut().chain([&mut self.count]);
        let more = split_count(times);
        if more.1 == 0 {
            for count in counts {
                *count += more.0;
            }
        } else {
            let bounds = self.bounds.len();
            let Fractions(fractions) = self.fractions.get_or_insert_with(|| Fractions::new(bounds));
            for (count, fraction) in counts.zip(&mut fractions[first..]) {
                add_to_count(count, fraction, more);
            }
        }
        if let Some(native) = &mut self.native {
            native.observe(value, times);
        }
        self.sum = sum_of(self.sum, Some(value * times));
        self.check_finite(series)
    }

    /// Like [`observe`](Self::observe), but changes nothing and returns `None` where that would
    /// fail, or where the histogram would get other lines or take more memory.
    pub fn observe_in_place(
        &mut self,
        value: f64,
        times: f64,
        series: SeriesName<'_>,
    ) -> Option<()> {
        let sum = self.sum? + value * times;
        let has_room = times.fract() == 0.0 || self.fractions.is_some();
        let native = self.native.as_ref();
        let is_valid = value.is_finite()
            && times >= 0.0
            && native.is_none_or(|native| native.has_room_for(value, times));
        // The fractions may add one to the count.
        let is_finite = sum.is_finite() && (self.count + times + 1.0).is_finite();
        if !(has_room && is_valid && is_finite) {
            return None;
        }
        self.observe(value, times, series).ok()
    }

    /// Bounds that both have. `None` if there are none, although the histogram has bounds.
    fn common_bounds(&self, pushed: &PushedHistogram) -> Option<Vec<f64>> {
        let is_common = |bound: &&f64| {
            let found = pushed.bounds.binary_search_by(|b| b.total_cmp(bound));
            found.is_ok()
        };
        let common: Vec<f64> = self.bounds.iter().filter(is_common).copied().collect();
        (!common.is_empty() || self.bounds.is_empty()).then_some(common)
    }

    fn all_bounds(&self, pushed: &PushedHistogram) -> Vec<f64> {
        let mut bounds: Vec<f64> = self.bounds.iter().chain(&pushed.bounds).copied().collect();
        bounds.sort_unstable_by(f64::total_cmp);
        bounds.dedup();
        bounds
    }

    /// Checks that counts and sums are finite, since those that only grow end at infinity.
    fn check_finite(&self, series: SeriesName<'_>) -> Result<(), Rejection> {
        series.check_finite("the resulting count", self.count)?;
        series.check_finite("the resulting sum", self.sum.unwrap_or_default())
    }
}

/// Index of the greatest bound that is not above `bound`.
fn last_bound_up_to(bounds: &[f64], bound: f64) -> Option<usize> {
    bounds.partition_point(|own| *own <= bound).checked_sub(1)
}
