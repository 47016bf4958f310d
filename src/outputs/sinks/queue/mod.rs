//! The queue in front of a sink, bounded by bytes and by the age of its items.
//!
//! Producers hold a [`QueueHandle`] and never wait: a push is taken whole, or
//! rejected and counted. One consumer, the sink's worker, takes batches. The
//! queue closes when the last handle is dropped, so a worker drains it at
//! shutdown without asking again and again whether a producer is left.

mod config;

use std::collections::VecDeque;
use std::fmt;
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

pub use config::QueueConfig;

use super::Verdict;
use crate::telemetry::{DropReason, SinkStats};

/// Items that an empty queue keeps memory for.
const KEPT_CAPACITY: usize = 1024;

/// Bounds of a queue and of the batches taken from it.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Bytes of all items that wait, including those being sent: their
    /// [`Sink::size`], and the memory of their entries in the queue.
    ///
    /// [`Sink::size`]: super::Sink::size
    pub bytes: usize,
    /// Items that have waited for longer are dropped; `None` for no limit.
    pub age: Option<Duration>,
    /// Items of one batch.
    pub batch_items: usize,
    /// Bytes of one batch. A larger item is a batch of its own.
    pub batch_bytes: usize,
    /// Time that the oldest item waits for others to fill its batch; zero to send at once.
    pub batch_wait: Duration,
}

/// Why the queue does not take items. They are counted as dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The queue has no room for all of them.
    #[error("the queue is full")]
    Full,
    /// The sink has stopped.
    #[error("the sink has stopped")]
    Stopped,
}

/// Makes an empty queue. `size` gives the bytes of an item, without its entry.
pub(super) fn queue<T>(
    limits: QueueLimits,
    size: fn(&T) -> usize,
    stats: Arc<SinkStats>,
) -> (QueueHandle<T>, Queue<T>) {
    let shared = Arc::new(Shared {
        limits,
        size,
        stats,
        state: Mutex::new(State {
            items: VecDeque::new(),
            bytes: 0,
            closed: false,
            hurried: false,
            stopped: false,
        }),
        changed: Notify::new(),
    });
    let producers = Producers(Arc::clone(&shared));
    (QueueHandle(Arc::new(producers)), Queue(shared))
}

/// The producers' end of a queue.
pub struct QueueHandle<T>(Arc<Producers<T>>);

impl<T> QueueHandle<T> {
    /// Appends items, all or none. Never waits.
    ///
    /// # Errors
    ///
    /// [`PushError::Full`] if they exceed the queue's bytes together with what
    /// waits already; [`PushError::Stopped`] once the sink has stopped.
    pub fn push(&self, items: Vec<T>) -> Result<(), PushError> {
        self.push_at(items, Instant::now())
    }

    fn push_at(&self, items: Vec<T>, now: Instant) -> Result<(), PushError> {
        let shared = &*self.0.0;
        let count = items.len();
        if count == 0 {
            return Ok(());
        }
        let size: usize = items.iter().map(shared.size).sum();
        let bytes = size + count * size_of::<Entry<T>>();
        if !shared.reserve(bytes, now) {
            shared.stats.count_dropped(DropReason::Full, count);
            return Err(PushError::Full);
        }
        let mut state = shared.state();
        if state.stopped {
            drop(state);
            shared.stats.queued.subtract(bytes);
            shared.stats.count_dropped(DropReason::Shutdown, count);
            return Err(PushError::Stopped);
        }
        let was_empty = state.items.is_empty();
        let was_full = shared.fills_batch(&state);
        let entries = items.into_iter().map(|item| Entry { item, since: now });
        state.items.extend(entries);
        state.bytes += size;
        let is_full = shared.fills_batch(&state);
        shared.stats.queued_items.add(count);
        shared.stats.begin_waiting(now.into_std());
        drop(state);
        // The consumer waits for the first item, or for a full batch.
        if was_empty || (is_full && !was_full) {
            shared.changed.notify_one();
        }
        Ok(())
    }
}

impl<T> Clone for QueueHandle<T> {
    fn clone(&self) -> Self {
        QueueHandle(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for QueueHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.0.fmt(f)
    }
}

/// All handles of a queue. The queue closes when this is dropped.
struct Producers<T>(Arc<Shared<T>>);

impl<T> Drop for Producers<T> {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.changed.notify_one();
    }
}

/// The consumer's end of a queue.
pub(super) struct Queue<T>(Arc<Shared<T>>);

