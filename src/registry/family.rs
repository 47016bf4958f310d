//! One aggregated family: its series in blocks, and an index to find them.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashTable;

use super::block::{Block, SLOTS};
use super::series::SeriesState;
use super::time::Nanos;
use crate::exposition::Kind;

/// Where a series is in its family, for as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeriesAddress(u32);

impl SeriesAddress {
    pub fn new(block: u32, slot: usize) -> Self {
        SeriesAddress(block * SLOTS as u32 + slot as u32)
    }

    /// Number of the block.
    pub fn block(self) -> u32 {
        self.0 / SLOTS as u32
    }

    /// Slot within the block.
    pub fn slot(self) -> usize {
        self.0 as usize % SLOTS
    }
}

/// Maximum number of blocks in a family, so that an address fits 32 bits.
pub const MAX_BLOCKS: usize = u32::MAX as usize / SLOTS;

/// Entry of the index. It keeps a part of the hash of the labels, so that the
/// table grows without hashing texts again.
#[derive(Debug, Clone, Copy)]
struct IndexEntry {
    hash: u32,
    address: SeriesAddress,
}

impl IndexEntry {
    fn new(hash: u64, address: SeriesAddress) -> Self {
        IndexEntry {
            hash: hash as u32,
            address,
        }
    }

    fn table_hash(&self) -> u64 {
        table_hash(self.hash)
    }
}

/// Spreads a part of a hash to 64 bits: the table uses the lowest and the
/// highest bits.
fn table_hash(part: u32) -> u64 {
    u64::from(part) << 32 | u64::from(part)
}

/// A family and its series.
#[derive(Debug)]
pub struct Family {
    pub name: Arc<str>,
    pub kind: Kind,
    pub help: Option<Arc<str>>,
    /// Bounds of its first histogram, which new ones share.
    pub bounds: Option<Arc<[f64]>>,
    /// When a batch last changed it; `None` since it was restored.
    pub changed: Option<Instant>,
    /// Number of series with values that no counter can have, counted while the family is untyped.
    pub no_counters: usize,
    /// Addresses by the hash of the labels, whose texts are only in the blocks.
    index: HashTable<IndexEntry>,
    /// By number. A new block takes the lowest free number.
    blocks: Vec<Option<Box<Block>>>,
    /// Numbers without a block.
    free: BTreeSet<u32>,
    /// Blocks that have room. New series go to the lowest, so that the family
    /// stays compact.
    open: BTreeSet<u32>,
}

