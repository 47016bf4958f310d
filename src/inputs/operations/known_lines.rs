//! Recognizes StatsD lines that repeat with other values.
//!
//! Most lines of a StatsD client differ from an earlier one only in the value.
//! [`KnownLines`] remembers the result of a line: the series, and how to read its value. A
//! repeated line then takes one look-up, one number and one change in place; see
//! [`KnownSeries`]. All others are parsed and translated, and most of them learned. Never
//! learned are lines with several values, sets, and rejected lines.

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

/// The limit on lines. Beyond it all are forgotten, and those in use are learned again.
const MAX_LINES: usize = 32 << 10;

/// Longer lines are not learned. With this limit, the lines of a socket take at most about
/// 20 MB, and usually a quarter of that.
const MAX_LENGTH: usize = 256;

/// The known lines of one socket, for one set of settings.
#[derive(Debug)]
pub(super) struct KnownLines {
    /// The labels added to every series. If they change, lines stand for other series.
    added: Arc<Vec<(String, String)>>,
    seed: u64,
    places: HashTable<Place>,
    lines: Vec<KnownLine>,
}

/// An entry of the table. Its part of the hash nearly always tells lines apart without a
/// look at their texts.
#[derive(Debug, Clone, Copy)]
struct Place {
    part: u32,
    index: u32,
}

/// A line to look up together with others.
#[derive(Debug)]
pub(super) struct Lookup<'b> {
    pub(super) line: &'b [u8],
    /// `None` for a line with several values.
    parts: Option<Parts<'b>>,
    hash: u64,
    /// The index of the line that probably matches, from [`KnownLines::prefetch`].
    index: Option<u32>,
}

/// The result of lines that differ only in their values.
#[derive(Debug)]
pub(super) struct KnownLine {
    hash: u64,
    /// The line without its value.
    text: Box<[u8]>,
    /// The number of bytes before the value.
    head: usize,
    /// The result of the rules for the name.
    pub(super) matched: Option<Matched>,
    /// The series, and the reader of its value; `None` if a rule drops the line.
    pub(super) series: Option<(KnownSeries, ValueReader)>,
}

/// The parts of a line with a single value.
#[derive(Debug, Clone, Copy)]
struct Parts<'b> {
    head: &'b [u8],
    value: &'b [u8],
    tail: &'b [u8],
}

/// The result of a known line with its value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Found {
    /// A rule drops the line.
    Dropped(Option<Matched>),
    /// The index of the line, and the change to its series.
    Change(u32, ValueChange),
}

impl Default for KnownLines {
    fn default() -> Self {
        KnownLines {
            added: Arc::default(),
            // A random seed keeps senders from choosing lines whose hashes collide.
            seed: RandomState::new().hash_one(0),
            places: HashTable::new(),
            lines: Vec::new(),
        }
    }
}

impl<'b> Parts<'b> {
    /// Splits a line: the name ends at the first colon, and the value at the next bar.
    /// `None` for a line with several values.
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

    /// Starts the look-up of a line.
    pub(super) fn lookup<'b>(&self, line: &'b [u8]) -> Lookup<'b> {
        let parts = Parts::of(line);
        Lookup {
            line,
            parts,
            hash: parts.map_or(0, |parts| parts.hash(self.seed)),
            index: None,
        }
    }

    /// Reads the memory that [`find`](Self::find) needs for these lines, so that it is in
    /// the cache by then.
    ///
    /// Finding one line takes several dependent reads. Here the reads of different lines overlap.
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
        // The sum is meaningless, but without it the compiler would remove the reads.
        black_box(lookups.iter().filter_map(read).fold(0, u64::wrapping_add));
    }

    /// Finds a line and reads its value; `None` if the line must be parsed.
    pub(super) fn find(&self, lookup: &Lookup<'_>) -> Option<Found> {
        let parts = lookup.parts?;
        // Lines may have been learned or forgotten since the prefetch.
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

    /// Remembers the result of a line with one value: `series`, or nothing if a rule drops it.
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
