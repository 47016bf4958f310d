//! StatsD's sets: how many distinct values were seen of each.
//!
//! Values are remembered by their hash, eight bytes each, and no more of them
//! than the bounds say. A set goes when its series does: by `del`, or when
//! nothing was added for its time.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Fault;
use crate::exposition::LabelText;
use crate::reason::Reason;

/// Values of all sets together: some 32 MB.
const MOST_VALUES: usize = 1_000_000;

/// What a set costs beside its values, counted as so many.
const EMPTY_SET: usize = 16;

#[derive(Debug)]
pub struct Sets {
    /// Values of one set.
    most: usize,
    ttl: Option<Duration>,
    hasher: RandomState,
    all: Mutex<All>,
}

type Name = (Arc<str>, LabelText);

#[derive(Debug, Default)]
struct All {
    sets: HashMap<Name, Set>,
    /// Values in all sets, and what the sets cost.
    size: usize,
}

#[derive(Debug)]
struct Set {
    values: HashSet<u64>,
    updated: Instant,
}

impl Sets {
    pub fn new(most: usize, ttl: Option<Duration>) -> Self {
        Sets {
            most,
            ttl,
            hasher: RandomState::new(),
            all: Mutex::default(),
        }
    }

    /// Adds a value, if `store` takes the number of distinct values that there
    /// are with it. Where the series does not live any more, as when it was
    /// deleted over HTTP, the set begins anew.
    pub fn add(
        &self,
        family: &Arc<str>,
        labels: &LabelText,
        value: &str,
        now: Instant,
        lives: impl FnOnce() -> bool,
        store: impl FnOnce(f64) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let value = self.hasher.hash_one(value);
        let name = (Arc::clone(family), labels.clone());
        let mut all = self.all();
        let fresh = |set: &&Set| !self.is_over(set, now);
        let held = all.sets.get(&name).filter(fresh).filter(|_| lives());
        let count = held.map_or(0, |set| set.values.len());
        let new = held.is_none_or(|set| !set.values.contains(&value));
        if new && count == self.most {
            let problem = format!(
                "a set may have {} distinct values (operations.max_set_values)",
                self.most
            );
            return Err(Fault::new(Reason::TooManySeries, problem));
        }
        if new && all.size + EMPTY_SET >= MOST_VALUES {
            let problem = format!("sets may have {MOST_VALUES} distinct values together");
            return Err(Fault::new(Reason::TooManySeries, problem));
        }
        store((count + usize::from(new)) as f64)?;
        if count == 0 {
            all.forget(&name);
            all.size += EMPTY_SET;
        }
        let set = all.sets.entry(name).or_insert_with(|| Set {
            values: HashSet::new(),
            updated: now,
        });
        set.updated = now;
        if set.values.insert(value) {
            all.size += 1;
        }
        Ok(())
    }

    /// Forgets a set whose series is deleted.
    pub fn forget(&self, family: &Arc<str>, labels: &LabelText) {
        let mut all = self.all();
        if !all.sets.is_empty() {
            all.forget(&(Arc::clone(family), labels.clone()));
        }
    }

    /// Forgets sets whose time is up.
    pub fn expire(&self, now: Instant) {
        if self.ttl.is_none() {
            return;
        }
        let mut all = self.all();
        let over: Vec<Name> = all
            .sets
            .iter()
            .filter(|(_, set)| self.is_over(set, now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in over {
            all.forget(&name);
        }
    }

    fn is_over(&self, set: &Set, now: Instant) -> bool {
        self.ttl
            .is_some_and(|ttl| now.saturating_duration_since(set.updated) >= ttl)
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    fn forget(&mut self, name: &Name) {
        if let Some(set) = self.sets.remove(name) {
            self.size -= set.values.len() + EMPTY_SET;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Sets {
        /// Sets, and their size.
        fn held(&self) -> (usize, usize) {
            let all = self.all();
            (all.sets.len(), all.size)
        }
    }

    fn add(sets: &Sets, labels: &str, value: &str, now: Instant) -> Option<f64> {
        let labels = LabelText::from_plain([("l", labels)]).unwrap();
        let mut count = None;
        let taken = sets.add(
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
        taken.ok().and(count)
    }

    #[test]
    fn distinct_values_are_counted_up_to_the_bound() {
        let sets = Sets::new(2, None);
        let now = Instant::now();
        assert_eq!(add(&sets, "a", "x", now), Some(1.0));
        assert_eq!(add(&sets, "a", "x", now), Some(1.0));
        assert_eq!(add(&sets, "a", "y", now), Some(2.0));
        assert_eq!(add(&sets, "a", "z", now), None);
        assert_eq!(add(&sets, "a", "y", now), Some(2.0));
        assert_eq!(add(&sets, "b", "z", now), Some(1.0));
        assert_eq!(sets.all().size, 3 + 2 * EMPTY_SET);
    }

    #[test]
    fn a_set_whose_series_is_gone_begins_anew() {
        let sets = Sets::new(3, None);
        let (family, labels) = (Arc::from("s"), LabelText::default());
        let mut counts = Vec::new();
        for (value, lives) in [("x", true), ("y", true), ("y", false), ("z", true)] {
            let store = |count| {
                counts.push(count);
                Ok(())
            };
            let now = Instant::now();
            sets.add(&family, &labels, value, now, || lives, store)
                .unwrap();
        }
        assert_eq!(counts, [1.0, 2.0, 1.0, 2.0]);
        assert_eq!(sets.held(), (1, 2 + EMPTY_SET));
    }

    #[test]
    fn what_the_store_refuses_is_not_remembered() {
        let sets = Sets::new(2, None);
        let refuse = |_| Err(Fault::new(Reason::KindConflict, "no"));
        let labels = LabelText::default();
        let refused = sets.add(
            &Arc::from("s"),
            &labels,
            "x",
            Instant::now(),
            || true,
            refuse,
        );
        assert!(refused.is_err());
        assert_eq!(sets.held(), (0, 0));
    }

    #[test]
    fn sets_go_with_their_series() {
        let ttl = Duration::from_secs(10);
        let sets = Sets::new(9, Some(ttl));
        let now = Instant::now();
        add(&sets, "a", "x", now);
        add(&sets, "b", "x", now);
        sets.forget(
            &Arc::from("s"),
            &LabelText::from_plain([("l", "a")]).unwrap(),
        );
        assert_eq!(sets.all().sets.len(), 1);
        add(&sets, "b", "y", now + ttl / 2);
        sets.expire(now + ttl);
        assert_eq!(sets.all().sets.len(), 1);
        // Over, though nobody has looked yet.
        assert_eq!(add(&sets, "b", "z", now + 2 * ttl), Some(1.0));
        sets.expire(now + 3 * ttl);
        assert_eq!(sets.held(), (0, 0));
    }
}
