//! Checks a batch, and plans what it makes of the registry.
//!
//! Nothing is changed here. Each series that a batch names is taken out once,
//! changed as often as the batch says, and put into the plan as it will be.
//! What all of it comes to is in [`finish`].

mod finish;

use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashTable;

pub(super) use finish::{claimed_by, named_slots};

use super::block::NEVER;
use super::family::Slot;
use super::rejection::{family_text, series_text};
use super::reservation::Reservation;
use super::state::{Context, Problem, State};
use super::{Batch, BoundsPolicy, Change, Registry, RegistryLimits, Rejection, Update};
use crate::exposition::{Kind, LabelText, is_family_name};

/// A batch that has been checked. It holds for the registry as it was then.
#[derive(Debug)]
pub struct Changeset {
    pub(super) at: Instant,
    pub(super) families: Vec<PlannedFamily>,
    pub(super) series: Vec<PlannedSeries>,
    reservation: Reservation,
}

/// A family that a batch names.
#[derive(Debug)]
pub(super) struct PlannedFamily {
    pub id: Option<u32>,
    pub hash: u64,
    pub name: Arc<str>,
    pub kind: Kind,
    pub help: Option<Arc<str>>,
    /// Whether the help is new with this batch.
    pub helped: bool,
    /// Whether the family was untyped before it, and is not any more.
    pub typed: bool,
    /// The bounds that new histograms get.
    pub bounds: Option<Arc<[f64]>>,
    /// Whether its series all go before the batch's come.
    pub cleared: bool,
    /// Series before and after.
    before: usize,
    after: usize,
    /// The first series that is new, as a place in the plan.
    first_new: Option<usize>,
}

/// A series that a batch names, as it will be.
#[derive(Debug)]
pub(super) struct PlannedSeries {
    pub family: u32,
    pub hash: u64,
    /// Where it is, if it lives.
    pub slot: Option<Slot>,
    pub labels: LabelText,
    /// `None`: it is deleted, or was never there.
    pub state: Option<State>,
    pub deadline: u64,
}

impl PlannedFamily {
    /// Whether values of that kind may be in the family. One whose type was
    /// not told takes the type that comes first, and values without a type are
    /// take the type of their family.
    fn takes(&mut self, kind: Kind) -> bool {
        match (self.kind, kind) {
            (own, told) if own == told => true,
            (Kind::Untyped, Kind::Counter | Kind::Gauge) => {
                self.kind = kind;
                self.typed = true;
                true
            }
            (Kind::Counter | Kind::Gauge, Kind::Untyped) => true,
            _ => false,
        }
    }

    fn is_made_counter(&self) -> bool {
        self.typed && self.kind == Kind::Counter
    }
}

impl Changeset {
    /// What the batch takes and lets go. It is for the caller to see that
    /// nobody else has it, and to take it before the plan is carried out.
    pub fn reservation(&self) -> &Reservation {
        &self.reservation
    }

    /// A series of the plan, for people.
    pub fn series_name(&self, series: u32) -> String {
        let series = &self.series[series as usize];
        series_text(
            &self.families[series.family as usize].name,
            series.labels.as_str(),
        )
    }
}

/// Where an update is to be looked for.
#[derive(Debug, Clone, Copy)]
struct Target {
    /// The family's place in the plan, if it lives.
    family: Option<usize>,
    /// Of the labels.
    hash: u64,
}

/// So many families are looked through one after the other.
const FEW: usize = 4;

pub(super) struct Planner<'r> {
    registry: &'r Registry,
    conflict: BoundsPolicy,
    existing_only: bool,
    at: Instant,
    now: u64,
    families: Vec<PlannedFamily>,
    /// Places of families by the hash of their names, once they are many.
    by_name: HashTable<u32>,
    series: Vec<PlannedSeries>,
    /// Places of series. Empty where a batch has only one.
    by_series: HashTable<u32>,
    is_one: bool,
    /// The family that was named last: mostly it is so again.
    last: usize,
}