impl<T> Queue<T> {
    /// Waits for a batch and takes the oldest items. `None` once the queue is empty
    /// and no handle is left. Cancel-safe.
    pub(super) async fn next_batch(&self) -> Option<Batch<T>> {
        loop {
            // A push between this look and the wait leaves a permit behind.
            if let Some(next) = self.try_next_batch(Instant::now()) {
                return next;
            }
            let changed = self.0.changed.notified();
            match self.due() {
                Some(due) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(due) => {}
                },
                None => changed.await,
            }
        }
    }

    /// Makes batches no longer wait to be filled, since the program stops.
    pub(super) fn hurry(&self) {
        self.0.state().hurried = true;
        self.0.changed.notify_one();
    }

    /// When the oldest item has waited long enough for its batch; `None` if the queue is
    /// empty.
    fn due(&self) -> Option<Instant> {
        let state = self.0.state();
        let oldest = state.items.front()?.since;
        Some(oldest + self.0.limits.batch_wait)
    }

    /// The next batch; `Some(None)` at the end, `None` if nothing is due yet.
    fn try_next_batch(&self, now: Instant) -> Option<Option<Batch<T>>> {
        let shared = &*self.0;
        let mut state = shared.state();
        shared.expire(&mut state, now);
        if state.items.is_empty() {
            return state.closed.then_some(None);
        }
        if !shared.is_due(&state, now) {
            return None;
        }
        let mut batch = Batch {
            items: Vec::new(),
            since: Vec::new(),
        };
        let mut bytes = 0;
        while let Some(entry) = state.items.front()
            && batch.items.len() < shared.limits.batch_items
        {
            bytes += (shared.size)(&entry.item);
            if bytes > shared.limits.batch_bytes && !batch.items.is_empty() {
                break;
            }
            batch.extend(state.items.pop_front());
        }
        let taken: usize = batch.items.iter().map(shared.size).sum();
        state.bytes -= taken;
        if state.items.is_empty() {
            // The memory that a burst took is not kept.
            state.items.shrink_to(KEPT_CAPACITY);
        }
        Some(Some(batch))
    }

    /// Removes the items that are done with, as the verdicts say, and counts
    /// them. Items without a verdict stay, in their order.
    pub(super) fn settle(&self, batch: &mut Batch<T>, verdicts: &[Verdict]) {
        let shared = &*self.0;
        let before = batch.items.len();
        let judged = verdicts.len().min(before);
        let (mut bytes, mut sent) = (0, 0);
        for (item, verdict) in batch.items.iter().zip(verdicts) {
            match verdict {
                Verdict::Again => continue,
                Verdict::Taken => sent += 1,
                Verdict::Refused(reason) => {
                    shared.stats.count_dropped(DropReason::Refused(*reason), 1);
                }
            }
            bytes += shared.cost(item);
        }
        shared.stats.count_sent(sent);
        shared.stats.queued.subtract(bytes);
        let stays = |at: usize| at >= judged || verdicts[at] == Verdict::Again;
        batch.retain(stays);
        shared
            .stats
            .queued_items
            .subtract(before - batch.items.len());
        shared.note_oldest(&shared.state(), batch);
    }

    /// Drops the items of a batch that are older than the queue permits.
    pub(super) fn expire_batch(&self, batch: &mut Batch<T>, now: Instant) {
        let shared = &*self.0;
        let Some(age) = shared.limits.age else { return };
        let old = |since: &Instant| now.saturating_duration_since(*since) > age;
        let expired: Vec<bool> = batch.since.iter().map(old).collect();
        let (mut bytes, mut count) = (0, 0);
        for (item, _) in batch.items.iter().zip(&expired).filter(|(_, old)| **old) {
            bytes += shared.cost(item);
            count += 1;
        }
        if count > 0 {
            shared.stats.count_dropped(DropReason::Expired, count);
            shared.stats.queued.subtract(bytes);
            batch.retain(|at| !expired[at]);
            shared.stats.queued_items.subtract(count);
            shared.note_oldest(&shared.state(), batch);
        }
    }

    /// Ends the queue: drops and counts what waits, and the rest of `batch`.
    /// Later pushes are rejected. Returns the number of the dropped items and their bytes.
    pub(super) fn stop(&self, batch: &Batch<T>) -> (usize, usize) {
        let shared = &*self.0;
        let mut state = shared.state();
        state.stopped = true;
        let waiting = take(&mut state.items);
        state.bytes = 0;
        drop(state);
        let items = waiting.iter().map(|entry| &entry.item);
        let left = items.chain(&batch.items);
        let cost = left.clone().map(|item| shared.cost(item)).sum();
        let bytes = left.clone().map(shared.size).sum();
        let count = left.count();
        shared.stats.count_dropped(DropReason::Shutdown, count);
        shared.stats.queued.subtract(cost);
        shared.stats.queued_items.subtract(count);
        shared.stats.note_oldest(None);
        (count, bytes)
    }
}

