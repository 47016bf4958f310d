//! Statistics of a sink for remote write.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::Counter;

/// Counts of the collection of series.
#[derive(Debug, Default)]
pub struct RemoteWriteStats {
    /// Queued samples, without staleness markers.
    pub samples: Counter,
    /// Queued native histograms.
    pub histograms: Counter,
    /// Queued exemplars.
    pub exemplars: Counter,
    /// Queued staleness markers.
    pub stale_markers: Counter,
    /// Points that a server of protocol 2.0 did not take, by its own count.
    pub unwritten: Counter,
    /// Series that are not sent because another one has the same labels, each counted when it
    /// was found.
    pub repeated_series: Counter,
    /// Series that are not sent because rules removed their name, each counted when it was
    /// found.
    pub nameless_series: Counter,
    series: AtomicUsize,
    /// Duration of the last collection, in nanoseconds.
    collection: AtomicU64,
}

impl RemoteWriteStats {
    /// Sets the number of series that are sent.
    pub fn set_series(&self, series: usize) {
        self.series.store(series, Ordering::Relaxed);
    }

    /// The number of series that are sent.
    pub fn series(&self) -> usize {
        self.series.load(Ordering::Relaxed)
    }

    /// Records how long a collection took.
    pub fn note_collection(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.collection.store(nanos, Ordering::Relaxed);
    }

    /// How long the last collection took, in seconds.
    pub fn collection_seconds(&self) -> f64 {
        Duration::from_nanos(self.collection.load(Ordering::Relaxed)).as_secs_f64()
    }
}
