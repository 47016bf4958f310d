//! Renders aggregated families into the output.
//!
//! In the output, an aggregated family is a fragment for each block. Changed blocks are
//! set when a snapshot is taken, and the pages are taken while the registry is still
//! locked, so a snapshot shows the registry at one moment.
//!
//! The output has the only text of a block. If only values changed since it was
//! rendered, the new text is made from it. Nobody else changes it meanwhile, since
//! snapshots that render take turns.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use crate::exposition::NativeHistogram;
use crate::registry::{
    BlockId, ChangedNatives, DirtyBlock, DirtyBlocks, LineValue, Registry, RenderBuffers,
};
use crate::store::aggregated::pending::PendingBlocks;
use crate::store::families::family_name::FamilyName;
use crate::store::families::index::FamilyIndex;
use crate::store::pages::page_list::FragmentHint;
use crate::store::sections::key::{FamilyPart, OutputKey};
use crate::store::sections::table::SectionTable;
use crate::store::snapshot::Snapshot;
use crate::store::store::Store;

/// Maximum number of changed blocks that are set while the registry is locked. If there are more,
/// they are set first, and then blocks that changed meanwhile are looked for. Only snapshots read
/// these parts of the output.
const FEW_BLOCKS: usize = 8;

/// Maximum number of such rounds. After them, all remaining blocks are set under the lock; they
/// changed within the time of one round.
const ROUNDS: usize = 3;

/// Maximum number of blocks that are set under one lock of the sections, so that no writer waits
/// long.
const BLOCKS_AT_ONCE: usize = 16;

/// The state of a rendering that takes several rounds.
#[derive(Debug, Default)]
struct BlockRenderer {
    /// Blocks whose text in the output could not be changed. They are requested again,
    /// whole.
    lost: Vec<BlockId>,
    /// Hints where blocks are in the output, for the registry to keep.
    hints: Vec<(BlockId, u64)>,
    /// Memory that is freed after the lock is released.
    freed: Vec<Bytes>,
    scratch: RenderBuffers,
}

/// Looks up the shared names of families, and remembers the last one.
struct NameCache<'f> {
    families: &'f FamilyIndex,
    /// The last name; blocks of a family follow each other.
    last: Option<(Arc<str>, FamilyName)>,
}

impl Store {
    /// A snapshot after rendering what changed, with the native histograms of the same
    /// moment if `natives`.
    pub(in crate::store) fn rendered_snapshot(&self, natives: bool) -> Snapshot {
        let mut pending = self
            .rendering
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut work = BlockRenderer {
            lost: std::mem::take(&mut pending.taken),
            ..BlockRenderer::default()
        };
        let mut gone = pending.gone.clone();
        let mut round = 0;
        let (mut registry, changed) = loop {
            let mut registry = self.registry();
            let mut changed = work.take_changed(&mut registry, &mut pending);
            if natives {
                changed.natives = registry.take_changed_natives();
                let ids = changed.natives.iter().map(|block| block.id);
                pending.taken.extend(ids);
            }
            gone.append(&mut changed.removed);
            changed.removed = std::mem::take(&mut gone);
            let blocks = changed.blocks.len() + changed.removed.len() + changed.natives.len();
            if blocks <= FEW_BLOCKS || round == ROUNDS {
                break (registry, changed);
            }
            drop(registry);
            self.set_all(changed, &mut work);
            round += 1;
        };
        let is_unchanged = changed.removed.is_empty() && changed.blocks.is_empty();
        let snapshot = if is_unchanged && changed.natives.is_empty() {
            self.pages_of(&self.read(), natives)
        } else {
            let mut sections = self.write();
            work.set_all(&mut sections, &changed);
            while !work.lost.is_empty() {
                let changed = work.take_changed(&mut registry, &mut pending);
                work.set_all(&mut sections, &changed);
            }
            self.pages_of(&sections, natives)
        };
        work.set_hints(&mut registry);
        drop(registry);
        *pending = PendingBlocks::default();
        snapshot
    }

    /// Sets changed blocks, a few under each lock.
    fn set_all(&self, changed: DirtyBlocks, work: &mut BlockRenderer) {
        for gone in changed.removed.chunks(BLOCKS_AT_ONCE) {
            work.remove(&mut self.write(), gone);
            work.freed.clear();
        }
        let mut natives = changed.natives.into_iter();
        loop {
            let some: Vec<_> = natives.by_ref().take(BLOCKS_AT_ONCE).collect();
            if some.is_empty() {
                break;
            }
            let encoded = encode(&some);
            work.set_natives(&mut self.write(), &some, encoded);
            work.freed.clear();
        }
        let mut blocks = changed.blocks.into_iter();
        loop {
            // Copied values are freed as soon as their text is rendered, since there
            // may be very many.
            let some: Vec<_> = blocks.by_ref().take(BLOCKS_AT_ONCE).collect();
            if some.is_empty() {
                return;
            }
            let texts = work.render(&some);
            work.set(&mut self.write(), &some, texts, &changed.lines);
            work.freed.clear();
        }
    }

