//! The contract between storage and what it keeps.

use std::fmt;
use std::sync::Arc;

use super::engine::{Engine, Visit};
use super::error::ReadError;
use crate::clock::Now;
use crate::record::Record;

/// State that survives a restart.
pub trait Persistent: fmt::Debug + Send + Sync {
    /// The beginnings of the keys of its records. No other state has them.
    fn prefixes(&self) -> &'static [&'static str];

    /// Where its lock comes in the order of locks.
    fn layer(&self) -> Layer;

    /// Begins to note changes, and takes back what is stored. Called once, before
    /// anything else happens to the state. What expired meanwhile stays gone, and its
    /// records count as changed. Returns the number of records that were restored.
    ///
    /// # Errors
    ///
    /// A record cannot be read.
    fn restore(&self, stored: &StoredRecords<'_>, now: Now) -> Result<usize, ReadError>;

    /// Takes the changes since the last call. `beneath` takes those of the layers beneath;
    /// a state that belongs to another calls it while it holds its own lock, so that both
    /// are taken at one moment.
    fn take_changes(&self, now: Now, beneath: &mut dyn FnMut()) -> Changes;

    /// Makes the next call of [`Persistent::take_changes`] return everything.
    fn note_everything(&self);
}

/// The order in which the locks of states are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// Idempotency keys, which are held while the push that they guard is applied.
    Keys,
    /// What updates the core while it holds its own lock, such as StatsD's sets.
    Sets,
    /// What nothing else depends on.
    Other,
    /// The store with its registry.
    Core,
}

/// Changes that were taken.
pub struct Changes {
    /// Beginnings of keys of which these are all records: all others that are stored are
    /// void.
    pub full: Vec<String>,
    /// The records. They are encoded as they are read, after all locks were released.
    pub records: Box<dyn Iterator<Item = Record> + Send>,
}

impl Changes {
    /// Changes of some records; all others stay as they are.
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

    /// Visits all of them, in the order of their keys for each prefix.
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

/// Takes the changes of all states at one moment. `states` are in the order of their
/// layers, and the result is in the reverse order.
pub(super) fn take_all(states: &[Arc<dyn Persistent>], now: Now, taken: &mut Vec<Changes>) {
    let Some((first, beneath)) = states.split_first() else {
        return;
    };
    let changes = first.take_changes(now, &mut || take_all(beneath, now, taken));
    taken.push(changes);
}
