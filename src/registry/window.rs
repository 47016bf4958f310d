//! Sliding windows: the mean or the sum of what came lately.

use std::time::Duration;

/// Steps in which a window moves on.
const SLOTS: u64 = 100;

/// The longest span: a hundred years, so that times fit their numbers.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A window over the last `SLOTS` slots of time. Times are in nanoseconds
/// since some beginning.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    mean: bool,
    /// Nanoseconds.
    slot: u64,
    /// The number of the slot that time is in.
    newest: u64,
    /// By the number modulo `SLOTS`.
    slots: Vec<Slot>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Slot {
    sum: f64,
    count: u64,
}

impl Window {
    /// Bytes that one takes, about.
    pub const WEIGHT: usize = SLOTS as usize * size_of::<Slot>() + 96;

    /// An empty window; `None` where the span is none.
    pub fn new(mean: bool, span: Duration, now: u64) -> Option<Self> {
        if span.is_zero() || span > LONGEST {
            return None;
        }
        let slot = (span.as_nanos() as u64 / SLOTS).max(1);
        Some(Window {
            mean,
            slot,
            newest: now / slot,
            slots: vec![Slot::default(); SLOTS as usize],
        })
    }

    /// Whether both show the same of the same span.
    pub fn is_like(&self, other: &Window) -> bool {
        self.mean == other.mean && self.slot == other.slot
    }

    /// Notes a value that came now.
    pub fn add(&mut self, value: f64, now: u64) {
        self.advance(now);
        let slot = &mut self.slots[(self.newest % SLOTS) as usize];
        slot.sum += value;
        slot.count += 1;
    }

    /// Moves on to the slot that `now` is in. Time does not go back.
    pub fn advance(&mut self, now: u64) {
        let newest = now / self.slot;
        if newest <= self.newest {
            return;
        }
        for number in (newest.saturating_sub(SLOTS - 1)).max(self.newest + 1)..=newest {
            self.slots[(number % SLOTS) as usize] = Slot::default();
        }
        self.newest = newest;
    }

    /// What is shown: NaN is the mean of nothing.
    pub fn value(&self) -> f64 {
        // Added anew each time, so that no error of rounding ever stays.
        let sum: f64 = self.slots.iter().map(|slot| slot.sum).sum();
        if self.mean {
            sum / self.slots.iter().map(|slot| slot.count).sum::<u64>() as f64
        } else {
            sum
        }
    }

    /// No sum of values that may be left in it is larger, whichever sign it has.
    pub fn largest(&self) -> f64 {
        self.slots.iter().map(|slot| slot.sum.abs()).sum()
    }

    /// When the oldest value leaves, if there is one.
    pub fn due(&self) -> Option<u64> {
        let oldest = self.newest.saturating_sub(SLOTS - 1);
        let number = (oldest..=self.newest)
            .find(|number| self.slots[(number % SLOTS) as usize].count > 0)?;
        Some((number + SLOTS).saturating_mul(self.slot))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn what_came_leaves_when_the_span_is_over() {
        let mut window = Window::new(true, Duration::from_secs(100), 0).unwrap();
        assert!(window.value().is_nan());
        assert_eq!(window.due(), None);
        window.add(2.0, 0);
        window.add(4.0, 30 * SECOND);
        assert_eq!(window.value(), 3.0);
        assert_eq!(window.due(), Some(100 * SECOND));
        window.advance(100 * SECOND - 1);
        assert_eq!(window.value(), 3.0);
        window.advance(100 * SECOND);
        assert_eq!(window.value(), 4.0);
        assert_eq!(window.due(), Some(130 * SECOND));
        window.advance(1_000_000 * SECOND);
        assert!(window.value().is_nan());
        assert_eq!(window.due(), None);
    }

    #[test]
    fn a_span_has_a_length() {
        assert!(Window::new(true, Duration::ZERO, 0).is_none());
        assert!(Window::new(true, Duration::MAX, 0).is_none());
        assert!(Window::new(true, Duration::from_nanos(1), 5).is_some());
    }

    proptest! {
        /// The window shows what a plain list of all values would, and tells
        /// the first moment at which that changes.
        #[test]
        fn a_window_is_the_list_of_what_came_lately(
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
                prop_assert_eq!(window.due(), first);
            }
        }
    }
}
