//! The methods of the store that change and query aggregated families.

use std::collections::HashMap;

use crate::clock::Now;
use crate::exposition::Kind;
use crate::registry::{
    Batch, BlockId, BlockSeries, Changeset, FamilySummary, KnownSeries, Update, ValueChange,
};
use crate::store::rejection::BatchRejection;
use crate::store::store::Store;
use crate::store::write::large::LargeWrite;
use crate::store::write::size::is_large_reservation;

/// Sums over all aggregated families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AggregatedTotals {
    /// The number of families.
    pub families: usize,
    /// The number of series.
    pub series: usize,
    /// Their approximate memory with their text, in bytes.
    pub bytes: usize,
}

/// The number of series past which rendering counts as slow: about half a millisecond.
const MANY_SERIES: usize = 5_000;

/// The number of series that take as long to render as copying the text of a block.
const SERIES_PER_BLOCK_COPY: usize = 8;

impl Store {
    /// Carries out `batch` whole.
    ///
    /// # Errors
    ///
    /// Returns why the batch was rejected. Then nothing is changed.
    pub fn operate(&self, batch: Batch, now: Now) -> Result<(), BatchRejection> {
        self.operate_and(batch, now, |_| ())
    }

    /// Like [`operate`](Self::operate), and returns what `look` returns for the
    /// changeset. `look` is called before the changeset is committed, with the registry
    /// locked, so it should be fast.
    ///
    /// # Errors
    ///
    /// Returns why the batch was rejected. Then nothing is changed.
    pub fn operate_and<T>(
        &self,
        batch: Batch,
        now: Now,
        look: impl FnOnce(&Changeset) -> T,
    ) -> Result<T, BatchRejection> {
        let mut registry = self.registry();
        let again = self.is_busy().then(|| batch.clone());
        let mut changeset = registry.check(batch, now.tick)?;
        if let Some(batch) = again
            && !changeset.reservation().is_empty()
        {
            // Scrapes and other operations need the registry, so it is released while
            // this waits for a large write.
            drop(registry);
            drop(self.turn());
            registry = self.registry();
            changeset = registry.check(batch, now.tick)?;
        }
        let mut freed = Vec::new();
        // Most batches only change values and reserve nothing.
        if !changeset.reservation().is_empty() {
            let _turn = self.turn();
            if is_large_reservation(changeset.reservation()) {
                self.take_large_reservation(&changeset)?;
            } else {
                let mut sections = self.write();
                sections.check_reservation(&changeset, self.limits().bytes)?;
                freed = sections.take_reservation(changeset.reservation());
            }
        }
        let seen = look(&changeset);
        registry.commit(changeset);
        drop(registry);
        drop(freed);
        Ok(seen)
    }

    /// Changes values of aggregated series that exist, in order, and returns how many; see
    /// [`Registry::change_known`](crate::registry::Registry::change_known).
    pub fn change_known<'k>(
        &self,
        changes: impl Iterator<Item = (&'k KnownSeries, ValueChange)> + Clone,
        now: Now,
    ) -> usize {
        self.registry().change_known(changes, now.tick)
    }

    /// The kinds of the aggregated families with these names, escaped as in a batch.
    /// `None` for a family that does not exist.
    pub fn aggregated_kinds<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<Option<Kind>> {
        let registry = self.registry();
        names.map(|name| registry.kind_of(name)).collect()
    }

    /// Deletes aggregated series, and returns the number of those that existed.
    ///
    /// # Errors
    ///
    /// Returns why the batch was rejected. Then nothing is changed.
    pub fn delete(&self, deletions: Vec<Update>, now: Now) -> Result<usize, BatchRejection> {
        let batch = Batch {
            updates: deletions,
            ..Batch::default()
        };
        self.operate_and(batch, now, Changeset::removed_series)
    }

    /// Aggregated series from a block on; see
    /// [`Registry::series_from`](crate::registry::Registry::series_from).
    pub fn series_from(&self, from: BlockId, most: usize) -> (Vec<BlockSeries>, Option<BlockId>) {
        self.registry().series_from(from, most)
    }

    /// All aggregated families, in no order. Some are read under each lock.
    pub fn aggregated_families(&self) -> Vec<FamilySummary> {
        const AT_ONCE: usize = 1000;
        let (mut found, mut from) = (Vec::new(), Some(0));
        while let Some(id) = from {
            let (some, next) = self.registry().families_from(id, AT_ONCE);
            found.extend(some);
            from = next;
        }
        found
    }

    /// Whether an aggregated series exists. Names are escaped as in a batch.
    pub fn has_series(&self, family: &str, labels: &str) -> bool {
        self.registry().has_series(family, labels)
    }

    /// Checks whether `batch` could be carried out now. Changes nothing.
    ///
    /// # Errors
    ///
    /// Returns why the batch would be rejected.
    pub fn check_batch(&self, batch: Batch, now: Now) -> Result<(), BatchRejection> {
        let registry = self.registry();
        let changeset = registry.check(batch, now.tick)?;
        if changeset.reservation().is_empty() {
            return Ok(());
        }
        let _turn = self.turn();
        self.read()
            .check_reservation(&changeset, self.limits().bytes)
    }

    /// Removes aggregated series whose lifetime has passed, and returns their number.
    /// Many are removed in several calls, so that nobody waits long: the last call
    /// returns 0.
    pub fn expire_series(&self, now: Now) -> usize {
        let mut registry = self.registry();
        // This also advances the windows of summaries.
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

    /// Sums over all aggregated families.
    pub fn aggregated_totals(&self) -> AggregatedTotals {
        let registry = self.registry();
        AggregatedTotals {
            families: registry.families(),
            series: registry.series(),
            bytes: registry.weight(),
        }
    }

    /// Whether a snapshot, with native histograms if `natives`, may take too long for a
    /// thread that serves others, because much has changed or is being rendered.
    pub fn is_snapshot_slow(&self, natives: bool) -> bool {
        if self.rendering.try_lock().is_err() {
            return true;
        }
        let registry = self.registry();
        let natives = if natives {
            registry.changed_natives()
        } else {
            0
        };
        let copies = registry.dirty_blocks() + natives;
        registry.dirty_series() + SERIES_PER_BLOCK_COPY * copies > MANY_SERIES
    }

    /// Checks and enters a large reservation. The caller holds the writers' turn.
    fn take_large_reservation(&self, changeset: &Changeset) -> Result<(), BatchRejection> {
        let mut large = LargeWrite::begin(self, HashMap::new());
        large
            .sections
            .check_reservation(changeset, self.limits().bytes)?;
        let freed = large.sections.take_reservation(changeset.reservation());
        large.finish(Vec::new());
        drop(freed);
        Ok(())
    }
}
