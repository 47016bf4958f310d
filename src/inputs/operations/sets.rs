//! StatsD sets, which count their distinct values.
//!
//! A set remembers an eight-byte hash of each value. The values of one set and of all sets
//! together are limited. A set is forgotten with its series: by `del`, or when it expires.
//! Sets are stored together with their series, so the hash is the same in every run.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::config::Config;
use super::rejection::Rejection;
use crate::clock::Now;
use crate::exposition::LabelText;
use crate::reason::Reason;

/// The limit on values of all sets together: about 32 MB.
const MAX_VALUES: usize = 1_000_000;

/// The memory of a set in addition to its values, counted in values.
const SET_OVERHEAD: usize = 16;

/// Sets with more values are stored in parts, so that a new value rewrites only one of them.
const MAX_WHOLE: usize = 1024;

/// The number of parts of such a set.
pub(super) const PARTS: u32 = 64;

/// The distinct values of all sets.
#[derive(Debug)]
pub struct Sets {
    values: Mutex<ValuesBySeries>,
}

/// Family and labels.
pub(super) type SeriesKey = (Arc<str>, LabelText);

#[derive(Debug, Default)]
pub(super) struct ValuesBySeries {
    /// The limit on values of one set.
    max_values: usize,
    /// The time without an added value after which a set expires.
    ttl: Option<Duration>,
    pub(super) sets: HashMap<SeriesKey, Set>,
    /// The number of values in all sets, plus [`SET_OVERHEAD`] for each set.
    size: usize,
    /// The changes since they were last taken, if sets are stored.
    pub(super) changed: Option<HashMap<SeriesKey, ChangedSet>>,
}

/// The changes of one set.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ChangedSet {
    /// One bit for each part with a new value.
    pub(super) parts: u64,
    /// Whether the set was forgotten while parts of it may be stored.
    pub(super) had_parts: bool,
}

#[derive(Debug)]
pub(super) struct Set {
    pub(super) values: HashSet<u64>,
    pub(super) updated: Now,
}

impl Sets {
    /// Creates an empty collection with the configured limits.
    pub(super) fn of(config: &Config) -> Self {
        let sets = Sets::new(0, None);
        sets.set_limits(config);
        sets
    }

    /// Changes the limits. A set beyond a lower limit keeps its values.
    pub(super) fn set_limits(&self, config: &Config) {
        let mut all = self.lock();
        all.max_values = config.max_set_values;
        all.ttl = Some(config.ttl).filter(|ttl| !ttl.is_zero());
    }

    fn new(max_values: usize, ttl: Option<Duration>) -> Self {
        Sets {
            values: Mutex::new(ValuesBySeries {
                max_values,
                ttl,
                ..ValuesBySeries::default()
            }),
        }
    }

    /// Adds a value, and passes the new size of the set to `store_count`. If the series no
    /// longer exists, for example because it was deleted over HTTP, the set starts empty.
    ///
    /// # Errors
    ///
    /// A limit is reached, or `store_count` rejects the size. The set is then unchanged.
    pub(super) fn add(
        &self,
        family: &Arc<str>,
        labels: &LabelText,
        value: &str,
        now: Now,
        series_exists: impl FnOnce() -> bool,
        store_count: impl FnOnce(f64) -> Result<(), Rejection>,
    ) -> Result<(), Rejection> {
        let value = xxh3_64(value.as_bytes());
        let key = (Arc::clone(family), labels.clone());
        let mut all = self.lock();
        let fresh = |set: &&Set| !all.is_expired(set, now);
        let existing = all.sets.get(&key).filter(fresh);
        let existing = existing.filter(|_| series_exists());
        let count = existing.map_or(0, |set| set.values.len());
        let new = existing.is_none_or(|set| !set.values.contains(&value));
        if new && count >= all.max_values {
            let problem = format!(
                "the set has {count} distinct values; the limit is {} (operations.max_set_values)",
                all.max_values
            );
            return Err(Rejection::new(Reason::TooManySeries, problem));
        }
        if new && all.size + SET_OVERHEAD >= MAX_VALUES {
            let problem = format!(
                "the limit of {MAX_VALUES} distinct values in all sets together is reached"
            );
            return Err(Rejection::new(Reason::TooManySeries, problem));
        }
        store_count((count + usize::from(new)) as f64)?;
        if count == 0 {
            all.forget(&key);
            all.size += SET_OVERHEAD;
        }
        let set = all.sets.entry(key.clone()).or_insert_with(|| Set {
            values: HashSet::new(),
            updated: now,
        });
        set.updated = now;
        let is_added = set.values.insert(value);
        let parts = match (is_added, set.values.len()) {
            (false, _) => 0,
            // The set was stored whole before.
            (true, count) if count == MAX_WHOLE + 1 => u64::MAX,
            (true, _) => 1 << part_of(value),
        };
        all.size += usize::from(is_added);
        all.note(&key, parts, false);
        Ok(())
    }

