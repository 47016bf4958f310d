//! How living families come into the output.
//!
//! There, a living family is fragments of blocks. They are set when a snapshot
//! is taken, and the pages are taken while the registry is still locked: so a
//! snapshot shows the registry as it was at one moment.
//!
//! The output holds the one text of a block. Where only values have changed
//! since it was rendered, the next is made from it, and nobody else changes it
//! meanwhile: snapshots that render take turns.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use crate::registry::{BlockId, DirtyBlock, DirtyBlocks, LineValue, Registry, RenderBuffers};
use crate::store::aggregated::pending::PendingBlocks;
use crate::store::families::family_name::FamilyName;
use crate::store::families::index::FamilyIndex;
use crate::store::locks::Store;
use crate::store::pages::page_list::FragmentHint;
use crate::store::sections::key::{FamilyPart, OutputKey};
use crate::store::sections::table::SectionTable;
use crate::store::snapshot::Snapshot;

/// DirtyBlocks blocks that come into the output while the registry is locked. More
/// of them come before, and what has changed meanwhile is looked at again: only
/// whoever takes a snapshot reads that part of the output.
const FEW_BLOCKS: usize = 8;

/// How often that is done. Whatever is left then comes under the lock: it has
/// changed within the time that the round before took.
const ROUNDS: usize = 3;

/// Blocks that come into the output under one lock, so that no writer waits
/// long.
const BLOCKS_AT_ONCE: usize = 16;

/// What goes on from one look at the registry to the next.
#[derive(Debug, Default)]
struct BlockRenderer {
    /// Blocks whose texts are lost. They are asked for again.
    lost: Vec<BlockId>,
    /// Where texts of blocks are now, which the registry is to keep.
    marks: Vec<(BlockId, u64)>,
    /// Freed without a lock.
    freed: Vec<Bytes>,
    scratch: RenderBuffers,
}

/// The names that families have in the output, for as long as it is locked.
struct NameCache<'f> {
    families: &'f FamilyIndex,
    /// That of the family before: blocks of a family come together.
    last: Option<(Arc<str>, FamilyName)>,
}

impl Store {
    /// With `natives`, the native histograms of that moment are in it.
    pub(in crate::store) fn rendered_snapshot(&self, natives: bool) -> Snapshot {
        let mut flush = self
            .rendering
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut work = BlockRenderer {
            lost: std::mem::take(&mut flush.taken),
            ..BlockRenderer::default()
        };
        let mut gone = flush.gone.clone();
        let mut round = 0;
        let (mut registry, changed) = loop {
            let mut registry = self.registry();
            let mut changed = work.take_changed(&mut registry, &mut flush);
            gone.append(&mut changed.removed);
            changed.removed = std::mem::take(&mut gone);
            if changed.blocks.len() + changed.removed.len() <= FEW_BLOCKS || round == ROUNDS {
                break (registry, changed);
            }
            drop(registry);
            self.bring(changed, &mut work);
            round += 1;
        };
        let snapshot = if changed.removed.is_empty() && changed.blocks.is_empty() {
            self.pages_of(&self.read(), natives)
        } else {
            let mut sections = self.write();
            work.bring(&mut sections, &changed);
            while !work.lost.is_empty() {
                let changed = work.take_changed(&mut registry, &mut flush);
                work.bring(&mut sections, &changed);
            }
            self.pages_of(&sections, natives)
        };
        work.set_marks(&mut registry);
        drop(registry);
        *flush = PendingBlocks::default();
        snapshot
    }

    /// Brings what has changed into the output, some of it at a time.
    fn bring(&self, changed: DirtyBlocks, work: &mut BlockRenderer) {
        for gone in changed.removed.chunks(BLOCKS_AT_ONCE) {
            work.remove(&mut self.write(), gone);
            work.freed.clear();
        }
        let mut blocks = changed.blocks.into_iter();
        loop {
            // Values make room for texts: there may be very many.
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
        let snapshot = snapshot.with_merged(sections.is_merged());
        if natives {
            snapshot.with_natives(sections.natives.all())
        } else {
            snapshot
        }
    }
}

impl BlockRenderer {
    /// What has changed since it was taken last, and what was lost. `flush`
    /// takes note of it.
    fn take_changed(&mut self, registry: &mut Registry, flush: &mut PendingBlocks) -> DirtyBlocks {
        self.set_marks(registry);
        for id in self.lost.drain(..) {
            registry.mark_dirty(id);
        }
        let changed = registry.take_dirty();
        let ids = changed.blocks.iter().map(|block| block.id);
        flush.taken.extend(ids);
        flush.gone.extend_from_slice(&changed.removed);
        changed
    }

    fn set_marks(&mut self, registry: &mut Registry) {
        for (id, mark) in self.marks.drain(..) {
            registry.set_hint(id, mark);
        }
    }

    fn bring(&mut self, sections: &mut SectionTable, changed: &DirtyBlocks) {
        self.remove(sections, &changed.removed);
        let texts = self.render(&changed.blocks);
        self.set(sections, &changed.blocks, texts, &changed.lines);
    }

    fn remove(&mut self, sections: &mut SectionTable, gone: &[(Arc<str>, u32)]) {
        let mut names = NameCache::of(&sections.families);
        for (family, number) in gone {
            let key = names.key(family, *number);
            self.freed.push(sections.page_list.remove(&key));
        }
    }

    /// The texts of blocks that were taken whole.
    fn render(&mut self, blocks: &[DirtyBlock]) -> Vec<Option<Bytes>> {
        let texts = blocks.iter().map(|block| block.render(&mut self.scratch));
        texts.collect()
    }

    /// Sets the texts of blocks, and makes those of the others from what they
    /// were.
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
            let mut place = FragmentHint::from(block.hint);
            let freed = match text {
                Some(text) => Some(sections.page_list.set_near(key, text, &mut place)),
                None => sections.page_list.change_near(&key, &mut place, |before| {
                    block.patch(lines, before, &mut self.scratch)
                }),
            };
            match freed {
                Some(freed) => self.freed.push(freed),
                None => self.lost.push(block.id),
            }
            if u64::from(place) != block.hint {
                self.marks.push((block.id, place.into()));
            }
        }
    }
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