impl Family {
    /// A family without series.
    pub fn new(name: Arc<str>, kind: Kind) -> Self {
        Family {
            name,
            kind,
            help: None,
            bounds: None,
            changed: None,
            no_counters: 0,
            index: HashTable::new(),
            blocks: Vec::new(),
            free: BTreeSet::new(),
            open: BTreeSet::new(),
        }
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// The series with these labels, whose hash is `hash`.
    pub fn find(&self, hash: u64, labels: &str) -> Option<SeriesAddress> {
        let part = hash as u32;
        let is_same =
            |entry: &IndexEntry| entry.hash == part && self.has_labels(entry.address, labels);
        let found = self.index.find(table_hash(part), is_same);
        found.map(|entry| entry.address)
    }

    /// Reads all memory that finding and changing a series reads, so that it is in the cache, and
    /// returns a sum of it. `hash` is that of the labels.
    pub fn prefetch(&self, hash: u64) -> u64 {
        let part = hash as u32;
        let entry = self
            .index
            .find(table_hash(part), |entry| entry.hash == part);
        let address = entry.map(|entry| entry.address);
        let sum =
            address.and_then(|address| Some(self.block(address.block())?.prefetch(address.slot())));
        sum.unwrap_or_default()
    }

    fn has_labels(&self, address: SeriesAddress, labels: &str) -> bool {
        let block = self.block(address.block());
        block.is_some_and(|block| block.labels().is(address.slot(), labels))
    }

    pub fn labels(&self, address: SeriesAddress) -> Option<&str> {
        self.block(address.block())?.labels().get(address.slot())
    }

    pub fn state(&self, address: SeriesAddress) -> Option<SeriesState> {
        Some(self.block(address.block())?.state(address.slot()))
    }

    /// See [`Block::has_same_shape`].
    pub fn has_same_shape(&self, address: SeriesAddress, state: &SeriesState) -> bool {
        let block = self.block(address.block());
        block.is_some_and(|block| block.has_same_shape(address.slot(), state))
    }

    /// Addresses and labels of all series.
    pub fn iter(&self) -> impl Iterator<Item = (SeriesAddress, &str)> {
        let blocks = (0_u32..).zip(&self.blocks);
        blocks.flat_map(|(number, block)| {
            let series = block.iter().flat_map(|block| block.labels().iter());
            series.map(move |(slot, labels)| (SeriesAddress::new(number, slot), labels))
        })
    }

    /// Upper bound of block numbers. Some numbers below it have no block.
    pub fn blocks(&self) -> u32 {
        self.blocks.len() as u32
    }

    pub fn block(&self, number: u32) -> Option<&Block> {
        self.blocks.get(number as usize)?.as_deref()
    }

    pub fn block_mut(&mut self, number: u32) -> Option<&mut Block> {
        self.blocks.get_mut(number as usize)?.as_deref_mut()
    }

    /// Gives an untyped family its type. Values stay as they are.
    pub fn set_kind(&mut self, kind: Kind) {
        self.kind = kind;
        self.no_counters = 0;
    }

    /// Adjusts `no_counters` for a series that gets the state `after`.
    fn recount(&mut self, address: Option<SeriesAddress>, after: Option<&SeriesState>) {
        if self.kind != Kind::Untyped {
            return;
        }
        let before = address.and_then(|address| self.state(address));
        self.no_counters -= usize::from(before.as_ref().is_some_and(SeriesState::is_no_counter));
        self.no_counters += usize::from(after.is_some_and(SeriesState::is_no_counter));
    }

    /// Adds a series, given by its labels and their hash. It must not exist.
    pub fn insert(
        &mut self,
        (hash, labels): (u64, &str),
        state: SeriesState,
        deadline: Nanos,
        now: Nanos,
    ) -> SeriesAddress {
        self.recount(None, Some(&state));
        let number = match self.open.first() {
            Some(number) => *number,
            None => self.add_block(),
        };
        let block =
            self.blocks[number as usize].get_or_insert_with(|| Box::new(Block::new(self.kind)));
        let slot = block.insert(labels, state, deadline, now);
        if !block.has_room() {
            self.open.remove(&number);
        }
        let address = SeriesAddress::new(number, slot);
        let entry = IndexEntry::new(hash, address);
        self.index
            .insert_unique(entry.table_hash(), entry, IndexEntry::table_hash);
        address
    }

    /// Adds a block under a number that no block has.
    ///
    /// # Errors
    ///
    /// The labels of a series that the family has already. The family is then in an undefined
    /// state.
    pub fn restore_block(
        &mut self,
        hasher: &RandomState,
        number: u32,
        block: Block,
    ) -> Result<(), String> {
        for missing in self.blocks()..=number {
            self.free.insert(missing);
            self.blocks.push(None);
        }
        self.free.remove(&number);
        if block.has_room() {
            self.open.insert(number);
        }
        let hashes = block.labels().iter();
        let hashes = hashes.map(|(slot, labels)| (slot, hasher.hash_one(labels)));
        let hashes: Vec<(usize, u64)> = hashes.collect();
        self.blocks[number as usize] = Some(Box::new(block));
        for (slot, hash) in hashes {
            let address = SeriesAddress::new(number, slot);
            let labels = self.labels(address).unwrap_or_default();
            if self.find(hash, labels).is_some() {
                return Err(labels.to_owned());
            }
            let entry = IndexEntry::new(hash, address);
            self.index
                .insert_unique(entry.table_hash(), entry, IndexEntry::table_hash);
            if self.kind == Kind::Untyped {
                let state = self.state(address);
                self.no_counters += usize::from(state.is_some_and(|it| it.is_no_counter()));
            }
        }
        Ok(())
    }

    /// Reserves memory for the addresses of `series` more series.
    pub fn reserve(&mut self, series: usize) {
        self.index.reserve(series, IndexEntry::table_hash);
    }

    fn add_block(&mut self) -> u32 {
        let number = self.free.pop_first().unwrap_or_else(|| {
            assert!(
                self.blocks.len() < MAX_BLOCKS,
                "a family has too many series"
            );
            self.blocks.push(None);
            self.blocks.len() as u32 - 1
        });
        self.open.insert(number);
        number
    }

    /// Replaces the state of a series.
    pub fn set(&mut self, address: SeriesAddress, state: SeriesState, deadline: Nanos, now: Nanos) {
        self.recount(Some(address), Some(&state));
        let has_many_lines = matches!(self.kind, Kind::Histogram | Kind::Summary);
        if let Some(block) = self.block_mut(address.block()) {
            block.set(address.slot(), state, deadline, now);
            // The number of lines may have changed, and with it the room.
            if has_many_lines {
                let has_room = block.has_room();
                if has_room {
                    self.open.insert(address.block());
                } else {
                    self.open.remove(&address.block());
                }
            }
        }
    }

    /// Removes a series. Returns its block if that is empty now, and no longer
    /// part of the family.
    pub fn remove(&mut self, hasher: &RandomState, address: SeriesAddress) -> Option<Box<Block>> {
        let hash = table_hash(hasher.hash_one(self.labels(address)?) as u32);
        self.recount(Some(address), None);
        let found = self
            .index
            .find_entry(hash, |entry| entry.address == address);
        if let Ok(entry) = found {
            entry.remove();
        }
        // The table grows by itself, but never shrinks.
        if self.index.capacity() > 4 * self.index.len() + 64 {
            let capacity = 2 * self.index.len();
            self.index.shrink_to(capacity, IndexEntry::table_hash);
        }
        let number = address.block();
        let block = self.block_mut(number)?;
        block.remove(address.slot());
        if !block.is_empty() {
            self.open.insert(number);
            return None;
        }
        self.open.remove(&number);
        self.free.insert(number);
        self.blocks[number as usize].take()
    }
}
