//! The store and its locks.
//!
//! The methods of [`Store`] are where their work is: reads in [`reads`](super::reads),
//! writes in [`write`](super::write), batches in [`aggregated`](super::aggregated),
//! inspections in [`inspect`](super::inspect).

use std::hash::RandomState;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::exposition::Escaping;
use crate::live::Live;
use crate::registry::Registry;
use crate::store::aggregated::pending::PendingBlocks;
use crate::store::inspect::inspection::{Inspection, InspectionGauges};
use crate::store::limits::{ShareLimits, StoreLimits};
use crate::store::pages::page_run::PageRuns;
use crate::store::protobuf::Messages;
use crate::store::rejection::ShareOf;
use crate::store::sections::shares::{ShareCounts, Shares};
use crate::store::sections::table::SectionTable;

/// The sections of all producers, the aggregated families, and the output that they make
/// together.
///
/// Locks are taken in this order: inspection, rendering, registry, turn, sections.
#[derive(Debug)]
pub struct Store {
    pub(in crate::store) sections: RwLock<SectionTable>,
    /// Held while sections or the family index change, so that writers take turns.
    pub(in crate::store) turn: Mutex<()>,
    pub(in crate::store) is_large_write_running: AtomicBool,
    /// Compressed pages of the last responses.
    pub(in crate::store) page_runs: Arc<PageRuns>,
    pub(in crate::store) registry: Mutex<Registry>,
    /// Held by the one snapshot that renders aggregated families, so that a snapshot cannot
    /// replace newer text by older text.
    pub(in crate::store) rendering: Mutex<PendingBlocks>,
    pub(in crate::store) hasher: RandomState,
    /// The last protobuf output under each escaping scheme.
    pub(in crate::store) messages: [Mutex<Arc<Messages>>; Escaping::ALL.len()],
    /// Held while verbatim texts are read. Only readers of these texts in another format
    /// wait for it.
    pub(in crate::store) inspection: Mutex<Inspection>,
    pub(in crate::store) inspection_gauges: InspectionGauges,
    limits: Live<StoreLimits>,
    exceeded_shares: Arc<ShareCounts>,
}

impl Store {
    /// An empty store. With `update_times`, the time of each app's last update is part of
    /// the output, as a family of the proxy's own metrics.
    pub fn new(limits: StoreLimits, update_times: bool) -> Self {
        let hasher = RandomState::new();
        Store {
            sections: RwLock::new(SectionTable::new(update_times)),
            turn: Mutex::default(),
            is_large_write_running: AtomicBool::new(false),
            page_runs: Arc::default(),
            registry: Mutex::new(Registry::new(limits.registry, hasher.clone())),
            rendering: Mutex::default(),
            inspection: Mutex::new(Inspection::new(hasher.clone())),
            inspection_gauges: InspectionGauges::default(),
            hasher,
            messages: Default::default(),
            limits: Live::new(limits),
            exceeded_shares: Arc::default(),
        }
    }

    /// Limits how much each sender may hold. What is held already counts.
    pub fn set_shares(&self, limits: ShareLimits) {
        let _turn = self.turn();
        let mut sections = self.write();
        let table = &mut *sections;
        let held = table.by_id.iter().map(|(id, section)| (id, &**section));
        table.shares = limits
            .is_any()
            .then(|| Shares::new(limits, &self.exceeded_shares, held));
    }

    /// How often writes were rejected because a sender would have exceeded its share.
    pub fn exceeded_shares(&self) -> impl Iterator<Item = (ShareOf, u64)> {
        let counts = ShareOf::ALL.into_iter().zip(self.exceeded_shares.iter());
        counts.map(|(of, count)| (of, count.load(Ordering::Relaxed)))
    }

    /// The current limits.
    pub(in crate::store) fn limits(&self) -> StoreLimits {
        *self.limits.load()
    }

    /// Changes the limits. What exceeds a lower limit stays, and nothing more is added.
    pub fn set_limits(&self, limits: StoreLimits) {
        self.limits.set(limits);
        self.registry().set_limits(limits.registry);
    }

    /// Whether a large write is in progress, which other writers wait for.
    pub fn is_busy(&self) -> bool {
        self.is_large_write_running.load(Ordering::Relaxed)
    }

    /// Pretends that a large write is or is not in progress.
    #[cfg(test)]
    pub fn set_busy(&self, busy: bool) {
        self.is_large_write_running.store(busy, Ordering::Relaxed);
    }

    /// The hasher for series identity, shared by all parsers; see
    /// [`hash_series`](crate::exposition::hash_series).
    pub fn hasher(&self) -> &RandomState {
        &self.hasher
    }

    /// Waits for the caller's turn to write.
    pub(in crate::store) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // No push should cause a panic under these locks. After a panic, one section can be
    // inconsistent. Continuing with the others is better than rejecting every push and scrape from
    // then on.
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
