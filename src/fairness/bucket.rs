//! A token bucket that can be overdrawn, in one atomic number.
//!
//! It holds the time at which the bucket will be full again. A message passes if the bucket
//! is not overdrawn when it begins, however large it is: so a message larger than the
//! bucket passes once, and the next one waits until it is paid for. Crates such as
//! `governor` never let such a message pass, and keep the rate in each bucket, where a
//! reload cannot change it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SECOND: u128 = 1_000_000_000;

/// One rate of one sender. Times are nanoseconds since a common start.
#[derive(Debug, Default)]
pub struct Bucket {
    full_at: AtomicU64,
}

impl Bucket {
    /// Takes `amount`, of which `rate` come back each second.
    pub fn take(&self, amount: u64, rate: u64, now: u64) {
        let cost = u128::from(amount) * SECOND / u128::from(rate.max(1));
        self.take_time(u64::try_from(cost).unwrap_or(u64::MAX), now);
    }

    /// Takes the amount that comes back in `cost` nanoseconds.
    pub fn take_time(&self, cost: u64, now: u64) {
        let add = |full_at: u64| Some(full_at.max(now).saturating_add(cost));
        // It cannot fail: the closure always returns a value.
        let _ = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// The time until the bucket is no longer overdrawn; `None` if it is not. The bucket
    /// holds the amount that comes back in `burst`.
    pub fn wait(&self, burst: Duration, now: u64) -> Option<Duration> {
        let missing = self.full_at.load(Ordering::Relaxed).saturating_sub(now);
        let wait = Duration::from_nanos(missing).saturating_sub(burst);
        (!wait.is_zero()).then_some(wait)
    }
}
