//! Checks a batch, and plans what it makes of the registry.
//!
//! Nothing is changed here. Each series that a batch names is taken out once,
//! changed as often as the batch says, and put into the plan as it will be.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashTable;

use super::block::NEVER;
use super::claims::{Claims, Head};
use super::family::{Slot, family_weight, help_weight, weight_of};
use super::refused::{family_text, series_text};
use super::render::each_series;
use super::state::{Context, Problem, State};
use super::{Batch, BucketConflict, Change, Limits, Refused, Registry, Update};
use crate::exposition::{Kind, LabelText, hash_series, is_family_name, needs_quotes};

/// A batch that has been checked. It holds for the registry as it was then.
#[derive(Debug)]
pub struct Plan {
    pub(super) at: Instant,
    pub(super) families: Vec<PlannedFamily>,
    pub(super) series: Vec<PlannedSeries>,
    claims: Claims,
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
    /// Whether it will have series.
    pub fn lives(&self) -> bool {
        self.after > 0
    }
}

impl Plan {
    /// What the batch takes and lets go. It is for the caller to see that
    /// nobody else has it, and to take it before the plan is carried out.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// A series of the plan, for people.
    pub fn series_text(&self, series: u32) -> String {
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
    conflict: BucketConflict,
    known_only: bool,
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
    pub fn plan(registry: &'r Registry, batch: Batch, at: Instant) -> Result<Plan, Refused> {
        let updates = batch.updates.len();
        let mut planner = Planner {
            registry,
            conflict: batch.conflict,
            known_only: batch.known_only,
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

    fn limits(&self) -> &'r Limits {
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

    fn new_family(&mut self, name: Arc<str>, kind: Kind) -> Result<usize, Refused> {
        if name.len() > self.limits().labels || !is_family_name(&name) {
            return Err(Refused::Name {
                name: family_text(&name),
            });
        }
        if kind != kind.in_text() {
            return Err(Refused::WrongChange {
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
            bounds: None,
            cleared: false,
            before: 0,
            after: 0,
            first_new: None,
        }))
    }

    fn update(&mut self, update: Update, target: Target) -> Result<(), Refused> {
        let delete = matches!(update.change, Change::Delete);
        let hash = target.hash;
        // One that is not there may have been made by this batch.
        let place = match target.family.or_else(|| self.family(&update.family)) {
            Some(place) => place,
            None if delete || self.known_only => return Ok(()),
            None => self.new_family(update.family, update.kind)?,
        };
        let family = &mut self.families[place];
        if delete {
            self.delete(place, hash, update.labels);
            return Ok(());
        }
        if family.kind != update.kind {
            return Err(Refused::KindConflict {
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
    fn check_labels(&self, series: usize) -> Result<(), Refused> {
        let series = &self.series[series];
        let family = &self.families[series.family as usize];
        let limit = self.limits().labels;
        if series.labels.len() > limit {
            return Err(Refused::LabelsTooLong {
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
            return Err(Refused::ReservedLabel {
                series: series_text(&family.name, series.labels.as_str()),
                label: own,
                kind: family.kind.with_article(),
            });
        }
        Ok(())
    }

    fn finish(self) -> Result<Plan, Refused> {
        self.check_limits()?;
        let claims = self.claims();
        Ok(Plan {
            at: self.at,
            families: self.families,
            series: self.series,
            claims,
        })
    }

    /// What makes it less is taken even where it is too much still.
    fn check_limits(&self) -> Result<(), Refused> {
        let limits = self.limits();
        let name = |place: usize| {
            let series = &self.series[place];
            series_text(
                &self.families[series.family as usize].name,
                series.labels.as_str(),
            )
        };
        let (mut series, mut families) = (self.registry.series, self.registry.families());
        let (mut new_series, mut new_family) = (None, None);
        for family in &self.families {
            series = series + family.after - family.before;
            families = families + usize::from(family.after > 0) - usize::from(family.before > 0);
            let Some(first) = family.first_new else {
                continue;
            };
            new_series = Some(first);
            if family.before == 0 {
                new_family = Some(first);
            }
            let limit = limits.series_per_family;
            if family.after > limit && family.after > family.before {
                let series = name(first);
                return Err(Refused::TooManySeriesOfFamily { series, limit });
            }
        }
        if let Some(first) = new_series
            && series > limits.series
            && series > self.registry.series
        {
            return Err(Refused::TooManySeries {
                series: name(first),
                limit: limits.series,
            });
        }
        if let Some(first) = new_family
            && families > limits.families
            && families > self.registry.families()
        {
            return Err(Refused::TooManyFamilies {
                series: name(first),
                limit: limits.families,
            });
        }
        Ok(())
    }

    fn claims(&self) -> Claims {
        let mut claims = Claims::default();
        for family in &self.families {
            let head = || Head {
                family: Arc::clone(&family.name),
                kind: family.kind,
                help: family.help.clone(),
            };
            match (family.before > 0, family.after > 0) {
                (false, true) => {
                    claims.joined.push(head());
                    claims.added += family_weight(&family.name, family.help.as_deref());
                }
                (true, false) => {
                    claims.left.push(Arc::clone(&family.name));
                    let living = family.id.and_then(|id| self.registry.family(id));
                    let help = living.and_then(|living| living.help.as_deref());
                    claims.freed += family_weight(&family.name, help);
                }
                (true, true) if family.helped => {
                    claims.helped.push(head());
                    claims.added += family.help.as_deref().map_or(0, help_weight);
                }
                _ => {}
            }
        }
        let mut scratch = String::new();
        for (place, series) in (0_u32..).zip(&self.series) {
            let family = &self.families[series.family as usize];
            let living = family.id.and_then(|id| self.registry.family(id));
            if let (Some(living), Some(slot), Some(after)) = (living, series.slot, &series.state)
                && living.is_like(slot, after)
            {
                continue;
            }
            let before = living.and_then(|living| living.state(series.slot?));
            let (name, labels) = (&*family.name, series.labels.as_str());
            let hasher = &self.registry.hasher;
            let mut hash = |state: &State, to: &mut dyn FnMut(u64)| {
                claimed_by(hasher, name, labels, state, &mut scratch, to);
            };
            if let Some(before) = &before {
                hash(before, &mut |hash| claims.released.push(hash));
                claims.freed += weight_of(name, labels, before);
            }
            if let Some(after) = &series.state {
                hash(after, &mut |hash| claims.claimed.push((hash, place)));
                claims.added += weight_of(name, labels, after);
            }
        }
        for (place, named) in named_slots(&self.series, &self.families) {
            self.release_the_rest(place, &named, &mut scratch, &mut claims);
        }
        claims
    }

    /// Series of a cleared family that the batch does not name.
    fn release_the_rest(
        &self,
        place: usize,
        named: &HashSet<Slot>,
        scratch: &mut String,
        claims: &mut Claims,
    ) {
        let family = &self.families[place];
        let Some(living) = family.id.and_then(|id| self.registry.family(id)) else {
            return;
        };
        for (slot, labels) in living.iter().filter(|(slot, _)| !named.contains(slot)) {
            let Some(state) = living.state(slot) else {
                continue;
            };
            let mut release = |hash| claims.released.push(hash);
            let hasher = &self.registry.hasher;
            claimed_by(hasher, &living.name, labels, &state, scratch, &mut release);
            claims.freed += weight_of(&living.name, labels, &state);
        }
    }
}

/// Where the series are that live and that a plan names, for each family that
/// is cleared. All series are looked through once, however many families.
pub(super) fn named_slots(
    series: &[PlannedSeries],
    families: &[PlannedFamily],
) -> HashMap<usize, HashSet<Slot>> {
    let cleared = families.iter().enumerate().filter(|(_, it)| it.cleared);
    let mut named: HashMap<usize, HashSet<Slot>> =
        cleared.map(|(place, _)| (place, HashSet::new())).collect();
    if named.is_empty() {
        return named;
    }
    for series in series {
        let slots = named.get_mut(&(series.family as usize));
        if let (Some(slots), Some(slot)) = (slots, series.slot) {
            slots.insert(slot);
        }
    }
    named
}

/// Hashes of all lines that a series is shown in.
pub(super) fn claimed_by(
    hasher: &RandomState,
    name: &str,
    labels: &str,
    state: &State,
    scratch: &mut String,
    to: &mut dyn FnMut(u64),
) {
    // A quoted name begins the labels or follows a comma. A value that looks
    // like one costs a second look.
    let plain = !needs_quotes(name) && !labels.starts_with('"') && !labels.contains(",\"");
    each_series(name, labels, state, scratch, |series| {
        to(hash_series(hasher, series, plain));
    });
}

fn refused(problem: Problem, family: &PlannedFamily, labels: &LabelText) -> Refused {
    let series = series_text(&family.name, labels.as_str());
    match problem {
        Problem::Value { what, value, need } => Refused::Value {
            series,
            what,
            value,
            need,
        },
        Problem::Buckets(problem) => Refused::Buckets { series, problem },
        Problem::Conflict(more) => Refused::BucketConflict { series, more },
        Problem::TooManyBounds { bounds, limit } => Refused::TooManyBounds {
            series,
            bounds,
            limit,
        },
        Problem::WrongChange(change) => Refused::WrongChange {
            family: family_text(&family.name),
            kind: family.kind.with_article(),
            change,
        },
    }
}
