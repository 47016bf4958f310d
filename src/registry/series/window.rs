//! Sliding windows: the mean or the sum of recent values.

use std::time::Duration;

use crate::registry::time::Nanos;

/// Number of steps in a window's span.
const STEPS: u64 = 100;

/// The longest span: a hundred years, so that times fit [`Nanos`].
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Values of the last `STEPS` steps of time, each step summed up.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Whether the mean is shown instead of the sum.
    mean: bool,
    /// Length of a step.
    step: Nanos,
    /// Number of the current step, counted from time 0.
    newest: u64,
    /// The steps, by their numbers modulo `STEPS`.
    steps: Vec<WindowStep>,
}

/// Values that came during one step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct WindowStep {
    sum: f64,
    count: u64,
}

impl Window {
    /// Approximate memory of a window, in bytes.
    pub const WEIGHT: usize = STEPS as usize * size_of::<WindowStep>() + 96;

    /// An empty window; `None` if the span is zero or above a hundred years.
    pub fn new(mean: bool, span: Duration, now: Nanos) -> Option<Self> {
        if span.is_zero() || span > LONGEST {
            return None;
        }
        let step = (span.as_nanos() as u64 / STEPS).max(1);
        Some(Window {
            mean,
            step,
            newest: now / step,
            steps: vec![WindowStep::default(); STEPS as usize],
        })
    }

    /// A window with the values that [`steps`](Self::steps) returned; `None` if
    /// they cannot be those of a window.
    pub fn restored(mean: bool, step: Nanos, steps: &[(u64, f64, u64)]) -> Option<Self> {
        let longest = LONGEST.as_nanos() as u64 / STEPS;
        let ascend = steps.is_sorted_by(|a, b| a.0 < b.0);
        let (oldest, newest) = match steps {
            [] => (0, 0),
            [first, .., last] => (first.0, last.0),
            [only] => (only.0, only.0),
        };
        if !(1..=longest).contains(&step) || !ascend || newest - oldest >= STEPS {
            return None;
        }
        let mut window = Window {
            mean,
            step,
            newest,
            steps: vec![WindowStep::default(); STEPS as usize],
        };
        for &(number, sum, count) in steps {
            if !sum.is_finite() || count == 0 {
                return None;
            }
            window.steps[(number % STEPS) as usize] = WindowStep { sum, count };
        }
        Some(window)
    }

    /// Whether the mean is shown instead of the sum.
    pub fn is_mean(&self) -> bool {
        self.mean
    }

    /// Length of a step.
    pub fn step(&self) -> Nanos {
        self.step
    }

    /// The steps that have values: number, sum and count of each, in order.
    pub fn steps(&self) -> impl Iterator<Item = (u64, f64, u64)> {
        let oldest = self.newest.saturating_sub(STEPS - 1);
        (oldest..=self.newest).filter_map(|number| {
            let step = self.steps[(number % STEPS) as usize];
            (step.count > 0).then_some((number, step.sum, step.count))
        })
    }

    /// Whether both show the same function over the same span.
    pub fn is_like(&self, other: &Window) -> bool {
        self.mean == other.mean && self.step == other.step
    }

    /// Adds a value.
    pub fn add(&mut self, value: f64, now: Nanos) {
        self.advance(now);
        let step = &mut self.steps[(self.newest % STEPS) as usize];
        step.sum += value;
        step.count += 1;
    }

    /// Moves on to the step that contains `now`. Time does not go back.
    pub fn advance(&mut self, now: Nanos) {
        let newest = now / self.step;
        if newest <= self.newest {
            return;
        }
        for number in (newest.saturating_sub(STEPS - 1)).max(self.newest + 1)..=newest {
            self.steps[(number % STEPS) as usize] = WindowStep::default();
        }
        self.newest = newest;
    }

    /// The shown value: the sum, or the mean, which is NaN for an empty window.
    pub fn value(&self) -> f64 {
        // Summed up each time, so that rounding errors do not accumulate.
        let sum: f64 = self.steps.iter().map(|step| step.sum).sum();
        if self.mean {
            sum / self.steps.iter().map(|step| step.count).sum::<u64>() as f64
        } else {
            sum
        }
    }

    /// The greatest absolute sum that any subset of the steps can have.
    pub fn largest_sum(&self) -> f64 {
        self.steps.iter().map(|step| step.sum.abs()).sum()
    }

    /// When the oldest value leaves the window, if it has any.
    pub fn next_step(&self) -> Option<Nanos> {
        let oldest = self.newest.saturating_sub(STEPS - 1);
        let number = (oldest..=self.newest)
            .find(|number| self.steps[(number % STEPS) as usize].count > 0)?;
        Some((number + STEPS).saturating_mul(self.step))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_value_leaves_after_the_span() {
        let mut window = Window::new(true, Duration::from_secs(100), 0).unwrap();
        assert!(window.value().is_nan());
        assert_eq!(window.next_step(), None);
        window.add(2.0, 0);
        window.add(4.0, 30 * SECOND);
        assert_eq!(window.value(), 3.0);
        assert_eq!(window.next_step(), Some(100 * SECOND));
        window.advance(100 * SECOND - 1);
        assert_eq!(window.value(), 3.0);
        window.advance(100 * SECOND);
        assert_eq!(window.value(), 4.0);
        assert_eq!(window.next_step(), Some(130 * SECOND));
        window.advance(1_000_000 * SECOND);
        assert!(window.value().is_nan());
        assert_eq!(window.next_step(), None);
    }

    #[test]
    fn a_span_is_positive_and_bounded() {
        assert!(Window::new(true, Duration::ZERO, 0).is_none());
        assert!(Window::new(true, Duration::MAX, 0).is_none());
        assert!(Window::new(true, Duration::from_nanos(1), 5).is_some());
    }

    proptest! {
        /// A window shows the same as a plain list of all values, and knows the
        /// first time at which that changes.
        #[test]
        fn a_window_shows_the_same_as_a_list_of_values(
            steps in proptest::collection::vec((0..4000_u64, 0..10_u32), 1..60),
            mean in any::<bool>(),
        ) {
            let span = Duration::from_nanos(1000);
            let mut window = Window::new(mean, span, 0).unwrap();
            let mut came: Vec<(u64, f64)> = Vec::new();
            let mut now = 0;
            for (passed, value) in steps {
                now += passed / 4;
                if value < 7 {
                    window.add(f64::from(value), now);
                    came.push((now / 10, f64::from(value)));
                } else {
                    window.advance(now);
                }
                let held: Vec<f64> = came
                    .iter()
                    .filter(|(slot, _)| slot + 100 > now / 10)
                    .map(|(_, value)| *value)
                    .collect();
                let sum: f64 = held.iter().sum();
                let expected = if mean { sum / held.len() as f64 } else { sum };
                prop_assert!(window.value() == expected || (window.value().is_nan() && expected.is_nan()));
                let first = came.iter().map(|(slot, _)| (slot + 100) * 10).find(|due| *due > now);
                prop_assert_eq!(window.next_step(), first);
            }
        }
    }
}
