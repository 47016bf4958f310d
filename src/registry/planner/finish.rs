//! The end of planning: what all of a batch together must keep to, and what
//! it takes and lets go.

use std::collections::{HashMap, HashSet};
use std::hash::RandomState;
use std::sync::Arc;

use super::{Changeset, PlannedFamily, PlannedSeries, Planner};
use crate::exposition::{hash_series, needs_quotes};
use crate::registry::family::{Slot, family_weight, help_weight, is_uncountable, weight_of};
use crate::registry::rejection::{Rejection, family_text, series_text};
use crate::registry::render::each_series;
use crate::registry::reservation::{FamilyHead, Reservation};
use crate::registry::state::State;

impl Planner<'_> {
    pub(super) fn finish(self) -> Result<Changeset, Rejection> {
        self.check_limits()?;
        self.check_types()?;
        let reservation = self.reservation();
        Ok(Changeset {
            at: self.at,
            families: self.families,
            series: self.series,
            reservation,
        })
    }

    /// What makes it less is taken even where it is too much still.
    fn check_limits(&self) -> Result<(), Rejection> {
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
                return Err(Rejection::TooManySeriesOfFamily { series, limit });
            }
        }
        if let Some(first) = new_series
            && series > limits.series
            && series > self.registry.series
        {
            return Err(Rejection::TooManySeries {
                series: name(first),
                limit: limits.series,
            });
        }
        if let Some(first) = new_family
            && families > limits.families
            && families > self.registry.families()
        {
            return Err(Rejection::TooManyFamilies {
                series: name(first),
                limit: limits.families,
            });
        }
        Ok(())
    }

    /// Untyped values that have become a counter's must be such as a counter
    /// has. Costs what the batch names.
    fn check_types(&self) -> Result<(), Rejection> {
        if !self.families.iter().any(PlannedFamily::is_made_counter) {
            return Ok(());
        }
        let living = |family: &PlannedFamily| {
            let living = family.id.and_then(|id| self.registry.family(id));
            living.filter(|_| !family.cleared)
        };
        // Of each family, how many values no counter has.
        let counts = self.families.iter();
        let counts = counts.map(|family| living(family).map_or(0, |living| living.uncountable));
        let mut counts: Vec<usize> = counts.collect();
        for series in &self.series {
            let place = series.family as usize;
            let family = &self.families[place];
            if !family.is_made_counter() {
                continue;
            }
            let before = living(family).and_then(|living| living.state(series.slot?));
            counts[place] -= usize::from(before.as_ref().is_some_and(is_uncountable));
            counts[place] += usize::from(series.state.as_ref().is_some_and(is_uncountable));
        }
        for (family, left) in self.families.iter().zip(counts) {
            if family.is_made_counter() && left > 0 {
                let family = family_text(&family.name);
                return Err(Rejection::Uncountable { family, left });
            }
        }
        Ok(())
    }

    fn reservation(&self) -> Reservation {
        let mut reservation = Reservation::default();
        for family in &self.families {
            let head = || FamilyHead {
                family: Arc::clone(&family.name),
                kind: family.kind,
                help: family.help.clone(),
            };
            match (family.before > 0, family.after > 0) {
                (false, true) => {
                    reservation.added_families.push(head());
                    reservation.reserved_bytes +=
                        family_weight(&family.name, family.help.as_deref());
                }
                (true, false) => {
                    reservation.removed_families.push(Arc::clone(&family.name));
                    let living = family.id.and_then(|id| self.registry.family(id));
                    let help = living.and_then(|living| living.help.as_deref());
                    reservation.released_bytes += family_weight(&family.name, help);
                }
                (true, true) if family.helped || family.typed => {
                    reservation.changed_families.push(head());
                    let new = family.help.as_deref().filter(|_| family.helped);
                    reservation.reserved_bytes += new.map_or(0, help_weight);
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
                hash(before, &mut |hash| reservation.released_series.push(hash));
                reservation.released_bytes += weight_of(name, labels, before);
            }
            if let Some(after) = &series.state {
                hash(after, &mut |hash| {
                    reservation.reserved_series.push((hash, place));
                });
                reservation.reserved_bytes += weight_of(name, labels, after);
            }
        }
        for (place, named) in named_slots(&self.series, &self.families) {
            self.release_the_rest(place, &named, &mut scratch, &mut reservation);
        }
        reservation
    }

    /// Series of a cleared family that the batch does not name.
    fn release_the_rest(
        &self,
        place: usize,
        named: &HashSet<Slot>,
        scratch: &mut String,
        reservation: &mut Reservation,
    ) {
        let family = &self.families[place];
        let Some(living) = family.id.and_then(|id| self.registry.family(id)) else {
            return;
        };
        for (slot, labels) in living.iter().filter(|(slot, _)| !named.contains(slot)) {
            let Some(state) = living.state(slot) else {
                continue;
            };
            let mut release = |hash| reservation.released_series.push(hash);
            let hasher = &self.registry.hasher;
            claimed_by(hasher, &living.name, labels, &state, scratch, &mut release);
            reservation.released_bytes += weight_of(&living.name, labels, &state);
        }
    }
}

/// Where the series are that live and that a plan names, for each family that
/// is cleared. All series are looked through once, however many families.
pub(in crate::registry) fn named_slots(
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
pub(in crate::registry) fn claimed_by(
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
