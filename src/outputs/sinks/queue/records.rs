//! The items of a queue as records.

use std::fmt;
use std::sync::Arc;
use std::vec;

use tokio::time::Instant;

use super::consumer::Queue;
use super::log::ChunkLog;
use super::shared::{Entry, Shared, State};
use crate::clock::Now;
use crate::outputs::sinks::stored::{
    ChunkBuilder, ChunkSummary, QueueName, StoredChunk, StoredForm, StoredQueue,
};
use crate::record::Record;
use crate::storage::Changes;

/// Items up to about this many bytes form one record. When some of its items are sent, a record
/// is written again without them: larger records cost more writes, smaller ones more records.
const CHUNK: usize = 64 << 10;

/// A queue with the form of its items.
struct Stored<T> {
    queue: Arc<Shared<T>>,
    form: StoredForm<T>,
}

impl<T> fmt::Debug for Stored<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.queue.fmt(f)
    }
}

impl<T: Send + Sync + 'static> Queue<T> {
    /// Restores the stored items into the queue, which is empty, and tracks changes from now on.
    pub(in super::super) fn store(
        &self,
        name: QueueName,
        form: StoredForm<T>,
        chunks: Vec<StoredChunk>,
        now: Now,
    ) -> Arc<dyn StoredQueue> {
        let shared = &self.0;
        let mut state = shared.state();
        let lengths = chunks.iter().map(|it| (it.number, it.items.len()));
        state.log = Some(ChunkLog::new(name, lengths));
        let mut last = None;
        for (at, bytes) in chunks.into_iter().flat_map(|chunk| chunk.items) {
            // Ascending times, even if the wall clock was set back.
            let since = Instant::from_std(now.at_unix_nanos(at).tick);
            let since = last.map_or(since, |last| since.max(last));
            last = Some(since);
            let item = (form.restore)(bytes);
            state.bytes += (shared.size)(&item);
            shared.stats.queued.add(shared.cost(&item));
            shared.stats.queued_items.add(1);
            state.items.push_back(Entry { item, since });
        }
        shared.note_oldest(&state);
        drop(state);
        shared.changed.notify_one();
        Arc::new(Stored {
            queue: Arc::clone(shared),
            form,
        })
    }
}

impl<T: Send + Sync + 'static> StoredQueue for Stored<T> {
    fn take_changes(self: Arc<Self>, now: Now) -> Changes {
        let mut state = self.queue.state();
        let end = state.next();
        let Some(log) = &mut state.log else {
            return Changes::some([].into_iter());
        };
        let changes = log.take_changes();
        let full = changes.is_full.then(|| log.name.prefix());
        let name = log.name.clone();
        drop(state);
        let records = QueueRecords {
            stored: self,
            name,
            now,
            void: changes.void.into_iter(),
            outdated: changes.outdated.into_iter(),
            end,
        };
        Changes {
            full: full.into_iter().collect(),
            records: Box::new(records),
        }
    }

    fn note_everything(&self) {
        if let Some(log) = &mut self.queue.state().log {
            log.note_everything();
        }
    }

    fn summary(&self, now: Now) -> Vec<ChunkSummary> {
        let state = self.queue.state();
        let chunks = state.log.iter().flat_map(ChunkLog::chunks);
        let summaries = chunks.map(|(number, items)| {
            let mut summary = ChunkSummary::new(number);
            for (_, since, item) in live(&state, items.start).take_while(|it| it.0 < items.end) {
                summary.add(wall_nanos(since, now), (self.form.bytes)(item).len());
            }
            summary
        });
        summaries.collect()
    }
}

/// Encodes each record when it is read, under a short lock. Items that are done with by then are
/// left out.
struct QueueRecords<T> {
    stored: Arc<Stored<T>>,
    name: QueueName,
    now: Now,
    void: vec::IntoIter<u64>,
    outdated: vec::IntoIter<u64>,
    /// Items from this number on came later.
    end: u64,
}

impl<T> Iterator for QueueRecords<T> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        if let Some(number) = self.void.next() {
            return Some(Record::removed(self.name.key(number)));
        }
        let form = &self.stored.form;
        for number in self.outdated.by_ref() {
            let state = self.stored.queue.state();
            let Some(items) = state.log.as_ref().and_then(|log| log.items(number)) else {
                continue;
            };
            let mut chunk = ChunkBuilder::default();
            for (_, since, item) in live(&state, items.start).take_while(|it| it.0 < items.end) {
                chunk.add(wall_nanos(since, self.now), (form.bytes)(item));
            }
            return Some(Record::set(self.name.key(number), chunk.finish()));
        }
        let mut state = self.stored.queue.state();
        let begin = state.log.as_ref()?.next_item();
        if begin >= self.end {
            return None;
        }
        let (mut chunk, mut count, mut end) = (ChunkBuilder::default(), 0, self.end);
        for (number, since, item) in live(&state, begin).take_while(|it| it.0 < self.end) {
            let bytes = (form.bytes)(item);
            if count > 0 && chunk.len() + bytes.len() > CHUNK {
                end = number;
                break;
            }
            chunk.add(wall_nanos(since, self.now), bytes);
            count += 1;
        }
        let number = state.log.as_mut()?.add(end, count)?;
        Some(Record::set(self.name.key(number), chunk.finish()))
    }
}

/// The items from a number on, with their numbers and the times of their pushes.
fn live<T>(state: &State<T>, from: u64) -> impl Iterator<Item = (u64, Instant, &T)> {
    let in_hand = state.hands.iter().flat_map(move |hand| hand.since(from));
    let skipped = usize::try_from(from.saturating_sub(state.first)).unwrap_or(usize::MAX);
    let skipped = skipped.min(state.items.len());
    let waiting = (state.first + skipped as u64..)
        .zip(state.items.range(skipped..))
        .map(|(number, Entry { item, since })| (number, *since, item));
    in_hand.chain(waiting)
}

/// A time of the monotonic clock in nanoseconds since 1970.
fn wall_nanos(at: Instant, now: Now) -> u64 {
    let passed = now.tick.saturating_duration_since(at.into_std());
    let passed = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
    now.unix_nanos().saturating_sub(passed)
}
