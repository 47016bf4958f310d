//! Quantiles of recent observations, with one sketch for each step of time.
//!
//! A summary of Prometheus' libraries keeps `age_buckets` streams, each a step younger than the one
//! before, and shows the oldest. Here each step has a sketch, and the summary shows all of them
//! merged: that is the same span of time, and an observation changes only one sketch.

use std::fmt;
use std::sync::Arc;

use sketches_ddsketch::{Config, DDSketch};

use crate::registry::batch::QuantileSpec;
use crate::registry::time::Nanos;

/// The relative error of a shown quantile.
const ERROR: f64 = 0.01;

/// Maximum number of bins in a sketch. They span a factor of 28,000 between the greatest and the
/// least value with this error; lesser values count as the least.
const MAX_BINS: u32 = 512;

/// The least value that differs from 0.
const LEAST: f64 = 1e-9;

/// Approximate memory of a sketch, in bytes: most have far fewer bins than the maximum.
const SKETCH_WEIGHT: usize = 2048;

/// Recent observations of one series.
#[derive(Clone)]
pub struct Quantiles {
    spec: Arc<QuantileSpec>,
    /// Length of a step.
    step: Nanos,
    /// Number of the current step, counted from time 0.
    newest: u64,
    /// The sketches of steps that have observations, by their numbers modulo the number of steps.
    /// Copies share them.
    sketches: Box<[Option<Arc<DDSketch>>]>,
}

impl Quantiles {
    /// No observations yet.
    pub fn new(spec: Arc<QuantileSpec>, now: Nanos) -> Self {
        let steps = u64::from(spec.age_buckets.max(1));
        let span = u64::try_from(spec.max_age.as_nanos()).unwrap_or(u64::MAX / 4);
        let step = (span / steps).max(1);
        Quantiles {
            spec,
            step,
            newest: now / step,
            sketches: vec![None; steps as usize].into(),
        }
    }

    /// What the summary shows.
    pub fn spec(&self) -> &Arc<QuantileSpec> {
        &self.spec
    }

    /// Approximate memory, in bytes.
    pub fn weight(&self) -> usize {
        96 + self.sketches.len() * (SKETCH_WEIGHT + size_of::<Option<Arc<DDSketch>>>())
    }

    /// Adds an observation that counts as `times` ones, rounded, and at most as what is left of a
    /// `u64`.
    pub fn observe(&mut self, value: f64, times: f64, now: Nanos) {
        self.advance(now);
        // All sketches are merged to show them.
        let most = u64::MAX / self.sketches.len() as u64;
        let place = self.place(self.newest);
        let sketch = self.sketches[place].get_or_insert_with(|| Arc::new(empty()));
        let sketch = Arc::make_mut(sketch);
        let room = most - sketch.count() as u64;
        let mut times = (times.round().max(1.0) as u64).min(room);
        if times == 0 {
            return;
        }
        if times == 1 {
            return sketch.add(value);
        }
        // The sketch takes values one by one, and merges many in one pass.
        let mut power = empty();
        power.add(value);
        loop {
            if times & 1 == 1 {
                merge(sketch, &power);
            }
            times >>= 1;
            if times == 0 {
                return;
            }
            let half = power.clone();
            merge(&mut power, &half);
        }
    }

    /// Moves on to the step that contains `now`. Time does not go back. Returns whether
    /// observations were forgotten.
    pub fn advance(&mut self, now: Nanos) -> bool {
        let newest = now / self.step;
        if newest <= self.newest {
            return false;
        }
        let steps = self.sketches.len() as u64;
        let mut forgotten = false;
        for number in (newest.saturating_sub(steps - 1)).max(self.newest + 1)..=newest {
            forgotten |= self.sketches[(number % steps) as usize].take().is_some();
        }
        self.newest = newest;
        forgotten
    }

    /// The values of the quantiles, in their order; NaN if there is no recent observation.
    pub fn values(&self) -> Vec<f64> {
        let mut held = self.sketches.iter().flatten();
        let Some(first) = held.next() else {
            return vec![f64::NAN; self.spec.quantiles.len()];
        };
        let mut all = Arc::clone(first);
        for more in held {
            merge(Arc::make_mut(&mut all), more);
        }
        // A sketch returns the middle of a bin, which may be beyond all values.
        let (least, greatest) = (all.min().unwrap_or(f64::NAN), all.max().unwrap_or(f64::NAN));
        let value = |quantile: &f64| {
            let value = all.quantile(*quantile).ok().flatten()?;
            Some(value.max(least).min(greatest))
        };
        let quantiles = self.spec.quantiles.iter();
        quantiles.map(|it| value(it).unwrap_or(f64::NAN)).collect()
    }

