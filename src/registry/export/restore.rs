//! Makes families from records again.

use std::sync::Arc;

use super::records::{AggregatedRecord, ClockRecord, share};
use crate::clock::Now;
use crate::exposition::{Kind, is_family_name};
use crate::registry::block::parts::BlockParts;
use crate::registry::block::{Block, BlockValues};
use crate::registry::family::Family;
use crate::registry::planner::each_line_hash;
use crate::registry::rejection::SeriesName;
use crate::registry::reservation::{FamilyHead, Reservation};
use crate::registry::time::NEVER;
use crate::registry::weight::{family_weight, series_weight};
use crate::registry::{Registry, RegistryLimits};

/// A family as it was stored.
#[derive(Debug)]
pub struct StoredFamily {
    name: Arc<str>,
    kind: Kind,
    help: Option<Arc<str>>,
    bounds: Option<Arc<[f64]>>,
    blocks: Vec<(u32, BlockParts)>,
}

impl StoredFamily {
    /// A family without series.
    ///
    /// # Errors
    ///
    /// What is wrong with the record.
    pub fn new(
        name: Arc<str>,
        record: &AggregatedRecord<'_>,
        shared: &mut Vec<Arc<[f64]>>,
    ) -> Result<Self, &'static str> {
        if !is_family_name(&name) {
            return Err("its key has no valid name of a family");
        }
        if record.kind != record.kind.in_text() {
            return Err("no aggregated family has its type");
        }
        let bounds = record.bounds.as_ref().map(|bounds| share(bounds, shared));
        Ok(StoredFamily {
            name,
            kind: record.kind,
            help: record.help.as_deref().map(Arc::from),
            bounds: bounds.transpose()?,
            blocks: Vec::new(),
        })
    }

    /// Adds a block under a number.
    pub fn add(&mut self, number: u32, block: BlockParts) {
        self.blocks.push((number, block));
    }
}

/// A family that can be added to the registry, and what it needs.
#[derive(Debug)]
pub struct RestoredFamily {
    family: Family,
    /// Names, series lines and memory that it needs. The numbers beside the lines' hashes are those
    /// of [`RestoredFamily::series_name`].
    pub reservation: Reservation,
    /// Blocks that have lost series, which expired meanwhile.
    pub shortened: Vec<u32>,
    /// The number of these series.
    pub expired: usize,
}

impl RestoredFamily {
    /// The number of series. The family cannot be added without any.
    pub fn series(&self) -> usize {
        self.family.len()
    }

    /// The numbers of its blocks.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        let numbers = 0..self.family.blocks();
        numbers.filter(|number| self.family.block(*number).is_some())
    }

    /// Name and labels of a series by its number, shortened for messages.
    pub fn series_name(&self, number: u32) -> String {
        let series = self.family.iter().nth(number as usize);
        let labels = series.map_or("", |(_, labels)| labels);
        SeriesName::new(&self.family.name, labels).to_string()
    }
}

impl Registry {
    /// Continues the time of an earlier registry. Call this before anything else. If the wall clock
    /// is behind, no time has passed.
    pub fn restore_clock(&mut self, clock: ClockRecord, now: Now) {
        let passed = now.unix_nanos().saturating_sub(clock.wall);
        // More than a century before `NEVER`.
        let time = clock.time.saturating_add(passed).min(NEVER / 2);
        self.epoch = Some(now.tick);
        self.epoch_time = time;
        self.now = time;
    }

