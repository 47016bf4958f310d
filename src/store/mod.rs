//! What every producer exposes now.
//!
//! Each producer owns a [`Section`], named by a [`SectionId`]. Everything that
//! comes in is a [`Write`], applied whole or not at all by [`Store::apply`];
//! everything that goes out begins with [`Store::snapshot`]. Reads are free to
//! all, writes are these named methods, and time is a parameter, so the store
//! has no clock, no I/O and no task of its own.
//!
//! Values that are added to, set and observed live in the
//! [registry], which the store owns: [`Store::operate`]
//! changes it, and its families stand among those of the sections.
//!
//! The texts themselves lie in a [page_list] of fragments, cut into [page]s that
//! are joined and compressed once: a scrape costs what changed since the last
//! one, and a write costs what was pushed.

mod aside;
mod expiry;
mod expose;
mod family;
mod family_name;
mod flush;
mod inspect;
mod living;
mod messages;
mod natives;
mod owners;
mod pages;
mod plan;
mod section;
mod sections;
mod snapshot;
mod write;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::clock::Now;

pub use inspect::{Clash, Conflict, Findings, InspectionTotals, Report, Rules, Suspect};
pub use living::{BatchRefused, LivingTotals};
pub use natives::FamilyNatives;
pub use section::{Problem, Producer, Section, SectionId, State};
pub use snapshot::{Snapshot, Texts};
pub use write::{Change, Elsewhere, Others, Refused, Write};

use crate::exposition::{Escaping, Text, hash_series, sample_lines};
use crate::registry::{self, Registry};
use flush::Flush;
use inspect::{Inspection, Levels};
use living::Hasher;
use messages::Messages;
use pages::page_run::PageRuns;
use sections::Sections;
pub use sections::ShownFamily;

/// The sections of all producers, the living families, and the output they
/// make together.
///
/// Locks are taken in this order: inspection, flush, registry, turn, sections.
#[derive(Debug)]
pub struct Store {
    sections: RwLock<Sections>,
    /// Held while sections or the index of families change: writers take turns.
    turn: Mutex<()>,
    /// Whether a large write is being worked out.
    is_aside: AtomicBool,
    /// Compressed pages of the last answers.
    page_runs: Arc<PageRuns>,
    registry: Mutex<Registry>,
    /// Held by the one snapshot that renders living families, so that no other
    /// writes what it has rendered later than what came after.
    flush: Mutex<Flush>,
    hasher: Hasher,
    /// What was made last for readers of protobuf, with names under each scheme.
    messages: [Mutex<Arc<Messages>>; Escaping::ALL.len()],
    /// Held while verbatim texts are read. Only readers of these texts in another
    /// form wait for it.
    inspection: Mutex<Inspection>,
    inspected: Levels,
    limits: Limits,
}

/// What the store holds at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Apps known at once. Targets are bounded by the configuration.
    pub apps: usize,
    /// Pushed groups known at once.
    pub groups: usize,
    /// Memory for what the registry and all sections but the proxy's own
    /// expose, in bytes: their text, and what is kept to find families and
    /// series again.
    pub bytes: usize,
    pub registry: registry::RegistryLimits,
}

/// How much may be held, and how much of that nobody else holds: see
/// [`Limits::bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    pub left: usize,
    pub limit: usize,
}

impl Room {
    /// For what is not known to be held.
    pub const UNLIMITED: Room = Room {
        left: usize::MAX,
        limit: usize::MAX,
    };
}

/// Sums over the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    pub apps: usize,
    pub groups: usize,
    /// Targets by state, in the order of [`State::ALL`].
    pub targets: [usize; State::ALL.len()],
    /// Bytes of text exposed for apps, groups and targets.
    pub bytes: usize,
    /// Memory held for them and for aggregated families, as it is counted
    /// against the limit.
    pub held: usize,
    /// Series of families, aggregated ones included. Those of verbatim texts
    /// are not known.
    pub series: usize,
}

impl Store {
    /// An empty store. With `stamps`, the time of each app's last update is
    /// part of the output, as a family of the proxy's own.
    pub fn new(limits: Limits, stamps: bool) -> Self {
        let hasher = Hasher::new();
        Store {
            sections: RwLock::new(Sections::new(stamps)),
            turn: Mutex::default(),
            is_aside: AtomicBool::new(false),
            page_runs: Arc::default(),
            registry: Mutex::new(Registry::new(limits.registry, hasher.clone())),
            flush: Mutex::default(),
            inspection: Mutex::new(Inspection::new(hasher.clone())),
            inspected: Levels::default(),
            hasher,
            messages: Default::default(),
            limits,
        }
    }

    /// Applies all of `write` or, where it is refused, nothing.
    pub fn apply(&self, write: Write, now: Now) -> Result<(), Refused> {
        let write = write.settled();
        let Some(_turn) = self.turn_for(&write) else {
            return Ok(());
        };
        let size = write.size();
        // What only renews values costs nothing for series.
        if size.has_many_families() || (size.has_many_series() && !self.read().is_the_same(&write))
        {
            return self.apply_aside(write, now);
        }
        let mut sections = self.write();
        if sections.takes_much_away(&write) {
            drop(sections);
            return self.apply_aside(write, now);
        }
        sections.check(&write, &self.limits)?;
        // What was replaced is freed without the lock.
        let freed = sections.apply(write, now);
        drop(sections);
        drop(freed);
        Ok(())
    }

