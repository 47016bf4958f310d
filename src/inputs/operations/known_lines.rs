//! Lines that come again with other values.
//!
//! Most lines of a StatsD client differ from an earlier one only in the value. [`KnownLines`] remembers what became of a
//! line: the series, and how its value is read. Such a line is then one look-up, one number and one change in place; see
//! [`KnownSeries`]. Everything else goes the long way, which also teaches: a line with several values, a set, a line that is
//! rejected, and each line the first time.

use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::str;
use std::sync::Arc;

use hashbrown::HashTable;
use memchr::{memchr, memchr2};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::mapping::Matched;
use super::statsd::ValueReader;
use crate::registry::{KnownSeries, Update, ValueChange};

/// The most lines. Then all are forgotten, and those in use are learned again.
const MAX_LINES: usize = 32 << 10;

/// Longer lines are not learned. With it, a socket's lines take at most about 20 MB, and usually a quarter of that.
const MAX_LENGTH: usize = 256;

/// The lines of one socket, for one set of settings.
#[derive(Debug)]
pub(super) struct KnownLines {
    /// The labels that are added to every series; with others, lines have other series.
    added: Arc<Vec<(String, String)>>,
    seed: u64,
    places: HashTable<Place>,
    lines: Vec<KnownLine>,
}

/// An entry of the table. Its part of the hash nearly always tells a line from others, without a look at their texts.
#[derive(Debug, Clone, Copy)]
struct Place {
    part: u32,
    index: u32,
}

/// A line that is looked up together with others.
#[derive(Debug)]
pub(super) struct Lookup<'b> {
    pub(super) line: &'b [u8],
    /// `None` for a line with several values.
    parts: Option<Parts<'b>>,
    hash: u64,
    /// The number of the line that has its hash.
    index: Option<u32>,
}

/// What is known of lines that differ only in their values.
#[derive(Debug)]
pub(super) struct KnownLine {
    hash: u64,
    /// The line without its value.
    text: Box<[u8]>,
    /// Bytes before the value.
    head: usize,
    /// What rules made of the name.
    pub(super) matched: Option<Matched>,
    /// The series, and how the value is read; `None` if a rule drops the line.
    pub(super) series: Option<(KnownSeries, ValueReader)>,
}

/// A line around its only value.
#[derive(Debug, Clone, Copy)]
struct Parts<'b> {
    head: &'b [u8],
    value: &'b [u8],
    tail: &'b [u8],
}

/// A known line with its value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Found {
    /// A rule drops it.
    Dropped(Option<Matched>),
    /// The number of the line, and the change of its series.
    Change(u32, ValueChange),
}

impl Default for KnownLines {
    fn default() -> Self {
        KnownLines {
            added: Arc::default(),
            // Senders cannot choose lines whose hashes collide.
            seed: RandomState::new().hash_one(0),
            places: HashTable::new(),
            lines: Vec::new(),
        }
    }
}

impl<'b> Parts<'b> {
    /// The name ends at the first colon, and the value at the next bar. `None` for a line with several values.
    fn of(line: &'b [u8]) -> Option<Self> {
        let (head, rest) = line.split_at(memchr(b':', line)? + 1);
        let end = memchr2(b'|', b':', rest).filter(|end| rest[*end] == b'|')?;
        let (value, tail) = rest.split_at(end);
        Some(Parts { head, value, tail })
    }

    fn hash(self, seed: u64) -> u64 {
        xxh3_64_with_seed(self.tail, xxh3_64_with_seed(self.head, seed))
    }

    fn is_of(&self, known: &KnownLine) -> bool {
        let (head, tail) = known.text.split_at(known.head);
        self.head == head && self.tail == tail
    }
}

impl KnownLines {
    /// Forgets lines that were learned with other labels.
    pub(super) fn expect_labels(&mut self, added: &Arc<Vec<(String, String)>>) {
        if self.added != *added {
            self.forget();
            self.added = Arc::clone(added);
        }
    }

    /// Begins to look up a line.
    pub(super) fn lookup<'b>(&self, line: &'b [u8]) -> Lookup<'b> {
        let parts = Parts::of(line);
        Lookup {
            line,
            parts,
            hash: parts.map_or(0, |parts| parts.hash(self.seed)),
            index: None,
        }
    }

    /// Reads the memory that [`find`](Self::find) reads for these lines, so that it is in the cache then.
    ///
    /// Finding a line takes several reads that each wait for the one before. Here the reads of different lines do not wait
    /// for one another.
    pub(super) fn prefetch(&self, lookups: &mut [Lookup<'_>]) {
        for lookup in &mut *lookups {
            if lookup.parts.is_some() {
                let part = lookup.hash as u32;
                let found = self.places.find(lookup.hash, |place| place.part == part);
                lookup.index = found.map(|place| place.index);
            }
        }
        let read = |lookup: &Lookup<'_>| {
            let known = self.lines.get(lookup.index? as usize)?;
            let (series, _) = known.series.as_ref()?;
            Some(known.hash ^ series.prefetch() ^ u64::from(*known.text.first()?))
        };
        // The sum has no meaning, but without it the reads would be removed.
        black_box(lookups.iter().filter_map(read).fold(0, u64::wrapping_add));
    }

    /// A line with its value; `None` if it has to go the long way.
    pub(super) fn find(&self, lookup: &Lookup<'_>) -> Option<Found> {
        let parts = lookup.parts?;
        // Lines may have been learned or forgotten since.
        let is_same = |index: &u32| {
            let known = self.lines.get(*index as usize);
            known.is_some_and(|known| known.hash == lookup.hash && parts.is_of(known))
        };
        let index = lookup.index.filter(is_same);
        let index = index.or_else(|| self.place(&parts, lookup.hash))?;
        let known = &self.lines[index as usize];
        let Some((_, reader)) = &known.series else {
            return Some(Found::Dropped(known.matched));
        };
        let change = reader.read(str::from_utf8(parts.value).ok()?).ok()?;
        Some(Found::Change(index, change))
    }

    pub(super) fn line(&self, index: u32) -> &KnownLine {
        &self.lines[index as usize]
    }

    /// Remembers what became of a line with one value: `update`, or nothing if a rule drops it.
    pub(super) fn learn(
        &mut self,
        line: &[u8],
        matched: Option<Matched>,
        series: Option<(&Update, ValueReader)>,
    ) {
        let Some(parts) = Parts::of(line).filter(|_| line.len() <= MAX_LENGTH) else {
            return;
        };
        let hash = parts.hash(self.seed);
        if self.place(&parts, hash).is_some() {
            return;
        }
        if self.lines.len() >= MAX_LINES {
            self.forget();
        }
        let index = self.lines.len() as u32;
        self.lines.push(KnownLine {
            hash,
            text: [parts.head, parts.tail].concat().into(),
            head: parts.head.len(),
            matched,
            series: series.map(|(update, reader)| (KnownSeries::of(update), reader)),
        });
        let lines = &self.lines;
        let place = Place {
            part: hash as u32,
            index,
        };
        self.places
            .insert_unique(hash, place, |place| lines[place.index as usize].hash);
    }

    /// The number of lines.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    fn place(&self, parts: &Parts<'_>, hash: u64) -> Option<u32> {
        let is_same = |place: &Place| {
            let known = &self.lines[place.index as usize];
            known.hash == hash && parts.is_of(known)
        };
        self.places.find(hash, is_same).map(|place| place.index)
    }

    fn forget(&mut self) {
        self.places.clear();
        self.lines.clear();
    }
}
