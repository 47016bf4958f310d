//! Counters of storage.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::results::OK;
use super::{Counter, DurationHistogram, Gauge};

/// Counters of storage.
#[derive(Debug, Default)]
pub struct StorageStats {
    /// 1 if state is stored. Otherwise the metrics are left out.
    pub is_on: Gauge,
    /// 1 while changes cannot be written.
    pub is_failing: Gauge,
    /// Bytes on the disk.
    pub disk_bytes: Gauge,
    /// Bytes of changes that wait until they can be written.
    pub pending_bytes: Gauge,
    /// Records restored at start.
    pub restored: Gauge,
    /// Starts with this directory.
    pub starts: Counter,
    /// Flushes by result.
    pub flushes: FlushCounts,
    /// Durations of flushes.
    pub durations: DurationHistogram,
    /// Durations of syncs.
    pub sync_durations: DurationHistogram,
    /// Records written.
    pub written_records: Counter,
    /// Bytes of the keys and values of written records.
    pub written_bytes: Counter,
    /// Pushes over HTTP that were applied and answered before they were stored.
    pub unkept: Counter,
}

/// Flushes by result.
#[derive(Debug)]
pub struct FlushCounts(Mutex<BTreeMap<&'static str, u64>>);

impl Default for FlushCounts {
    fn default() -> Self {
        FlushCounts(Mutex::new(BTreeMap::from([(OK, 0)])))
    }
}

impl FlushCounts {
    /// Counts a flush that succeeded.
    pub fn count_success(&self) {
        self.count(OK);
    }

    /// Counts a flush; `result` is one of a small fixed set.
    pub fn count(&self, result: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(result).or_default() += 1;
    }

    /// Results and their counts.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .iter()
            .map(|(result, count)| (*result, *count))
            .collect()
    }
}
