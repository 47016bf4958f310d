//! Queues in storage, so that waiting items survive a restart.
//!
//! Each queue tracks which record has which of its items, and reports changes ([`StoredQueue`]).
//! [`StoredQueues`] is the state of all queues for [storage](crate::storage). It also looks after
//! sinks that are no longer configured: their records stay unchanged for [`KEPT_FOR`], without
//! taking memory.
//!
//! - [`chunk`]: items as records.

mod chunk;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

pub use chunk::{ChunkBuilder, QueueName, StoredChunk};

use crate::clock::Now;
use crate::event::StoredEvent;
use crate::exposition::counted;
use crate::live::Live;
use crate::record::Record;
use crate::storage::{Changes, Layer, Persistent, ReadError, StoredRecords};
use crate::telemetry::UnconfiguredSink;

/// Items of a sink that is not configured are dropped this long after they were queued.
pub const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// The stored form of a sink's items.
pub struct StoredForm<T> {
    /// The bytes of an item.
    pub bytes: fn(&T) -> &[u8],
    /// Restores an item from its bytes.
    pub restore: fn(Bytes) -> T,
}

/// The form of events.
pub const STORED_EVENT: StoredForm<StoredEvent> = StoredForm {
    bytes: |event| event.bytes(),
    restore: StoredEvent::from_bytes,
};

/// The form of items that are bytes.
pub const STORED_BYTES: StoredForm<Bytes> = StoredForm {
    bytes: |item| item,
    restore: |bytes| bytes,
};

impl<T> fmt::Debug for StoredForm<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredForm")
    }
}

/// A queue that is in use.
pub trait StoredQueue: fmt::Debug + Send + Sync {
    /// Takes what changed since the last call.
    fn take_changes(self: Arc<Self>, now: Now) -> Changes;

    /// Includes all items in the next changes.
    fn note_everything(&self);

    /// Its chunks.
    fn summary(&self, now: Now) -> Vec<ChunkSummary>;
}

/// A summary of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSummary {
    number: u64,
    items: usize,
    bytes: usize,
    /// When the last item was queued, in nanoseconds since 1970.
    newest: u64,
}

impl ChunkSummary {
    /// A chunk without items.
    pub fn new(number: u64) -> Self {
        ChunkSummary {
            number,
            items: 0,
            bytes: 0,
            newest: 0,
        }
    }

    /// Adds an item.
    pub fn add(&mut self, at: u64, bytes: usize) {
        self.items += 1;
        self.bytes += bytes;
        self.newest = self.newest.max(at);
    }

    fn of(chunk: &StoredChunk) -> Self {
        let mut summary = ChunkSummary::new(chunk.number);
        for (at, item) in &chunk.items {
            summary.add(*at, item.len());
        }
        summary
    }
}

/// The queues of all sinks, and the stored items of sinks that are not configured.
#[derive(Debug, Default)]
pub struct StoredQueues {
    state: Mutex<State>,
    /// Shows the stored items of sinks that are not configured.
    shown: Live<Vec<UnconfiguredSink>>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether there is storage.
    is_on: bool,
    /// The sinks that will take their stored items.
    expected: BTreeSet<QueueName>,
    /// The stored items of the expected sinks.
    restored: BTreeMap<QueueName, Vec<StoredChunk>>,
    /// Queues in use.
    open: BTreeMap<QueueName, Arc<dyn StoredQueue>>,
    /// Stored items of sinks that are not configured.
    unconfigured: BTreeMap<QueueName, Vec<ChunkSummary>>,
    /// Keys of records to remove.
    void: Vec<Vec<u8>>,
}

impl StoredQueues {
    /// The queues of these sinks, before anything is restored. `shown` gets the stored items of
    /// other sinks.
    pub fn new(
        expected: impl IntoIterator<Item = QueueName>,
        shown: Live<Vec<UnconfiguredSink>>,
    ) -> Self {
        let state = State {
            expected: expected.into_iter().collect(),
            ..State::default()
        };
        StoredQueues {
            state: Mutex::new(state),
            shown,
        }
    }

    /// Whether there is storage.
    pub fn is_on(&self) -> bool {
        self.state().is_on
    }

    /// Takes the restored items of a queue.
    pub fn take_restored(&self, name: &QueueName) -> Vec<StoredChunk> {
        self.state().restored.remove(name).unwrap_or_default()
    }

    /// Whether there are records of a sink that is not configured.
    pub fn has_unconfigured(&self, name: &QueueName) -> bool {
        self.state().unconfigured.contains_key(name)
    }

    /// Tracks the changes of a queue from now on. It has taken its stored items.
    pub fn open(&self, name: QueueName, queue: Arc<dyn StoredQueue>) {
        let mut state = self.state();
        if state.unconfigured.remove(&name).is_some() {
            self.show(&state);
        }
        state.open.insert(name, queue);
    }

