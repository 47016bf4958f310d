//! Living families in the store: how the registry meets the sections.
//!
//! The registry knows its own families only. Before a batch is carried out,
//! what it takes is checked against the index that all sections share, and
//! entered there; so neither can take what the other has.
//! How they come into the output is in [`flush`](super::flush).

use std::hash::RandomState;
use std::sync::{MutexGuard, PoisonError};

use bytes::Bytes;

use super::Store;
use super::aside::are_many;
use super::family::reserved;
use super::sections::{Key, Part, Sections};
use super::write::Elsewhere;
use crate::clock::Now;
use crate::exposition::Kind;
use crate::reason::Reason;
use crate::registry::{
    self, Batch, BlockId, BlockSeries, Changeset, Registry, Reservation, Update,
};

/// By what series are known everywhere: see
/// [`hash_series`](crate::exposition::hash_series).
pub(super) type Hasher = RandomState;

/// Why a batch of operations changed nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BatchRefused {
    /// It does not fit with itself, or with what lives.
    #[error(transparent)]
    Registry(#[from] registry::Rejection),
    #[error("family {family} is {kind} here, and {held} {holder}")]
    KindConflict {
        family: String,
        kind: &'static str,
        held: &'static str,
        holder: Elsewhere,
    },
    #[error("{}", collision(family, other))]
    NameCollision { family: String, other: String },
    #[error("series {series} is exposed elsewhere already")]
    DuplicateSeries { series: String },
    #[error("{size} bytes would be held, and the limit is {limit} (exposition.max_total)")]
    TooManyBytes { size: usize, limit: usize },
}

fn collision(family: &str, other: &str) -> String {
    match reserved(other) {
        Some((kept, _)) => format!(
            "family {family} cannot be used: {kept} is kept for the times of pushed groups, \
             choose another name"
        ),
        None => format!(
            "family {family} cannot be exposed beside family {other}: a series of one would have \
             the name of the other"
        ),
    }
}

/// Sums over the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LivingTotals {
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
    pub fn operate(&self, batch: Batch, now: Now) -> Result<(), BatchRefused> {
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
    ) -> Result<T, BatchRefused> {
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
            if are_many(plan.reservation()) {
                self.take_reservation_aside(&plan)?;
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
    /// not live. Names are escaped, as in a batch.
    pub fn living_kinds<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<Option<Kind>> {
        let registry = self.registry();
        names.map(|name| registry.kind_of(name)).collect()
    }

    /// Deletes living series, and returns how many there were.
    pub fn delete(&self, deletions: Vec<Update>, now: Now) -> Result<usize, BatchRefused> {
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

    /// Whether a living series is there. Names are escaped, as in a batch.
    pub fn has_series(&self, family: &str, labels: &str) -> bool {
        self.registry().has_series(family, labels)
    }

    /// Whether `batch` would be carried out as things stand. It changes nothing.
    pub fn check_batch(&self, batch: Batch, now: Now) -> Result<(), BatchRefused> {
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

    pub fn living(&self) -> LivingTotals {
        let registry = self.registry();
        LivingTotals {
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
        if self.flush.try_lock().is_err() {
            return true;
        }
        let registry = self.registry();
        registry.dirty_series() + SERIES_OF_A_COPY * registry.dirty_blocks() > MANY_SERIES
    }

    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sections {
    pub(super) fn check_reservation(
        &self,
        plan: &Changeset,
        limit: usize,
    ) -> Result<(), BatchRefused> {
        let reservation = plan.reservation();
        let size = self.weight + reservation.reserved_bytes - reservation.released_bytes;
        // What makes it less is taken even where it is too much still.
        if size > limit && size > self.weight {
            return Err(BatchRefused::TooManyBytes { size, limit });
        }
        self.families
            .check_reservation(plan)
            .map_err(|mut refused| {
                if let BatchRefused::KindConflict { family, holder, .. } = &mut refused {
                    *holder = self.exposer(family, &[]);
                }
                refused
            })
    }

    /// Enters what the registry takes and lets go. Heads are set at once, and
    /// blocks before anybody sees the pages. Returns what is to be freed.
    pub(super) fn take_reservation(&mut self, reservation: &Reservation) -> Vec<Bytes> {
        self.weight = self.weight + reservation.reserved_bytes - reservation.released_bytes;
        let heads = self.families.take_reservation(reservation);
        heads
            .into_iter()
            .map(|(family, head)| self.page_list.set(Key::Family(family, Part::Head), head))
            .collect()
    }
}

impl From<&BatchRefused> for Reason {
    fn from(refused: &BatchRefused) -> Self {
        use crate::registry::Rejection as Registry;
        match refused {
            BatchRefused::KindConflict { .. }
            | BatchRefused::Registry(
                Registry::KindConflict { .. } | Registry::Uncountable { .. },
            ) => Reason::KindConflict,
            BatchRefused::NameCollision { .. } => Reason::NameCollision,
            BatchRefused::DuplicateSeries { .. } => Reason::DuplicateSeries,
            BatchRefused::TooManyBytes { .. } => Reason::TooManyBytes,
            BatchRefused::Registry(
                Registry::TooManyFamilies { .. }
                | Registry::TooManySeries { .. }
                | Registry::TooManySeriesOfFamily { .. },
            ) => Reason::TooManySeries,
            BatchRefused::Registry(
                Registry::ReservedLabel { .. } | Registry::LabelsTooLong { .. },
            ) => Reason::BadLabels,
            BatchRefused::Registry(Registry::Name { .. }) => Reason::BadName,
            BatchRefused::Registry(_) => Reason::BadValue,
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
