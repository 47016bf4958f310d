//! The store and its locks.

use std::hash::RandomState;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::exposition::Escaping;
use crate::registry::Registry;
use crate::store::aggregated::pending::PendingBlocks;
use crate::store::inspect::inspection::{Inspection, InspectionGauges};
use crate::store::limits::StoreLimits;
use crate::store::messages::Messages;
use crate::store::pages::page_run::PageRuns;
use crate::store::sections::table::SectionTable;

/// The sections of all producers, the living families, and the output they
/// make together.
///
/// Locks are taken in this order: inspection, flush, registry, turn, sections.
#[derive(Debug)]
pub struct Store {
    pub(in crate::store) sections: RwLock<SectionTable>,
    /// IndexEntry while sections or the index of families change: writers take turns.
    pub(in crate::store) turn: Mutex<()>,
    /// Whether a large write is being worked out.
    pub(in crate::store) is_large_write_running: AtomicBool,
    /// Compressed pages of the last answers.
    pub(in crate::store) page_runs: Arc<PageRuns>,
    pub(in crate::store) registry: Mutex<Registry>,
    /// IndexEntry by the one snapshot that renders living families, so that no other
    /// writes what it has rendered later than what came after.
    pub(in crate::store) rendering: Mutex<PendingBlocks>,
    pub(in crate::store) hasher: RandomState,
    /// What was made last for readers of protobuf, with names under each scheme.
    pub(in crate::store) messages: [Mutex<Arc<Messages>>; Escaping::ALL.len()],
    /// IndexEntry while verbatim texts are read. Only readers of these texts in another
    /// form wait for it.
    pub(in crate::store) inspection: Mutex<Inspection>,
    pub(in crate::store) inspected: InspectionGauges,
    pub(in crate::store) limits: StoreLimits,
}

impl Store {
    /// An empty store. With `stamps`, the time of each app's last update is
    /// part of the output, as a family of the proxy's own.
    pub fn new(limits: StoreLimits, stamps: bool) -> Self {
        let hasher = RandomState::new();
        Store {
            sections: RwLock::new(SectionTable::new(stamps)),
            turn: Mutex::default(),
            is_large_write_running: AtomicBool::new(false),
            page_runs: Arc::default(),
            registry: Mutex::new(Registry::new(limits.registry, hasher.clone())),
            rendering: Mutex::default(),
            inspection: Mutex::new(Inspection::new(hasher.clone())),
            inspected: InspectionGauges::default(),
            hasher,
            messages: Default::default(),
            limits,
        }
    }

    pub(in crate::store) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a large write is being worked out, for which other writers wait.
    pub fn is_busy(&self) -> bool {
        self.is_large_write_running.load(Ordering::Relaxed)
    }

    // Nothing under the lock is meant to panic, whatever was pushed. Should it
    // happen all the same, one section may be torn; going on with the others
    // is better than refusing every push and scrape from then on.
    pub(in crate::store) fn read(&self) -> RwLockReadGuard<'_, SectionTable> {
        self.sections.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::store) fn write(&self) -> RwLockWriteGuard<'_, SectionTable> {
        self.sections
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::store) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::store) fn inspection(&self) -> MutexGuard<'_, Inspection> {
        self.inspection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
