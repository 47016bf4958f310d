//! Living families: values that are added to, set and observed, where a
//! section's text is replaced.
//!
//! A [`Batch`] of changes is checked first, by [`Registry::check`], which
//! changes nothing. The [`Changeset`] it makes says what the batch takes: names,
//! series, memory ([`Reservation`]). Once that is granted, [`Registry::commit`]
//! carries it out, whole.
//!
//! Series are kept in blocks. A change marks what has changed of its block and
//! renders nothing; [`Registry::take_dirty`] hands out copies of that, which
//! render themselves wherever and whenever it suits. So a change costs the same
//! however many series there are, and a scrape costs what changed. Where only
//! values have, they are written into the block's last text, which is kept by
//! whoever shows it and not in here.
//!
//! Pure: there is no clock in here (time is a parameter), no lock, no I/O. What
//! other producers expose is not known here; the store sees to that.

mod batch;
mod block;
mod changeset;
mod family;
mod histogram;
mod labels;
mod listing;
mod patch;
mod planner;
mod rejection;
mod render;
mod reservation;
mod state;
mod window;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashTable;

use crate::exposition::Kind;

pub use batch::{Batch, BoundsPolicy, Change, RegistryLimits, Update};
pub use changeset::SeriesTotals;
pub use listing::BlockSeries;
pub use patch::{LineValue, RenderBuffers};
pub use planner::Changeset;
pub use rejection::{Rejection, family_text};
pub use render::DirtyBlock;
pub use reservation::{FamilyHead, Reservation};

use block::{Block, NEVER};
use family::{Family, MOST_BLOCKS, Slot, family_weight, weight_of};
use planner::{Planner, claimed_by, named_slots};
use state::State;

/// All living families.
#[derive(Debug)]
pub struct Registry {
    limits: RegistryLimits,
    hasher: RandomState,
    /// By id. The id of one that is gone is taken by the next.
    families: Vec<Option<Box<Family>>>,
    free: Vec<u32>,
    /// Ids by the hash of their names.
    by_name: HashTable<u32>,
    series: usize,
    weight: usize,
    /// The first moment that was told. Times in here are nanoseconds since.
    beginning: Option<Instant>,
    /// The latest moment that was told.
    now: u64,
    /// Blocks that have changed since they were last taken.
    changed: BTreeSet<BlockId>,
    /// Series to render in these, at most.
    stale: usize,
    /// Blocks that were taken once and are no more.
    removed_blocks: BTreeSet<(Arc<str>, u32)>,
    /// When blocks are to be looked at for series that go, each block once. An
    /// entry may be early, never late: the series say what holds.
    expiring: BTreeSet<(u64, BlockId)>,
    /// The same for blocks with windows that show something else by then.
    aging: BTreeSet<(u64, BlockId)>,
}

/// A block, by its family's id and its number there. It may be that of another
/// once the family or the block is gone.
pub type BlockId = (u32, u32);

/// What has changed since it was last asked.
#[derive(Debug, Default)]
pub struct DirtyBlocks {
    /// Blocks that show nothing any more: their families' names and numbers.
    pub removed: Vec<(Arc<str>, u32)>,
    /// In the order of their ids.
    pub blocks: Vec<DirtyBlock>,
    /// What blocks show now that are rendered from their last texts.
    pub lines: Vec<LineValue>,
}

impl Registry {
    /// An empty registry. `hasher` is the one by which series are known
    /// everywhere; it should be keyed at random.
    pub fn new(limits: RegistryLimits, hasher: RandomState) -> Self {
        Registry {
            limits: RegistryLimits {
                series_per_family: limits.series_per_family.min(MOST_BLOCKS),
                ..limits
            },
            hasher,
            families: Vec::new(),
            free: Vec::new(),
            by_name: HashTable::new(),
            series: 0,
            weight: 0,
            beginning: None,
            now: 0,
            changed: BTreeSet::new(),
            stale: 0,
            removed_blocks: BTreeSet::new(),
            expiring: BTreeSet::new(),
            aging: BTreeSet::new(),
        }
    }