    /// Forgets a queue whose sink was removed from the settings. Its changes have been stored.
    pub fn release(&self, name: &QueueName, now: Now) {
        let mut state = self.state();
        let Some(queue) = state.open.remove(name) else {
            return;
        };
        let chunks = queue.summary(now);
        if !chunks.is_empty() {
            state.report(name, &chunks);
            state.unconfigured.insert(name.clone(), chunks);
            self.show(&state);
        }
    }

    /// Shows the stored items of sinks that are not configured.
    fn show(&self, state: &State) {
        let all = state.unconfigured.iter();
        let all = all.map(|(queue, chunks)| UnconfiguredSink {
            name: queue.name.clone(),
            kind: queue.kind.clone(),
            items: chunks.iter().map(|it| it.items).sum(),
            bytes: chunks.iter().map(|it| it.bytes).sum(),
        });
        self.shown.set(all.collect());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Logs the stored items of a sink that is not configured.
    fn report(&self, name: &QueueName, chunks: &[ChunkSummary]) {
        let items = chunks.iter().map(|it| it.items).sum();
        log::warn!(
            "storage has {} of the sink {name}, which is not configured. They are sent once it \
             is, and dropped {} days after they came",
            counted(items, "item", "items"),
            KEPT_FOR.as_secs() / (24 * 3600)
        );
    }

    /// Drops items of sinks that are not configured, if they are too old. Returns whether it did.
    fn expire(&mut self, now: Now) -> bool {
        let kept = u64::try_from(KEPT_FOR.as_nanos()).unwrap_or(u64::MAX);
        let oldest = now.unix_nanos().saturating_sub(kept);
        let before = self.void.len();
        for (name, chunks) in &mut self.unconfigured {
            let mut dropped = 0;
            for chunk in chunks.extract_if(.., |chunk| chunk.newest < oldest) {
                dropped += chunk.items;
                self.void.push(name.key(chunk.number));
            }
            if dropped > 0 {
                log::warn!(
                    "{} of the sink {name}, which is not configured, dropped: they are too old",
                    counted(dropped, "stored item", "stored items")
                );
            }
        }
        self.unconfigured.retain(|_, chunks| !chunks.is_empty());
        self.void.len() > before
    }
}

impl Persistent for StoredQueues {
    fn prefixes(&self) -> &'static [&'static str] {
        &[chunk::PREFIX]
    }

    fn layer(&self) -> Layer {
        Layer::Other
    }

    fn restore(&self, stored: &StoredRecords<'_>, now: Now) -> Result<usize, ReadError> {
        let state = &mut *self.state();
        state.is_on = true;
        let mut count = 0;
        stored.each(&mut |key, value| {
            let (name, chunk) = decode(&key, value)?;
            count += 1;
            if state.expected.contains(&name) {
                state.restored.entry(name).or_default().push(chunk);
            } else {
                let chunks = state.unconfigured.entry(name).or_default();
                chunks.push(ChunkSummary::of(&chunk));
            }
            Ok(())
        })?;
        state.expire(now);
        for (name, chunks) in &state.unconfigured {
            state.report(name, chunks);
        }
        self.show(state);
        Ok(count)
    }

    fn take_changes(&self, now: Now, beneath: &mut dyn FnMut()) -> Changes {
        let mut state = self.state();
        if state.expire(now) {
            self.show(&state);
        }
        let void = take(&mut state.void);
        let queues: Vec<Arc<dyn StoredQueue>> = state.open.values().cloned().collect();
        drop(state);
        let changes = queues.into_iter().map(|queue| queue.take_changes(now));
        let changes: Vec<Changes> = changes.collect();
        beneath();
        let mut full = Vec::new();
        let mut all = Vec::new();
        for changes in changes {
            full.extend(changes.full);
            all.push(changes.records);
        }
        let void = void.into_iter().map(Record::removed);
        Changes {
            full,
            records: Box::new(void.chain(all.into_iter().flatten())),
        }
    }

    fn note_everything(&self) {
        let queues: Vec<Arc<dyn StoredQueue>> = self.state().open.values().cloned().collect();
        for queue in queues {
            queue.note_everything();
        }
    }
}

/// Reads a record.
///
/// # Errors
///
/// It is not a chunk of a queue.
pub fn decode(key: &[u8], value: Vec<u8>) -> Result<(QueueName, StoredChunk), ReadError> {
    let decoded = QueueName::of_key(key).and_then(|(name, number)| {
        let chunk = StoredChunk::decode(number, value)?;
        Some((name, chunk))
    });
    decoded.ok_or_else(|| ReadError::of_key(key))
}
