//! What the proxy knows of itself: counters, failure reasons, its own metrics.
//!
//! Counting is a relaxed addition in memory, done by whoever sees the event.
//! [`own::write`] turns it all into families when somebody asks.

mod bounds;
mod clip;
pub mod dates;
mod durations;
mod inspections;
mod listeners;
pub mod logging;
mod operations;
pub mod own;
mod process;
mod pushes;
mod received;
mod results;
pub mod sender_log;
mod targets;
mod webhooks;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use crate::exposition::counted;
pub use bounds::Bounds;
pub use clip::{clip, clip_to, escaped, is_hidden};
pub use durations::Durations;
pub use inspections::Inspections;
pub use listeners::{Eviction, ListenerName, ListenerStats};
pub use operations::{OperationStats, Transport};
pub use own::OWN_PREFIX;
pub use pushes::{PushMethod, Pushes};
pub use received::{Received, WireFormat};
pub use results::Results;
pub use targets::TargetStats;
pub use webhooks::{WebhookLabels, WebhookStats};

use crate::clock::Now;

/// All counters of the process.
#[derive(Debug)]
pub struct Telemetry {
    pub started: Now,
    pub bounds: Bounds,
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
    /// Bytes of parts of `/metrics` that wait to be sent.
    pub copied: Arc<Level>,
    pub pushes: Pushes,
    pub webhooks: WebhookStats,
    pub inspections: Inspections,
    pub expired: Counter,
    pub expired_series: Counter,
    pub scrapes_identity: ScrapeStats,
    pub scrapes_gzip: ScrapeStats,
    /// From a scrape's request until all of its answer is handed on.
    pub scrape_durations: Arc<Durations>,
    /// Milliseconds since 1970; 0 before the first.
    last_scrape: AtomicU64,
    requests: Mutex<BTreeMap<&'static str, RequestStats>>,
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

/// A number that is set.
#[derive(Debug, Default)]
pub struct Gauge(AtomicUsize);

impl Gauge {
    pub fn set(&self, value: usize) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn value(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Answers of one handler of HTTP.
#[derive(Debug, Clone, Default)]
pub struct RequestStats {
    /// By status.
    pub answers: BTreeMap<u16, u64>,
    pub durations: Arc<Durations>,
}

/// Answers to `/metrics` in one content coding.
#[derive(Debug, Default)]
pub struct ScrapeStats {
    pub count: Counter,
    /// Bytes of their bodies, as sent.
    pub bytes: Counter,
}

impl Telemetry {
    pub fn new(started: Now, bounds: Bounds) -> Self {
        Telemetry {
            started,
            bounds,
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
            copied: Arc::default(),
            pushes: Pushes::default(),
            webhooks: WebhookStats::default(),
            inspections: Inspections::default(),
            expired: Counter::default(),
            expired_series: Counter::default(),
            scrapes_identity: ScrapeStats::default(),
            scrapes_gzip: ScrapeStats::default(),
            scrape_durations: Arc::default(),
            last_scrape: AtomicU64::new(0),
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

    /// Counts an HTTP request, whose answer was ready after `duration`.
    /// `handler` is one of a fixed few.
    pub fn count_request(&self, handler: &'static str, status: u16, duration: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let stats = requests.entry(handler).or_default();
        *stats.answers.entry(status).or_default() += 1;
        stats.durations.note(duration);
    }

    /// Notes that `/metrics` was answered.
    pub fn note_scrape(&self, now: Now) {
        let millis = u64::try_from(now.unix_millis()).unwrap_or_default();
        self.last_scrape.fetch_max(millis, Ordering::Relaxed);
    }

    /// When `/metrics` was last answered, in seconds since 1970; 0 before.
    fn last_scrape(&self) -> f64 {
        self.last_scrape.load(Ordering::Relaxed) as f64 / 1000.0
    }

    /// Makes the statistics of a polled target. Targets are bounded by the
    /// configuration, and so are these.
    pub fn add_target(&self, name: &str) -> Arc<TargetStats> {
        let stats = Arc::new(TargetStats::new(name));
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.push(Arc::clone(&stats));
        stats
    }

    /// By handler, sorted.
    fn requests(&self) -> BTreeMap<&'static str, RequestStats> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.clone()
    }

    fn targets(&self) -> Vec<Arc<TargetStats>> {
        let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.clone()
    }
}
