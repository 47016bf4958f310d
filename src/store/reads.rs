//! Reads of the store.

use std::sync::{Arc, PoisonError};

use crate::exposition::{Escaping, Text, hash_series, sample_lines};
use crate::store::limits::MemoryBudget;
use crate::store::locks::Store;
use crate::store::messages::Messages;
use crate::store::sections::listing::{ShownFamily, StoreTotals};
use crate::store::sections::natives::FamilyNatives;
use crate::store::sections::section::Section;
use crate::store::sections::section_id::SectionId;
use crate::store::snapshot::Snapshot;

impl Store {
    /// The text of all sections and living families as it is now. Of the
    /// latter, what has changed since the last one is rendered here.
    pub fn snapshot(&self) -> Snapshot {
        self.rendered_snapshot(false)
    }

    /// The same with the native histograms of that moment.
    pub fn snapshot_with_natives(&self) -> Snapshot {
        self.rendered_snapshot(true)
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
    /// family once. NameCache that nobody has are passed over.
    pub fn texts(&self, names: &[String]) -> Text {
        let pieces = self.read().pieces_of_all(names);
        Text::concat(&pieces)
    }

    pub fn totals(&self) -> StoreTotals {
        self.read().totals()
    }

    /// Whether an app, a target, a group or an aggregated family exposes the
    /// series of that text. What is in verbatim texts is not known, and nothing
    /// is while a large write is worked out.
    pub fn is_exposed(&self, series: &str) -> bool {
        let hash = hash_series(&self.hasher, series, false);
        self.read().families.owns(hash)
    }

    /// Memory for what this section may expose.
    pub fn memory_budget(&self, id: &SectionId) -> MemoryBudget {
        let limit = self.limits.bytes;
        let sections = self.read();
        let others = sections.weight - sections.weight_of(id);
        MemoryBudget {
            left: limit.saturating_sub(others),
            limit,
        }
    }
}
