//! Statistics of a sink: what it delivered, what it dropped and why, what waits, and
//! whether it works.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::remote_write::RemoteWriteStats;
use super::{Gauge, ResultCounts, UsageGauge, clip};
use crate::clock::Now;
use crate::reason::Reason;

/// Statistics of one sink. Its queue and its task update them.
#[derive(Debug, Default)]
pub struct SinkStats {
    /// The name of the sink, as in `[sinks.NAME]`.
    pub name: String,
    /// The type of the sink.
    pub kind: &'static str,
    /// The limit of `queued`.
    pub max_queued: Gauge,
    /// The name of the setting that is this limit.
    limit_setting: Mutex<String>,
    /// Items by result: `ok` once delivered, or the reason they were dropped.
    pub items: ResultCounts,
    /// Bytes of the items that wait, including those being sent.
    pub queued: UsageGauge,
    /// Items that wait, including those being sent.
    pub queued_items: UsageGauge,
    /// Further counts of a sink of the type `remote_write`.
    pub remote_write: RemoteWriteStats,
    oldest: Mutex<Option<Instant>>,
    health: Mutex<SinkHealth>,
}

/// Stored items of a sink that is not configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnconfiguredSink {
    /// The name that it had.
    pub name: String,
    /// The type that it had.
    pub kind: String,
    /// Items that were not sent.
    pub items: usize,
    /// Bytes of these items.
    pub bytes: usize,
}

/// Whether a sink works.
#[derive(Debug, Clone, Default)]
pub struct SinkHealth {
    /// The state after the last request.
    pub state: SinkState,
    /// Since when the sink fails, if it does.
    pub failing_since: Option<Now>,
    /// When the other system last took something.
    pub last_success: Option<Now>,
    /// When something last failed or was refused, and why. May quote the other system.
    pub last_error: Option<(Now, String)>,
    /// Requests that failed and are repeated.
    pub failures: u64,
}

/// The state of a sink.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SinkState {
    /// Nothing was sent yet.
    #[default]
    Waiting,
    /// The other system took something, and nothing failed since.
    Working,
    /// The last request failed; it is repeated.
    Failing,
    /// The program stops, and the sink sends no more.
    Stopped,
}

impl SinkState {
    /// The word for lists.
    pub fn as_str(self) -> &'static str {
        match self {
            SinkState::Waiting => "waiting",
            SinkState::Working => "working",
            SinkState::Failing => "failing",
            SinkState::Stopped => "stopped",
        }
    }
}

/// Why a sink gave an item up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// The queue had no room.
    Full,
    /// The item waited for longer than the queue's age limit.
    Expired,
    /// The other system rejects the item, or no request can carry it.
    Refused(Reason),
    /// The program stopped before the item was sent.
    Shutdown,
}

impl DropReason {
    /// The word for logs and for the `result` label.
    pub fn reason(self) -> Reason {
        match self {
            DropReason::Full => Reason::NoBuffer,
            DropReason::Expired => Reason::Timeout,
            DropReason::Refused(reason) => reason,
            DropReason::Shutdown => Reason::Closed,
        }
    }
}

impl SinkStats {
    /// Statistics of a sink that has sent nothing yet. Its queue holds at most
    /// `max_queued` bytes, as `limit_setting` says.
    pub fn new(
        name: &str,
        kind: &'static str,
        max_queued: usize,
        limit_setting: impl Into<String>,
    ) -> Self {
        let stats = SinkStats {
            name: name.to_owned(),
            kind,
            limit_setting: Mutex::new(limit_setting.into()),
            ..SinkStats::default()
        };
        stats.max_queued.set(max_queued);
        stats
    }

    /// The name of the setting that limits the queue.
    pub fn limit_setting(&self) -> String {
        let setting = self.limit_setting.lock();
        setting.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the name of the setting that limits the queue.
    pub fn set_limit_setting(&self, setting: String) {
        let now = self.limit_setting.lock();
        *now.unwrap_or_else(PoisonError::into_inner) = setting;
    }

    /// Records that an item was queued at `now`, if none waits yet.
    pub fn begin_waiting(&self, now: Instant) {
        self.oldest_lock().get_or_insert(now);
    }

    /// Records when the oldest waiting item was queued.
    pub fn note_oldest(&self, since: Option<Instant>) {
        *self.oldest_lock() = since;
    }

    /// When the oldest waiting item was queued.
    pub fn oldest(&self) -> Option<Instant> {
        *self.oldest_lock()
    }

    /// Records that the other system took something. Returns how long it had failed before.
    pub fn note_success(&self, now: Now) -> Option<Duration> {
        let mut health = self.health_lock();
        health.state = SinkState::Working;
        health.last_success = Some(now);
        let failing = health.failing_since.take();
        failing.map(|since| now.since(since))
    }

    /// Records a request that failed and is repeated.
    pub fn note_failure(&self, now: Now, problem: &str) {
        let mut health = self.health_lock();
        health.state = SinkState::Failing;
        health.failures += 1;
        health.failing_since.get_or_insert(now);
        health.last_error = Some((now, clip(problem)));
    }

    /// Records that the other system refused items permanently.
    pub fn note_refusal(&self, now: Now, problem: &str) {
        self.health_lock().last_error = Some((now, clip(problem)));
    }

    /// Records that the sink ended.
    pub fn note_stop(&self) {
        self.health_lock().state = SinkState::Stopped;
    }

    /// Whether the sink works.
    pub fn health(&self) -> SinkHealth {
        self.health_lock().clone()
    }

    fn oldest_lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.oldest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health_lock(&self) -> MutexGuard<'_, SinkHealth> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts items that the other system took.
    pub fn count_sent(&self, items: usize) {
        self.items.count(Ok(()), items as u64);
    }

    /// Counts items that were given up.
    pub fn count_dropped(&self, reason: DropReason, items: usize) {
        self.items.count(Err(reason.reason()), items as u64);
    }

    /// Items that were given up for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.items.failed(reason.reason())
    }
}