    /// Series that live.
    pub fn series(&self) -> usize {
        self.series
    }

    /// Families that live.
    pub fn families(&self) -> usize {
        self.by_name.len()
    }

    /// What the family of that name is, escaped as in [`Update`], if it lives.
    pub fn kind_of(&self, name: &str) -> Option<Kind> {
        let id = self.find_family(self.hasher.hash_one(name), name)?;
        self.family(id).map(|family| family.kind)
    }

    /// Series at most that are to be rendered for what has changed since it was
    /// last taken: where some come or go, all of their block are.
    pub fn dirty_series(&self) -> usize {
        self.series.min(self.stale)
    }

    /// The blocks that they are in.
    pub fn dirty_blocks(&self) -> usize {
        self.changed.len()
    }

    /// Bytes of memory that all of it takes, about, with its text in the
    /// output and what finds series again.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Checks a batch, at the cost of the batch. The plan holds for as long as
    /// nothing else is changed.
    pub fn check(&self, batch: Batch, now: Instant) -> Result<Changeset, Rejection> {
        Planner::plan(self, batch, now)
    }

    /// Carries out a plan.
    pub fn commit(&mut self, plan: Changeset) {
        self.advance(plan.at);
        let reservation = plan.reservation();
        self.weight = self.weight + reservation.reserved_bytes - reservation.released_bytes;
        let mut families = plan.families;
        let named = named_slots(&plan.series, &families);
        for (place, family) in families.iter_mut().enumerate() {
            let id = match family.id {
                Some(id) => id,
                None => self.add_family(family),
            };
            family.id = Some(id);
            if family.cleared {
                self.clear(id, &named[&place]);
            }
            if let Some(living) = self.family_mut(id) {
                if family.helped {
                    living.help.clone_from(&family.help);
                }
                living.bounds.clone_from(&family.bounds);
                if family.typed {
                    living.set_kind(family.kind);
                }
            }
        }
        for series in plan.series {
            let Some(id) = families[series.family as usize].id else {
                continue;
            };
            match (series.slot, series.state) {
                (Some(slot), Some(state)) => self.set(id, slot, state, series.deadline),
                (None, Some(state)) => {
                    let key = (series.hash, series.labels.as_str());
                    self.insert(id, key, state, series.deadline);
                }
                (Some(slot), None) => self.remove(id, slot),
                (None, None) => {}
            }
        }
        for id in families.into_iter().filter_map(|family| family.id) {
            self.remove_if_empty(id);
        }
    }

    /// Whether a series' time is up.
    pub fn is_due(&self, now: Instant) -> bool {
        let now = self.time(now);
        self.expiring.first().is_some_and(|(due, _)| *due <= now)
    }

    /// Removes series whose time is up, a few thousand at most: with more, it is
    /// due again. Returns their number, which may be none, since a block may
    /// only seem to be due, and what is let go with them.
    pub fn expire(&mut self, now: Instant) -> (usize, Reservation) {
        const BLOCKS_AT_ONCE: usize = 128;
        self.advance(now);
        let mut reservation = Reservation::default();
        let before = self.series;
        let mut scratch = String::new();
        for _ in 0..BLOCKS_AT_ONCE {
            let Some((due, block)) = self.expiring.first().copied() else {
                break;
            };
            if due > self.now {
                break;
            }
            self.expire_block(block, &mut scratch, &mut reservation);
        }
        self.weight -= reservation.released_bytes;
        (before - self.series, reservation)
    }

    /// Copies of what has changed in all blocks, and those that are gone.
    /// Windows are moved on to the latest moment that was told.
    ///
    /// Whoever takes them keeps each block's text until its next copy comes,
    /// which may say only what is other in it. Who loses one asks for all of
    /// it: see [`Registry::mark_dirty`].
    pub fn take_dirty(&mut self) -> DirtyBlocks {
        self.age();
        self.stale = 0;
        let mut blocks = Vec::with_capacity(self.changed.len());
        let mut lines = Vec::new();
        for at in std::mem::take(&mut self.changed) {
            let (id, number) = at;
            let Some(family) = self.families[id as usize].as_deref_mut() else {
                continue;
            };
            let name = Arc::clone(&family.name);
            if let Some(block) = family.block_mut(number) {
                blocks.push(DirtyBlock::of(at, &name, block, &mut lines));
                block.settle();
            }
        }
        let removed = std::mem::take(&mut self.removed_blocks)
            .into_iter()
            .collect();
        DirtyBlocks {
            removed,
            blocks,
            lines,
        }
    }

