//! Connection permits of a listener, and eviction when they run out.
//!
//! A connection keeps its permit by making progress: it completes a message or request, or
//! an unfinished one grows by [`GROWTH`] bytes. Single bytes are no progress. While all
//! permits are taken and other connections wait, connections are evicted by two rules:
//!
//! 1. No holder (an IP address or a local user) keeps more than its share while
//!    a holder with less than its share waits. A holder that is alone, as local
//!    senders often are, may take every permit.
//! 2. Otherwise a connection is evicted that made no progress for
//!    [`IDLE_AFTER`]. Unproven connections, which never completed anything, go
//!    before proven ones, and the longest idle goes first. One permit in
//!    [`RESERVE_DIVISOR`] is reserved for proven connections.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::is_client_hello;
use crate::clock;
use crate::peer::Sender;
use crate::telemetry::{Eviction, ListenerStats};

/// A connection without progress for this long is idle. The time allows a sender to connect
/// before it has its first message.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// Bytes of an incomplete message received, or of a response sent, that count as progress.
const GROWTH: usize = 4 * 1024;

/// One permit in `RESERVE_DIVISOR` is reserved for proven connections, such as those of
/// scrapers: new connections cannot evict them.
const RESERVE_DIVISOR: usize = 4;

/// The permits of one listener.
#[derive(Debug)]
pub struct Permits {
    semaphore: Arc<Semaphore>,
    limit: AtomicUsize,
    /// The number of permits to withdraw on their return, because the limit was lowered.
    excess: Mutex<usize>,
    open: Mutex<HashMap<u64, Arc<Progress>>>,
    next_id: AtomicU64,
    stats: Arc<ListenerStats>,
}

/// The progress of one open connection, which decides its turn for eviction. The
/// connection's handler records it.
#[derive(Debug)]
pub struct Progress {
    /// The holder of the permit: the peer, or the client that a trusted load balancer or
    /// reverse proxy names.
    holder: Mutex<Sender>,
    /// The time of the last progress, in milliseconds (see [`tick`]).
    at: AtomicI64,
    /// Bytes moved since then.
    bytes: AtomicUsize,
    /// Whether received bytes belong to a message or body. Those of a request's head, or
    /// between messages, do not count.
    reading_message: AtomicBool,
    /// Whether sent bytes belong to a response that counts as progress.
    writing_response: AtomicBool,
    /// Whether the connection has completed a message or request that counts.
    proven: AtomicBool,
    /// Whether the first bytes were a TLS handshake. Only set without TLS.
    begins_with_tls: AtomicBool,
    evicted: AtomicBool,
    evict: Notify,
}

/// The permit of an open connection. Dropping it returns it to the listener.
#[derive(Debug)]
pub struct Permit {
    progress: Arc<Progress>,
    permits: Arc<Permits>,
    id: u64,
    /// `None` only while dropping.
    acquired: Option<OwnedSemaphorePermit>,
}

impl Permit {
    /// The progress of the connection. It also announces eviction.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let permits = &self.permits;
        permits.open().remove(&self.id);
        permits.stats.open.fetch_sub(1, Ordering::Relaxed);
        let mut excess = permits.excess();
        if *excess > 0
            && let Some(acquired) = self.acquired.take()
        {
            *excess -= 1;
            acquired.forget();
        }
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        // The listener is closed and its connections have ended.
        self.stats.max.fetch_sub(self.limit(), Ordering::Relaxed);
    }
}

impl Permits {
    /// Permits for `limit` connections, counted in `stats`.
    pub fn new(limit: usize, stats: Arc<ListenerStats>) -> Arc<Self> {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        // Several listeners may share one set of counts.
        stats.max.fetch_add(limit, Ordering::Relaxed);
        Arc::new(Permits {
            semaphore: Arc::new(Semaphore::new(limit)),
            limit: AtomicUsize::new(limit),
            excess: Mutex::default(),
            open: Mutex::default(),
            next_id: AtomicU64::new(0),
            stats,
        })
    }

    /// Changes the limit. Connections beyond a lower limit stay open, and no others are
    /// accepted until enough of them have ended.
    pub fn set_limit(&self, limit: usize) {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        let mut excess = self.excess();
        let before = self.limit.swap(limit, Ordering::Relaxed);
        if limit >= before {
            self.stats.max.fetch_add(limit - before, Ordering::Relaxed);
            let kept = (limit - before).min(*excess);
            *excess -= kept;
            self.semaphore.add_permits(limit - before - kept);
        } else {
            self.stats.max.fetch_sub(before - limit, Ordering::Relaxed);
            let free = self.semaphore.forget_permits(before - limit);
            *excess += before - limit - free;
        }
    }

