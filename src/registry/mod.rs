//! Aggregated families: updates add to their values or set them, while a section's text is replaced
//! as a whole.
//!
//! In the order in which a change passes through:
//!
//! - [`batch`]: a [`Batch`] of updates is what an input asks for.
//! - [`planner`]: [`Registry::check`] works out the [`Changeset`], or rejects
//!   the batch, and changes nothing. It costs what the batch names.
//! - [`reservation`]: the names, series and memory that the changeset takes. The
//!   store checks them against those of all other producers.
//! - [`Registry::commit`] carries out the changeset as a whole.
//! - [`known`]: a shorter way for changes of values alone.
//! - [`family`], [`block`], [`labels`], [`series`]: how series are kept. Series
//!   are grouped in blocks of up to 32; a change marks what it changes in its
//!   block and renders nothing.
//! - [`dirty`], [`render`]: [`Registry::take_dirty`] hands out copies of what has
//!   changed, which are rendered without the registry. Where only values have
//!   changed, they are patched into the block's last text, which the store keeps.
//!
//! So a change costs the same however many series there are, and a scrape costs
//! what has changed.
//!
//! The registry is pure: time is a parameter, and there is no lock and no I/O. It
//! knows nothing of what other producers expose.
//!
//! The exact values are in the blocks ([`block::Block::state`]); texts show only a part of them. A
//! family also has a name, type, help text and default bounds ([`family::Family`]). [`export`]
//! makes records of all this for storage, and families from records again.

mod batch;
mod block;
mod changeset;
mod dirty;
mod expiry;
pub mod export;
mod family;
mod known;
mod labels;
mod limits;
mod listing;
mod planner;
mod rejection;
mod render;
mod reservation;
mod series;
#[cfg(test)]
mod tests;
mod time;
mod weight;

use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashTable;

use crate::exposition::Kind;

pub use batch::{Batch, BoundsPolicy, Change, MAX_AGE_BUCKETS, NativeSpec, QuantileSpec, Update};
pub use changeset::{Changeset, SeriesTotals};
pub use dirty::DirtyBlocks;
pub use known::{KnownSeries, ValueChange};
pub use limits::RegistryLimits;
pub use listing::{BlockSeries, FamilySummary};
pub use rejection::{Rejection, family_text};
pub use render::{ChangedNatives, DirtyBlock, LineValue, RenderBuffers};
pub use reservation::{FamilyHead, Reservation};

use block::Block;
use changeset::PlannedFamily;
use export::changes::ChangeNotes;
use family::{Family, MAX_BLOCKS, SeriesAddress};
use planner::{Planner, named_addresses};
use series::SeriesState;
use time::{NEVER, Nanos};

/// All aggregated families. See the [module](self).
#[derive(Debug)]
pub struct Registry {
    limits: RegistryLimits,
    hasher: RandomState,
    /// By id. A new family takes a free id.
    families: Vec<Option<Box<Family>>>,
    free_ids: Vec<u32>,
    /// Ids by the hash of the names.
    ids_by_name: HashTable<u32>,
    /// Number of series.
    series: usize,
    /// Approximate memory in bytes.
    weight: usize,
    /// The first time that was given.
    epoch: Option<Instant>,
    /// The registry's time at `epoch`: 0 unless it continues that of an earlier one.
    epoch_time: Nanos,
    /// The latest time that was given.
    now: Nanos,
    /// Blocks that have changed since they were last taken.
    dirty: BTreeSet<BlockId>,
    /// Upper bound of the series to render in these.
    dirty_series: usize,
    /// Blocks that were taken before and no longer exist.
    removed_blocks: BTreeSet<(Arc<str>, u32)>,
    /// Blocks whose native histograms have changed since they were last taken.
    changed_natives: BTreeSet<BlockId>,
    /// Blocks with series that expire, each once, by the time to look at them.
    /// The time may be too early, since an update postpones the deadline of its
    /// series, but never too late.
    expiry_queue: BTreeSet<(Nanos, BlockId)>,
    /// Blocks with windows, in the same way, by the time when one shows another
    /// value.
    window_queue: BTreeSet<(Nanos, BlockId)>,
    /// Changes when a series is removed, since another one may then take its place.
    layout: u64,
    /// Changes that storage must be told of. `None` unless changes are tracked.
    notes: Option<ChangeNotes>,
}

/// A block: the id of its family, and its number there. Both are reused after
/// the family or the block is removed.
pub type BlockId = (u32, u32);

/// The limits, where the series of a family are also limited by the numbers of its blocks.
fn bounded(limits: RegistryLimits) -> RegistryLimits {
    RegistryLimits {
        series_per_family: limits.series_per_family.min(MAX_BLOCKS),
        ..limits
    }
}

