//! Logging, counters and the proxy's own metrics.
//!
//! The code that sees an event counts it, with a relaxed atomic addition.
//! [`own::write`] encodes all counters as families when they are scraped.

mod clip;
pub mod dates;
mod durations;
mod fairness;
mod limits;
mod listeners;
pub mod logging;
mod messages;
mod operations;
pub mod own;
mod process;
mod pushes;
mod rate_limit;
pub mod rejections;
mod reloads;
mod remote_write;
mod results;
mod security;
pub mod sender_log;
mod shaping;
mod sinks;
mod storage;
mod targets;
mod webhooks;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

pub use clip::{clip, clip_to, escaped, is_hidden};
pub use durations::DurationHistogram;
pub use fairness::{FairnessStats, Limited, Resource};
pub use limits::ConfiguredLimits;
pub use listeners::{CertificateStats, Eviction, HandshakeFailure, ListenerName, ListenerStats};
pub use messages::{MessageStats, WireFormat};
pub use operations::{CountedUdpSocket, LoadedMapping, MappingStats, OperationStats, Transport};
pub use own::OWN_PREFIX;
pub use pushes::{PushMethod, PushStats};
pub use rate_limit::RateLimit;
pub use reloads::ReloadStats;
pub use remote_write::RemoteWriteStats;
pub use results::ResultCounts;
pub use security::{Credential, SecurityStats};
pub use shaping::ShapingStats;
pub use sinks::{DropReason, SinkHealth, SinkState, SinkStats, UnconfiguredSink};
pub use storage::{FlushCounts, StorageStats};
pub use targets::{DiscoveryState, DiscoveryStats, PollRecord, TargetInfo, TargetStats, Targets};
pub use webhooks::{WebhookLabels, WebhookStats};

use crate::clock::Now;
use crate::live::Live;
use crate::peer::Peer;

/// Bytes of responses to polls that are being received or processed. Their memory is limited for
/// the whole process.
pub static POLL_RECEIVED: LazyLock<Arc<UsageGauge>> = LazyLock::new(Arc::default);

/// All counters of the process.
#[derive(Debug)]
pub struct Telemetry {
    /// When the process started.
    pub started: Now,
    /// The limits, which are shown beside the counts.
    pub limits: Live<ConfiguredLimits>,
    /// The names of the process metrics.
    pub process_names: Live<own::ProcessNames>,
    /// Polled targets.
    pub targets: Targets,
    /// The receivers' TCP listener.
    pub tcp: Arc<ListenerStats>,
    /// The receivers' Unix listener.
    pub unix: Arc<ListenerStats>,
    /// The HTTP listener that serves scrapes.
    pub http: Arc<ListenerStats>,
    /// The HTTP listener for pushes, if it is a separate one.
    pub push: Arc<ListenerStats>,
    /// The HTTP listener for health checks and own metrics.
    pub lifecycle: Arc<ListenerStats>,
    /// The TCP listener for operations.
    pub operations_tcp: Arc<ListenerStats>,
    /// All Unix stream listeners for operations.
    pub operations_unix: Arc<ListenerStats>,
    /// Operations.
    pub operations: Arc<OperationStats>,
    /// Messages over TCP.
    pub received_tcp: Arc<MessageStats>,
    /// Messages over the Unix socket.
    pub received_unix: Arc<MessageStats>,
    /// Bytes of incomplete messages.
    pub buffered: Arc<UsageGauge>,
    /// Bytes of partial responses of `/metrics` that wait to be sent.
    pub copied: Arc<UsageGauge>,
    /// Polls on request in progress.
    pub requested_polls: Arc<UsageGauge>,
    /// Pushes over HTTP.
    pub pushes: PushStats,
    /// Reloads of the configuration.
    pub reloads: ReloadStats,
    /// Storage.
    pub storage: Arc<StorageStats>,
    /// Webhooks.
    pub webhooks: WebhookStats,
    /// Authentication.
    pub security: Arc<SecurityStats>,
    /// Limits on senders.
    pub fairness: Arc<FairnessStats>,
    /// Shaping.
    pub shaping: Arc<ShapingStats>,
    /// Inspected verbatim texts: `ok`, or the reason why the text is suspect.
    pub inspections: ResultCounts,
    /// Sections that expired.
    pub expired: Counter,
    /// Aggregated series that expired.
    pub expired_series: Counter,
    /// Scrapes that were answered uncompressed.
    pub scrapes_identity: ScrapeStats,
    /// Scrapes that were answered with gzip.
    pub scrapes_gzip: ScrapeStats,
    /// Time from a scrape's request until its whole response is written.
    pub scrape_durations: Arc<DurationHistogram>,
    last_scrape: Mutex<Option<LastScrape>>,
    requests: Mutex<BTreeMap<&'static str, RequestStats>>,
    sinks: Mutex<Vec<Arc<SinkStats>>>,
    /// Stored items of sinks that are not configured.
    pub unconfigured_sinks: Live<Vec<UnconfiguredSink>>,
    certificates: Mutex<Vec<Weak<CertificateStats>>>,
}

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Raises the counter to `count`, a total that is counted elsewhere.
    pub fn raise_to(&self, count: u64) {
        self.0.fetch_max(count, Ordering::Relaxed);
    }

    /// The current count.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The used part of a limited resource.
