//! Turns a batch into a changeset, or rejects it.
//!
//! Nothing is changed here. The state of each series that a batch names is
//! copied once, changed as often as the batch says, and put into the changeset.
//! [`finish`] then checks the batch as a whole.

mod finish;

use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashTable;

pub(super) use finish::{each_line_hash, named_addresses};

use super::Registry;
use super::batch::{Batch, BoundsPolicy, Change, Update};
use super::changeset::{Changeset, PlannedFamily, PlannedSeries};
use super::limits::RegistryLimits;
use super::rejection::{Rejection, SeriesName, family_text};
use super::series::{ChangeContext, SeriesState};
use super::time::{NEVER, Nanos, deadline};
use crate::exposition::{Kind, LabelText, is_family_name};

/// Up to this many families are searched one by one.
const FEW_FAMILIES: usize = 4;

/// An update's series, looked up before the update is made.
#[derive(Debug, Clone, Copy)]
struct Lookup {
    /// Index of its family in the changeset, if the family exists.
    family: Option<usize>,
    /// Hash of its labels.
    hash: u64,
}

pub(super) struct Planner<'r> {
    registry: &'r Registry,
    bounds_policy: BoundsPolicy,
    existing_only: bool,
    at: Instant,
    now: Nanos,
    families: Vec<PlannedFamily>,
    /// Indexes of families by the hash of their names, if they are more than a
    /// few.
    families_by_name: HashTable<u32>,
    series: Vec<PlannedSeries>,
    /// Indexes of series. Empty if the batch has one update only.
    series_by_labels: HashTable<u32>,
    has_one_update: bool,
    /// Index of the last update's family, which is mostly that of the next one too.
    last_family: usize,
}

impl<'r> Planner<'r> {
    /// # Errors
    ///
    /// See [`Registry::check`].
    pub fn plan(registry: &'r Registry, batch: Batch, at: Instant) -> Result<Changeset, Rejection> {
        let updates = batch.updates.len();
        let mut planner = Planner {
            registry,
            bounds_policy: batch.bounds_policy,
            existing_only: batch.existing_only,
            at,
            now: registry.time(at),
            families: Vec::with_capacity(1),
            families_by_name: HashTable::new(),
            series: Vec::with_capacity(updates),
            series_by_labels: HashTable::new(),
            has_one_update: updates == 1,
            last_family: 0,
        };
        if updates > 1 {
            let hash = |_: &u32| unreachable!("the table is empty");
            planner.series_by_labels.reserve(updates, hash);
        }
        for name in &batch.replace {
            if let Some(index) = planner.family(name) {
                let family = &mut planner.families[index];
                family.is_replaced = true;
                family.bounds = None;
                family.series_after = 0;
            }
        }
        let lookups = planner.lookups(&batch.updates);
        if lookups.len() > 1 {
            planner.prefetch(&lookups);
        }
        for (update, lookup) in batch.updates.into_iter().zip(lookups) {
            planner.update(update, lookup)?;
        }
        planner.finish()
    }

    fn lookups(&mut self, updates: &[Update]) -> Vec<Lookup> {
        let lookups = updates.iter().map(|update| Lookup {
            family: self.family(&update.family),
            hash: self.registry.hasher.hash_one(update.labels.as_str()),
        });
        lookups.collect()
    }

    /// Reads the memory of all series that the batch names, so that it is in the
    /// cache when the updates are made.
    ///
    /// Finding a series takes several reads that each wait for the one before,
    /// and making an update waits for its series. Here the reads of different
    /// series do not wait for one another. Without this, an update takes 1.5
    /// times as long among 10,000 series, 1.6 times among 100,000, and 2.5 times
    /// among a million (batches of 100, `cargo bench -p bench --bench registry`).
    fn prefetch(&self, lookups: &[Lookup]) {
        let read = |lookup: &Lookup| {
            let id = self.families[lookup.family?].id?;
            Some(self.registry.family(id)?.prefetch(lookup.hash))
        };
        // The sum has no meaning, but without it the reads would be removed.
        black_box(lookups.iter().filter_map(read).fold(0, u64::wrapping_add));
    }