    fn pages_of(&self, sections: &SectionTable, natives: bool) -> Snapshot {
        let pages = (sections.page_list.to_pages(), sections.page_list.len());
        let snapshot = Snapshot::new(pages.0, pages.1, Arc::clone(&self.page_runs));
        let snapshot = snapshot.mark_merged(sections.is_merged());
        if natives {
            snapshot.with_natives(sections.natives.all())
        } else {
            snapshot
        }
    }
}

impl BlockRenderer {
    /// Takes the blocks that changed since the last call, and the lost ones. They are
    /// noted in `pending`.
    fn take_changed(
        &mut self,
        registry: &mut Registry,
        pending: &mut PendingBlocks,
    ) -> DirtyBlocks {
        self.set_hints(registry);
        for id in self.lost.drain(..) {
            registry.mark_dirty(id);
        }
        let changed = registry.take_dirty();
        let ids = changed.blocks.iter().map(|block| block.id);
        pending.taken.extend(ids);
        pending.gone.extend_from_slice(&changed.removed);
        changed
    }

    fn set_hints(&mut self, registry: &mut Registry) {
        for (id, hint) in self.hints.drain(..) {
            registry.set_hint(id, hint);
        }
    }

    fn set_all(&mut self, sections: &mut SectionTable, changed: &DirtyBlocks) {
        self.remove(sections, &changed.removed);
        self.set_natives(sections, &changed.natives, encode(&changed.natives));
        let texts = self.render(&changed.blocks);
        self.set(sections, &changed.blocks, texts, &changed.lines);
    }

    fn remove(&mut self, sections: &mut SectionTable, gone: &[(Arc<str>, u32)]) {
        let mut names = NameCache::of(&sections.families);
        for (family, number) in gone {
            let key = names.key(family, *number);
            self.freed.push(sections.page_list.remove(&key));
            let natives = &mut sections.natives;
            self.freed
                .extend(natives.set_block(family, *number, Vec::new()));
        }
    }

    /// Sets the native histograms of blocks.
    fn set_natives(
        &mut self,
        sections: &mut SectionTable,
        blocks: &[ChangedNatives],
        encoded: Vec<Vec<NativeHistogram>>,
    ) {
        for (block, encoded) in blocks.iter().zip(encoded) {
            let (_, number) = block.id;
            let natives = &mut sections.natives;
            self.freed
                .extend(natives.set_block(&block.family, number, encoded));
        }
    }

    /// The texts of blocks that were taken whole; `None` for blocks of which only
    /// changed lines were.
    fn render(&mut self, blocks: &[DirtyBlock]) -> Vec<Option<Bytes>> {
        let texts = blocks.iter().map(|block| block.render(&mut self.scratch));
        texts.collect()
    }

    /// Sets the texts of blocks. Blocks without a text are changed in place.
    fn set(
        &mut self,
        sections: &mut SectionTable,
        blocks: &[DirtyBlock],
        texts: Vec<Option<Bytes>>,
        lines: &[LineValue],
    ) {
        let mut names = NameCache::of(&sections.families);
        for (block, text) in blocks.iter().zip(texts) {
            let key = names.key(&block.family, block.number);
            let mut hint = FragmentHint::from(block.hint);
            let freed = match text {
                Some(text) => Some(sections.page_list.set_near(key, text, &mut hint)),
                None => sections.page_list.change_near(&key, &mut hint, |before| {
                    block.patch(lines, before, &mut self.scratch)
                }),
            };
            match freed {
                Some(freed) => self.freed.push(freed),
                None => self.lost.push(block.id),
            }
            if u64::from(hint) != block.hint {
                self.hints.push((block.id, hint.into()));
            }
        }
    }
}

fn encode(blocks: &[ChangedNatives]) -> Vec<Vec<NativeHistogram>> {
    blocks.iter().map(ChangedNatives::encode).collect()
}

impl<'f> NameCache<'f> {
    fn of(families: &'f FamilyIndex) -> Self {
        NameCache {
            families,
            last: None,
        }
    }

    fn key(&mut self, family: &Arc<str>, number: u32) -> OutputKey {
        let same = |(last, _): &&(Arc<str>, FamilyName)| Arc::ptr_eq(last, family);
        let known = self.last.as_ref().filter(same);
        let name = known.map_or_else(|| self.families.name(family), |(_, name)| name.clone());
        if known.is_none() {
            self.last = Some((Arc::clone(family), name.clone()));
        }
        OutputKey::Family(name, FamilyPart::Block(number))
    }
}

#[cfg(test)]
mod tests;