#[derive(Debug, Default)]
pub struct UsageGauge(AtomicUsize);

impl UsageGauge {
    /// Adds `amount` if the sum stays within `limit`. Returns whether it did.
    pub fn try_add(&self, amount: usize, limit: usize) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(amount).filter(|used| *used <= limit)
            })
            .is_ok()
    }

    /// Adds `amount`, which is limited elsewhere.
    pub fn add(&self, amount: usize) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Subtracts `amount`.
    pub fn subtract(&self, amount: usize) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    /// The current value.
    pub fn value(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value that can be set.
#[derive(Debug, Default)]
pub struct Gauge(AtomicUsize);

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: usize) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The current value.
    pub fn value(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The last response of `/metrics`.
#[derive(Debug, Clone, Copy)]
pub struct LastScrape {
    /// When it was sent.
    pub at: Now,
    /// The client.
    pub peer: Peer,
    /// Bytes of the body, as sent.
    pub bytes: u64,
}

/// Responses of one HTTP handler.
#[derive(Debug, Clone, Default)]
pub struct RequestStats {
    /// Counts by status code.
    pub answers: BTreeMap<u16, u64>,
    /// Time until the response was ready.
    pub durations: Arc<DurationHistogram>,
}

/// Responses of `/metrics` in one content coding.
#[derive(Debug, Default)]
pub struct ScrapeStats {
    /// Responses.
    pub count: Counter,
    /// Bytes of their bodies, as sent.
    pub bytes: Counter,
}

impl Telemetry {
    /// Counters that are all zero.
    pub fn new(started: Now, limits: ConfiguredLimits) -> Self {
        Telemetry {
            started,
            limits: Live::new(limits),
            process_names: Live::default(),
            tcp: Arc::default(),
            unix: Arc::default(),
            http: Arc::default(),
            push: Arc::default(),
            lifecycle: Arc::default(),
            operations_tcp: Arc::default(),
            operations_unix: Arc::default(),
            operations: Arc::default(),
            received_tcp: Arc::default(),
            received_unix: Arc::default(),
            buffered: Arc::default(),
            requested_polls: Arc::default(),
            copied: Arc::default(),
            pushes: PushStats::default(),
            reloads: ReloadStats::new(started),
            storage: Arc::default(),
            webhooks: WebhookStats::default(),
            security: Arc::default(),
            fairness: Arc::default(),
            shaping: Arc::default(),
            inspections: ResultCounts::default(),
            expired: Counter::default(),
            expired_series: Counter::default(),
            scrapes_identity: ScrapeStats::default(),
            scrapes_gzip: ScrapeStats::default(),
            scrape_durations: Arc::default(),
            last_scrape: Mutex::default(),
            requests: Mutex::default(),
            targets: Targets::default(),
            sinks: Mutex::default(),
            unconfigured_sinks: Live::default(),
            certificates: Mutex::default(),
        }
    }

    /// The counts of a listener.
    pub fn listener(&self, name: ListenerName) -> &Arc<ListenerStats> {
        match name {
            ListenerName::Tcp => &self.tcp,
            ListenerName::Unix => &self.unix,
            ListenerName::Http => &self.http,
            ListenerName::Push => &self.push,
            ListenerName::Lifecycle => &self.lifecycle,
            ListenerName::OperationsTcp => &self.operations_tcp,
            ListenerName::OperationsUnix => &self.operations_unix,
        }
    }

    /// Counts an HTTP request whose response was ready after `duration`. `handler`
    /// is one of a small fixed set.
    pub fn count_request(&self, handler: &'static str, status: u16, duration: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let stats = requests.entry(handler).or_default();
        *stats.answers.entry(status).or_default() += 1;
        stats.durations.record(duration);
    }

    /// Records that `/metrics` was answered with this many bytes.
    pub fn note_scrape(&self, peer: Peer, bytes: u64, now: Now) {
        let scrape = LastScrape {
            at: now,
            peer,
            bytes,
        };
        *self.last_scrape_lock() = Some(scrape);
    }

    /// The last response of `/metrics`.
    pub fn last_scrape(&self) -> Option<LastScrape> {
        *self.last_scrape_lock()
    }

    fn last_scrape_lock(&self) -> MutexGuard<'_, Option<LastScrape>> {
        let last = self.last_scrape.lock();
        last.unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the statistics of a sink, in the order of their names. The configuration
    /// limits the number of sinks.
    pub fn add_sink(&self, stats: &Arc<SinkStats>) {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        let at = sinks.partition_point(|other| other.name <= stats.name);
        sinks.insert(at, Arc::clone(stats));
    }

    /// Removes the statistics of a sink that is no longer configured.
    pub fn remove_sink(&self, stats: &Arc<SinkStats>) {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        sinks.retain(|other| !Arc::ptr_eq(other, stats));
    }

    /// The statistics of all sinks, sorted by name.
    pub fn sinks(&self) -> Vec<Arc<SinkStats>> {
        let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        sinks.clone()
    }

    /// The last polls of a target, oldest first; none if it is not polled.
    pub fn recent_polls(&self, name: &str) -> Vec<PollRecord> {
        let target = self.targets.get(name);
        target.map_or_else(Vec::new, |stats| stats.recent())
    }

    /// Adds the counts of a certificate, which are shown until they are dropped. The
    /// configuration limits the number of certificates. They replace those of a certificate
    /// that the same setting named before.
    pub fn add_certificate(&self, stats: &Arc<CertificateStats>) {
        let mut certificates = self.certificates_in_use();
        certificates.retain(|other| {
            let other = other.upgrade();
            other.is_some_and(|other| other.setting != stats.setting)
        });
        certificates.push(Arc::downgrade(stats));
    }

    /// The counts of all certificates in use.
    fn certificates(&self) -> Vec<Arc<CertificateStats>> {
        let mut certificates = self.certificates_in_use();
        certificates.retain(|stats| stats.strong_count() > 0);
        certificates.iter().filter_map(Weak::upgrade).collect()
    }

    fn certificates_in_use(&self) -> MutexGuard<'_, Vec<Weak<CertificateStats>>> {
        let certificates = self.certificates.lock();
        certificates.unwrap_or_else(PoisonError::into_inner)
    }

    /// The requests by handler.
    fn requests(&self) -> BTreeMap<&'static str, RequestStats> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.clone()
    }
}
