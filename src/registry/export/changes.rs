//! Notes what changes, and copies it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::exact::Exact;
use super::records::{AggregatedRecord, ClockRecord};
use crate::clock::Now;
use crate::exposition::Kind;
use crate::registry::block::Block;
use crate::registry::block::parts::BlockParts;
use crate::registry::{BlockId, Registry};

/// Maximum number of notes. Beyond it, everything counts as changed. There are more notes than
/// blocks only if families come and go while nobody takes the changes. Tests reach the limit.
const MAX_NOTES: usize = if cfg!(test) { 40 } else { 1 << 20 };

/// What has changed since the last copy.
#[derive(Debug, Default)]
pub struct ChangeNotes {
    /// Names of families that are new, gone, or have another type, help or bounds.
    families: Vec<Arc<str>>,
    /// Blocks that have changed, each once: see [`Block::is_noted`]. Those of
    /// families that are gone may be among them.
    blocks: Vec<BlockId>,
    /// Blocks that have been removed. There may be a new one of that number.
    removed: Vec<(Arc<str>, u32)>,
    /// Whether notes were dropped.
    everything: bool,
}

impl ChangeNotes {
    pub(in crate::registry) fn note_family(&mut self, name: &Arc<str>) {
        if self.has_room() {
            self.families.push(Arc::clone(name));
        }
    }

    fn note_block(&mut self, id: BlockId, block: &mut Block) {
        if !block.is_noted && self.has_room() {
            block.is_noted = true;
            self.blocks.push(id);
        }
    }

    pub(in crate::registry) fn note_removed(&mut self, family: &Arc<str>, number: u32) {
        if self.has_room() {
            self.removed.push((Arc::clone(family), number));
        }
    }

    fn len(&self) -> usize {
        self.families.len() + self.blocks.len() + self.removed.len()
    }

    fn has_room(&mut self) -> bool {
        if self.len() >= MAX_NOTES {
            *self = ChangeNotes::default();
            self.everything = true;
        }
        !self.everything
    }
}

/// Copies of what has changed: the newest of each family and block, and `None` for
/// one that is gone.
#[derive(Debug, Default)]
pub struct RegistryCopy {
    /// Families by name.
    pub families: BTreeMap<Arc<str>, Option<FamilyHeadCopy>>,
    /// Blocks by the name of their family and their number.
    pub blocks: BTreeMap<(Arc<str>, u32), Option<BlockParts>>,
    /// Whether this is all that exists, rather than what has changed.
    pub is_full: bool,
}

/// A copy of a family without its series.
#[derive(Debug, Clone)]
pub struct FamilyHeadCopy {
    kind: Kind,
    help: Option<Arc<str>>,
    bounds: Option<Arc<[f64]>>,
}

impl FamilyHeadCopy {
    /// The record of the family.
    pub fn record(&self) -> AggregatedRecord<'_> {
        let exact = |bounds: &Arc<[f64]>| bounds.iter().copied().map(Exact).collect();
        AggregatedRecord {
            kind: self.kind,
            help: self.help.as_deref().map(Into::into),
            bounds: self.bounds.as_ref().map(exact),
        }
    }
}

impl Registry {
    /// Notes changes from now on. All that exists counts as changed.
    pub fn track_changes(&mut self) {
        self.notes = Some(ChangeNotes {
            everything: self.series > 0,
            ..ChangeNotes::default()
        });
    }

    /// Notes all that exists, so that the next copies have all of it.
    pub fn note_everything(&mut self) {
        if let Some(notes) = &mut self.notes {
            notes.everything = true;
        }
    }

    /// Notes nothing, until the result is passed to
    /// [`resume_notes`](Self::resume_notes).
    pub fn stop_notes(&mut self) -> Option<ChangeNotes> {
        self.notes.take()
    }

    /// Notes changes again.
    pub fn resume_notes(&mut self, notes: Option<ChangeNotes>) {
        self.notes = notes;
    }

    /// Whether notes were dropped, so that the next copies have everything.
    pub fn has_everything_noted(&self) -> bool {
        self.notes.as_ref().is_some_and(|notes| notes.everything)
    }

    /// Notes a family and one of its blocks, given by its number, whether or not
    /// they exist.
    pub fn note_again(&mut self, family: &Arc<str>, number: Option<u32>) {
        if let Some(notes) = &mut self.notes {
            match number {
                Some(number) => notes.note_removed(family, number),
                None => notes.note_family(family),
            }
        }
    }

    /// The number of noted changes; meaningless after notes were dropped.
    pub fn noted(&self) -> usize {
        self.notes.as_ref().map_or(0, ChangeNotes::len)
    }

    /// Copies up to `most` of the noted families and blocks, as they are now.
    pub fn copy_changes(&mut self, most: usize, copy: &mut RegistryCopy) {
        let Some(mut notes) = self.notes.take() else {
            return;
        };
        if notes.everything {
            notes = self.all_notes();
            *copy = RegistryCopy {
                is_full: true,
                ..RegistryCopy::default()
            };
        }
        let mut left = most;
        while left > 0 {
            left -= 1;
            if let Some(name) = notes.families.pop() {
                let head = self.head_copy(&name);
                copy.families.insert(name, head);
            } else if let Some((name, number)) = notes.removed.pop() {
                let id = self.id_of(&name);
                let block = id.and_then(|id| self.family(id)?.block(number));
                let parts = block.map(Block::parts);
                copy.blocks.insert((name, number), parts);
            } else if let Some((id, number)) = notes.blocks.pop() {
                let Some(family) = self.family_mut(id) else {
                    continue;
                };
                let name = Arc::clone(&family.name);
                if let Some(block) = family.block_mut(number) {
                    block.is_noted = false;
                    copy.blocks.insert((name, number), Some(block.parts()));
                }
            } else {
                break;
            }
        }
        self.notes = Some(notes);
    }

    /// The relation of the registry's time to the wall clock. `None` until the registry is given a
    /// time.
    pub fn clock(&self, now: Now) -> Option<ClockRecord> {
        self.epoch?;
        Some(ClockRecord {
            wall: now.unix_nanos(),
            time: self.time(now.tick),
        })
    }

    /// Notes of all that exists.
    fn all_notes(&mut self) -> ChangeNotes {
        let mut notes = ChangeNotes::default();
        for (id, family) in (0..).zip(&mut self.families) {
            let Some(family) = family.as_deref_mut() else {
                continue;
            };
            notes.families.push(Arc::clone(&family.name));
            for number in 0..family.blocks() {
                if let Some(block) = family.block_mut(number) {
                    block.is_noted = true;
                    notes.blocks.push((id, number));
                }
            }
        }
        notes
    }

    fn head_copy(&self, name: &str) -> Option<FamilyHeadCopy> {
        let family = self.family(self.id_of(name)?)?;
        Some(FamilyHeadCopy {
            kind: family.kind,
            help: family.help.clone(),
            bounds: family.bounds.clone(),
        })
    }

    /// Notes that a block's state has changed.
    pub(in crate::registry) fn note_block(&mut self, block_id: BlockId) {
        let Some(notes) = &mut self.notes else {
            return;
        };
        let family = self.families[block_id.0 as usize].as_deref_mut();
        if let Some(block) = family.and_then(|family| family.block_mut(block_id.1)) {
            notes.note_block(block_id, block);
        }
    }
}