impl Registry {
    /// An empty registry. `hasher` is the one that identifies series for all
    /// producers; it should have random keys.
    pub fn new(limits: RegistryLimits, hasher: RandomState) -> Self {
        Registry {
            limits: bounded(limits),
            hasher,
            families: Vec::new(),
            free_ids: Vec::new(),
            ids_by_name: HashTable::new(),
            series: 0,
            weight: 0,
            epoch: None,
            epoch_time: 0,
            now: 0,
            dirty: BTreeSet::new(),
            dirty_series: 0,
            removed_blocks: BTreeSet::new(),
            changed_natives: BTreeSet::new(),
            expiry_queue: BTreeSet::new(),
            window_queue: BTreeSet::new(),
            layout: 0,
            notes: None,
        }
    }

    /// Changes the limits. What exceeds a lower limit stays, and nothing more is added.
    pub fn set_limits(&mut self, limits: RegistryLimits) {
        self.limits = bounded(limits);
    }

    /// Number of series.
    pub fn series(&self) -> usize {
        self.series
    }

    /// Number of families.
    pub fn families(&self) -> usize {
        self.ids_by_name.len()
    }

    /// Approximate memory of all families in bytes, including their text in the
    /// output and their entries in the store's index.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// The type of a family, if it exists. The name is escaped as in
    /// [`Update::family`].
    pub fn kind_of(&self, name: &str) -> Option<Kind> {
        let id = self.find_family(self.hasher.hash_one(name), name)?;
        self.family(id).map(|family| family.kind)
    }

    /// Checks a batch, and works out what it will do. The changeset is valid
    /// until the registry changes.
    ///
    /// # Errors
    ///
    /// The first [`Rejection`] of an update, or a limit that the whole batch
    /// would exceed.
    pub fn check(&self, batch: Batch, now: Instant) -> Result<Changeset, Rejection> {
        Planner::plan(self, batch, now)
    }

    /// Carries out a changeset, which must be the result of a
    /// [`Registry::check`] since the last change.
    pub fn commit(&mut self, changeset: Changeset) {
        self.advance(changeset.at);
        let reservation = changeset.reservation();
        self.weight = self.weight + reservation.reserved_bytes - reservation.released_bytes;
        let mut families = changeset.families;
        let named = named_addresses(&changeset.series, &families);
        for (index, family) in families.iter_mut().enumerate() {
            let id = match family.id {
                Some(id) => id,
                None => self.add_family(family),
            };
            family.id = Some(id);
            if family.is_replaced {
                self.remove_all_but(id, &named[&index]);
            }
            if let Some(existing) = self.families[id as usize].as_deref_mut() {
                existing.changed = Some(changeset.at);
                if let Some(notes) = &mut self.notes
                    && (family.series_before == 0
                        || family.gets_help
                        || family.gets_type
                        || family.bounds != existing.bounds)
                {
                    notes.note_family(&existing.name);
                }
                if family.gets_help {
                    existing.help.clone_from(&family.help);
                }
                existing.bounds.clone_from(&family.bounds);
                if family.gets_type {
                    existing.set_kind(family.kind);
                }
            }
        }
        for series in changeset.series {
            let Some(id) = families[series.family as usize].id else {
                continue;
            };
            match (series.address, series.state) {
                (Some(address), Some(state)) => {
                    self.set_series(id, address, state, series.deadline);
                }
                (None, Some(state)) => {
                    let key = (series.hash, series.labels.as_str());
                    self.insert_series(id, key, state, series.deadline);
                }
                (Some(address), None) => self.remove_series(id, address),
                (None, None) => {}
            }
        }
        for id in families.into_iter().filter_map(|family| family.id) {
            self.remove_if_empty(id);
        }
    }

    /// Panics if a count or a queue does not agree with the blocks. For tests: it
    /// looks at all series.
    ///
    /// # Panics
    ///
    /// If the registry is not consistent.
    pub fn assert_consistent(&self) {
        let (mut families, mut series, mut dirty_series) = (0, 0, 0);
        let (mut dirty, mut natives, mut expiring, mut windows) = (0, 0, 0, 0);
        for (id, family) in (0..).zip(&self.families) {
            let Some(family) = family.as_deref() else {
                continue;
            };
            families += 1;
            series += family.len();
            assert!(family.len() > 0, "an empty family is left");
            for number in 0..family.blocks() {
                let Some(block) = family.block(number) else {
                    continue;
                };
                let count = block.dirty().series();
                assert_eq!(block.counted_dirty, count);
                assert_eq!(self.dirty.contains(&(id, number)), count > 0);
                dirty_series += usize::from(count);
                dirty += usize::from(count > 0);
                natives += usize::from(block.natives_changed);
                expiring += usize::from(block.expiry != NEVER);
                windows += usize::from(block.window_step != NEVER);
            }
        }
        assert_eq!(self.families(), families);
        assert_eq!(self.series, series);
        assert_eq!((self.dirty.len(), self.dirty_series), (dirty, dirty_series));
        assert_eq!(self.changed_natives.len(), natives);
        assert_eq!(self.expiry_queue.len(), expiring);
        assert_eq!(self.window_queue.len(), windows);
    }