    fn limits(&self) -> &'r RegistryLimits {
        &self.registry.limits
    }

    /// Index of a family that exists or that the batch adds.
    fn family(&mut self, name: &Arc<str>) -> Option<usize> {
        let last = self.families.get(self.last_family);
        if last.is_some_and(|last| last.name == *name) {
            return Some(self.last_family);
        }
        let hash = self.registry.hasher.hash_one(&**name);
        let is_same = |family: &PlannedFamily| family.hash == hash && family.name == *name;
        let planned = if self.families_by_name.is_empty() {
            self.families.iter().position(is_same)
        } else {
            let is_same = |index: &u32| is_same(&self.families[*index as usize]);
            let found = self.families_by_name.find(hash, is_same);
            found.map(|index| *index as usize)
        };
        if let Some(index) = planned {
            self.last_family = index;
            return planned;
        }
        let id = self.registry.find_family(hash, name)?;
        let existing = self.registry.family(id)?;
        Some(self.add_family(PlannedFamily {
            id: Some(id),
            hash,
            name: Arc::clone(&existing.name),
            kind: existing.kind,
            help: existing.help.clone(),
            gets_help: false,
            gets_type: false,
            bounds: existing.bounds.clone(),
            is_replaced: false,
            series_before: existing.len(),
            series_after: existing.len(),
            first_new: None,
        }))
    }

    fn add_family(&mut self, family: PlannedFamily) -> usize {
        let index = self.families.len();
        self.families.push(family);
        if self.families.len() > FEW_FAMILIES {
            let families = &self.families;
            let hash = |index: &u32| families[*index as usize].hash;
            // All of them at first, and then each new one.
            let first = if self.families_by_name.is_empty() {
                0
            } else {
                index
            };
            for index in first..=index {
                let index = index as u32;
                self.families_by_name
                    .insert_unique(hash(&index), index, hash);
            }
        }
        self.last_family = index;
        index
    }

    fn new_family(&mut self, name: Arc<str>, kind: Kind) -> Result<usize, Rejection> {
        if name.len() > self.limits().label_bytes || !is_family_name(&name) {
            return Err(Rejection::InvalidName {
                name: family_text(&name),
            });
        }
        if kind != kind.in_text() {
            return Err(Rejection::UnsupportedChange {
                family: family_text(&name),
                kind: kind.with_article(),
                change: "aggregated",
            });
        }
        let hash = self.registry.hasher.hash_one(&*name);
        Ok(self.add_family(PlannedFamily {
            id: None,
            hash,
            name,
            kind,
            help: None,
            gets_help: false,
            gets_type: false,
            bounds: None,
            is_replaced: false,
            series_before: 0,
            series_after: 0,
            first_new: None,
        }))
    }

    fn update(&mut self, update: Update, lookup: Lookup) -> Result<(), Rejection> {
        let is_deletion = matches!(update.change, Change::Delete);
        let hash = lookup.hash;
        // An earlier update of the batch may have added the family.
        let family_index = match lookup.family.or_else(|| self.family(&update.family)) {
            Some(index) => index,
            None if is_deletion || self.existing_only => return Ok(()),
            None => self.new_family(update.family, update.kind)?,
        };
        if is_deletion {
            self.delete(family_index, hash, update.labels);
            return Ok(());
        }
        let family = &mut self.families[family_index];
        if !family.accepts(update.kind) {
            return Err(Rejection::KindConflict {
                family: family_text(&family.name),
                kind: update.kind.with_article(),
                held: family.kind.with_article(),
            });
        }
        if family.help.is_none() && update.help.is_some() {
            family.help = update.help;
            family.gets_help = true;
        }
        let index = self.series(family_index, hash, update.labels);
        let before = self.series[index].state.take();
        let is_new = before.is_none();
        if is_new {
            self.check_labels(index)?;
        }
        let (family, series) = (&mut self.families[family_index], &mut self.series[index]);
        let context = ChangeContext {
            series: SeriesName::new(&family.name, series.labels.as_str()),
            kind: family.kind,
            bounds_policy: self.bounds_policy,
            max_bounds: self.registry.limits.bounds,
            now: self.now,
            bounds: family.bounds.as_ref(),
        };
        let state = SeriesState::changed(before, update.change, context)?;
        if let (SeriesState::Histogram(histogram), None) = (&state, &family.bounds) {
            family.bounds = Some(Arc::clone(&histogram.bounds));
        }
        if is_new {
            family.series_after += 1;
            family.first_new.get_or_insert(index);
        }
        series.state = Some(state);
        series.deadline = deadline(self.now, update.ttl);
        Ok(())
    }

    fn delete(&mut self, family_index: usize, hash: u64, labels: LabelText) {
        let index = self.series(family_index, hash, labels);
        if self.series[index].state.take().is_some() {
            self.families[family_index].series_after -= 1;
        }
    }

    /// Index of a series, as the updates so far have left it. One that the batch
    /// has not named before is copied from the registry.
    fn series(&mut self, family_index: usize, hash: u64, labels: LabelText) -> usize {
        let family = &self.families[family_index];
        let key = hash ^ family.hash;
        if !self.has_one_update {
            let is_same = |index: &u32| {
                let series = &self.series[*index as usize];
                series.family as usize == family_index && series.labels == labels
            };
            if let Some(index) = self.series_by_labels.find(key, is_same) {
                return *index as usize;
            }
        }
        let existing = family.id.and_then(|id| self.registry.family(id));
        let address = existing.and_then(|existing| existing.find(hash, labels.as_str()));
        let state = existing
            .filter(|_| !family.is_replaced)
            .and_then(|existing| existing.state(address?));
        let index = self.series.len();
        self.series.push(PlannedSeries {
            family: family_index as u32,
            hash,
            address,
            labels,
            state,
            deadline: NEVER,
        });
        if !self.has_one_update {
            let (series, families) = (&self.series, &self.families);
            self.series_by_labels
                .insert_unique(key, index as u32, |index| {
                    let series = &series[*index as usize];
                    series.hash ^ families[series.family as usize].hash
                });
        }
        index
    }

    /// Checks the labels of a new series.
    fn check_labels(&self, index: usize) -> Result<(), Rejection> {
        let series = &self.series[index];
        let family = &self.families[series.family as usize];
        let name = SeriesName::new(&family.name, series.labels.as_str());
        let limit = self.limits().label_bytes;
        if series.labels.len() > limit {
            return Err(Rejection::LabelsTooLong {
                series: name.to_string(),
                size: series.labels.len(),
                limit,
            });
        }
        let reserved = match family.kind {
            Kind::Histogram => "le",
            Kind::Summary => "quantile",
            _ => return Ok(()),
        };
        if series.labels.iter().any(|label| label.name == reserved) {
            return Err(Rejection::ReservedLabel {
                series: name.to_string(),
                label: reserved,
                kind: family.kind.with_article(),
            });
        }
        Ok(())
    }
}

impl PlannedFamily {
    /// Whether the family takes a value of that type. An untyped family becomes a
    /// counter or a gauge; an untyped value takes the type of its family.
    fn accepts(&mut self, kind: Kind) -> bool {
        match (self.kind, kind) {
            (own, kind) if own == kind => true,
            (Kind::Untyped, Kind::Counter | Kind::Gauge) => {
                self.kind = kind;
                self.gets_type = true;
                true
            }
            (Kind::Counter | Kind::Gauge, Kind::Untyped) => true,
            _ => false,
        }
    }

    fn becomes_counter(&self) -> bool {
        self.gets_type && self.kind == Kind::Counter
    }
}
