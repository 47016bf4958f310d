//! Large writes: worked out beside the output, and shown at once.
//!
//! A write of many families or series would hold the sections' lock for long.
//! So it is applied to sections of its own, with the index of families, which
//! only writers need; what it does to the output is noted there and made into
//! pages. The lock is then held to put these in, which readers see as a whole.
//! Other writers wait for their turn meanwhile, and readers for nothing.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::living::BatchRefused;
use super::pages::splice::Splice;
use super::plan::plan;
use super::sections::Sections;
use super::{Change, Others, Refused, Section, SectionId, Store, Write};
use crate::clock::Now;
use crate::exposition::Content;
use crate::registry::{Changeset, Reservation};

/// Families, ...
const MANY_FAMILIES: usize = 2048;

/// ... or series, that make a write large: it would hold the lock for more than
/// some milliseconds.
const MANY_SERIES: usize = 16 * 1024;

/// Bytes held for sections that are replaced or removed which make a write large
/// where they are of families.
const MUCH_HELD: usize = 2 << 20;

/// Sections of a large write, to which alone it is applied. They have the index
/// of families, which is given back in any case.
struct Aside<'s> {
    store: &'s Store,
    sections: Sections,
    is_done: bool,
}

impl<'s> Aside<'s> {
    fn new(store: &'s Store, old: HashMap<SectionId, Section>) -> Self {
        store.is_aside.store(true, Ordering::Relaxed);
        let sections = store.write().begin_aside(old);
        Aside {
            store,
            sections,
            is_done: false,
        }
    }

    /// Makes the pages, and shows all that was done.
    fn finish(mut self, changed: Vec<SectionId>) {
        let page_list = std::mem::take(&mut self.sections.page_list);
        let changes = page_list.into_noted();
        let store = self.store;
        let splice = Splice::make(changes, |rest| store.read().page_list.range(rest));
        let natives = std::mem::take(&mut self.sections.natives).into_noted();
        let mut sections = store.write();
        let replaced = sections.page_list.splice(splice);
        let freed = sections.end_aside(&mut self.sections, changed, natives);
        self.is_done = true;
        drop(sections);
        drop((replaced, freed));
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.store.write().take_back(&mut self.sections);
        }
        self.store.is_aside.store(false, Ordering::Relaxed);
    }
}

impl Store {
    /// Applies a large write, or refuses it. It is the caller's turn to write.
    pub(super) fn apply_aside(&self, write: Write, now: Now) -> Result<(), Refused> {
        let ids = write.changes.iter().map(Change::id);
        let old: HashMap<SectionId, Section> = {
            let sections = self.read();
            let old = ids.filter_map(|id| Some((id.clone(), sections.section(id)?)));
            old.collect()
        };
        let changes = write.changes.iter();
        let plans: Vec<_> = changes
            .filter_map(|change| plan(change, old.get(change.id())))
            .collect();
        self.read().check_room(&plans, &self.limits)?;
        let aside = Aside::new(self, HashMap::new());
        let checked = aside.sections.families.check(&plans);
        if let Err(refused) = checked {
            drop(aside);
            return Err(self.read().explained(refused, &plans));
        }
        drop(plans);
        let mut aside = aside;
        aside.sections.set_old(old);
        let changed = write.changes.iter().map(|change| change.id().clone());
        let mut changed: Vec<SectionId> = changed.collect();
        changed.sort_unstable();
        changed.dedup();
        let freed = aside.sections.apply(write, now);
        aside.finish(changed);
        drop(freed);
        Ok(())
    }

    /// Checks and enters what the registry takes, where that is very much. It is
    /// the caller's turn to write.
    pub(super) fn take_reservation_aside(&self, plan: &Changeset) -> Result<(), BatchRefused> {
        let mut aside = Aside::new(self, HashMap::new());
        aside.sections.check_reservation(plan, self.limits.bytes)?;
        let freed = aside.sections.take_reservation(plan.reservation());
        aside.finish(Vec::new());
        drop(freed);
        Ok(())
    }

    /// Withdraws a section of much that is held. It is the caller's turn to
    /// write.
    pub(super) fn withdraw_aside(&self, id: &SectionId) {
        let section = self.read().section(id);
        let old = section.map(|section| (id.clone(), section));
        let mut aside = Aside::new(self, old.into_iter().collect());
        let mut freed = Vec::new();
        aside.sections.withdraw(id, &mut freed);
        aside.finish(vec![id.clone()]);
        drop(freed);
    }
}

/// Whether it takes long to enter what the registry takes.
pub(super) fn are_many(reservation: &Reservation) -> bool {
    let size = Size {
        families: reservation.added_families.len()
            + reservation.removed_families.len()
            + reservation.changed_families.len(),
        series: reservation.reserved_series.len() + reservation.released_series.len(),
    };
    size.has_many_families() || size.has_many_series()
}

/// What a write brings.
#[derive(Debug, Clone, Copy, Default)]
pub struct Size {
    families: usize,
    series: usize,
}

impl Size {
    pub fn has_many_families(self) -> bool {
        self.families > MANY_FAMILIES
    }

    pub fn has_many_series(self) -> bool {
        self.series > MANY_SERIES
    }
}

impl Write {
    pub(super) fn size(&self) -> Size {
        let mut size = Size::default();
        for change in &self.changes {
            let (Change::Replace {
                content: Content::Families(families),
                ..
            }
            | Change::Update { families, .. }) = change
            else {
                continue;
            };
            size.families += families.len();
            let series = families.iter().map(|family| family.series.len());
            size.series += series.sum::<usize>();
        }
        size
    }
}

impl Change {
    /// Whether the change may take families away from a section that has `members`
    /// of them. A replacement by as many families is taken to keep them all.
    pub(super) fn takes_away(&self, members: usize) -> bool {
        match self {
            Change::Remove { .. } => true,
            Change::Replace { content, .. } => match content {
                Content::Families(families) => families.len() != members,
                Content::Verbatim(_) => true,
            },
            Change::Update {
                families,
                defaults,
                others,
                ..
            } => *others == Others::Drop && families.len() + defaults.len() != members,
            Change::Expect { .. } | Change::Fail { .. } => false,
        }
    }
}

impl Section {
    /// Whether taking it away takes long.
    pub(super) fn is_large(&self) -> bool {
        !self.members.is_empty() && self.weight > MUCH_HELD
    }
}

#[cfg(test)]
mod tests;
