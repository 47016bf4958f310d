//! A bounded cache of names and their mapping.
//!
//! Each shard has two generations. When the young one is full, it replaces the old one,
//! whose names are forgotten. A name found in the old generation moves to the young one. So
//! names in use stay, and look-ups need not maintain an order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use super::{Mapped, SourceType};

/// Number of shards, each with its own lock, so that connections on several threads seldom wait.
const SHARDS: usize = 16;

/// Longer names are never cached: senders would decide how much memory the cache takes.
const MAX_NAME: usize = 512;

#[derive(Debug)]
pub(super) struct Cache {
    shards: Box<[Mutex<Shard>]>,
    /// The limit on names in one generation of a shard; 0 for no cache.
    generation: usize,
    entries: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Shard {
    young: Generation,
    old: Generation,
}

/// Names by type.
type Generation = [HashMap<Box<str>, Arc<Mapped>>; SourceType::COUNT];

impl Cache {
    /// A cache of at most `size` names, or a few more if they are spread unevenly. 0 caches none.
    pub(super) fn new(size: usize) -> Self {
        let shards = if size < 2 * SHARDS { 1 } else { SHARDS };
        Cache {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            generation: match size {
                0 => 0,
                size => (size / (2 * shards)).max(1),
            },
            entries: Arc::default(),
        }
    }

    /// The number of cached names.
    pub(super) fn entries(&self) -> &Arc<AtomicUsize> {
        &self.entries
    }

    pub(super) fn get(&self, name: &str, source: SourceType) -> Option<Arc<Mapped>> {
        if self.generation == 0 {
            return None;
        }
        let mut shard = self
            .shard(name)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let kind = source as usize;
        if let Some(found) = shard.young[kind].get(name) {
            return Some(Arc::clone(found));
        }
        let (name, found) = shard.old[kind].remove_entry(name)?;
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.put(&mut shard, name, kind, Arc::clone(&found));
        Some(found)
    }

    pub(super) fn insert(&self, name: &str, source: SourceType, mapped: &Arc<Mapped>) {
        if self.generation == 0 || name.len() > MAX_NAME {
            return;
        }
        let mut shard = self
            .shard(name)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.put(
            &mut shard,
            Box::from(name),
            source as usize,
            Arc::clone(mapped),
        );
    }

    fn put(&self, shard: &mut Shard, name: Box<str>, kind: usize, mapped: Arc<Mapped>) {
        if count(&shard.young) >= self.generation {
            let forgotten = std::mem::replace(&mut shard.old, std::mem::take(&mut shard.young));
            self.entries.fetch_sub(count(&forgotten), Ordering::Relaxed);
        }
        if shard.young[kind].insert(name, mapped).is_none() {
            self.entries.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn shard(&self, name: &str) -> &Mutex<Shard> {
        let hash = xxh3_64(name.as_bytes());
        &self.shards[(hash % self.shards.len() as u64) as usize]
    }
}

fn count(generation: &Generation) -> usize {
    generation.iter().map(HashMap::len).sum()
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    fn mapped() -> Arc<Mapped> {
        Arc::new(Mapped {
            rule: None,
            outcome: Outcome::Dropped,
        })
    }

    #[test]
    fn names_in_use_stay_and_the_number_is_bounded() {
        let cache = Cache::new(8);
        let (used, other) = (mapped(), mapped());
        cache.insert("used", SourceType::Counter, &used);
        for number in 0..100 {
            cache.insert(&number.to_string(), SourceType::Gauge, &other);
            let found = cache.get("used", SourceType::Counter).unwrap();
            assert!(Arc::ptr_eq(&found, &used));
            assert!(cache.entries().load(Ordering::Relaxed) <= 8);
        }
        assert!(cache.get("used", SourceType::Gauge).is_none());
        assert!(cache.get("1", SourceType::Gauge).is_none());
        assert!(cache.get("99", SourceType::Gauge).is_some());
        let held: usize = cache
            .shards
            .iter()
            .map(|shard| {
                let shard = shard.lock().unwrap();
                count(&shard.young) + count(&shard.old)
            })
            .sum();
        assert_eq!(cache.entries().load(Ordering::Relaxed), held);
    }

    #[test]
    fn similar_names_are_spread_over_shards() {
        let cache = Cache::new(4000);
        let names: Vec<String> = (0..1500)
            .map(|number| format!("web.{number:04}.hits.200"))
            .collect();
        for name in &names {
            cache.insert(name, SourceType::Counter, &mapped());
        }
        assert_eq!(cache.entries().load(Ordering::Relaxed), names.len());
    }

    #[test]
    fn a_cache_of_size_zero_remembers_nothing() {
        let cache = Cache::new(0);
        cache.insert("a", SourceType::Counter, &mapped());
        assert!(cache.get("a", SourceType::Counter).is_none());
        let cache = Cache::new(1000);
        cache.insert(&"a".repeat(MAX_NAME + 1), SourceType::Counter, &mapped());
        assert_eq!(cache.entries().load(Ordering::Relaxed), 0);
    }
}
