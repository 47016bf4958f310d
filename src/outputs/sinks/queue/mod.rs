//! The queue in front of a sink, bounded by bytes and by the age of its items.
//!
//! Producers hold a [`QueueHandle`] and never wait: a push is taken whole, or
//! rejected and counted. One consumer, the sink's worker, takes batches. The
//! queue closes when the last handle is dropped, so a worker that drains it at shutdown need
//! not ask again and again whether a producer is left.
//!
//! - [`shared`]: the items, and the operations of both ends on them;
//! - [`consumer`]: the worker's end, and batches;
//! - [`log`], [`records`]: with storage, which items are in which record, and the records.

mod config;
mod consumer;
mod log;
mod records;
mod shared;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use config::QueueConfig;

pub(super) use consumer::{Batch, Queue};
use shared::{Entry, Shared};

use crate::telemetry::{DropReason, SinkStats};

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

/// Why a queue rejects items. They are counted as dropped.
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
    let shared = Arc::new(Shared::new(limits, size, stats));
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
    /// [`PushError::Full`] if they do not fit beside what waits already; [`PushError::Stopped`]
    /// once the sink has stopped.
    pub fn push(&self, items: Vec<T>) -> Result<(), PushError> {
        self.push_at(items, Instant::now())
    }

    fn push_at(&self, items: Vec<T>, now: Instant) -> Result<(), PushError> {
        let shared = &*self.0.0;
        let count = items.len();
        if count == 0 {
            return Ok(());
        }
        let bytes = items.iter().map(|item| shared.cost(item)).sum();
        if !shared.reserve(bytes, now) {
            shared.stats.count_dropped(DropReason::Full, count);
            return Err(PushError::Full);
        }
        self.append(items, bytes, now)
    }

    /// Appends the first items, as many as fit, and returns their number. Never waits.
    ///
    /// # Errors
    ///
    /// Like [`push`](Self::push): none fits, or the sink has stopped.
    pub fn push_fitting(&self, items: Vec<T>) -> Result<usize, PushError> {
        self.push_fitting_at(items, Instant::now())
    }

    fn push_fitting_at(&self, mut items: Vec<T>, now: Instant) -> Result<usize, PushError> {
        let shared = &*self.0.0;
        let all = items.len();
        let mut count = all;
        let bytes = loop {
            if count == 0 {
                shared.stats.count_dropped(DropReason::Full, all);
                return if all == 0 {
                    Ok(0)
                } else {
                    Err(PushError::Full)
                };
            }
            let bytes = items[..count].iter().map(|item| shared.cost(item)).sum();
            if shared.reserve(bytes, now) {
                break bytes;
            }
            // Others may have pushed since, so it can take several rounds.
            count = shared.fitting(&items).min(count - 1);
        };
        items.truncate(count);
        shared.stats.count_dropped(DropReason::Full, all - count);
        self.append(items, bytes, now)?;
        Ok(count)
    }

    /// Appends items that have `bytes` reserved.
    fn append(&self, items: Vec<T>, bytes: usize, now: Instant) -> Result<(), PushError> {
        let shared = &*self.0.0;
        let count = items.len();
        let limits = shared.limits.load();
        let mut state = shared.state();
        if state.stopped || state.closed {
            drop(state);
            shared.stats.queued.subtract(bytes);
            shared.stats.count_dropped(DropReason::Shutdown, count);
            return Err(PushError::Stopped);
        }
        let was_empty = state.items.is_empty();
        let was_full = state.fills_batch(&limits);
        let entries = items.into_iter().map(|item| Entry { item, since: now });
        state.items.extend(entries);
        state.bytes += bytes - count * size_of::<Entry<T>>();
        let is_full = state.fills_batch(&limits);
        shared.stats.queued_items.add(count);
        shared.stats.begin_waiting(now.into_std());
        drop(state);
        // The consumer waits for the first item, or for a full batch.
        if was_empty || (is_full && !was_full) {
            shared.changed.notify_one();
        }
        Ok(())
    }

    /// Changes the bounds. Waiting items stay, even if they exceed the new bounds.
    pub fn set_limits(&self, limits: QueueLimits) {
        self.0.0.set_limits(limits);
    }

    /// Takes no more items, not even from other handles.
    pub fn close(&self) {
        self.0.0.close();
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
        self.0.close();
    }
}

#[cfg(test)]
mod stored_tests;
#[cfg(test)]
mod tests;
