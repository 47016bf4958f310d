//! The methods of the store that write: apply, check, expire.

use std::sync::MutexGuard;

use crate::clock::Now;
use crate::store::rejection::Rejection;
use crate::store::sections::section_id::SectionId;
use crate::store::store::Store;
use crate::store::write::change::{Change, Write};

impl Store {
    /// Applies `write` whole.
    ///
    /// # Errors
    ///
    /// Returns why the write was rejected. Then nothing is changed.
    pub fn apply(&self, write: Write, now: Now) -> Result<(), Rejection> {
        let write = write.deduplicated();
        let Some(_turn) = self.turn_for(&write) else {
            return Ok(());
        };
        let size = write.size();
        // A write that only changes values costs nothing per series.
        if size.has_many_families()
            || (size.has_many_series() && !self.read().has_same_series(&write))
        {
            return self.apply_large(write, now);
        }
        let mut sections = self.write();
        if sections.removes_much(&write) {
            drop(sections);
            return self.apply_large(write, now);
        }
        sections.check(&write, &self.limits())?;
        // Replaced texts are freed after the lock is released.
        let freed = sections.apply(write, now);
        drop(sections);
        drop(freed);
        Ok(())
    }

    /// Waits for a writer's turn. `None` for the proxy's own metrics while a large write is in
    /// progress, so that the scrape that writes them does not wait. Those of the last scrape
    /// are then exposed.
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

    /// Checks whether `write` could be applied now. Changes nothing.
    ///
    /// # Errors
    ///
    /// Returns why the write would be rejected.
    pub fn check(&self, write: Write) -> Result<(), Rejection> {
        let write = write.deduplicated();
        let _turn = self.turn();
        self.read().check(&write, &self.limits())
    }

    /// Withdraws sections whose lifetime has passed, and returns their ids. Apps and groups are
    /// removed. Targets stay listed, since they are still polled.
    pub fn expire(&self, now: Now) -> Vec<SectionId> {
        if !self.read().is_any_due(now) {
            return Vec::new();
        }
        let mut gone = Vec::new();
        loop {
            // Other writers get a turn between two sections.
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
