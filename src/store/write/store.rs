//! Writes to the store.

use std::sync::MutexGuard;

use crate::clock::Now;
use crate::store::locks::Store;
use crate::store::rejection::Rejection;
use crate::store::sections::section_id::SectionId;
use crate::store::write::change::{Change, Write};

impl Store {
    /// Applies all of `write` or, where it is refused, nothing.
    pub fn apply(&self, write: Write, now: Now) -> Result<(), Rejection> {
        let write = write.deduplicated();
        let Some(_turn) = self.turn_for(&write) else {
            return Ok(());
        };
        let size = write.size();
        // What only renews values costs nothing for series.
        if size.has_many_families() || (size.has_many_series() && !self.read().is_the_same(&write))
        {
            return self.apply_large(write, now);
        }
        let mut sections = self.write();
        if sections.takes_much_away(&write) {
            drop(sections);
            return self.apply_large(write, now);
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

    /// Whether `write` would be applied as things stand. It changes nothing.
    pub fn check(&self, write: Write) -> Result<(), Rejection> {
        let write = write.deduplicated();
        let _turn = self.turn();
        self.read().check(&write, &self.limits)
    }

    /// Withdraws what has not been heard from for its time. Apps and groups are
    /// forgotten; targets stay listed, since they are still being tried.
    pub fn expire(&self, now: Now) -> Vec<SectionId> {
        if !self.read().is_any_due(now) {
            return Vec::new();
        }
        let mut gone = Vec::new();
        loop {
            // OtherFamilies have a turn between two sections.
            let _turn = self.turn();
            let mut sections = self.write();
            let Some(id) = sections.next_due(now.tick) else {
                return gone;
            };
            let mut freed = Vec::new();
            if sections.is_large(&id) {
                drop(sections);
                self.withdraw_large(&id);
            } else {
                sections.withdraw(&id, &mut freed);
                drop(sections);
            }
            drop(freed);
            gone.push(id);
        }
    }
}
