//! Changes values of existing series in place.
//!
//! Most updates of a busy sender are of series that it changed before, and change only their
//! values. A [`KnownSeries`] remembers where its series is, and [`Registry::change_known`] changes
//! the value there: it searches for nothing, copies no state and has nothing to reserve.
//! [`Registry::check`] handles all other updates.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Registry;
use super::batch::{BoundsPolicy, Change, QuantileSpec, Update};
use super::family::{Family, SeriesAddress};
use super::rejection::SeriesName;
use super::series::ChangeContext;
use super::time::{Nanos, deadline};
use crate::exposition::{Kind, LabelText};

/// A change of numbers alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueChange {
    /// As [`Change::Add`].
    Add(f64),
    /// As [`Change::Set`].
    Set(f64),
    /// As [`Change::Observe`], or [`Change::ObserveQuantiles`] for a summary.
    Observe {
        /// The observed value.
        value: f64,
        /// The weight.
        times: f64,
    },
}

/// A series that is changed often, and its place once found.
#[derive(Debug)]
pub struct KnownSeries {
    family: Arc<str>,
    kind: Kind,
    has_help: bool,
    labels: LabelText,
    ttl: Option<Duration>,
    /// What a summary shows.
    spec: Option<Arc<QuantileSpec>>,
    place: Cell<Option<Place>>,
}

/// Where a series is, while the registry has this layout.
#[derive(Debug, Clone, Copy)]
struct Place {
    layout: u64,
    family: u32,
    address: SeriesAddress,
}

impl KnownSeries {
    /// The series that an update changes.
    pub fn of(update: &Update) -> Self {
        KnownSeries {
            family: Arc::clone(&update.family),
            kind: update.kind,
            has_help: update.help.is_some(),
            labels: update.labels.clone(),
            ttl: update.ttl,
            spec: match &update.change {
                Change::ObserveQuantiles { spec, .. } => Some(Arc::clone(spec)),
                _ => None,
            },
            place: Cell::new(None),
        }
    }

    /// Reads the memory that [`Registry::change_known`] reads of it, and returns a sum.
    pub fn prefetch(&self) -> u64 {
        self.place.get().map_or(0, |place| place.layout)
    }

    /// What a summary shows; `None` if the series is not a summary.
    pub(super) fn spec(&self) -> Option<&Arc<QuantileSpec>> {
        self.spec.as_ref()
    }
}

impl Registry {
    /// Changes values in order, each as a batch of one update would, and returns how many. It stops
    /// at the first change that would do more than change a value, or that would be rejected:
    /// [`Registry::check`] handles these.
    pub fn change_known<'k>(
        &mut self,
        changes: impl Iterator<Item = (&'k KnownSeries, ValueChange)> + Clone,
        at: Instant,
    ) -> usize {
        let now = self.time(at);
        // As in the planner, the reads of different series do not wait for one another.
        let read = |(known, _): (&KnownSeries, ValueChange)| {
            let place = known.place.get()?;
            let block = self.family(place.family)?.block(place.address.block())?;
            Some(block.prefetch_value(place.address.slot()))
        };
        black_box(changes.clone().filter_map(read).fold(0, u64::wrapping_add));
        let mut made = 0;
        for (known, change) in changes {
            if self.change_one(known, change, (at, now)).is_none() {
                break;
            }
            made += 1;
        }
        if made > 0 {
            self.advance(at);
        }
        made
    }

    fn change_one(
        &mut self,
        known: &KnownSeries,
        change: ValueChange,
        (at, now): (Instant, Nanos),
    ) -> Option<()> {
        let place = self.place_of(known)?;
        let max_bounds = self.limits.bounds;
        let block_id = (place.family, place.address.block());
        let family = self.family_mut(place.family)?;
        let block = family.block_mut(block_id.1)?;
        let context = ChangeContext {
            series: SeriesName::new(&known.family, known.labels.as_str()),
            kind: known.kind,
            bounds_policy: BoundsPolicy::default(),
            max_bounds,
            now,
            bounds: None,
        };
        let deadline = deadline(now, known.ttl);
        let slot = place.address.slot();
        let step = block.change(slot, change, known.spec(), context, deadline)?;
        family.changed = Some(at);
        self.note_change(block_id, deadline, step);
        self.note_block(block_id);
        Some(())
    }

    /// Where a series is; `None` if it does not exist, or if an update would change more than its
    /// value.
    fn place_of(&self, known: &KnownSeries) -> Option<Place> {
        if let Some(place) = known.place.get()
            && place.layout == self.layout
        {
            return Some(place);
        }
        let id = self.id_of(&known.family)?;
        let family = self.family(id).filter(|family| known.fits(family))?;
        let labels = known.labels.as_str();
        let place = Place {
            layout: self.layout,
            family: id,
            address: family.find(self.hash_of(labels), labels)?,
        };
        known.place.set(Some(place));
        Some(place)
    }
}

impl KnownSeries {
    /// Whether updates leave the family's type, help and bounds as they are. This holds as long as
    /// the family exists.
    fn fits(&self, family: &Family) -> bool {
        family.kind == self.kind
            && family.help.is_some() >= self.has_help
            && (self.kind != Kind::Histogram || family.bounds.is_some())
    }
}
