//! A living family: its series in blocks, and where to find each.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;

use super::block::{Block, PLACES};
use super::state::State;
use super::window::Window;
use crate::exposition::Kind;

/// Where a series is in its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot(u32);

impl Slot {
    pub fn new(block: u32, place: usize) -> Self {
        Slot(block * PLACES as u32 + place as u32)
    }

    pub fn block(self) -> u32 {
        self.0 / PLACES as u32
    }

    pub fn place(self) -> usize {
        self.0 as usize % PLACES
    }
}

/// Blocks of one family; their slots fit 32 bits.
pub const MOST_BLOCKS: usize = u32::MAX as usize / PLACES;

/// A series in the index. A part of its hash is kept, so that the table grows
/// without looking at any text.
#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u32,
    slot: Slot,
}

impl Entry {
    fn new(hash: u64, slot: Slot) -> Self {
        Entry {
            hash: hash as u32,
            slot,
        }
    }

    /// What it stands under in the table, which looks at the lowest and at the
    /// highest bits.
    fn key(&self) -> u64 {
        key_of(self.hash)
    }
}

fn key_of(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

#[derive(Debug)]
pub struct Family {
    pub name: Arc<str>,
    pub kind: Kind,
    pub help: Option<Arc<str>>,
    /// The bounds of its first histogram.
    pub bounds: Option<Arc<[f64]>>,
    /// Series whose values no counter has; counted while the family is
    /// untyped.
    pub uncountable: usize,
    /// Where series are, by the hash of their labels. Each text is held once,
    /// in its block.
    index: HashTable<Entry>,
    /// By number. The place of one that is empty is taken by the next.
    blocks: Vec<Option<Box<Block>>>,
    free: BTreeSet<u32>,
    /// Blocks that take more series, lowest first: so the family keeps
    /// together.
    open: BTreeSet<u32>,
}

impl Family {
    pub fn new(name: Arc<str>, kind: Kind) -> Self {
        Family {
            name,
            kind,
            help: None,
            bounds: None,
            uncountable: 0,
            index: HashTable::new(),
            blocks: Vec::new(),
            free: BTreeSet::new(),
            open: BTreeSet::new(),
        }
    }

    /// Series that live.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// The series of these labels, whose hash is known.
    pub fn find(&self, hash: u64, labels: &str) -> Option<Slot> {
        let part = hash as u32;
        let same = |own: &Entry| own.hash == part && self.is(own.slot, labels);
        self.index.find(key_of(part), same).map(|own| own.slot)
    }

    /// Looks at all memory that finding and changing a series looks at.
    pub fn touch(&self, hash: u64) -> u64 {
        let part = hash as u32;
        let entry = self.index.find(key_of(part), |own| own.hash == part);
        let slot = entry.map(|own| own.slot);
        slot.and_then(|slot| Some(self.block(slot.block())?.touch(slot.place())))
            .unwrap_or_default()
    }

    fn is(&self, slot: Slot, labels: &str) -> bool {
        let block = self.block(slot.block());
        block.is_some_and(|block| block.labels().is(slot.place(), labels))
    }

    pub fn labels(&self, slot: Slot) -> Option<&str> {
        self.block(slot.block())?.labels().get(slot.place())
    }

    pub fn state(&self, slot: Slot) -> Option<State> {
        Some(self.block(slot.block())?.state(slot.place()))
    }

    /// See [`Block::is_like`].
    pub fn is_like(&self, slot: Slot, state: &State) -> bool {
        let block = self.block(slot.block());
        block.is_some_and(|block| block.is_like(slot.place(), state))
    }

    /// Slots and labels of all series.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &str)> {
        let blocks = (0_u32..).zip(&self.blocks);
        blocks.flat_map(|(number, block)| {
            let series = block.iter().flat_map(|block| block.labels().iter());
            series.map(move |(place, labels)| (Slot::new(number, place), labels))
        })
    }

    /// Numbers of blocks are below this; some have no block.
    pub fn blocks(&self) -> u32 {
        self.blocks.len() as u32
    }

    pub fn block(&self, number: u32) -> Option<&Block> {
        self.blocks.get(number as usize)?.as_deref()
    }

    pub fn block_mut(&mut self, number: u32) -> Option<&mut Block> {
        self.blocks.get_mut(number as usize)?.as_deref_mut()
    }

    /// Gives a type to a family that had none. Numbers stay as they are.
    pub fn set_kind(&mut self, kind: Kind) {
        self.kind = kind;
        self.uncountable = 0;
    }

    /// Takes note that a series is no more what it was, but `after`.
    fn recount(&mut self, slot: Option<Slot>, after: Option<&State>) {
        if self.kind != Kind::Untyped {
            return;
        }
        let before = slot.and_then(|slot| self.state(slot));
        self.uncountable -= usize::from(before.as_ref().is_some_and(is_uncountable));
        self.uncountable += usize::from(after.is_some_and(is_uncountable));
    }

    /// Adds a series that is not there, and returns where it is now.
    pub fn insert(
        &mut self,
        (hash, labels): (u64, &str),
        state: State,
        deadline: u64,
        now: u64,
    ) -> Slot {
        self.recount(None, Some(&state));
        let number = match self.open.first() {
            Some(number) => *number,
            None => self.add_block(),
        };
        let block =
            self.blocks[number as usize].get_or_insert_with(|| Box::new(Block::new(self.kind)));
        let place = block.insert(labels, state, deadline, now);
        if !block.has_room() {
            self.open.remove(&number);
        }
        let slot = Slot::new(number, place);
        let entry = Entry::new(hash, slot);
        self.index.insert_unique(entry.key(), entry, Entry::key);
        slot
    }

    fn add_block(&mut self) -> u32 {
        let number = self.free.pop_first().unwrap_or_else(|| {
            assert!(
                self.blocks.len() < MOST_BLOCKS,
                "a family has too many series"
            );
            self.blocks.push(None);
            self.blocks.len() as u32 - 1
        });
        self.open.insert(number);
        number
    }

    /// Makes a series what it is from now on.
    pub fn set(&mut self, slot: Slot, state: State, deadline: u64, now: u64) {
        self.recount(Some(slot), Some(&state));
        let of_lines = matches!(self.kind, Kind::Histogram | Kind::Summary);
        if let Some(block) = self.block_mut(slot.block()) {
            block.set(slot.place(), state, deadline, now);
            // Bounds that come and go make room, or take it.
            if of_lines {
                let room = block.has_room();
                if room {
                    self.open.insert(slot.block());
                } else {
                    self.open.remove(&slot.block());
                }
            }
        }
    }

    /// Removes a series. Returns its block if that was the last one in it.
    pub fn remove(&mut self, hasher: &RandomState, slot: Slot) -> Option<Box<Block>> {
        let key = key_of(hasher.hash_one(self.labels(slot)?) as u32);
        self.recount(Some(slot), None);
        if let Ok(entry) = self.index.find_entry(key, |own| own.slot == slot) {
            entry.remove();
        }
        // Tables only grow by themselves.
        if self.index.capacity() > 4 * self.index.len() + 64 {
            self.index.shrink_to(2 * self.index.len(), Entry::key);
        }
        let number = slot.block();
        let block = self.block_mut(number)?;
        block.remove(slot.place());
        if !block.is_empty() {
            self.open.insert(number);
            return None;
        }
        self.open.remove(&number);
        self.free.insert(number);
        self.blocks[number as usize].take()
    }
}

