//! The time, as a value.

use std::time::{Duration, Instant, SystemTime};

/// One moment, on two clocks: `wall` is for people and for timestamps, and may
/// be set back; `tick` is for waiting, and never runs backwards.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub wall: SystemTime,
    pub tick: Instant,
}

impl Now {
    /// Reads both clocks.
    pub fn read() -> Self {
        Now {
            wall: SystemTime::now(),
            tick: Instant::now(),
        }
    }

    /// The moment so much later.
    #[must_use]
    pub fn after(self, passed: Duration) -> Self {
        Now {
            wall: self.wall + passed,
            tick: self.tick + passed,
        }
    }

    /// How long ago `earlier` was, seen from this moment.
    pub fn since(self, earlier: Now) -> Duration {
        self.tick.saturating_duration_since(earlier.tick)
    }

    /// Milliseconds since 1970.
    pub fn unix_millis(self) -> u128 {
        self.wall
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |passed| passed.as_millis())
    }

    /// Seconds since 1970, as timestamps of metrics are.
    pub fn unix_seconds(self) -> f64 {
        self.wall
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0.0, |passed| passed.as_secs_f64())
    }
}