/// Items taken from a queue. They count as waiting until they are settled.
pub(super) struct Batch<T> {
    items: Vec<T>,
    /// When each item was pushed.
    since: Vec<Instant>,
}

impl<T> Batch<T> {
    pub(super) fn empty() -> Self {
        Batch {
            items: Vec::new(),
            since: Vec::new(),
        }
    }

    pub(super) fn items(&self) -> &[T] {
        &self.items
    }

    fn extend(&mut self, entry: Option<Entry<T>>) {
        if let Some(entry) = entry {
            self.items.push(entry.item);
            self.since.push(entry.since);
        }
    }

    /// Keeps the items at the positions for which `stays` holds.
    fn retain(&mut self, stays: impl Fn(usize) -> bool) {
        let mut at = 0..;
        self.items.retain(|_| at.next().is_some_and(&stays));
        let mut at = 0..;
        self.since.retain(|_| at.next().is_some_and(&stays));
    }
}

struct Shared<T> {
    limits: QueueLimits,
    size: fn(&T) -> usize,
    stats: Arc<SinkStats>,
    state: Mutex<State<T>>,
    /// Notified when items arrive and when the queue closes.
    changed: Notify,
}

struct State<T> {
    /// In the order of their times.
    items: VecDeque<Entry<T>>,
    /// The sizes of the items together.
    bytes: usize,
    /// No handle is left.
    closed: bool,
    /// Batches do not wait to be filled.
    hurried: bool,
    /// The consumer has ended.
    stopped: bool,
}

struct Entry<T> {
    item: T,
    since: Instant,
}

impl<T> Shared<T> {
    /// The bytes by which an item counts towards the limit.
    fn cost(&self, item: &T) -> usize {
        (self.size)(item) + size_of::<Entry<T>>()
    }

    /// Whether a batch can be filled from what waits.
    fn fills_batch(&self, state: &State<T>) -> bool {
        let QueueLimits {
            batch_items,
            batch_bytes,
            ..
        } = self.limits;
        state.items.len() >= batch_items || state.bytes >= batch_bytes
    }

    /// Whether the next batch is to be sent now.
    fn is_due(&self, state: &State<T>, now: Instant) -> bool {
        let waited = |oldest: &Entry<T>| {
            now.saturating_duration_since(oldest.since) >= self.limits.batch_wait
        };
        state.hurried
            || state.closed
            || self.fills_batch(state)
            || state.items.front().is_some_and(waited)
    }

    /// Records since when the oldest item waits: the first of `batch`, if it has any.
    fn note_oldest(&self, state: &State<T>, batch: &Batch<T>) {
        let waiting = state.items.front().map(|entry| entry.since);
        let oldest = batch.since.first().copied().or(waiting);
        self.stats.note_oldest(oldest.map(Instant::into_std));
    }

    /// Reserves room for items. Expired items make room first.
    fn reserve(&self, bytes: usize, now: Instant) -> bool {
        let limit = self.limits.bytes;
        if self.stats.queued.try_add(bytes, limit) {
            return true;
        }
        self.expire(&mut self.state(), now) && self.stats.queued.try_add(bytes, limit)
    }

    /// Drops items past the age limit. Returns whether there were any.
    fn expire(&self, state: &mut State<T>, now: Instant) -> bool {
        let Some(age) = self.limits.age else {
            return false;
        };
        let (mut bytes, mut count) = (0, 0);
        while let Some(entry) = state.items.front()
            && now.saturating_duration_since(entry.since) > age
        {
            bytes += self.cost(&entry.item);
            state.bytes -= (self.size)(&entry.item);
            count += 1;
            state.items.pop_front();
        }
        if count > 0 {
            self.stats.count_dropped(DropReason::Expired, count);
            self.stats.queued.subtract(bytes);
            self.stats.queued_items.subtract(count);
        }
        count > 0
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("limits", &self.limits)
            .field("queued", &self.stats.queued.value())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
