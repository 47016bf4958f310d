//! Which stored chunk has which items of a queue.

use std::collections::VecDeque;
use std::mem::take;
use std::ops::Range;

use super::super::stored::QueueName;

/// The chunks of one queue. Items are numbered in their order.
#[derive(Debug)]
pub(super) struct ChunkLog {
    pub(super) name: QueueName,
    /// The chunks, in the order of their numbers, which is that of their items.
    chunks: VecDeque<Chunk>,
    /// Items from this number on are in no chunk yet.
    next_item: u64,
    /// The number of the next chunk.
    next_chunk: u64,
    /// Chunks without items left, which are to be removed.
    void: Vec<u64>,
    /// Whether everything has to be written again.
    everything: bool,
}

/// A chunk that is stored or being written.
#[derive(Debug)]
struct Chunk {
    number: u64,
    /// The items that it was made of.
    items: Range<u64>,
    /// How many of them are left.
    left: u64,
    /// Whether the stored chunk has more items than are left.
    is_outdated: bool,
}

/// Changes to be written.
#[derive(Debug, Default)]
pub(super) struct LogChanges {
    /// Chunks to remove.
    pub(super) void: Vec<u64>,
    /// Chunks to write again.
    pub(super) outdated: Vec<u64>,
    /// Whether all other stored chunks are void.
    pub(super) is_full: bool,
}

impl ChunkLog {
    /// A queue whose first items are in stored chunks, given by number and length.
    pub(super) fn new(name: QueueName, stored: impl Iterator<Item = (u64, usize)>) -> Self {
        let mut log = ChunkLog {
            name,
            chunks: VecDeque::new(),
            next_item: 0,
            next_chunk: 0,
            void: Vec::new(),
            everything: false,
        };
        for (number, items) in stored {
            log.next_chunk = number;
            let end = log.next_item + items as u64;
            if log.add(end, items as u64).is_none() {
                log.void.push(number);
                log.next_chunk = number + 1;
            }
        }
        log
    }

    /// Items from this number on are in no chunk yet.
    pub(super) fn next_item(&self) -> u64 {
        self.next_item
    }

    /// Adds a chunk of the items up to `end`, of which `left` are left, and returns its number.
    /// If none are left, there is no chunk.
    pub(super) fn add(&mut self, end: u64, left: u64) -> Option<u64> {
        let items = self.next_item..end;
        self.next_item = end;
        if left == 0 {
            return None;
        }
        let number = self.next_chunk;
        self.next_chunk += 1;
        self.chunks.push_back(Chunk {
            number,
            items,
            left,
            is_outdated: false,
        });
        Some(number)
    }

    /// Records that an item is done with.
    pub(super) fn settle(&mut self, item: u64) {
        let at = self.chunks.partition_point(|it| it.items.end <= item);
        let Some(chunk) = self.chunks.get_mut(at) else {
            return;
        };
        if !chunk.items.contains(&item) {
            return;
        }
        chunk.left -= 1;
        chunk.is_outdated = true;
        if chunk.left == 0 {
            self.void.push(chunk.number);
            self.chunks.remove(at);
        }
    }

    /// The items that a chunk was made of; `None` if it is done with.
    pub(super) fn items(&self, number: u64) -> Option<Range<u64>> {
        let at = self.chunks.binary_search_by_key(&number, |it| it.number);
        Some(self.chunks[at.ok()?].items.clone())
    }

    /// The chunks by number, each with its items.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (u64, Range<u64>)> {
        let chunks = self.chunks.iter();
        chunks.map(|it| (it.number, it.items.clone()))
    }

    /// Takes what changed since the last call.
    pub(super) fn take_changes(&mut self) -> LogChanges {
        let is_full = take(&mut self.everything);
        let outdated = self.chunks.iter_mut().filter_map(|chunk| {
            let is_outdated = take(&mut chunk.is_outdated);
            (is_outdated || is_full).then_some(chunk.number)
        });
        LogChanges {
            outdated: outdated.collect(),
            void: take(&mut self.void),
            is_full,
        }
    }

    /// Includes all chunks in the next changes.
    pub(super) fn note_everything(&mut self) {
        self.everything = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(stored: &[(u64, usize)]) -> ChunkLog {
        ChunkLog::new(QueueName::new("loki", "a"), stored.iter().copied())
    }

    fn changes(log: &mut ChunkLog) -> (Vec<u64>, Vec<u64>, bool) {
        let changes = log.take_changes();
        (changes.void, changes.outdated, changes.is_full)
    }

    #[test]
    fn a_chunk_is_written_again_while_it_has_items_and_removed_after_its_last() {
        let mut log = log(&[(4, 2), (9, 3), (12, 0)]);
        assert_eq!(log.next_item(), 5);
        assert_eq!(changes(&mut log), (vec![12], vec![], false));
        log.settle(0);
        log.settle(3);
        assert_eq!(changes(&mut log), (vec![], vec![4, 9], false));
        log.settle(1);
        log.settle(7);
        assert_eq!(changes(&mut log), (vec![4], vec![], false));
        assert_eq!((log.items(4), log.items(9)), (None, Some(2..5)));
        // Some of the next items are done with before they are stored.
        assert_eq!(log.add(8, 2), Some(13));
        assert_eq!(log.add(9, 0), None);
        assert_eq!(log.add(12, 3), Some(14));
        log.note_everything();
        assert_eq!(changes(&mut log), (vec![], vec![9, 13, 14], true));
        assert_eq!(changes(&mut log), (vec![], vec![], false));
        assert_eq!(log.chunks().map(|(_, items)| items.end).max(), Some(12));
    }
}