    /// Has a block taken again, whole: the text that was made of it is lost, or
    /// never was. Nothing is to be done for one that is no more.
    pub fn mark_dirty(&mut self, at: BlockId) {
        if let Some(block) = self.block_mut(at) {
            block.spoil();
            self.note(at, NEVER, NEVER);
        }
    }

    /// Keeps with a block what helps whoever shows it to find its text, for its
    /// next copies. A new block has 0. It may come to be another's, like the id.
    pub fn set_hint(&mut self, at: BlockId, hint: u64) {
        if let Some(block) = self.block_mut(at) {
            block.hint = hint;
        }
    }

    /// Takes note of the time. It does not go back.
    fn advance(&mut self, now: Instant) {
        self.beginning.get_or_insert(now);
        self.now = self.now.max(self.time(now));
    }

    /// Nanoseconds since the beginning, and never before what was told.
    fn time(&self, now: Instant) -> u64 {
        let passed = self.beginning.map_or(0, |beginning| {
            now.saturating_duration_since(beginning).as_nanos()
        });
        // Some 500 years fit.
        u64::try_from(passed).unwrap_or(NEVER - 1).max(self.now)
    }

    fn find_family(&self, hash: u64, name: &str) -> Option<u32> {
        let same = |id: &u32| self.family(*id).is_some_and(|family| *family.name == *name);
        self.by_name.find(hash, same).copied()
    }

    fn family(&self, id: u32) -> Option<&Family> {
        self.families.get(id as usize)?.as_deref()
    }

    fn family_mut(&mut self, id: u32) -> Option<&mut Family> {
        self.families.get_mut(id as usize)?.as_deref_mut()
    }

    fn block_mut(&mut self, (id, number): BlockId) -> Option<&mut Block> {
        self.family_mut(id)?.block_mut(number)
    }

    fn add_family(&mut self, planned: &planner::PlannedFamily) -> u32 {
        let family = Family::new(Arc::clone(&planned.name), planned.kind);
        let id = self.free.pop().unwrap_or_else(|| {
            self.families.push(None);
            self.families.len() as u32 - 1
        });
        self.families[id as usize] = Some(Box::new(family));
        let (families, hasher) = (&self.families, &self.hasher);
        self.by_name.insert_unique(planned.hash, id, |id| {
            let family = families[*id as usize].as_deref();
            hasher.hash_one(family.map_or("", |family| &*family.name))
        });
        id
    }

    fn remove_if_empty(&mut self, id: u32) {
        let Some(family) = self.family(id).filter(|family| family.len() == 0) else {
            return;
        };
        let hash = self.hasher.hash_one(&*family.name);
        if let Ok(entry) = self.by_name.find_entry(hash, |own| *own == id) {
            entry.remove();
        }
        self.families[id as usize] = None;
        self.free.push(id);
    }

    fn insert(&mut self, id: u32, key: (u64, &str), state: State, deadline: u64) {
        let (now, due) = (self.now, state.due());
        let Some(family) = self.families[id as usize].as_deref_mut() else {
            return;
        };
        let slot = family.insert(key, state, deadline, now);
        // Where a block of that number was taken before, its text is in the
        // output still, and will be replaced.
        if !self.removed_blocks.is_empty()
            && self
                .removed_blocks
                .remove(&(Arc::clone(&family.name), slot.block()))
            && let Some(block) = family.block_mut(slot.block())
        {
            block.shown = true;
        }
        self.series += 1;
        self.note((id, slot.block()), deadline, due);
    }

