//! How long things take, as a histogram.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Counter;

/// Upper bounds of the buckets in seconds, from a small answer to the usual
/// patience of a scraper. Each costs a line for every handler, at every scrape.
pub const BOUNDS: [f64; 6] = [0.001, 0.005, 0.025, 0.1, 1.0, 10.0];

/// Counts of durations. Noting one is two additions.
#[derive(Debug, Default)]
pub struct Durations {
    /// By bucket, the last one without a bound; not cumulative.
    buckets: [Counter; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Durations {
    pub fn note(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].add(1);
        // Some 500 years fit.
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Cumulative counts of the buckets, the last of which is of all, and the
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
    fn a_duration_counts_in_its_bucket_and_all_above() {
        let durations = Durations::default();
        for milliseconds in [1, 2, 60, 20_000] {
            durations.note(Duration::from_millis(milliseconds));
        }
        let (counts, sum) = durations.read();
        assert_eq!(counts, [1, 2, 2, 3, 3, 3, 4]);
        assert_eq!(sum, 20.063);
    }
}
