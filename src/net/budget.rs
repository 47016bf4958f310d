//! Memory that all connections of a kind share.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::telemetry::Level;

/// Memory that what is not whole yet may take, of all connections together.
///
/// A part is a reserve for small messages, so that they find room while large
/// ones that do not go on hold all the rest.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    reserve: usize,
    used: Arc<Level>,
}

/// Messages up to this size are small.
pub const SMALL: usize = 64 << 10;

/// This part of a budget is the reserve, ...
const RESERVE_SHARE: usize = 8;

/// ... and past this part of it memory is short.
const SHORT_SHARE: usize = 2;

impl Budget {
    /// What is taken is added to `used`, for all to see.
    pub fn new(limit: usize, used: Arc<Level>) -> Self {
        // One that is too small for a single message keeps none.
        let reserve = Some(limit / RESERVE_SHARE).filter(|reserve| *reserve >= SMALL);
        Budget {
            limit,
            reserve: reserve.unwrap_or_default(),
            used,
        }
    }

    /// Takes `bytes` more, if they are there, for a message that holds `held`
    /// bytes already.
    pub fn take(&self, bytes: usize, held: usize) -> bool {
        let is_small = held.saturating_add(bytes) <= SMALL;
        let reserve = if is_small { 0 } else { self.reserve };
        self.used.rise(bytes, self.limit - reserve)
    }

    pub fn give_back(&self, bytes: usize) {
        self.used.fall(bytes);
    }

    /// Whether so much is used that those who hold much must go on.
    pub fn is_short(&self) -> bool {
        self.used.value() > self.limit / SHORT_SHARE
    }

    #[cfg(test)]
    pub fn used(&self) -> usize {
        self.used.value()
    }
}

/// Bytes of a budget, given back when this is dropped.
#[derive(Debug)]
pub struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Held {
    /// Nothing yet.
    pub fn new(budget: &Arc<Budget>) -> Self {
        Held {
            budget: Arc::clone(budget),
            bytes: 0,
        }
    }

    /// Takes more, if there is room.
    pub fn grow(&mut self, more: usize) -> bool {
        let grown = self.budget.take(more, self.bytes);
        self.bytes += if grown { more } else { 0 };
        grown
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back what is held past `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let more = self.bytes.saturating_sub(bytes);
        self.budget.give_back(more);
        self.bytes -= more;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// How fast a message comes that is not small. A slow one is left alone while
/// there is memory for others.
#[derive(Debug)]
pub struct Pace {
    ends: Pin<Box<Sleep>>,
    came: usize,
}

/// While memory is short, a message that is not small must bring `PACE_BYTES` in
/// each `PACE_TIME`, or 64 KiB a second. The first period is its grace.
pub const PACE_TIME: Duration = Duration::from_secs(3);
pub const PACE_BYTES: usize = 192 << 10;

impl Pace {
    /// Of a message that begins now to be more than small.
    pub fn begin() -> Self {
        Pace {
            ends: Box::pin(sleep(PACE_TIME)),
            came: 0,
        }
    }

    pub fn note(&mut self, bytes: usize) {
        self.came = self.came.saturating_add(bytes);
    }

    /// Returns once the message came too slowly while memory was short. Nothing
    /// is lost where it is not waited for to the end.
    pub async fn too_slow(&mut self, budget: &Budget) {
        loop {
            self.ends.as_mut().await;
            if self.came < PACE_BYTES && budget.is_short() {
                return;
            }
            self.came = 0;
            self.ends.as_mut().reset(Instant::now() + PACE_TIME);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn budget(limit: usize) -> Budget {
        Budget::new(limit, Arc::default())
    }

    #[test]
    fn large_messages_leave_a_reserve_to_small_ones() {
        let budget = budget(16 * SMALL);
        assert!(budget.take(14 * SMALL, 0));
        assert!(!budget.take(1, SMALL));
        assert!(budget.take(SMALL, 0) && budget.take(1, 0) && budget.take(SMALL - 1, 1));
        assert!(!budget.take(1, 0));
        budget.give_back(16 * SMALL);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_is_held_is_given_back() {
        let budget = Arc::new(budget(11));
        let mut first = Held::new(&budget);
        assert!(first.grow(6) && first.grow(5) && !first.grow(1));
        first.shrink_to(10);
        first.shrink_to(20);
        let mut second = Held::new(&budget);
        assert!(second.grow(1) && !second.grow(1));
        drop(first);
        assert!(second.grow(10));
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_budget_for_little_keeps_no_reserve() {
        let budget = budget(SMALL);
        assert!(budget.take(SMALL - 1, 0) && budget.take(1, SMALL - 1));
        assert!(!budget.take(1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_message_must_go_on_while_memory_is_short() {
        let budget = budget(16 * SMALL);
        let mut pace = Pace::begin();
        // There is memory for others.
        let left_alone = timeout(5 * PACE_TIME, pace.too_slow(&budget));
        assert!(left_alone.await.is_err());
        assert!(budget.take(9 * SMALL, 0) && budget.is_short());
        let begun = Instant::now();
        let mut pace = Pace::begin();
        pace.note(PACE_BYTES - 1);
        pace.too_slow(&budget).await;
        assert_eq!(begun.elapsed().as_secs(), PACE_TIME.as_secs());
        // A message that is fast enough gets one more period.
        let begun = Instant::now();
        let mut pace = Pace::begin();
        pace.note(PACE_BYTES);
        pace.too_slow(&budget).await;
        assert_eq!(begun.elapsed().as_secs(), 2 * PACE_TIME.as_secs());
    }
}
