//! The worker's end of a queue.

use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::shared::{Entry, Hand, Shared, State};
use crate::outputs::sinks::Verdict;
use crate::telemetry::DropReason;

/// The capacity that an empty queue keeps, in items.
const KEPT_CAPACITY: usize = 1024;

/// The consumer's end of a queue.
pub(in super::super) struct Queue<T>(pub(super) Arc<Shared<T>>);

/// The items left when a queue ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Left {
    pub(in super::super) items: usize,
    pub(in super::super) bytes: usize,
    /// Whether they are in storage. Otherwise they were dropped.
    pub(in super::super) is_stored: bool,
}

impl<T> Queue<T> {
    /// Waits for a batch and takes the oldest items. `None` once the queue is empty
    /// and closed. Cancel-safe.
    pub(in super::super) async fn next_batch(&self) -> Option<Batch<T>> {
        loop {
            // A push between this check and the wait leaves a permit behind.
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

    /// Stops batches from waiting to be filled, since the program stops.
    pub(in super::super) fn hurry(&self) {
        self.0.state().hurried = true;
        self.0.changed.notify_one();
    }

    /// Limit on the time that an item waits; zero for none.
    pub(in super::super) fn max_age(&self) -> Duration {
        self.0.limits.load().age.unwrap_or_default()
    }

    /// When the oldest item will have waited long enough for its batch; `None` if the queue is
    /// empty.
    fn due(&self) -> Option<Instant> {
        let wait = self.0.limits.load().batch_wait;
        let state = self.0.state();
        let oldest = state.items.front()?.since;
        Some(oldest + wait)
    }

    /// The next batch; `Some(None)` at the end, `None` if nothing is due yet.
    pub(super) fn try_next_batch(&self, now: Instant) -> Option<Option<Batch<T>>> {
        let shared = &*self.0;
        let limits = shared.limits.load();
        let mut state = shared.state();
        shared.expire(&mut state, now);
        if state.items.is_empty() {
            return state.closed.then_some(None);
        }
        if !state.is_due(&limits, now) {
            return None;
        }
        let mut hand = Hand::empty();
        let mut bytes = 0;
        while let Some(entry) = state.items.front()
            && hand.items.len() < limits.batch_items
        {
            bytes += (shared.size)(&entry.item);
            if bytes > limits.batch_bytes && !hand.items.is_empty() {
                break;
            }
            if let Some(Entry { item, since }) = state.items.pop_front() {
                hand.items.push(item);
                hand.since.push(since);
                hand.numbers.push(state.first);
                state.first += 1;
            }
        }
        let taken: usize = hand.items.iter().map(shared.size).sum();
        state.bytes -= taken;
        if state.items.is_empty() {
            // Release the memory that a burst took.
            state.items.shrink_to(KEPT_CAPACITY);
        }
        let hand = Arc::new(hand);
        state.hands.push(Arc::clone(&hand));
        Some(Some(Batch(hand)))
    }

    /// Removes the items that are done with, as the verdicts say, and counts them. Items without
    /// a verdict stay, in their order.
    pub(in super::super) fn settle(&self, batch: &mut Batch<T>, verdicts: &[Verdict]) {
        let shared = &*self.0;
        let (mut bytes, mut sent, mut done) = (0, 0, Vec::new());
        let numbers = batch.0.numbers.iter();
        for ((item, number), verdict) in batch.0.items.iter().zip(numbers).zip(verdicts) {
            match verdict {
                Verdict::Again => continue,
                Verdict::Taken => sent += 1,
                Verdict::Refused(reason) => {
                    shared.stats.count_dropped(DropReason::Refused(*reason), 1);
                }
            }
            bytes += shared.cost(item);
            done.push(*number);
        }
        shared.stats.count_sent(sent);
        shared.stats.queued.subtract(bytes);
        shared.stats.queued_items.subtract(done.len());
        let judged = verdicts.len().min(batch.items().len());
        self.remove(batch, done, |at| {
            at >= judged || verdicts[at] == Verdict::Again
        });
    }

    /// Drops the items of a batch that are older than the queue permits.
    pub(in super::super) fn expire_batch(&self, batch: &mut Batch<T>, now: Instant) {
        let shared = &*self.0;
        let Some(age) = shared.limits.load().age else {
            return;
        };
        let old = |since: &Instant| now.saturating_duration_since(*since) > age;
        let expired: Vec<bool> = batch.0.since.iter().map(old).collect();
        let (mut bytes, mut done) = (0, Vec::new());
        let all = batch.0.items.iter().zip(&batch.0.numbers).zip(&expired);
        for ((item, number), _) in all.filter(|(_, is_old)| **is_old) {
            bytes += shared.cost(item);
            done.push(*number);
        }
        if !done.is_empty() {
            shared.stats.count_dropped(DropReason::Expired, done.len());
            shared.stats.queued.subtract(bytes);
            shared.stats.queued_items.subtract(done.len());
            self.remove(batch, done, |at| !expired[at]);
        }
    }

    /// Removes the items, numbered `done`, at the positions where `stays` is false.
    fn remove(&self, batch: &mut Batch<T>, done: Vec<u64>, stays: impl Fn(usize) -> bool) {
        let mut state = self.0.state();
        let place = state.hands.iter().position(|it| Arc::ptr_eq(it, &batch.0));
        if let Some(place) = place
            && !done.is_empty()
        {
            // State and batch share the hand; nobody else keeps it beyond the lock.
            state.hands.remove(place);
            if let Some(hand) = Arc::get_mut(&mut batch.0) {
                hand.retain(stays);
            }
            if !batch.items().is_empty() {
                state.hands.insert(place, Arc::clone(&batch.0));
            }
        }
        state.settle(done);
        self.0.note_oldest(&state);
    }

    /// Ends the queue. Later pushes are rejected. Waiting items and unsettled batches are dropped
    /// and counted, unless they are in storage.
    pub(in super::super) fn stop(&self) -> Left {
        let shared = &*self.0;
        let mut state = shared.state();
        state.stopped = true;
        let is_stored = state.log.is_some();
        let mut left = Left {
            items: 0,
            bytes: 0,
            is_stored,
        };
        let mut cost = 0;
        for item in items(&state) {
            left.items += 1;
            left.bytes += (shared.size)(item);
            cost += shared.cost(item);
        }
        if !is_stored {
            let waiting = take(&mut state.items);
            let hands = take(&mut state.hands);
            state.bytes = 0;
            drop(state);
            drop((waiting, hands));
            shared.stats.count_dropped(DropReason::Shutdown, left.items);
            shared.stats.queued.subtract(cost);
            shared.stats.queued_items.subtract(left.items);
            shared.stats.note_oldest(None);
        }
        left
    }
}

/// All items of a queue, the oldest first.
fn items<T>(state: &State<T>) -> impl Iterator<Item = &T> {
    let waiting = state.items.iter().map(|entry| &entry.item);
    let in_hand = state.hands.iter().flat_map(|hand| &hand.items);
    in_hand.chain(waiting)
}

/// Items taken from a queue. They count as waiting until they are settled.
pub(in super::super) struct Batch<T>(pub(super) Arc<Hand<T>>);

impl<T> Batch<T> {
    #[cfg(test)]
    pub(super) fn empty() -> Self {
        Batch(Arc::new(Hand::empty()))
    }

    pub(in super::super) fn items(&self) -> &[T] {
        &self.0.items
    }

    /// The number of its oldest item, by which batches are ordered.
    pub(in super::super) fn first(&self) -> Option<u64> {
        self.0.numbers.first().copied()
    }
}
