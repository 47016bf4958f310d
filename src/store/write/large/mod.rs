//! Large writes, which readers never wait for.
//!
//! A write of many families or series would hold the lock of the sections for long. So it is
//! applied to a section table of its own, which takes over the family index, since only writers
//! need that. Changes to the output are noted there and made into pages. The lock is then held only
//! to put the pages in. Readers see the write as a whole and never wait for it. Other writers wait
//! for their turn.

mod hand_over;

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use crate::clock::Now;
use crate::store::pages::splice::Splice;
use crate::store::rejection::Rejection;
use crate::store::sections::section::Section;
use crate::store::sections::section_id::SectionId;
use crate::store::sections::table::SectionTable;
use crate::store::store::Store;
use crate::store::write::change::{Change, Write};
use crate::store::write::changeset::SectionChangeset;

/// A large write in progress: the table that it is applied to. The table has the family
/// index, which is given back on drop.
pub struct LargeWrite<'s> {
    store: &'s Store,
    pub sections: SectionTable,
    is_done: bool,
}

impl<'s> LargeWrite<'s> {
    /// Begins a large write of the sections `old`. The caller holds the writers' turn.
    pub fn begin(store: &'s Store, old: HashMap<SectionId, Section>) -> Self {
        store.is_large_write_running.store(true, Ordering::Relaxed);
        let sections = store.write().begin_large_write(old);
        LargeWrite {
            store,
            sections,
            is_done: false,
        }
    }

    /// Makes the pages and shows all changes.
    pub fn finish(mut self, changed: Vec<SectionId>) {
        let page_list = std::mem::take(&mut self.sections.page_list);
        let changes = page_list.into_noted();
        let store = self.store;
        let splice = Splice::make(changes, |rest| store.read().page_list.range(rest));
        let natives = std::mem::take(&mut self.sections.natives).into_noted();
        let mut sections = store.write();
        let replaced = sections.page_list.splice(splice);
        let freed = sections.end_large_write(&mut self.sections, changed, natives);
        self.is_done = true;
        drop(sections);
        drop((replaced, freed));
    }
}

impl Drop for LargeWrite<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.store.write().take_index_back(&mut self.sections);
        }
        self.store
            .is_large_write_running
            .store(false, Ordering::Relaxed);
    }
}

impl Store {
    /// Checks and applies a large write. The caller holds the writers' turn.
    pub(in crate::store) fn apply_large(&self, write: Write, now: Now) -> Result<(), Rejection> {
        let ids = write.changes.iter().map(Change::id);
        let old: HashMap<SectionId, Section> = {
            let sections = self.read();
            let old = ids.filter_map(|id| Some((id.clone(), sections.section(id)?)));
            old.collect()
        };
        let changes = write.changes.iter();
        let changesets: Vec<_> = changes
            .filter_map(|change| SectionChangeset::of(change, old.get(change.id())))
            .collect();
        self.read().check_limits(&changesets, &self.limits())?;
        let large = LargeWrite::begin(self, HashMap::new());
        let checked = large.sections.families.check(&changesets);
        if let Err(rejection) = checked {
            drop(large);
            return Err(self.read().with_holder(rejection, &changesets));
        }
        drop(changesets);
        let mut large = large;
        large.sections.set_old(old);
        let changed = write.changes.iter().map(|change| change.id().clone());
        let mut changed: Vec<SectionId> = changed.collect();
        changed.sort_unstable();
        changed.dedup();
        let freed = large.sections.apply(write, now);
        large.finish(changed);
        drop(freed);
        Ok(())
    }

    /// Withdraws a large section. The caller holds the writers' turn.
    pub(in crate::store) fn withdraw_large(&self, id: &SectionId) {
        let section = self.read().section(id);
        let old = section.map(|section| (id.clone(), section));
        let mut large = LargeWrite::begin(self, old.into_iter().collect());
        let mut freed = Vec::new();
        large.sections.withdraw(id, &mut freed);
        large.finish(vec![id.clone()]);
        drop(freed);
    }
}

#[cfg(test)]
mod tests;