/// Whether a counter cannot have this value.
pub fn is_uncountable(state: &State) -> bool {
    matches!(state, State::Value(value) if !(value.is_finite() && *value >= 0.0))
}

/// About the memory that a series takes with its text in the output, the
/// entries by which it is found, and those in the store's index.
pub fn weight_of(name: &str, labels: &str, state: &State) -> usize {
    const SERIES: usize = 48;
    const LINE: usize = 40 + 16;
    let lines = state.lines();
    let more = match state {
        State::Value(_) => 0,
        State::Window(_) => Window::WEIGHT,
        State::Summary(_) => 32,
        State::Histogram(histogram) => {
            let bounds = histogram.bounds.len();
            let parts = histogram.parts.as_ref().map_or(0, |_| 8 * (bounds + 1));
            104 + bounds * (size_of::<f64>() + 12) + parts
        }
    };
    labels.len() + SERIES + more + lines * (name.len() + labels.len() + LINE)
}

/// The same of a family without its series.
pub fn family_weight(name: &str, help: Option<&str>) -> usize {
    const FAMILY: usize = 1536;
    FAMILY + 4 * name.len() + help.map_or(0, help_weight)
}

/// A help is kept here and with the names of all families, and is shown.
pub fn help_weight(help: &str) -> usize {
    3 * help.len()
}