impl<'r> Planner<'r> {
    pub fn plan(registry: &'r Registry, batch: Batch, at: Instant) -> Result<Changeset, Rejection> {
        let updates = batch.updates.len();
        let mut planner = Planner {
            registry,
            conflict: batch.bounds_policy,
            existing_only: batch.existing_only,
            at,
            now: registry.time(at),
            families: Vec::with_capacity(1),
            by_name: HashTable::new(),
            series: Vec::with_capacity(updates),
            by_series: HashTable::new(),
            is_one: updates == 1,
            last: 0,
        };
        if updates > 1 {
            let hash = |_: &u32| unreachable!("the table is empty");
            planner.by_series.reserve(updates, hash);
        }
        for name in &batch.replace {
            if let Some(place) = planner.family(name) {
                let family = &mut planner.families[place];
                family.cleared = true;
                family.bounds = None;
                family.after = 0;
            }
        }
        let targets = planner.targets(&batch.updates);
        for (update, target) in batch.updates.into_iter().zip(targets) {
            planner.update(update, target)?;
        }
        planner.finish()
    }

    /// Where the updates are to be looked for.
    ///
    /// A series is found by looks into memory that each wait for the one
    /// before. Here many series are looked at whose looks do not wait for one
    /// another; when they are changed then, one by one, they are at hand. Among
    /// 100,000 series that takes half of the time away.
    fn targets(&mut self, updates: &[Update]) -> Vec<Target> {
        let targets: Vec<Target> = updates
            .iter()
            .map(|update| Target {
                family: self.family(&update.family),
                hash: self.registry.hasher.hash_one(update.labels.as_str()),
            })
            .collect();
        if targets.len() > 1 {
            let touch = |target: &Target| {
                let living = self.families[target.family?].id?;
                Some(self.registry.family(living)?.touch(target.hash))
            };
            let touched = targets.iter().filter_map(touch);
            black_box(touched.fold(0, u64::wrapping_add));
        }
        targets
    }