    /// The turn of a writer. `None` for the proxy's own metrics while a large
    /// write is worked out: those of the last scrape are good enough, and a
    /// scrape should not wait.
    fn turn_for(&self, write: &Write) -> Option<MutexGuard<'_, ()>> {
        if self.is_busy()
            && let [Change::Replace { id, .. }] = write.changes.as_slice()
            && *id == SectionId::own()
            && self.read().section(id).is_some()
        {
            return None;
        }
        Some(self.turn())
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a large write is being worked out, for which other writers wait.
    pub fn is_busy(&self) -> bool {
        self.is_aside.load(Ordering::Relaxed)
    }

    /// Whether `write` would be applied as things stand. It changes nothing.
    pub fn check(&self, write: Write) -> Result<(), Refused> {
        let write = write.settled();
        let _turn = self.turn();
        self.read().check(&write, &self.limits)
    }

    /// Memory for what this section may expose.
    pub fn room(&self, id: &SectionId) -> Room {
        let limit = self.limits.bytes;
        let sections = self.read();
        let others = sections.weight - sections.weight_of(id);
        Room {
            left: limit.saturating_sub(others),
            limit,
        }
    }

    /// Withdraws what has not been heard from for its time. Apps and groups are
    /// forgotten; targets stay listed, since they are still being tried.
    pub fn expire(&self, now: Now) -> Vec<SectionId> {
        if !self.read().is_any_due(now) {
            return Vec::new();
        }
        let mut gone = Vec::new();
        loop {
            // Others have a turn between two sections.
            let _turn = self.turn();
            let mut sections = self.write();
            let Some(id) = sections.next_due(now.tick) else {
                return gone;
            };
            let mut freed = Vec::new();
            if sections.is_large(&id) {
                drop(sections);
                self.withdraw_aside(&id);
            } else {
                sections.withdraw(&id, &mut freed);
                drop(sections);
            }
            drop(freed);
            gone.push(id);
        }
    }

    /// The text of all sections and living families as it is now. Of the
    /// latter, what has changed since the last one is rendered here.
    pub fn snapshot(&self) -> Snapshot {
        self.flushed_snapshot(false)
    }

    /// The same with the native histograms of that moment.
    pub fn snapshot_with_natives(&self) -> Snapshot {
        self.flushed_snapshot(true)
    }

    /// All native histograms, for a snapshot of a part of the text.
    pub fn natives(&self) -> Vec<FamilyNatives> {
        self.read().natives.all()
    }

    /// A snapshot of the whole as protobuf, made now as far as it changed
    /// since the last one. Only a snapshot that is merged can be shown so.
    pub fn messages(&self, snapshot: &Snapshot, escaping: Escaping) -> Snapshot {
        let kept = &self.messages[escaping as usize];
        let lock = || kept.lock().unwrap_or_else(PoisonError::into_inner);
        let before = Arc::clone(&lock());
        let made = Arc::new(Messages::of(snapshot, escaping, &before));
        let shown = made.snapshot();
        let replaced = std::mem::replace(&mut *lock(), made);
        drop(replaced);
        shown
    }

    /// Every section but the proxy's own in order, from the one after `after`
    /// on. A page of them costs what it holds.
    pub fn sections(&self, after: Option<&SectionId>, limit: usize) -> Vec<(SectionId, Section)> {
        self.read().page(after, limit)
    }

    /// Families of a section in order, from the one after `after` on: as many
    /// as have `bytes` bytes together, and one at least. None of a section
    /// whose text is verbatim.
    pub fn families_of(
        &self,
        id: &SectionId,
        after: Option<&str>,
        bytes: usize,
    ) -> Vec<ShownFamily> {
        self.read().families_of(id, after, bytes)
    }

    /// Groups in the order of their names, from the one after `after` on. A
    /// page of them costs what it holds.
    pub fn groups(&self, after: Option<&str>, limit: usize) -> Vec<(SectionId, Section)> {
        self.read().groups(after, limit)
    }

    /// The section of that id.
    pub fn section_of(&self, id: &SectionId) -> Option<Section> {
        self.read().section(id)
    }

    /// The section of that name: an app's, or else a target's, or a group's.
    pub fn section(&self, name: &str) -> Option<(SectionId, Section)> {
        self.read().find(name)
    }

    /// Lines of samples that are exposed for a section. They are counted where
    /// they lie, in time that grows with its text.
    pub fn sample_lines(&self, id: &SectionId) -> usize {
        let pieces = self.read().pieces(id);
        pieces.iter().map(|piece| sample_lines(piece)).sum()
    }

    /// What is exposed for a section.
    pub fn text(&self, id: &SectionId) -> Text {
        let pieces = self.read().pieces(id);
        Text::concat(&pieces)
    }

    /// What is exposed for apps and targets of these names together, each
    /// family once. Names that nobody has are passed over.
    pub fn texts(&self, names: &[String]) -> Text {
        let pieces = self.read().pieces_of_all(names);
        Text::concat(&pieces)
    }

    pub fn totals(&self) -> Totals {
        self.read().totals()
    }

    /// Whether an app, a target, a group or an aggregated family exposes the
    /// series of that text. What is in verbatim texts is not known, and nothing
    /// is while a large write is worked out.
    pub fn is_exposed(&self, series: &str) -> bool {
        let hash = hash_series(&self.hasher, series, false);
        self.read().families.owns(hash)
    }

    // Nothing under the lock is meant to panic, whatever was pushed. Should it
    // happen all the same, one section may be torn; going on with the others
    // is better than refusing every push and scrape from then on.
    fn read(&self) -> RwLockReadGuard<'_, Sections> {
        self.sections.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Sections> {
        self.sections
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod tests;