    fn set(&mut self, id: u32, slot: Slot, state: State, deadline: u64) {
        let (now, due) = (self.now, state.due());
        if let Some(family) = self.family_mut(id) {
            family.set(slot, state, deadline, now);
            self.note((id, slot.block()), deadline, due);
        }
    }

    fn remove(&mut self, id: u32, slot: Slot) {
        let Some(family) = self.families[id as usize].as_deref_mut() else {
            return;
        };
        self.series -= 1;
        let Some(block) = family.remove(&self.hasher, slot) else {
            return self.note((id, slot.block()), NEVER, NEVER);
        };
        let at = (id, slot.block());
        self.changed.remove(&at);
        self.stale -= usize::from(block.counted);
        self.expiring.remove(&(block.expiry, at));
        self.aging.remove(&(block.aging, at));
        if block.shown {
            self.removed_blocks
                .insert((Arc::clone(&family.name), slot.block()));
        }
    }

    /// Removes all series of a family but those.
    fn clear(&mut self, id: u32, but: &HashSet<Slot>) {
        let Some(family) = self.family(id) else {
            return;
        };
        let slots: Vec<Slot> = family
            .iter()
            .map(|(slot, _)| slot)
            .filter(|slot| !but.contains(slot))
            .collect();
        for slot in slots {
            self.remove(id, slot);
        }
    }

    /// Takes note of what has changed in a block, and by when it is to be looked
    /// at.
    fn note(&mut self, at: BlockId, expiry: u64, aging: u64) {
        let (id, number) = at;
        let family = self.families[id as usize].as_deref_mut();
        let Some(block) = family.and_then(|family| family.block_mut(number)) else {
            return;
        };
        let stale = block.stale().count();
        if stale > block.counted {
            self.stale += usize::from(stale - block.counted);
            if block.counted == 0 {
                self.changed.insert(at);
            }
            block.counted = stale;
        }
        let queues = [
            (&mut self.expiring, &mut block.expiry, expiry),
            (&mut self.aging, &mut block.aging, aging),
        ];
        for (queue, own, due) in queues {
            if due < *own {
                queue.remove(&(*own, at));
                queue.insert((due, at));
                *own = due;
            }
        }
    }

    fn expire_block(&mut self, at: BlockId, scratch: &mut String, reservation: &mut Reservation) {
        let (id, number) = at;
        let now = self.now;
        let Some(family) = self.families[id as usize].as_deref() else {
            return;
        };
        let Some(block) = family.block(number) else {
            return;
        };
        self.expiring.remove(&(block.expiry, at));
        let mut slots = Vec::new();
        for place in block.overdue(now) {
            let slot = Slot::new(number, place);
            let state = block.state(place);
            let labels = block.labels().get(place).unwrap_or_default();
            let mut release = |hash| reservation.released_series.push(hash);
            claimed_by(
                &self.hasher,
                &family.name,
                labels,
                &state,
                scratch,
                &mut release,
            );
            reservation.released_bytes += weight_of(&family.name, labels, &state);
            slots.push(slot);
        }
        if slots.len() == family.len() {
            reservation.removed_families.push(Arc::clone(&family.name));
            reservation.released_bytes += family_weight(&family.name, family.help.as_deref());
        }
        if let Some(block) = self.block_mut(at) {
            block.expiry = NEVER;
        }
        for slot in slots {
            self.remove(id, slot);
        }
        if let Some(block) = self.block_mut(at) {
            let next = block.next_deadline();
            block.expiry = next;
            if next != NEVER {
                self.expiring.insert((next, at));
            }
        }
        self.remove_if_empty(id);
    }

    fn age(&mut self) {
        while let Some((due, at)) = self.aging.first().copied() {
            if due > self.now {
                break;
            }
            self.aging.remove(&(due, at));
            let now = self.now;
            let Some(block) = self.block_mut(at) else {
                continue;
            };
            block.age(now);
            let next = block.next_aging();
            // It stands in no queue, and `note` puts it into the one it is due.
            block.aging = NEVER;
            self.note(at, NEVER, next);
        }
    }
}