    /// When the oldest observations are forgotten, if there are any.
    pub fn next_step(&self) -> Option<Nanos> {
        let steps = self.sketches.len() as u64;
        let oldest = self.newest.saturating_sub(steps - 1);
        let number =
            (oldest..=self.newest).find(|number| self.sketches[self.place(*number)].is_some())?;
        Some((number + steps).saturating_mul(self.step))
    }

    fn place(&self, number: u64) -> usize {
        (number % self.sketches.len() as u64) as usize
    }
}

impl PartialEq for Quantiles {
    fn eq(&self, other: &Self) -> bool {
        let counts = |quantiles: &Self| {
            let sketches = quantiles.sketches.iter();
            let counts = sketches.map(|it| it.as_ref().map(|it| (it.count(), it.sum())));
            counts.collect::<Vec<_>>()
        };
        (&self.spec, self.newest) == (&other.spec, other.newest) && counts(self) == counts(other)
    }
}

impl fmt::Debug for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quantiles")
            .field("spec", &self.spec)
            .field("values", &self.values())
            .finish_non_exhaustive()
    }
}

fn empty() -> DDSketch {
    DDSketch::new(Config::new(ERROR, MAX_BINS, LEAST))
}

/// All sketches have the same configuration, so merging does not fail.
fn merge(sketch: &mut DDSketch, other: &DDSketch) {
    let merged = sketch.merge(other);
    debug_assert!(merged.is_ok(), "sketches differ in their configuration");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn quantiles(age_buckets: u32) -> Quantiles {
        let spec = QuantileSpec {
            quantiles: [0.0, 0.5, 0.9, 1.0].into(),
            max_age: Duration::from_secs(100),
            age_buckets,
        };
        Quantiles::new(Arc::new(spec), 0)
    }

    #[test]
    fn observations_are_forgotten_step_by_step() {
        let mut held = quantiles(5);
        assert!(held.values().iter().all(|value| value.is_nan()));
        assert_eq!(held.next_step(), None);
        held.observe(1.0, 1.0, 0);
        held.observe(3.0, 1.0, 30 * SECOND);
        assert_eq!(held.values()[0], 1.0);
        assert_eq!(held.next_step(), Some(100 * SECOND));
        assert!(!held.advance(100 * SECOND - 1));
        assert!(held.advance(100 * SECOND));
        assert_eq!(held.values(), [3.0; 4], "all are the only value");
        assert_eq!(held.next_step(), Some(120 * SECOND));
        assert!(held.advance(1_000_000 * SECOND));
        assert!(held.values().iter().all(|value| value.is_nan()));
        assert_eq!(held.next_step(), None);
    }

    #[test]
    fn a_copy_does_not_change() {
        let mut held = quantiles(2);
        held.observe(1.0, 1.0, 0);
        let before = held.clone();
        held.observe(9.0, 3.0, 0);
        assert_eq!(before.values()[3], 1.0);
        assert_eq!(held.values()[3], 9.0);
        assert_ne!(before, held);
    }

    #[test]
    fn weights_beyond_all_counts_do_not_overflow() {
        for steps in [1, 5] {
            let mut held = quantiles(steps);
            for place in 0..10 {
                for weight in [1e300, 1.0, 3e38] {
                    held.observe(7.0, weight, place * 10 * SECOND);
                }
            }
            assert_eq!(held.values(), [7.0; 4], "{steps}");
        }
    }

    proptest! {
        /// Each quantile is near the value of its rank. A value counts as often as its weight says.
        /// Values too far below the greatest for the bins of a sketch count as the least in them.
        #[test]
        fn quantiles_are_near_those_of_a_sorted_list(
            values in proptest::collection::vec((-1e3..1e3, 1..20_u32), 1..50),
        ) {
            let mut held = quantiles(5);
            let mut list = Vec::new();
            for (place, (value, times)) in (0..).zip(&values) {
                held.observe(*value, f64::from(*times), place * SECOND);
                list.extend((0..*times).map(|_| *value));
            }
            list.sort_unstable_by(f64::total_cmp);
            for (quantile, found) in [0.0, 0.5, 0.9, 1.0].into_iter().zip(held.values()) {
                let rank = (quantile * (list.len() - 1) as f64) as usize;
                let greatest = list.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
                let floor = greatest / 27_000.0;
                let near = |value: &f64| {
                    (found - value).abs() <= value.abs() * 2.0 * ERROR + LEAST
                        || (found.abs() <= floor && value.abs() <= floor && found * value > 0.0)
                };
                let around = &list[rank.saturating_sub(1)..(rank + 2).min(list.len())];
                prop_assert!(around.iter().any(near), "{quantile}: {found} not in {around:?}");
            }
        }
    }
}
