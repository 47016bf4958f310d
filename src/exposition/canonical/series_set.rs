//! The series of one family while its samples are read.

use crate::exposition::series::SeriesHashes;

/// The series hashes of one family, which finds repeated series. Those of different
/// families differ by their names, and a small set stays in the processor's cache.
pub(super) struct SeriesSet {
    /// In the order of the samples.
    hashes: Vec<u64>,
    /// An open-addressed table of the hashes; 0 is a free slot. The length is a
    /// power of two, or 0 for no hashes.
    slots: Vec<u64>,
}

impl SeriesSet {
    /// An empty set for a text of `expected` series.
    pub(super) fn new(expected: usize) -> Self {
        let series = expected.min(USUAL_SERIES);
        let slots = (2 * series).next_power_of_two();
        SeriesSet {
            hashes: Vec::with_capacity(series),
            slots: Vec::with_capacity(slots.max(FEWEST_SLOTS)),
        }
    }

    /// Takes the hashes and empties the set. Its memory is reused.
    pub(super) fn take(&mut self) -> SeriesHashes {
        let hashes = SeriesHashes::from(&self.hashes[..]);
        self.hashes.clear();
        self.slots.clear();
        hashes
    }

    /// Adds a hash. `None` if the set has it or cannot hold it.
    pub(super) fn add(&mut self, hash: u64) -> Option<()> {
        self.hashes.push(hash);
        if self.hashes.len() * 2 > self.slots.len() {
            let slots = (self.slots.len() * 2).max(FEWEST_SLOTS);
            self.slots.clear();
            self.slots.resize(slots, 0);
            let (last, before) = self.hashes.split_last()?;
            debug_assert_eq!(*last, hash);
            for hash in before {
                put(&mut self.slots, *hash)?;
            }
        }
        put(&mut self.slots, hash)
    }
}

/// Slots of a family of few series.
const FEWEST_SLOTS: usize = 64;

/// How many series of a family there is room for at first, if the text is long enough.
const USUAL_SERIES: usize = 256;

fn put(slots: &mut [u64], hash: u64) -> Option<()> {
    if hash == 0 {
        return None;
    }
    let mask = slots.len() - 1;
    let mut at = hash as usize & mask;
    while slots[at] != 0 {
        if slots[at] == hash {
            return None;
        }
        at = (at + 1) & mask;
    }
    slots[at] = hash;
    Some(())
}