    /// Forgets a set whose series is deleted.
    pub(super) fn forget(&self, family: &Arc<str>, labels: &LabelText) {
        let mut all = self.lock();
        if !all.sets.is_empty() {
            all.forget(&(Arc::clone(family), labels.clone()));
        }
    }

    /// Forgets expired sets.
    pub(super) fn expire(&self, now: Now) {
        let mut all = self.lock();
        if all.ttl.is_none() {
            return;
        }
        let expired: Vec<SeriesKey> = all
            .sets
            .iter()
            .filter(|(_, set)| all.is_expired(set, now))
            .map(|(key, _)| key.clone())
            .collect();
        for key in expired {
            all.forget(&key);
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ValuesBySeries> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ValuesBySeries {
    pub(super) fn is_expired(&self, set: &Set, now: Now) -> bool {
        self.ttl.is_some_and(|ttl| now.since(set.updated) >= ttl)
    }

    fn forget(&mut self, key: &SeriesKey) {
        if let Some(set) = self.sets.remove(key) {
            self.size -= set.values.len() + SET_OVERHEAD;
            self.note(key, 0, set.has_parts());
        }
    }

    /// Restores a stored set. Returns false if the limit on all sets leaves no room for it.
    pub(super) fn put(&mut self, key: SeriesKey, set: Set) -> bool {
        let size = set.values.len() + SET_OVERHEAD;
        let fits = self.size + size <= MAX_VALUES;
        if fits {
            self.size += size;
            self.sets.insert(key, set);
        }
        fits
    }

    /// Notes that a set changed or was forgotten, if sets are stored.
    pub(super) fn note(&mut self, key: &SeriesKey, parts: u64, had_parts: bool) {
        if let Some(changed) = &mut self.changed {
            let noted = changed.entry(key.clone()).or_default();
            noted.parts |= parts;
            noted.had_parts |= had_parts;
        }
    }
}

impl Set {
    /// Whether it is stored in parts.
    pub(super) fn has_parts(&self) -> bool {
        self.values.len() > MAX_WHOLE
    }
}

/// The part that a value is stored in.
pub(super) fn part_of(value: u64) -> u32 {
    (value % u64::from(PARTS)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Disk, moved};

    impl Sets {
        /// The number of sets, and their size.
        fn held(&self) -> (usize, usize) {
            let all = self.lock();
            (all.sets.len(), all.size)
        }
    }

    fn add(sets: &Sets, labels: &str, value: &str, now: Now) -> Option<f64> {
        let labels = LabelText::from_plain([("l", labels)]).unwrap();
        let mut count = None;
        let added = sets.add(
            &Arc::from("s"),
            &labels,
            value,
            now,
            || true,
            |found| {
                count = Some(found);
                Ok(())
            },
        );
        added.ok().and(count)
    }

    #[test]
    fn distinct_values_are_counted_up_to_the_limit() {
        let sets = Sets::new(2, None);
        let now = Now::read();
        assert_eq!(add(&sets, "a", "x", now), Some(1.0));
        assert_eq!(add(&sets, "a", "x", now), Some(1.0));
        assert_eq!(add(&sets, "a", "y", now), Some(2.0));
        assert_eq!(add(&sets, "a", "z", now), None);
        assert_eq!(add(&sets, "a", "y", now), Some(2.0));
        assert_eq!(add(&sets, "b", "z", now), Some(1.0));
        assert_eq!(sets.lock().size, 3 + 2 * SET_OVERHEAD);
    }

    #[test]
    fn a_set_whose_series_is_gone_starts_empty() {
        let sets = Sets::new(3, None);
        let (family, labels) = (Arc::from("s"), LabelText::default());
        let mut counts = Vec::new();
        for (value, exists) in [("x", true), ("y", true), ("y", false), ("z", true)] {
            let store = |count| {
                counts.push(count);
                Ok(())
            };
            let now = Now::read();
            sets.add(&family, &labels, value, now, || exists, store)
                .unwrap();
        }
        assert_eq!(counts, [1.0, 2.0, 1.0, 2.0]);
        assert_eq!(sets.held(), (1, 2 + SET_OVERHEAD));
    }

    #[test]
    fn a_value_that_the_store_rejects_is_not_remembered() {
        let sets = Sets::new(2, None);
        let reject = |_| Err(Rejection::new(Reason::KindConflict, "no"));
        let labels = LabelText::default();
        let rejected = sets.add(&Arc::from("s"), &labels, "x", Now::read(), || true, reject);
        assert!(rejected.is_err());
        assert_eq!(sets.held(), (0, 0));
    }

    #[test]
    fn sets_are_forgotten_with_their_series() {
        let ttl = Duration::from_secs(10);
        let sets = Sets::new(9, Some(ttl));
        let now = Now::read();
        add(&sets, "a", "x", now);
        add(&sets, "b", "x", now);
        sets.forget(
            &Arc::from("s"),
            &LabelText::from_plain([("l", "a")]).unwrap(),
        );
        assert_eq!(sets.lock().sets.len(), 1);
        add(&sets, "b", "y", now.after(ttl / 2));
        sets.expire(now.after(ttl));
        assert_eq!(sets.lock().sets.len(), 1);
        // The set has expired, even though `expire` did not run.
        assert_eq!(add(&sets, "b", "z", now.after(2 * ttl)), Some(1.0));
        sets.expire(now.after(3 * ttl));
        assert_eq!(sets.held(), (0, 0));
    }

    #[test]
    fn a_new_value_of_a_large_set_costs_a_part_of_it() {
        let disk = Disk::default();
        let new = || Sets::new(100_000, None);
        let (sets, restored, last) = (new(), new(), new());
        let now = Now::read();
        moved(&new(), &disk, &sets, now);
        let fill = |from: usize, to: usize| {
            for number in from..to {
                add(&sets, "a", &number.to_string(), now);
            }
        };
        fill(0, 1000);
        assert_eq!(moved(&sets, &disk, &new(), now).0.len(), 1);
        fill(1000, 20_000);
        let (whole, _) = moved(&sets, &disk, &new(), now);
        assert_eq!(whole.len(), 1 + PARTS as usize);
        fill(20_000, 20_001);
        let (one, count) = moved(&sets, &disk, &restored, now);
        assert_eq!((one.len(), count), (2, 1));
        assert_eq!(restored.held(), sets.held());
        assert_eq!(add(&restored, "a", "0", now), Some(20_001.0));
        // A set that starts again leaves no parts behind.
        let labels = LabelText::from_plain([("l", "a")]).unwrap();
        restored.forget(&Arc::from("s"), &labels);
        add(&restored, "a", "x", now);
        assert_eq!(moved(&restored, &disk, &last, now).1, 1);
        assert_eq!(last.held(), (1, 1 + SET_OVERHEAD));
    }

    #[test]
    fn sets_are_stored_with_their_values() {
        let ttl = Duration::from_secs(10);
        let disk = Disk::default();
        let new = || Sets::new(9, Some(ttl));
        let (sets, restored, late) = (new(), new(), new());
        let now = Now::read();
        moved(&new(), &disk, &sets, now);
        add(&sets, "a/\"b\"", "x", now);
        add(&sets, "a/\"b\"", "y", now);
        add(&sets, "b", "x", now.after(ttl / 2));
        assert_eq!(moved(&sets, &disk, &restored, now).1, 2);
        assert_eq!(restored.held(), sets.held());
        assert_eq!(add(&restored, "a/\"b\"", "y", now), Some(2.0));
        assert_eq!(add(&restored, "b", "z", now), Some(2.0));
        // A forgotten set is removed, and an expired one stays gone.
        sets.forget(
            &Arc::from("s"),
            &LabelText::from_plain([("l", "b")]).unwrap(),
        );
        let (written, restored) = moved(&sets, &disk, &late, now.after(ttl));
        assert_eq!((written.len(), restored), (1, 0));
        assert_eq!(late.held(), (0, 0));
    }
}
