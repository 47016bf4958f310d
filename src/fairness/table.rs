//! The buckets of all senders, in a table of bounded size.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::mem::{replace, take};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::bucket::Bucket;
use crate::telemetry::{FairnessStats, Limited};

/// Number of shards, each with its own lock.
const SHARDS: usize = 16;

/// The limit on remembered senders, 100 bytes each. A sender is forgotten once half as many
/// others have sent since its last message, unless it is connected.
const MAX_SENDERS: usize = 64 << 10;

/// The limit on senders in one generation of one shard.
const MAX_GENERATION: usize = MAX_SENDERS / SHARDS / 2;

/// The usage of one sender.
#[derive(Debug, Default)]
pub struct Usage {
    /// Messages.
    pub messages: Bucket,
    /// Bytes.
    pub bytes: Bucket,
    /// Aggregated series created.
    pub new_series: Bucket,
}

/// The senders by a keyed hash of their name. A hash takes the same memory for all names,
/// and nobody can choose a name that collides with another.
#[derive(Debug)]
pub struct Table {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    versions: AtomicU64,
    stats: Arc<FairnessStats>,
}

/// Senders in two generations. Once the newer one is full, the older one is forgotten.
#[derive(Debug, Default)]
struct Shard {
    newer: HashMap<u64, Arc<Usage>>,
    older: HashMap<u64, Arc<Usage>>,
}

impl Table {
    /// Creates an empty table. `stats` shows the number of senders in it.
    pub fn new(stats: Arc<FairnessStats>) -> Self {
        Table {
            shards: Default::default(),
            hasher: RandomState::new(),
            versions: AtomicU64::new(0),
            stats,
        }
    }

    /// Returns a new number above 0 at each call.
    pub fn next_version(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The usage of a sender; that of a new sender is empty.
    pub fn usage(&self, kind: Limited, name: &(impl Hash + ?Sized)) -> Arc<Usage> {
        let hash = self.hasher.hash_one((kind as u8, name));
        let shard = &self.shards[hash as usize % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(usage) = shard.newer.get(&hash) {
            return Arc::clone(usage);
        }
        let before = shard.len();
        let forgotten = match shard.newer.len() >= MAX_GENERATION {
            true => shard.turn(),
            false => HashMap::new(),
        };
        let usage = shard.older.remove(&hash).unwrap_or_default();
        shard.newer.insert(hash, Arc::clone(&usage));
        let after = shard.len();
        drop(shard);
        // Free them without the lock.
        drop(forgotten);
        self.stats.senders_changed(before, after);
        usage
    }
}

impl Shard {
    fn len(&self) -> usize {
        self.newer.len() + self.older.len()
    }

    /// Begins a new generation. Returns the forgotten senders: those that no connection uses.
    fn turn(&mut self) -> HashMap<u64, Arc<Usage>> {
        let mut forgotten = replace(&mut self.older, take(&mut self.newer));
        let connected = forgotten.extract_if(|_, usage| Arc::strong_count(usage) > 1);
        self.older.extend(connected);
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_senders_are_forgotten_and_connected_ones_are_kept() {
        let stats = Arc::new(FairnessStats::default());
        let table = Table::new(Arc::clone(&stats));
        let connected = table.usage(Limited::Address, "connected");
        let idle = Arc::downgrade(&table.usage(Limited::Address, "idle"));
        for number in 0..3 * MAX_SENDERS {
            table.usage(Limited::Address, &number);
        }
        let again = table.usage(Limited::Address, "connected");
        assert!(Arc::ptr_eq(&connected, &again));
        assert!(idle.upgrade().is_none());
        let held: usize = table
            .shards
            .iter()
            .map(|shard| shard.lock().unwrap().len())
            .sum();
        assert!(held <= MAX_SENDERS + 1, "{held}");
        assert_eq!(stats.senders(), held);
    }

    #[test]
    fn one_name_of_two_kinds_is_two_senders() {
        let table = Table::new(Arc::default());
        let user = table.usage(Limited::User, "a");
        let app = table.usage(Limited::App, "a");
        assert!(!Arc::ptr_eq(&user, &app));
        assert!(Arc::ptr_eq(&user, &table.usage(Limited::User, "a")));
    }
}
