//! Milliseconds of rows, for tables whose primary key ends with the timestamp.
//!
//! There, two values of a series in one millisecond would be one row. So the second value
//! moves to the next free millisecond. A value that is sent again gets its former millisecond.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem::swap;

use foldhash::quality::RandomState;

/// The minimum number of remembered rows: enough for some seconds, in about 15 MB.
const REMEMBERED: usize = 100_000;

/// The largest shift of a value, in milliseconds. A burst of this many values of a series has
/// room.
pub const MAX_SHIFT: i64 = 60_000;

/// The milliseconds that recent rows have taken.
#[derive(Debug)]
pub struct Slots {
    /// The millisecond of an event.
    of_event: Recent<u128, i64>,
    /// The taken milliseconds of a series, by a hash of the primary key without the
    /// timestamp. Each leads to a later one that may be free.
    next: Recent<(u64, i64), i64>,
}

impl Default for Slots {
    fn default() -> Self {
        Slots {
            of_event: Recent::new(),
            next: Recent::new(),
        }
    }
}

impl Slots {
    /// Remembers at least this many rows, which can be sent again.
    pub fn remember(&mut self, rows: usize) {
        self.of_event.limit = self.of_event.limit.max(rows);
        self.next.limit = self.next.limit.max(2 * rows);
    }

    /// The first free millisecond for the event `id`, from `wanted` on. `None` if there is none
    /// within [`MAX_SHIFT`].
    pub fn take(&mut self, key: u64, wanted: i64, id: u128) -> Option<i64> {
        if let Some(milli) = self.of_event.get(&id) {
            return Some(milli);
        }
        let mut milli = wanted;
        while let Some(next) = self.next.get(&(key, milli)) {
            milli = next;
            if milli.saturating_sub(wanted) > MAX_SHIFT {
                return None;
            }
        }
        let next = milli.saturating_add(1);
        self.next.insert((key, milli), next);
        if milli != wanted {
            // The next value with this time can skip those in between.
            self.next.insert((key, wanted), next);
        }
        self.of_event.insert(id, milli);
        Some(milli)
    }
}

/// A map that forgets its oldest entries: it keeps between `limit` and twice as many.
#[derive(Debug)]
struct Recent<K, V> {
    limit: usize,
    newer: HashMap<K, V, RandomState>,
    older: HashMap<K, V, RandomState>,
}

impl<K: Eq + Hash, V: Copy> Recent<K, V> {
    fn new() -> Self {
        Recent {
            limit: REMEMBERED,
            newer: HashMap::default(),
            older: HashMap::default(),
        }
    }

    fn get(&self, key: &K) -> Option<V> {
        self.newer.get(key).or_else(|| self.older.get(key)).copied()
    }

    fn insert(&mut self, key: K, value: V) {
        if self.newer.len() >= self.limit {
            swap(&mut self.newer, &mut self.older);
            self.newer.clear();
        }
        self.newer.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_one_millisecond_get_different_ones_and_keep_them() {
        let mut slots = Slots::default();
        let first: Vec<_> = (0..4).map(|id| slots.take(7, 100, id)).collect();
        assert_eq!(first, [Some(100), Some(101), Some(102), Some(103)]);
        assert_eq!(slots.take(7, 100, 2), Some(102), "sent again");
        assert_eq!(slots.take(8, 100, 9), Some(100), "another series");
        assert_eq!(slots.take(7, 102, 10), Some(104));
        assert_eq!(slots.take(7, 99, 11), Some(99));
        assert_eq!(slots.take(7, 99, 12), Some(105));
    }

    #[test]
    fn a_series_with_too_many_values_has_no_place_for_more() {
        let mut slots = Slots::default();
        for id in 0..=MAX_SHIFT {
            let milli = slots.take(7, 0, u128::try_from(id).unwrap());
            assert_eq!(milli, Some(id));
        }
        assert_eq!(slots.take(7, 0, 500_000), None);
        assert_eq!(slots.take(7, 1, 500_000), Some(MAX_SHIFT + 1));
    }

    #[test]
    fn old_rows_are_forgotten() {
        let mut slots = Slots::default();
        let rows = u32::try_from(REMEMBERED).unwrap();
        for key in 0..3 * rows {
            slots.take(key.into(), 0, key.into());
        }
        for map in [slots.next.newer.len(), slots.of_event.newer.len()] {
            assert!(map <= REMEMBERED);
        }
        assert_eq!(slots.take(0, 0, u128::MAX), Some(0), "forgotten");
        let last = u64::from(3 * rows - 1);
        assert_eq!(slots.take(last, 0, u128::MAX - 1), Some(1));
    }
}
