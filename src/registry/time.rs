//! Time as the registry counts it.

use std::time::Duration;

/// Nanoseconds since the first time that the registry was given, or the time that it continues; see
/// [`Registry::restore_clock`](super::Registry::restore_clock).
pub type Nanos = u64;

/// A time that never comes.
pub const NEVER: Nanos = u64::MAX;

/// The deadline of a series that is updated now and has this time to live.
pub fn deadline(now: Nanos, ttl: Option<Duration>) -> Nanos {
    ttl.map_or(NEVER, |ttl| {
        let ttl = u64::try_from(ttl.as_nanos()).unwrap_or(NEVER);
        now.saturating_add(ttl)
    })
}
