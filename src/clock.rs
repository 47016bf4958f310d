//! Time as a value. The core takes it as a parameter and reads no clock itself.

use std::time::{Duration, Instant, SystemTime};

/// The current time on two clocks. `wall` is for people and timestamps and can be
/// set back; `tick` is for durations and never runs backwards.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Civil time.
    pub wall: SystemTime,
    /// Monotonic time.
    pub tick: Instant,
}

impl Now {
    /// Reads both clocks.
    pub fn read() -> Self {
        Now {
            wall: wall(),
            tick: tick(),
        }
    }

    /// The time `passed` later.
    #[must_use]
    pub fn after(self, passed: Duration) -> Self {
        Now {
            wall: self.wall + passed,
            tick: self.tick + passed,
        }
    }

    /// The time since `earlier`; zero if `earlier` is later than `self`.
    pub fn since(self, earlier: Now) -> Duration {
        self.tick.saturating_duration_since(earlier.tick)
    }

    /// Nanoseconds since 1970, the unit of stored times; 0 for an earlier wall clock.
    pub fn unix_nanos(self) -> u64 {
        self.wall
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |passed| {
                u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX)
            })
    }

    /// The time at which the wall clock showed `nanos` since 1970. Its tick is as long before
    /// that of `self` as the wall clock says, and never later.
    #[must_use]
    pub fn at_unix_nanos(self, nanos: u64) -> Self {
        let passed = Duration::from_nanos(self.unix_nanos().saturating_sub(nanos));
        Now {
            wall: SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos),
            tick: self.tick.checked_sub(passed).unwrap_or(self.tick),
        }
    }

    /// The time of an earlier `tick`, with the wall time of that moment as seen from `self`.
    #[must_use]
    pub fn at_tick(self, tick: Instant) -> Self {
        let passed = self.tick.saturating_duration_since(tick);
        Now {
            wall: self.wall.checked_sub(passed).unwrap_or(self.wall),
            tick,
        }
    }

    /// Milliseconds since 1970; 0 for an earlier wall clock.
    pub fn unix_millis(self) -> u128 {
        self.wall
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |passed| passed.as_millis())
    }

    /// Seconds since 1970, the unit of timestamps in metrics; 0 for an earlier
    /// wall clock.
    pub fn unix_seconds(self) -> f64 {
        self.wall
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0.0, |passed| passed.as_secs_f64())
    }
}

/// Reads the wall clock alone.
#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Reads the monotonic clock alone, for the start of a duration or a deadline.
#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
pub fn tick() -> Instant {
    Instant::now()
}

/// The time in seconds, rounded up: after that long, it has passed.
pub fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up_only_if_there_is_a_rest() {
        for (millis, seconds) in [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2), (60_000, 60)] {
            assert_eq!(
                whole_seconds(Duration::from_millis(millis)),
                seconds,
                "{millis}"
            );
        }
    }
}