    fn limits(&self) -> &'r RegistryLimits {
        &self.registry.limits
    }

    /// The place of a family that lives or that the batch has made.
    fn family(&mut self, name: &Arc<str>) -> Option<usize> {
        if self
            .families
            .get(self.last)
            .is_some_and(|last| last.name == *name)
        {
            return Some(self.last);
        }
        let hash = self.registry.hasher.hash_one(&**name);
        let same = |family: &PlannedFamily| family.hash == hash && family.name == *name;
        let planned = if self.by_name.is_empty() {
            self.families.iter().position(same)
        } else {
            let found = |place: &u32| same(&self.families[*place as usize]);
            self.by_name.find(hash, found).map(|place| *place as usize)
        };
        if let Some(place) = planned {
            self.last = place;
            return planned;
        }
        let id = self.registry.find_family(hash, name)?;
        let living = self.registry.family(id)?;
        Some(self.add_family(PlannedFamily {
            id: Some(id),
            hash,
            name: Arc::clone(&living.name),
            kind: living.kind,
            help: living.help.clone(),
            helped: false,
            typed: false,
            bounds: living.bounds.clone(),
            cleared: false,
            before: living.len(),
            after: living.len(),
            first_new: None,
        }))
    }

    fn add_family(&mut self, family: PlannedFamily) -> usize {
        let place = self.families.len();
        self.families.push(family);
        if self.families.len() > FEW {
            let families = &self.families;
            let hash = |place: &u32| families[*place as usize].hash;
            // At first all of them, and from then on each new one.
            let first = if self.by_name.is_empty() { 0 } else { place };
            for place in first..=place {
                let place = place as u32;
                self.by_name.insert_unique(hash(&place), place, hash);
            }
        }
        self.last = place;
        place
    }

    fn new_family(&mut self, name: Arc<str>, kind: Kind) -> Result<usize, Rejection> {
        if name.len() > self.limits().labels || !is_family_name(&name) {
            return Err(Rejection::Name {
                name: family_text(&name),
            });
        }
        if kind != kind.in_text() {
            return Err(Rejection::WrongChange {
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
            helped: false,
            typed: false,
            bounds: None,
            cleared: false,
            before: 0,
            after: 0,
            first_new: None,
        }))
    }

    fn update(&mut self, update: Update, target: Target) -> Result<(), Rejection> {
        let delete = matches!(update.change, Change::Delete);
        let hash = target.hash;
        // One that is not there may have been made by this batch.
        let place = match target.family.or_else(|| self.family(&update.family)) {
            Some(place) => place,
            None if delete || self.existing_only => return Ok(()),
            None => self.new_family(update.family, update.kind)?,
        };
        let family = &mut self.families[place];
        if delete {
            self.delete(place, hash, update.labels);
            return Ok(());
        }
        if !family.takes(update.kind) {
            return Err(Rejection::KindConflict {
                family: family_text(&family.name),
                kind: update.kind.with_article(),
                held: family.kind.with_article(),
            });
        }
        if family.help.is_none() && update.help.is_some() {
            family.help = update.help;
            family.helped = true;
        }
        let series = self.series(place, hash, update.labels);
        let before = self.series[series].state.take();
        let is_new = before.is_none();
        if is_new {
            self.check_labels(series)?;
        }
        let family = &mut self.families[place];
        let context = Context {
            kind: family.kind,
            conflict: self.conflict,
            most_bounds: self.registry.limits.bounds,
            now: self.now,
            bounds: family.bounds.as_ref(),
        };
        let state = State::after(before, update.change, context).map_err(|problem| {
            refused(problem, &self.families[place], &self.series[series].labels)
        })?;
        let family = &mut self.families[place];
        if let (State::Histogram(histogram), None) = (&state, &family.bounds) {
            family.bounds = Some(Arc::clone(&histogram.bounds));
        }
        if is_new {
            family.after += 1;
            family.first_new.get_or_insert(series);
        }
        let series = &mut self.series[series];
        series.state = Some(state);
        series.deadline = update.ttl.map_or(NEVER, |ttl| {
            let ttl = u64::try_from(ttl.as_nanos()).unwrap_or(NEVER);
            self.now.saturating_add(ttl)
        });
        Ok(())
    }

    fn delete(&mut self, family: usize, hash: u64, labels: LabelText) {
        let series = self.series(family, hash, labels);
        if self.series[series].state.take().is_some() {
            self.families[family].after -= 1;
        }
    }

    /// The place of a series in the plan, as it is at this point of the batch.
    fn series(&mut self, place: usize, hash: u64, labels: LabelText) -> usize {
        let family = &self.families[place];
        let key = hash ^ family.hash;
        if !self.is_one {
            let same = |at: &u32| {
                let series = &self.series[*at as usize];
                series.family as usize == place && series.labels == labels
            };
            if let Some(at) = self.by_series.find(key, same) {
                return *at as usize;
            }
        }
        let living = family.id.and_then(|id| self.registry.family(id));
        let slot = living.and_then(|living| living.find(hash, labels.as_str()));
        let state = living
            .filter(|_| !family.cleared)
            .and_then(|living| living.state(slot?));
        let at = self.series.len();
        self.series.push(PlannedSeries {
            family: place as u32,
            hash,
            slot,
            labels,
            state,
            deadline: NEVER,
        });
        if !self.is_one {
            let (series, families) = (&self.series, &self.families);
            self.by_series.insert_unique(key, at as u32, |at| {
                let series = &series[*at as usize];
                series.hash ^ families[series.family as usize].hash
            });
        }
        at
    }

    /// What is asked of the labels of a new series.
    fn check_labels(&self, series: usize) -> Result<(), Rejection> {
        let series = &self.series[series];
        let family = &self.families[series.family as usize];
        let limit = self.limits().labels;
        if series.labels.len() > limit {
            return Err(Rejection::LabelsTooLong {
                series: series_text(&family.name, series.labels.as_str()),
                size: series.labels.len(),
                limit,
            });
        }
        let own = match family.kind {
            Kind::Histogram => "le",
            Kind::Summary => "quantile",
            _ => return Ok(()),
        };
        if series.labels.iter().any(|label| label.name == own) {
            return Err(Rejection::ReservedLabel {
                series: series_text(&family.name, series.labels.as_str()),
                label: own,
                kind: family.kind.with_article(),
            });
        }
        Ok(())
    }
}

fn refused(problem: Problem, family: &PlannedFamily, labels: &LabelText) -> Rejection {
    let series = series_text(&family.name, labels.as_str());
    match problem {
        Problem::Value { what, value, need } => Rejection::Value {
            series,
            what,
            value,
            need,
        },
        Problem::Buckets(problem) => Rejection::Buckets { series, problem },
        Problem::Conflict(more) => Rejection::BoundsConflict { series, more },
        Problem::TooManyBounds { bounds, limit } => Rejection::TooManyBounds {
            series,
            bounds,
            limit,
        },
        Problem::WrongChange(change) => Rejection::WrongChange {
            family: family_text(&family.name),
            kind: family.kind.with_article(),
            change,
        },
    }
}
