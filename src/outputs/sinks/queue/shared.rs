//! The items of a queue, and the operations of both ends on them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::QueueLimits;
use super::log::ChunkLog;
use crate::live::Live;
use crate::telemetry::{DropReason, SinkStats};

/// A queue.
pub(in super::super) struct Shared<T> {
    pub(super) limits: Live<QueueLimits>,
    pub(super) size: fn(&T) -> usize,
    pub(super) stats: Arc<SinkStats>,
    state: Mutex<State<T>>,
    /// Notified when items arrive and when the queue closes.
    pub(super) changed: Notify,
}

pub(super) struct State<T> {
    /// Items that wait, in the order of their times.
    pub(super) items: VecDeque<Entry<T>>,
    /// The number of the first of `items`; the numbers of the others follow.
    pub(super) first: u64,
    /// The total size of `items`.
    pub(super) bytes: usize,
    /// The consumer's batches that still have items, the oldest first.
    pub(super) hands: Vec<Arc<Hand<T>>>,
    /// Which stored chunk has which items, if there is storage.
    pub(super) log: Option<ChunkLog>,
    /// Whether no handle is left.
    pub(super) closed: bool,
    /// Whether batches no longer wait to be filled.
    pub(super) hurried: bool,
    /// Whether the consumer has ended.
    pub(super) stopped: bool,
}

pub(super) struct Entry<T> {
    pub(super) item: T,
    pub(super) since: Instant,
}

/// Items that the consumer has taken and not yet settled.
pub(super) struct Hand<T> {
    pub(super) items: Vec<T>,
    /// When each item was pushed.
    pub(super) since: Vec<Instant>,
    /// The number of each item.
    pub(super) numbers: Vec<u64>,
}

impl<T> Hand<T> {
    pub(super) fn empty() -> Self {
        Hand {
            items: Vec::new(),
            since: Vec::new(),
            numbers: Vec::new(),
        }
    }

    /// The items from a number on, with their numbers and the times of their pushes.
    pub(super) fn since(&self, from: u64) -> impl Iterator<Item = (u64, Instant, &T)> {
        let start = self.numbers.partition_point(|number| *number < from);
        (start..self.items.len()).map(|at| (self.numbers[at], self.since[at], &self.items[at]))
    }

    /// Keeps the items at the positions where `stays` is true.
    pub(super) fn retain(&mut self, stays: impl Fn(usize) -> bool) {
        let mut at = 0..;
        self.items.retain(|_| at.next().is_some_and(&stays));
        let mut at = 0..;
        self.since.retain(|_| at.next().is_some_and(&stays));
        let mut at = 0..;
        self.numbers.retain(|_| at.next().is_some_and(&stays));
    }
}

impl<T> State<T> {
    /// Whether the waiting items fill a batch.
    pub(super) fn fills_batch(&self, limits: &QueueLimits) -> bool {
        self.items.len() >= limits.batch_items || self.bytes >= limits.batch_bytes
    }

    /// Whether the next batch is to be sent now.
    pub(super) fn is_due(&self, limits: &QueueLimits, now: Instant) -> bool {
        let waited =
            |oldest: &Entry<T>| now.saturating_duration_since(oldest.since) >= limits.batch_wait;
        self.hurried
            || self.closed
            || self.fills_batch(limits)
            || self.items.front().is_some_and(waited)
    }

    /// The number that the next pushed item gets.
    pub(super) fn next(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    /// Records that items are done with.
    pub(super) fn settle(&mut self, numbers: impl IntoIterator<Item = u64>) {
        if let Some(log) = &mut self.log {
            numbers.into_iter().for_each(|number| log.settle(number));
        }
    }
}

impl<T> Shared<T> {
    pub(super) fn new(limits: QueueLimits, size: fn(&T) -> usize, stats: Arc<SinkStats>) -> Self {
        Shared {
            limits: Live::new(limits),
            size,
            stats,
            state: Mutex::new(State {
                items: VecDeque::new(),
                first: 0,
                bytes: 0,
                hands: Vec::new(),
                log: None,
                closed: false,
                hurried: false,
                stopped: false,
            }),
            changed: Notify::new(),
        }
    }

    pub(super) fn set_limits(&self, limits: QueueLimits) {
        self.limits.set(limits);
        self.stats.max_queued.set(limits.bytes);
        self.changed.notify_one();
    }

    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }

    /// The bytes that an item counts towards the limit.
    pub(super) fn cost(&self, item: &T) -> usize {
        (self.size)(item) + size_of::<Entry<T>>()
    }

    /// Records when the oldest item was pushed: the first of the batches, if there are any.
    pub(super) fn note_oldest(&self, state: &State<T>) {
        let waiting = state.items.front().map(|entry| entry.since);
        let in_hand = state.hands.first().and_then(|hand| hand.since.first());
        let oldest = in_hand.copied().or(waiting);
        self.stats.note_oldest(oldest.map(Instant::into_std));
    }

    /// Reserves room for items. Expired items make room first.
    pub(super) fn reserve(&self, bytes: usize, now: Instant) -> bool {
        let limit = self.limits.load().bytes;
        if self.stats.queued.try_add(bytes, limit) {
            return true;
        }
        self.expire(&mut self.state(), now) && self.stats.queued.try_add(bytes, limit)
    }

    /// How many of the first items fit beside what waits.
    pub(super) fn fitting(&self, items: &[T]) -> usize {
        let mut room = self
            .limits
            .load()
            .bytes
            .saturating_sub(self.stats.queued.value());
        let fits = items.iter().take_while(|item| {
            let left = room.checked_sub(self.cost(item));
            room = left.unwrap_or_default();
            left.is_some()
        });
        fits.count()
    }

    /// Drops items past the age limit. Returns whether there were any.
    pub(super) fn expire(&self, state: &mut State<T>, now: Instant) -> bool {
        let Some(age) = self.limits.load().age else {
            return false;
        };
        let (mut bytes, mut count) = (0, 0);
        while let Some(entry) = state.items.front()
            && now.saturating_duration_since(entry.since) > age
        {
            bytes += self.cost(&entry.item);
            state.bytes -= (self.size)(&entry.item);
            count += 1;
            let number = state.first;
            state.first += 1;
            state.items.pop_front();
            state.settle([number]);
        }
        if count > 0 {
            self.stats.count_dropped(DropReason::Expired, count);
            self.stats.queued.subtract(bytes);
            self.stats.queued_items.subtract(count);
        }
        count > 0
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("limits", &self.limits.load())
            .field("queued", &self.stats.queued.value())
            .finish_non_exhaustive()
    }
}
