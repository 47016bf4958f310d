//! The end of planning: checks the batch as a whole, and makes its reservation.

use std::collections::{HashMap, HashSet};
use std::hash::RandomState;
use std::sync::Arc;

use super::Planner;
use crate::exposition::{hash_series, needs_quotes};
use crate::registry::changeset::{Changeset, PlannedFamily, PlannedSeries};
use crate::registry::family::{Family, SeriesAddress};
use crate::registry::rejection::{Rejection, SeriesName, family_text};
use crate::registry::render::each_line;
use crate::registry::reservation::{FamilyHead, Reservation};
use crate::registry::series::SeriesState;
use crate::registry::weight::{family_weight, help_weight, series_weight};

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

    /// A batch that reduces a number is accepted even if the number stays above
    /// its limit.
    fn check_limits(&self) -> Result<(), Rejection> {
        let limits = self.limits();
        let name = |index: usize| {
            let series = &self.series[index];
            let family = &self.families[series.family as usize];
            SeriesName::new(&family.name, series.labels.as_str()).to_string()
        };
        let (mut series, mut families) = (self.registry.series, self.registry.families());
        let (mut new_series, mut new_family) = (None, None);
        for family in &self.families {
            let (before, after) = (family.series_before, family.series_after);
            series = series + after - before;
            families = families + usize::from(after > 0) - usize::from(before > 0);
            let Some(first) = family.first_new else {
                continue;
            };
            new_series = Some(first);
            if before == 0 {
                new_family = Some(first);
            }
            let limit = limits.series_per_family;
            if after > limit && after > before {
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

    /// An untyped family becomes a counter only if a counter can have all of its
    /// values. Costs what the batch names, since the family counts those that a
    /// counter cannot have.
    fn check_types(&self) -> Result<(), Rejection> {
        if !self.families.iter().any(PlannedFamily::becomes_counter) {
            return Ok(());
        }
        let kept = |family: &PlannedFamily| {
            let existing = self.existing(family);
            existing.filter(|_| !family.is_replaced)
        };
        let counts = self.families.iter();
        let counts = counts.map(|family| kept(family).map_or(0, |kept| kept.no_counters));
        let mut counts: Vec<usize> = counts.collect();
        for series in &self.series {
            let index = series.family as usize;
            let family = &self.families[index];
            if !family.becomes_counter() {
                continue;
            }
            let before = kept(family).and_then(|kept| kept.state(series.address?));
            let after = series.state.as_ref();
            counts[index] -= usize::from(before.as_ref().is_some_and(SeriesState::is_no_counter));
            counts[index] += usize::from(after.is_some_and(SeriesState::is_no_counter));
        }
        for (family, values) in self.families.iter().zip(counts) {
            if family.becomes_counter() && values > 0 {
                let family = family_text(&family.name);
                return Err(Rejection::NotACounter { family, values });
            }
        }
        Ok(())
    }

    fn existing(&self, family: &PlannedFamily) -> Option<&Family> {
        family.id.and_then(|id| self.registry.family(id))
    }

    fn reservation(&self) -> Reservation {
        let mut reservation = Reservation::default();
        for family in &self.families {
            self.reserve_family(family, &mut reservation);
        }
        let mut buffer = String::new();
        for (index, series) in (0_u32..).zip(&self.series) {
            self.reserve_series(index, series, &mut buffer, &mut reservation);
        }
        for (index, named) in named_addresses(&self.series, &self.families) {
            let family = &self.families[index];
            self.release_others(family, &named, &mut buffer, &mut reservation);
        }
        reservation
    }

    fn reserve_family(&self, family: &PlannedFamily, reservation: &mut Reservation) {
        let head = || FamilyHead {
            family: Arc::clone(&family.name),
            kind: family.kind,
            help: family.help.clone(),
        };
        match (family.series_before > 0, family.series_after > 0) {
            (false, true) => {
                reservation.added_families.push(head());
                reservation.reserved_bytes += family_weight(&family.name, family.help.as_deref());
            }
            (true, false) => {
                let existing = self.existing(family);
                let help = existing.and_then(|existing| existing.help.as_deref());
                reservation.removed_families.push(Arc::clone(&family.name));
                reservation.released_bytes += family_weight(&family.name, help);
            }
            (true, true) if family.gets_help || family.gets_type => {
                let help = family.help.as_deref().filter(|_| family.gets_help);
                reservation.changed_families.push(head());
                reservation.reserved_bytes += help.map_or(0, help_weight);
            }
            _ => {}
        }
    }

    fn reserve_series(
        &self,
        index: u32,
        series: &PlannedSeries,
        buffer: &mut String,
        reservation: &mut Reservation,
    ) {
        let family = &self.families[series.family as usize];
        let existing = self.existing(family);
        if let (Some(existing), Some(address), Some(after)) =
            (existing, series.address, &series.state)
            && existing.has_same_shape(address, after)
        {
            return;
        }
        let before = existing.and_then(|existing| existing.state(series.address?));
        let (name, labels) = (&*family.name, series.labels.as_str());
        let hasher = &self.registry.hasher;
        if let Some(before) = &before {
            let mut release = |hash| reservation.released_series.push(hash);
            each_line_hash(hasher, name, labels, before, buffer, &mut release);
            reservation.released_bytes += series_weight(name, labels, before);
        }
        if let Some(after) = &series.state {
            let mut reserve = |hash| reservation.reserved_series.push((hash, index));
            each_line_hash(hasher, name, labels, after, buffer, &mut reserve);
            reservation.reserved_bytes += series_weight(name, labels, after);
        }
    }

    /// Releases the series of a replaced family that the batch does not name.
    fn release_others(
        &self,
        family: &PlannedFamily,
        named: &HashSet<SeriesAddress>,
        buffer: &mut String,
        reservation: &mut Reservation,
    ) {
        let Some(existing) = self.existing(family) else {
            return;
        };
        let others = existing
            .iter()
            .filter(|(address, _)| !named.contains(address));
        for (address, labels) in others {
            let Some(state) = existing.state(address) else {
                continue;
            };
            let mut release = |hash| reservation.released_series.push(hash);
            let hasher = &self.registry.hasher;
            each_line_hash(hasher, &existing.name, labels, &state, buffer, &mut release);
            reservation.released_bytes += series_weight(&existing.name, labels, &state);
        }
    }
}

/// Addresses of the existing series that a changeset names, for each replaced
/// family, by its index. Looks at each series once, however many families.
pub(in crate::registry) fn named_addresses(
    series: &[PlannedSeries],
    families: &[PlannedFamily],
) -> HashMap<usize, HashSet<SeriesAddress>> {
    let replaced = families.iter().enumerate();
    let replaced = replaced.filter(|(_, family)| family.is_replaced);
    let mut named: HashMap<usize, HashSet<SeriesAddress>> =
        replaced.map(|(index, _)| (index, HashSet::new())).collect();
    if named.is_empty() {
        return named;
    }
    for series in series {
        let addresses = named.get_mut(&(series.family as usize));
        if let (Some(addresses), Some(address)) = (addresses, series.address) {
            addresses.insert(address);
        }
    }
    named
}

/// Calls `f` with the hash of each line that a series is shown in.
pub(in crate::registry) fn each_line_hash(
    hasher: &RandomState,
    family: &str,
    labels: &str,
    state: &SeriesState,
    buffer: &mut String,
    f: &mut dyn FnMut(u64),
) {
    // A quoted name starts the labels or follows a comma. A label value may look
    // like one, which only costs a closer look.
    let is_plain = !needs_quotes(family) && !labels.starts_with('"') && !labels.contains(",\"");
    each_line(family, labels, state, buffer, |line| {
        f(hash_series(hasher, line, is_plain));
    });
}
