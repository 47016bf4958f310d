//! The contract between storage and the states that it keeps.

use std::fmt;
use std::sync::Arc;

use super::engine::{Engine, Visit};
use super::error::ReadError;
use crate::clock::Now;
use crate::record::Record;

/// State that survives a restart.
pub trait Persistent: fmt::Debug + Send + Sync {
    /// The prefixes of its records' keys. No other state uses them.
    fn prefixes(&self) -> &'static [&'static str];

    /// The place of its lock in the lock order.
    fn layer(&self) -> Layer;

    /// Begins to note changes, and restores the stored records. Called once, before the
    /// state is used. Records that have expired are not restored, and count as changed.
    /// Returns the number of restored records.
    ///
    /// # Errors
    ///
    /// A record cannot be read.
    fn restore(&self, stored: &StoredRecords<'_>, now: Now) -> Result<usize, ReadError>;

    /// Takes the changes since the last call. `beneath` takes those of the lower layers. A
    /// state that guards a lower one calls it while holding its own lock, so that both are
    /// taken at one moment.
    fn take_changes(&self, now: Now, beneath: &mut dyn FnMut()) -> Changes;

    /// Makes the next call of [`Persistent::take_changes`] return everything.
    fn note_everything(&self);
}

/// The order in which the locks of states are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// Idempotency keys. Their lock is held while the push that they guard is applied.
    Keys,
    /// States that update the core while they hold their own lock, such as StatsD's sets.
    Sets,
    /// States that nothing else depends on.
    Other,
    /// The store with its registry.
    Core,
}

/// Changes that were taken.
pub struct Changes {
    /// Prefixes for which `records` is complete: all other stored records under them are void.
    pub full: Vec<String>,
    /// The records. They are encoded while they are iterated, after all locks are released.
    pub records: Box<dyn Iterator<Item = Record> + Send>,
}

impl Changes {
    /// Changes of some records; all others stay.
    pub fn some(records: impl Iterator<Item = Record> + Send + 'static) -> Self {
        Changes {
            full: Vec::new(),
            records: Box::new(records),
        }
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Changes { full, .. } = self;
        write!(f, "Changes {{ full: {full:?}, .. }}")
    }
}

/// The stored records of one state.
#[derive(Debug)]
pub struct StoredRecords<'e> {
    engine: &'e dyn Engine,
    prefixes: &'static [&'static str],
}

impl<'e> StoredRecords<'e> {
    pub(super) fn new(engine: &'e dyn Engine, prefixes: &'static [&'static str]) -> Self {
        StoredRecords { engine, prefixes }
    }

    /// Visits all of them, prefix by prefix, in the order of their keys.
    ///
    /// # Errors
    ///
    /// A record cannot be read, or the error of `visit`.
    pub fn each(&self, visit: Visit<'_>) -> Result<(), ReadError> {
        for prefix in self.prefixes {
            self.engine.each(prefix.as_bytes(), &mut *visit)?;
        }
        Ok(())
    }
}

/// Takes the changes of all states at one moment. `states` are sorted by layer; the result
/// is in reverse order.
pub(super) fn take_all(states: &[Arc<dyn Persistent>], now: Now, taken: &mut Vec<Changes>) {
    let Some((first, beneath)) = states.split_first() else {
        return;
    };
    let changes = first.take_changes(now, &mut || take_all(beneath, now, taken));
    taken.push(changes);
}