    fn excess(&self) -> MutexGuard<'_, usize> {
        self.excess.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Waits until a permit is free.
    pub async fn acquire(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.semaphore).acquire_owned().await;
        permit.expect("the semaphore is never closed")
    }

    /// Acquires a permit if one is free.
    pub fn try_acquire(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.semaphore).try_acquire_owned().ok()
    }

    /// Gives an acquired permit to a connection of `holder`.
    pub fn assign(self: &Arc<Self>, holder: Sender, acquired: OwnedSemaphorePermit) -> Permit {
        let progress = Arc::new(Progress::new(holder));
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.open().insert(id, Arc::clone(&progress));
        self.stats.open.fetch_add(1, Ordering::Relaxed);
        Permit {
            progress,
            permits: Arc::clone(self),
            id,
            acquired: Some(acquired),
        }
    }

    /// Evicts one connection for each that waits, as far as the rules allow. Evicted
    /// connections that have not closed yet count too. Returns whether any connection is
    /// about to close.
    pub fn make_room(&self, waiting: &[Sender]) -> bool {
        let open = self.open();
        let mut occupancy = Occupancy::new(self.limit(), open.values(), waiting);
        let mut leaving = open.len() - occupancy.staying.len();
        for holder in waiting.iter().skip(leaving) {
            if let Some((progress, why)) = occupancy.remove_one_for(*holder) {
                progress.evict(&self.stats, why);
                leaving += 1;
            }
        }
        leaving > 0
    }

    /// Evicts the longest idle connection, to free its file descriptor and memory.
    pub fn evict_idle(&self) {
        let open = self.open();
        let staying = open.values().filter(|progress| !progress.is_evicted());
        let idle = staying.filter(|progress| progress.is_idle());
        if let Some(progress) = idle.min_by_key(|progress| progress.rank()) {
            progress.evict(&self.stats, Eviction::AcceptError);
        }
    }

    /// The index in `waiting` of the connection to serve next: the first of the
    /// holder with the fewest open connections.
    pub fn next_served(&self, waiting: &[Sender]) -> usize {
        let open = self.open();
        let occupancy = Occupancy::new(self.limit(), open.values(), waiting);
        let by_held = |index: &usize| occupancy.held(waiting[*index]);
        (0..waiting.len()).min_by_key(by_held).unwrap_or(0)
    }

    /// The index in `waiting` of the connection to turn away: the first, which
    /// has waited the longest, of the holder with the most open connections.
    pub fn turned_away(&self, waiting: &[Sender]) -> usize {
        let open = self.open();
        let occupancy = Occupancy::new(self.limit(), open.values(), waiting);
        let by_held = |index: &usize| Reverse(occupancy.held(waiting[*index]));
        self.stats.count_evicted(Eviction::Full);
        (0..waiting.len()).min_by_key(by_held).unwrap_or(0)
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Progress>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connections of a full listener, by holder.
struct Occupancy<'p> {
    limit: usize,
    /// Connections that are not evicted.
    staying: Vec<&'p Progress>,
    proven: usize,
    /// The number of staying connections of each holder, including holders that only wait.
    held: HashMap<Sender, usize>,
}

impl<'p> Occupancy<'p> {
    fn new(
        limit: usize,
        open: impl Iterator<Item = &'p Arc<Progress>>,
        waiting: &[Sender],
    ) -> Self {
        let staying: Vec<&Progress> = open
            .map(|progress| &**progress)
            .filter(|progress| !progress.is_evicted())
            .collect();
        let mut held: HashMap<Sender, usize> = HashMap::new();
        for progress in &staying {
            *held.entry(progress.holder()).or_default() += 1;
        }
        for holder in waiting {
            held.entry(*holder).or_default();
        }
        Occupancy {
            limit,
            proven: staying
                .iter()
                .filter(|progress| progress.is_proven())
                .count(),
            staying,
            held,
        }
    }

    fn held(&self, holder: Sender) -> usize {
        self.held.get(&holder).copied().unwrap_or_default()
    }

