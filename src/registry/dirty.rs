//! Hands out what has changed, to be rendered elsewhere.

use std::sync::Arc;

use super::render::{ChangedNatives, DirtyBlock, LineValue};
use super::time::NEVER;
use super::{BlockId, Registry};

/// What has changed since the last call of [`Registry::take_dirty`].
#[derive(Debug, Default)]
pub struct DirtyBlocks {
    /// Blocks that were taken before and no longer exist: the names of their
    /// families, and their numbers.
    pub removed: Vec<(Arc<str>, u32)>,
    /// Changed blocks, in the order of their ids.
    pub blocks: Vec<DirtyBlock>,
    /// New values of blocks whose lines stay the same.
    pub lines: Vec<LineValue>,
    /// Blocks whose native histograms have changed since
    /// [`Registry::take_changed_natives`], which are in no text.
    pub natives: Vec<ChangedNatives>,
}

impl Registry {
    /// Upper bound of the series to render for the next [`Registry::take_dirty`]. A block to which
    /// series were added or from which they were removed counts whole.
    pub fn dirty_series(&self) -> usize {
        self.series.min(self.dirty_series)
    }

    /// Number of blocks that have changed.
    pub fn dirty_blocks(&self) -> usize {
        self.dirty.len()
    }

    /// Takes copies of what has changed in all blocks, after moving windows on to the latest time
    /// that the registry was given.
    ///
    /// The caller keeps the text of each block until the next copy, which may
    /// have only new values for it. A caller that loses a text, or a copy, calls
    /// [`Registry::mark_dirty`].
    pub fn take_dirty(&mut self) -> DirtyBlocks {
        self.advance_windows();
        self.dirty_series = 0;
        let mut blocks = Vec::with_capacity(self.dirty.len());
        let mut lines = Vec::new();
        for block_id in std::mem::take(&mut self.dirty) {
            let (id, number) = block_id;
            let Some(family) = self.families[id as usize].as_deref_mut() else {
                continue;
            };
            let name = Arc::clone(&family.name);
            if let Some(block) = family.block_mut(number) {
                blocks.push(DirtyBlock::new(block_id, &name, block, &mut lines));
                block.mark_taken();
            }
        }
        let removed = std::mem::take(&mut self.removed_blocks);
        DirtyBlocks {
            removed: removed.into_iter().collect(),
            blocks,
            lines,
            natives: Vec::new(),
        }
    }

    /// Takes copies of the native histograms of all blocks in which they have
    /// changed. Nothing is copied until this is called, since many readers ask only
    /// for text.
    ///
    /// A caller that loses one calls [`Registry::mark_dirty`].
    pub fn take_changed_natives(&mut self) -> Vec<ChangedNatives> {
        let mut changed = Vec::with_capacity(self.changed_natives.len());
        for block_id in std::mem::take(&mut self.changed_natives) {
            let (id, number) = block_id;
            let Some(family) = self.families[id as usize].as_deref_mut() else {
                continue;
            };
            let name = Arc::clone(&family.name);
            if let Some(block) = family.block_mut(number) {
                changed.push(ChangedNatives::new(block_id, &name, block));
                block.mark_natives_taken();
            }
        }
        changed
    }

    /// Number of blocks whose native histograms have changed.
    pub fn changed_natives(&self) -> usize {
        self.changed_natives.len()
    }

    /// Makes the next [`Registry::take_dirty`] return the whole block, and
    /// [`Registry::take_changed_natives`] its native histograms. Does nothing if the
    /// block no longer exists.
    pub fn mark_dirty(&mut self, id: BlockId) {
        if let Some(block) = self.block_mut(id) {
            block.mark_dirty();
            self.note_change(id, NEVER, NEVER);
        }
    }

    /// Stores a value that helps the caller to find the text of a block in the
    /// output, and that [`DirtyBlock::hint`] returns. It is 0 for a new block. A
    /// new block may take the id, so the caller must not rely on it.
    pub fn set_hint(&mut self, id: BlockId, hint: u64) {
        if let Some(block) = self.block_mut(id) {
            block.hint = hint;
        }
    }

    /// Moves windows on that show another value by now.
    fn advance_windows(&mut self) {
        while let Some((due, id)) = self.window_queue.first().copied() {
            if due > self.now {
                break;
            }
            self.window_queue.remove(&(due, id));
            let now = self.now;
            let Some(block) = self.block_mut(id) else {
                continue;
            };
            block.advance_windows(now);
            let next = block.next_window_step();
            // It is in no queue until `note_change` inserts it again.
            block.window_step = NEVER;
            self.note_change(id, NEVER, next);
            self.note_block(id);
        }
    }

    /// Records that a block has changed: marks it dirty, and queues it to be checked by `expiry`
    /// for expired series, and by `window_step` for windows.
    pub(super) fn note_change(&mut self, block_id: BlockId, expiry: u64, window_step: u64) {
        let (id, number) = block_id;
        let family = self.families[id as usize].as_deref_mut();
        let Some(block) = family.and_then(|family| family.block_mut(number)) else {
            return;
        };
        if !block.natives_changed && block.has_natives() {
            block.natives_changed = true;
            self.changed_natives.insert(block_id);
        }
        let dirty = block.dirty().series();
        if dirty > block.counted_dirty {
            self.dirty_series += usize::from(dirty - block.counted_dirty);
            if block.counted_dirty == 0 {
                self.dirty.insert(block_id);
            }
            block.counted_dirty = dirty;
        }
        let queues = [
            (&mut self.expiry_queue, &mut block.expiry, expiry),
            (&mut self.window_queue, &mut block.window_step, window_step),
        ];
        for (queue, key, due) in queues {
            if due < *key {
                queue.remove(&(*key, block_id));
                queue.insert((due, block_id));
                *key = due;
            }
        }
    }
}
