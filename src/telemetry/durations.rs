//! Histograms of durations.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Counter;

/// Upper bounds of the buckets in seconds, from a small response to the usual timeout of a
/// scraper. Each bound adds a line for every handler to each scrape.
pub const BOUNDS: [f64; 6] = [0.001, 0.005, 0.025, 0.1, 1.0, 10.0];

/// A histogram of durations. Recording one takes two additions.
#[derive(Debug, Default)]
pub struct DurationHistogram {
    /// Counts by bucket, not cumulative. The last bucket has no bound.
    buckets: [Counter; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
    /// The last duration; 0 before the first.
    last_nanoseconds: AtomicU64,
}

impl DurationHistogram {
    /// Records a duration.
    pub fn record(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].add(1);
        // 500 years fit.
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        self.last_nanoseconds.store(nanoseconds, Ordering::Relaxed);
    }

    /// The duration that was recorded last; zero before the first.
    pub fn last(&self) -> Duration {
        Duration::from_nanos(self.last_nanoseconds.load(Ordering::Relaxed))
    }

    /// The cumulative counts of the buckets, the last of which is the total, and the
    /// sum in seconds.
    pub fn read(&self) -> ([u64; BOUNDS.len() + 1], f64) {
        let mut total = 0;
        let counts = self.buckets.each_ref().map(|bucket| {
            total += bucket.value();
            total
        });
        let nanoseconds = self.nanoseconds.load(Ordering::Relaxed);
        (counts, Duration::from_nanos(nanoseconds).as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_count_in_their_bucket_and_all_above() {
        let durations = DurationHistogram::default();
        for milliseconds in [1, 2, 60, 20_000] {
            durations.record(Duration::from_millis(milliseconds));
        }
        assert_eq!(durations.last(), Duration::from_secs(20));
        let (counts, sum) = durations.read();
        assert_eq!(counts, [1, 2, 2, 3, 3, 3, 4]);
        assert_eq!(sum, 20.063);
    }
}