    /// Removes the connection to evict for `holder`, if the rules allow one.
    fn remove_one_for(&mut self, holder: Sender) -> Option<(&'p Progress, Eviction)> {
        let share = (self.limit / self.held.len().max(1)).max(1);
        let is_under = self.held(holder) < share;
        let is_over = |progress: &Progress| self.held(progress.holder()) > share;
        // While few connections are proven, unproven ones cannot evict them, however many
        // there are.
        let spare_proven =
            self.proven <= self.limit / RESERVE_DIVISOR && self.proven < self.staying.len();
        let may_go = |progress: &Progress| {
            if is_over(progress) && is_under {
                return true;
            }
            let is_fair = is_under
                || progress.holder() == holder
                || !progress.is_proven()
                || is_over(progress);
            progress.is_idle() && is_fair && !(progress.is_proven() && spare_proven)
        };
        let candidates = self.staying.iter().enumerate();
        let (index, progress) = candidates
            .filter(|(_, progress)| may_go(progress))
            .min_by_key(|(_, progress)| {
                (!is_over(progress), !progress.is_idle(), progress.rank())
            })?;
        let why = match progress.is_idle() {
            true => Eviction::Idle,
            false => Eviction::Share,
        };
        let progress = self.staying.swap_remove(index);
        self.proven -= usize::from(progress.is_proven());
        *self.held.entry(progress.holder()).or_default() -= 1;
        *self.held.entry(holder).or_default() += 1;
        Some((progress, why))
    }
}

impl Progress {
    fn new(holder: Sender) -> Self {
        Progress {
            holder: Mutex::new(holder),
            at: AtomicI64::new(tick()),
            bytes: AtomicUsize::new(0),
            reading_message: AtomicBool::new(false),
            writing_response: AtomicBool::new(false),
            proven: AtomicBool::new(false),
            begins_with_tls: AtomicBool::new(false),
            evicted: AtomicBool::new(false),
            evict: Notify::new(),
        }
    }

    /// Records the client that a load balancer or a reverse proxy names. That client holds
    /// the permit until another one is named.
    pub fn set_client(&self, client: Sender) {
        *self.holder_guard() = client;
    }

    /// The holder of the permit.
    pub fn holder(&self) -> Sender {
        *self.holder_guard()
    }

    fn holder_guard(&self) -> MutexGuard<'_, Sender> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a message or request was completed.
    pub fn complete(&self) {
        self.proven.store(true, Ordering::Relaxed);
        self.at.store(tick(), Ordering::Relaxed);
    }

    /// Records received bytes of a message, or sent bytes of a response.
    pub fn add_bytes(&self, bytes: usize) {
        let moved = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if moved >= GROWTH {
            self.bytes.store(0, Ordering::Relaxed);
            self.at.store(tick(), Ordering::Relaxed);
        }
    }

    /// Records that the head of a request arrived. A body may follow.
    pub fn begin_request(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.writing_response.store(false, Ordering::Relaxed);
        self.set_reading_message(true);
    }

    /// Records that a request is done and its response is being sent. If it `counts`, it is
    /// progress, and so are the bytes of the response.
    pub fn end_request(&self, counts: bool) {
        self.set_reading_message(false);
        self.writing_response.store(counts, Ordering::Relaxed);
        if counts {
            self.complete();
        }
    }

    /// Sets whether received bytes belong to a message from now on.
    pub fn set_reading_message(&self, reading: bool) {
        self.reading_message.store(reading, Ordering::Relaxed);
    }

    /// Whether the first received bytes were a TLS handshake.
    pub fn begins_with_tls(&self) -> bool {
        self.begins_with_tls.load(Ordering::Relaxed)
    }

    /// Records the first bytes that the stream received.
    pub(super) fn note_begin(&self, bytes: &[u8]) {
        if is_client_hello(bytes) {
            self.begins_with_tls.store(true, Ordering::Relaxed);
        }
    }

    /// Records bytes that the stream received.
    pub(super) fn count_read(&self, bytes: usize) {
        if self.reading_message.load(Ordering::Relaxed) {
            self.add_bytes(bytes);
        }
    }

    /// Records bytes that the stream sent.
    pub(super) fn count_written(&self, bytes: usize) {
        if self.writing_response.load(Ordering::Relaxed) {
            self.add_bytes(bytes);
        }
    }

    /// Returns when the connection is evicted. Its handler must then close it.
    pub async fn evicted(&self) {
        self.evict.notified().await;
    }

    fn evict(&self, stats: &ListenerStats, why: Eviction) {
        if !self.evicted.swap(true, Ordering::Relaxed) {
            self.evict.notify_one();
            stats.count_evicted(why);
        }
    }

    fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed)
    }

    fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    fn is_idle(&self) -> bool {
        let since = tick().saturating_sub(self.at.load(Ordering::Relaxed));
        since >= IDLE_AFTER.as_millis() as i64
    }

    /// The rank for eviction: the lowest goes first.
    fn rank(&self) -> (bool, i64) {
        (self.is_proven(), self.at.load(Ordering::Relaxed))
    }
}

/// Milliseconds since the first call.
fn tick() -> i64 {
    static START: LazyLock<Instant> = LazyLock::new(clock::tick);
    START.elapsed().as_millis() as i64
}

#[cfg(test)]
mod tests;