    /// Makes a family from its records, without the series that have expired. Does not change the
    /// registry.
    ///
    /// # Errors
    ///
    /// What is wrong with the records.
    pub fn restored(&self, stored: StoredFamily) -> Result<RestoredFamily, String> {
        let StoredFamily {
            name,
            kind,
            help,
            bounds,
            blocks,
        } = stored;
        let mut family = Family::new(Arc::clone(&name), kind);
        family.help = help;
        family.bounds = bounds;
        let series = blocks.iter();
        family.reserve(series.map(|(_, block)| block.labels.iter().count()).sum());
        let (mut shortened, mut expired) = (Vec::new(), 0);
        for (number, mut parts) in blocks {
            let gone = expire(&mut parts, self.now);
            if gone > 0 {
                shortened.push(number);
                expired += gone;
            }
            self.check_number(&name, number)?;
            check_type(&name, kind, &parts)?;
            let block = Block::of_parts(kind, parts);
            if block.is_empty() {
                continue;
            }
            family
                .restore_block(&self.hasher, number, block)
                .map_err(|labels| {
                    let series = SeriesName::new(&name, &labels);
                    format!("series {series} is stored twice")
                })?;
        }
        let reservation = self.reservation_of(&family);
        Ok(RestoredFamily {
            family,
            reservation,
            shortened,
            expired,
        })
    }

    /// Adds a restored family, which must not exist. It has at least one series.
    pub fn add_restored(&mut self, restored: RestoredFamily) {
        let RestoredFamily {
            mut family,
            reservation,
            ..
        } = restored;
        self.weight += reservation.reserved_bytes;
        self.series += family.len();
        let mut dues = Vec::new();
        for number in 0..family.blocks() {
            if let Some(block) = family.block_mut(number) {
                dues.push((number, block.next_deadline(), block.next_window_step()));
            }
        }
        let hash = self.hash_of(&family.name);
        let id = self.place_family(family, hash);
        for (number, expiry, window_step) in dues {
            self.note_change((id, number), expiry, window_step);
        }
    }

    /// Checks a block's number. A family never has more blocks than series, so a number far above
    /// the limit of series is invalid.
    fn check_number(&self, name: &str, number: u32) -> Result<(), String> {
        let usual = RegistryLimits::default().series_per_family;
        let limit = self.limits.series_per_family.max(usual);
        if (number as usize) < limit {
            return Ok(());
        }
        let family = SeriesName::new(name, "");
        Err(format!(
            "family {family} has a block of the number {number}, which is possible only with more \
             than {limit} series (push.max_series_per_family)"
        ))
    }

    fn reservation_of(&self, family: &Family) -> Reservation {
        let name = &family.name;
        let help = family.help.as_deref();
        let mut reservation = Reservation {
            reserved_bytes: family_weight(name, help),
            added_families: vec![FamilyHead {
                family: Arc::clone(name),
                kind: family.kind,
                help: family.help.clone(),
            }],
            ..Reservation::default()
        };
        let mut buffer = String::new();
        for (index, (address, labels)) in (0_u32..).zip(family.iter()) {
            let Some(state) = family.state(address) else {
                continue;
            };
            let mut reserve = |hash| reservation.reserved_series.push((hash, index));
            each_line_hash(
                &self.hasher,
                name,
                labels,
                &state,
                &mut buffer,
                &mut reserve,
            );
            reservation.reserved_bytes += series_weight(name, labels, &state);
        }
        reservation
    }
}

/// Checks that a family of this type can have the block.
fn check_type(name: &str, kind: Kind, parts: &BlockParts) -> Result<(), String> {
    let fits = match &parts.values {
        BlockValues::Histograms(_) => kind == Kind::Histogram,
        BlockValues::Summaries(_) => kind == Kind::Summary,
        BlockValues::Numbers(_) => {
            !matches!(kind, Kind::Histogram | Kind::Summary)
                && (parts.windows.is_empty() || kind == Kind::Gauge)
        }
    };
    if fits {
        return Ok(());
    }
    let (family, kind) = (SeriesName::new(name, ""), kind.with_article());
    Err(format!(
        "family {family} is {kind}, and has values of another type"
    ))
}

/// Removes the series that have expired. Returns their number.
fn expire(parts: &mut BlockParts, now: u64) -> usize {
    let due = parts.deadlines.iter().enumerate();
    let due = due.filter(|(_, deadline)| **deadline <= now);
    let due: Vec<usize> = due.map(|(slot, _)| slot).collect();
    for slot in &due {
        parts.labels.remove(*slot);
        parts.windows.remove(&(*slot as u8));
        parts.deadlines[*slot] = NEVER;
        parts.values.clear(*slot);
    }
    due.len()
}