    /// Records the time. It does not go back.
    fn advance(&mut self, now: Instant) {
        self.epoch.get_or_insert(now);
        self.now = self.now.max(self.time(now));
    }

    /// The registry's time, but never before the latest one.
    fn time(&self, now: Instant) -> Nanos {
        let passed = self
            .epoch
            .map_or(0, |epoch| now.saturating_duration_since(epoch).as_nanos());
        // Some 500 years fit.
        let passed = u64::try_from(passed).unwrap_or(NEVER - 1);
        let time = self.epoch_time.saturating_add(passed);
        time.min(NEVER - 1).max(self.now)
    }

    fn hash_of(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }

    fn id_of(&self, name: &str) -> Option<u32> {
        self.find_family(self.hash_of(name), name)
    }

    fn find_family(&self, hash: u64, name: &str) -> Option<u32> {
        let is_same = |id: &u32| self.family(*id).is_some_and(|family| *family.name == *name);
        self.ids_by_name.find(hash, is_same).copied()
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

    fn add_family(&mut self, planned: &PlannedFamily) -> u32 {
        let family = Family::new(Arc::clone(&planned.name), planned.kind);
        self.place_family(family, planned.hash)
    }

    /// Adds a family, whose name has this hash.
    fn place_family(&mut self, family: Family, hash: u64) -> u32 {
        let id = self.free_ids.pop().unwrap_or_else(|| {
            self.families.push(None);
            self.families.len() as u32 - 1
        });
        self.families[id as usize] = Some(Box::new(family));
        let (families, hasher) = (&self.families, &self.hasher);
        self.ids_by_name.insert_unique(hash, id, |id| {
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
        if let Ok(entry) = self.ids_by_name.find_entry(hash, |own| *own == id) {
            entry.remove();
        }
        if let Some(gone) = self.families[id as usize].take()
            && let Some(notes) = &mut self.notes
        {
            notes.note_family(&gone.name);
        }
        self.free_ids.push(id);
    }

    fn insert_series(&mut self, id: u32, key: (u64, &str), state: SeriesState, deadline: Nanos) {
        let (now, step) = (self.now, state.next_step());
        let Some(family) = self.families[id as usize].as_deref_mut() else {
            return;
        };
        let address = family.insert(key, state, deadline, now);
        // The output may still have the text of an earlier block with the number
        // of a new one, which then replaces it.
        if !self.removed_blocks.is_empty()
            && self
                .removed_blocks
                .remove(&(Arc::clone(&family.name), address.block()))
            && let Some(block) = family.block_mut(address.block())
        {
            block.mark_shown();
        }
        self.series += 1;
        self.note_change((id, address.block()), deadline, step);
        self.note_block((id, address.block()));
    }

    fn set_series(&mut self, id: u32, address: SeriesAddress, state: SeriesState, deadline: Nanos) {
        let (now, step) = (self.now, state.next_step());
        if let Some(family) = self.family_mut(id) {
            family.set(address, state, deadline, now);
            self.note_change((id, address.block()), deadline, step);
            self.note_block((id, address.block()));
        }
    }

    fn remove_series(&mut self, id: u32, address: SeriesAddress) {
        let Some(family) = self.families[id as usize].as_deref_mut() else {
            return;
        };
        self.series -= 1;
        self.layout += 1;
        let block_id = (id, address.block());
        let Some(block) = family.remove(&self.hasher, address) else {
            self.note_change(block_id, NEVER, NEVER);
            return self.note_block(block_id);
        };
        if let Some(notes) = &mut self.notes {
            notes.note_removed(&family.name, address.block());
        }
        self.dirty.remove(&block_id);
        self.dirty_series -= usize::from(block.counted_dirty);
        self.changed_natives.remove(&block_id);
        self.expiry_queue.remove(&(block.expiry, block_id));
        self.window_queue.remove(&(block.window_step, block_id));
        if block.is_shown {
            self.removed_blocks
                .insert((Arc::clone(&family.name), address.block()));
        }
    }

    /// Removes all series of a family but those in `kept`.
    fn remove_all_but(&mut self, id: u32, kept: &HashSet<SeriesAddress>) {
        let Some(family) = self.family(id) else {
            return;
        };
        let addresses: Vec<SeriesAddress> = family
            .iter()
            .map(|(address, _)| address)
            .filter(|address| !kept.contains(address))
            .collect();
        for address in addresses {
            self.remove_series(id, address);
        }
    }
}
