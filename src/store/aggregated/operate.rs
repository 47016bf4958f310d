//! Living families in the store: how the registry meets the sections.
//!
//! The registry knows its own families only. Before a batch is carried out,
//! what it takes is checked against the index that all sections share, and
//! entered there; so neither can take what the other has.
//! How they come into the output is in [`flush`](super::flush).

use std::collections::HashMap;
use std::hash::RandomState;

use crate::clock::Now;
use crate::exposition::Kind;
use crate::registry::{Batch, BlockId, BlockSeries, Changeset, Update};
use crate::store::locks::Store;
use crate::store::rejection::BatchRejection;
use crate::store::write::large::LargeWrite;
use crate::store::write::size::is_large_reservation;

/// Sums over the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AggregatedTotals {
    pub families: usize,
    pub series: usize,
    /// Memory that they take, about, with their text.
    pub bytes: usize,
}

/// So many series are rendered in about half a millisecond, ...
const MANY_SERIES: usize = 5_000;

/// ... and the text of a block that has any, which is copied for it, takes as
/// long as so many.
const SERIES_OF_A_COPY: usize = 8;

impl Store {
    /// Carries out all of `batch` or, where it is refused, nothing.
    pub fn operate(&self, batch: Batch, now: Now) -> Result<(), BatchRejection> {
        self.operate_and(batch, now, |_| ())
    }

    /// The same, and tells what `look` sees in the plan that is carried out.
    /// Nobody else can change what it tells of before it has happened, so it
    /// should be quick.
    pub fn operate_and<T>(
        &self,
        batch: Batch,
        now: Now,
        look: impl FnOnce(&Changeset) -> T,
    ) -> Result<T, BatchRejection> {
        let mut registry = self.registry();
        let again = self.is_busy().then(|| batch.clone());
        let mut plan = registry.check(batch, now.tick)?;
        if let Some(batch) = again
            && !plan.reservation().is_empty()
        {
            // A large write is waited for without the registry, which scrapes
            // and other operations need.
            drop(registry);
            drop(self.turn());
            registry = self.registry();
            plan = registry.check(batch, now.tick)?;
        }
        let mut freed = Vec::new();
        // Mostly only values change, and nobody else need be asked.
        if !plan.reservation().is_empty() {
            let _turn = self.turn();
            if is_large_reservation(plan.reservation()) {
                self.take_large_reservation(&plan)?;
            } else {
                let mut sections = self.write();
                sections.check_reservation(&plan, self.limits.bytes)?;
                freed = sections.take_reservation(plan.reservation());
            }
        }
        let seen = look(&plan);
        registry.commit(plan);
        drop(registry);
        drop(freed);
        Ok(seen)
    }

    /// What the living families of these names are, `None` for those that do
    /// not live. NameCache are escaped, as in a batch.
    pub fn aggregated_kinds<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<Option<Kind>> {
        let registry = self.registry();
        names.map(|name| registry.kind_of(name)).collect()
    }

    /// Deletes living series, and returns how many there were.
    pub fn delete(&self, deletions: Vec<Update>, now: Now) -> Result<usize, BatchRejection> {
        let batch = Batch {
            updates: deletions,
            ..Batch::default()
        };
        self.operate_and(batch, now, Changeset::removed_series)
    }

    /// See [`Registry::series_from`].
    pub fn series_from(&self, from: BlockId, most: usize) -> (Vec<BlockSeries>, Option<BlockId>) {
        self.registry().series_from(from, most)
    }

    /// Whether a living series is there. NameCache are escaped, as in a batch.
    pub fn has_series(&self, family: &str, labels: &str) -> bool {
        self.registry().has_series(family, labels)
    }

    /// Whether `batch` would be carried out as things stand. It changes nothing.
    pub fn check_batch(&self, batch: Batch, now: Now) -> Result<(), BatchRejection> {
        let registry = self.registry();
        let plan = registry.check(batch, now.tick)?;
        if plan.reservation().is_empty() {
            return Ok(());
        }
        let _turn = self.turn();
        self.read().check_reservation(&plan, self.limits.bytes)
    }

    /// Removes living series whose time is up, and returns their number. Many
    /// are removed in several calls, so that nobody waits long: the last one
    /// returns 0.
    pub fn expire_series(&self, now: Now) -> usize {
        let mut registry = self.registry();
        // Windows move on by this, too.
        let (series, reservation) = registry.expire(now.tick);
        let mut freed = Vec::new();
        if !reservation.is_empty() {
            let _turn = self.turn();
            freed = self.write().take_reservation(&reservation);
        }
        drop(registry);
        drop(freed);
        series
    }

    pub fn aggregated_totals(&self) -> AggregatedTotals {
        let registry = self.registry();
        AggregatedTotals {
            families: registry.families(),
            series: registry.series(),
            bytes: registry.weight(),
        }
    }

    /// By what whoever reads a text knows its series, so that they are found
    /// in other texts and among living ones.
    pub fn hasher(&self) -> &RandomState {
        &self.hasher
    }

    /// Whether a snapshot may hold its thread up for longer than one that
    /// serves others should be: much has changed, or is being rendered.
    pub fn is_snapshot_slow(&self) -> bool {
        if self.rendering.try_lock().is_err() {
            return true;
        }
        let registry = self.registry();
        registry.dirty_series() + SERIES_OF_A_COPY * registry.dirty_blocks() > MANY_SERIES
    }

    /// Checks and enters what the registry takes, where that is very much. It is
    /// the caller's turn to write.
    fn take_large_reservation(&self, plan: &Changeset) -> Result<(), BatchRejection> {
        let mut aside = LargeWrite::begin(self, HashMap::new());
        aside.sections.check_reservation(plan, self.limits.bytes)?;
        let freed = aside.sections.take_reservation(plan.reservation());
        aside.finish(Vec::new());
        drop(freed);
        Ok(())
    }
}
