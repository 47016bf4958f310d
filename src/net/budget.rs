//! Memory budgets that all connections of one kind share.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::telemetry::UsageGauge;

/// The memory limit for the incomplete messages of all connections together.
///
/// An eighth of it is reserved for small messages, so that they can be received even while
/// large, slow ones hold all the rest.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: AtomicUsize,
    used: Arc<UsageGauge>,
}

/// Messages up to this many bytes are small.
pub const SMALL_MESSAGE: usize = 64 << 10;

/// One part in `RESERVE_DIVISOR` of a budget is reserved for small messages.
const RESERVE_DIVISOR: usize = 8;

/// Memory is short once more than one part in `SHORT_DIVISOR` of a budget is used.
const SHORT_DIVISOR: usize = 2;

impl MemoryBudget {
    /// A budget of `limit` bytes. `used` shows the bytes in use.
    pub fn new(limit: usize, used: Arc<UsageGauge>) -> Self {
        MemoryBudget {
            limit: AtomicUsize::new(limit),
            used,
        }
    }

    /// Changes the limit. Memory taken beyond a lower limit stays taken.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Takes `bytes` more for a message that already holds `held` bytes. Returns
    /// false, and takes nothing, if the budget is used up.
    pub fn take(&self, bytes: usize, held: usize) -> bool {
        let is_small = held.saturating_add(bytes) <= SMALL_MESSAGE;
        let limit = self.limit();
        let reserve = if is_small { 0 } else { reserve_of(limit) };
        self.used.try_add(bytes, limit - reserve)
    }

    /// Returns `bytes` that were taken.
    pub fn release(&self, bytes: usize) {
        self.used.subtract(bytes);
    }

    /// Whether memory is short. Large messages must then keep the [`MinimumRate`].
    pub fn is_short(&self) -> bool {
        self.used.value() > self.limit() / SHORT_DIVISOR
    }

    /// The bytes in use.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn used(&self) -> usize {
        self.used.value()
    }
}

/// The reserve of a budget. A reserve smaller than one small message would be of no use.
fn reserve_of(limit: usize) -> usize {
    let reserve = Some(limit / RESERVE_DIVISOR).filter(|reserve| *reserve >= SMALL_MESSAGE);
    reserve.unwrap_or_default()
}

/// The bytes that one message takes from a budget. Dropping it releases them.
#[derive(Debug)]
pub struct BudgetShare {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl BudgetShare {
    /// An empty share of `budget`.
    pub fn new(budget: &Arc<MemoryBudget>) -> Self {
        BudgetShare {
            budget: Arc::clone(budget),
            bytes: 0,
        }
    }

    /// Takes `more` bytes. Returns false, and takes nothing, if the budget is
    /// used up.
    pub fn grow(&mut self, more: usize) -> bool {
        let grown = self.budget.take(more, self.bytes);
        self.bytes += if grown { more } else { 0 };
        grown
    }

    /// The bytes that this share holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Releases all but `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let more = self.bytes.saturating_sub(bytes);
        self.budget.release(more);
        self.bytes -= more;
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

/// The rate at which a large message must arrive while memory is short. While memory is
/// free, any rate will do.
#[derive(Debug)]
pub struct MinimumRate {
    end: Pin<Box<Sleep>>,
    received: usize,
}

/// The period over which the rate of a message is measured. The first period is
/// the grace period of a message.
pub const RATE_PERIOD: Duration = Duration::from_secs(3);

/// The bytes of a large message that must arrive in each [`RATE_PERIOD`] while memory is
/// short: 64 KiB a second.
pub const RATE_BYTES: usize = 192 << 10;

impl MinimumRate {
    /// Starts measuring a message that has just become larger than [`SMALL_MESSAGE`].
    pub fn begin() -> Self {
        MinimumRate {
            end: Box::pin(sleep(RATE_PERIOD)),
            received: 0,
        }
    }

    /// Counts bytes of the message that arrived.
    pub fn count(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes);
    }

    /// Returns at the end of a period in which the message was too slow while memory was
    /// short. Cancel-safe: the next call continues the period.
    pub async fn too_slow(&mut self, budget: &MemoryBudget) {
        loop {
            self.end.as_mut().await;
            if self.received < RATE_BYTES && budget.is_short() {
                return;
            }
            self.received = 0;
            self.end.as_mut().reset(Instant::now() + RATE_PERIOD);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn budget(limit: usize) -> MemoryBudget {
        MemoryBudget::new(limit, Arc::default())
    }

    #[test]
    fn large_messages_leave_a_reserve_for_small_ones() {
        let budget = budget(16 * SMALL_MESSAGE);
        assert!(budget.take(14 * SMALL_MESSAGE, 0));
        assert!(!budget.take(1, SMALL_MESSAGE));
        assert!(
            budget.take(SMALL_MESSAGE, 0) && budget.take(1, 0) && budget.take(SMALL_MESSAGE - 1, 1)
        );
        assert!(!budget.take(1, 0));
        budget.release(16 * SMALL_MESSAGE);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_dropped_share_releases_its_bytes() {
        let budget = Arc::new(budget(11));
        let mut first = BudgetShare::new(&budget);
        assert!(first.grow(6) && first.grow(5) && !first.grow(1));
        first.shrink_to(10);
        first.shrink_to(20);
        let mut second = BudgetShare::new(&budget);
        assert!(second.grow(1) && !second.grow(1));
        drop(first);
        assert!(second.grow(10));
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_small_budget_has_no_reserve() {
        let budget = budget(SMALL_MESSAGE);
        assert!(budget.take(SMALL_MESSAGE - 1, 0) && budget.take(1, SMALL_MESSAGE - 1));
        assert!(!budget.take(1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn large_messages_must_keep_the_rate_while_memory_is_short() {
        let budget = budget(16 * SMALL_MESSAGE);
        let mut rate = MinimumRate::begin();
        // Memory is not short yet.
        let left_alone = timeout(5 * RATE_PERIOD, rate.too_slow(&budget));
        assert!(left_alone.await.is_err());
        assert!(budget.take(9 * SMALL_MESSAGE, 0) && budget.is_short());
        let begun = Instant::now();
        let mut rate = MinimumRate::begin();
        rate.count(RATE_BYTES - 1);
        rate.too_slow(&budget).await;
        assert_eq!(begun.elapsed().as_secs(), RATE_PERIOD.as_secs());
        // A message that keeps the rate gets another period.
        let begun = Instant::now();
        let mut rate = MinimumRate::begin();
        rate.count(RATE_BYTES);
        rate.too_slow(&budget).await;
        assert_eq!(begun.elapsed().as_secs(), 2 * RATE_PERIOD.as_secs());
    }
}
