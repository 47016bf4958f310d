//! What the proxy knows of itself: counters, failure reasons, its own metrics.
//!
//! Counting is a relaxed addition in memory, done by whoever sees the event.
//! [`own::write`] turns it all into families when somebody asks.

mod clip;
pub mod dates;
mod listeners;
pub mod logging;
mod operations;
pub mod own;
mod process;
mod pushes;
mod reason;
mod received;
mod results;
pub mod sender_log;
mod targets;
mod webhooks;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use crate::exposition::counted;
pub use clip::{clip, clip_to, escaped, is_hidden};
pub use listeners::{Eviction, ListenerName, ListenerStats};
pub use operations::{OperationStats, Transport};
pub use pushes::{PushMethod, Pushes};
pub use reason::Reason;
pub use received::{Received, WireFormat};
pub use results::Results;
pub use targets::TargetStats;
pub use webhooks::{WebhookLabels, WebhookStats};

use crate::store::Now;

/// All counters of the process.
#[derive(Debug)]
pub struct Telemetry {
    pub started: Now,
    pub tcp: Arc<ListenerStats>,
    pub unix: Arc<ListenerStats>,
    pub http: Arc<ListenerStats>,
    pub push: Arc<ListenerStats>,
    pub operations_tcp: Arc<ListenerStats>,
    pub operations_unix: Arc<ListenerStats>,
    pub operations: Arc<OperationStats>,
    pub received_tcp: Arc<Received>,
    pub received_unix: Arc<Received>,
    /// Bytes of unfinished messages.
    pub buffered: Arc<Level>,
    pub pushes: Pushes,
    pub webhooks: WebhookStats,
    pub expired: Counter,
    pub expired_series: Counter,
    pub scrapes_identity: ScrapeStats,
    pub scrapes_gzip: ScrapeStats,
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    targets: Mutex<Vec<Arc<TargetStats>>>,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Follows a count that is kept elsewhere.
    pub fn rise_to(&self, count: u64) {
        self.0.fetch_max(count, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that rises and falls.
#[derive(Debug, Default)]
pub struct Level(AtomicUsize);

impl Level {
    /// Adds `amount` where that keeps it within `limit`, and tells whether it
    /// did.
    pub fn rise(&self, amount: usize, limit: usize) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |level| {
                level.checked_add(amount).filter(|level| *level <= limit)
            })
            .is_ok()
    }

    pub fn fall(&self, amount: usize) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    pub fn value(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Answers to `/metrics` in one content coding.
#[derive(Debug, Default)]
pub struct ScrapeStats {
    pub count: Counter,
    /// Bytes of their bodies, as sent.
    pub bytes: Counter,
}

impl Telemetry {
    pub fn new(started: Now) -> Self {
        Telemetry {
            started,
            tcp: Arc::default(),
            unix: Arc::default(),
            http: Arc::default(),
            push: Arc::default(),
            operations_tcp: Arc::default(),
            operations_unix: Arc::default(),
            operations: Arc::default(),
            received_tcp: Arc::default(),
            received_unix: Arc::default(),
            buffered: Arc::default(),
            pushes: Pushes::default(),
            webhooks: WebhookStats::default(),
            expired: Counter::default(),
            expired_series: Counter::default(),
            scrapes_identity: ScrapeStats::default(),
            scrapes_gzip: ScrapeStats::default(),
            requests: Mutex::default(),
            targets: Mutex::default(),
        }
    }

    pub fn listener(&self, name: ListenerName) -> &Arc<ListenerStats> {
        match name {
            ListenerName::Tcp => &self.tcp,
            ListenerName::Unix => &self.unix,
            ListenerName::Http => &self.http,
            ListenerName::Push => &self.push,
            ListenerName::OperationsTcp => &self.operations_tcp,
            ListenerName::OperationsUnix => &self.operations_unix,
        }
    }

    /// Counts an answered HTTP request. `handler` is one of a fixed few.
    pub fn count_request(&self, handler: &'static str, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((handler, status)).or_default() += 1;
    }

    /// Makes the statistics of a polled target. Targets are bounded by the
    /// configuration, and so are these.
    pub fn add_target(&self, name: &str) -> Arc<TargetStats> {
        let stats = Arc::new(TargetStats::new(name));
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.push(Arc::clone(&stats));
        stats
    }

    fn requests(&self) -> Vec<((&'static str, u16), u64)> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().map(|(key, count)| (*key, *count)).collect()
    }

    fn targets(&self) -> Vec<Arc<TargetStats>> {
        let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.clone()
    }
}
