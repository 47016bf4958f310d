//! Reads of the store: snapshots, sections, sums.

use std::sync::{Arc, PoisonError};

use crate::exposition::{Escaping, Text, hash_series, sample_lines};
use crate::store::limits::MemoryLeft;
use crate::store::protobuf::Messages;
use crate::store::sections::failures::FailureRun;
use crate::store::sections::listing::{ShownFamily, StoreTotals};
use crate::store::sections::natives::FamilyNatives;
use crate::store::sections::section::Section;
use crate::store::sections::section_id::SectionId;
use crate::store::snapshot::Snapshot;
use crate::store::store::Store;

/// The number of sections that are visited under one lock. It takes less than a
/// millisecond.
const VISITED_AT_ONCE: usize = 1000;

impl Store {
    /// The current text of all sections and aggregated families. Aggregated series that
    /// changed since the last snapshot are rendered here.
    pub fn snapshot(&self) -> Snapshot {
        self.rendered_snapshot(false)
    }

    /// Like [`snapshot`](Self::snapshot), with native histograms of the same moment.
    pub fn snapshot_with_natives(&self) -> Snapshot {
        self.rendered_snapshot(true)
    }

    /// The native histograms of all sections, for a snapshot of some of them.
    pub fn natives(&self) -> Vec<FamilyNatives> {
        self.read().natives.of_sections()
    }

    /// A snapshot of the whole output as protobuf. Only what changed since the last call is
    /// encoded. `snapshot` must be [merged](Snapshot::is_merged).
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

    /// Up to `limit` sections in order, those after `after`, without the proxy's own. Costs
    /// what is returned.
    pub fn sections(&self, after: Option<&SectionId>, limit: usize) -> Vec<(SectionId, Section)> {
        self.read().page(after, limit)
    }

    /// Calls `visit` with all sections in order, without the proxy's own. Some are visited
    /// under each lock, so `visit` must be quick, and sections can be of different moments.
    pub fn visit(&self, mut visit: impl FnMut(&SectionId, &Section)) {
        let mut last = None;
        loop {
            let next = self
                .read()
                .visit(last.as_ref(), VISITED_AT_ONCE, &mut visit);
            if next.is_none() {
                return;
            }
            last = next;
        }
    }

    /// The last failures of a section, newest first. They are kept of a limited number of
    /// sections.
    pub fn failures(&self, id: &SectionId) -> Vec<FailureRun> {
        self.read().failures.of(id)
    }

    /// Families of a section in order, those after `after`: at least one, and until they have
    /// about `bytes` bytes together. None if the section's text is verbatim.
    pub fn families_of(
        &self,
        id: &SectionId,
        after: Option<&str>,
        bytes: usize,
    ) -> Vec<ShownFamily> {
        self.read().families_of(id, after, bytes)
    }

    /// Up to `limit` groups in the order of their names, those after `after`. Costs what is
    /// returned.
    pub fn groups(&self, after: Option<&str>, limit: usize) -> Vec<(SectionId, Section)> {
        self.read().groups(after, limit)
    }

    /// The section with this id.
    pub fn section_of(&self, id: &SectionId) -> Option<Section> {
        self.read().section(id)
    }

    /// The section with this name: an app's, else a target's, else a group's.
    pub fn section(&self, name: &str) -> Option<(SectionId, Section)> {
        self.read().find(name)
    }

    /// The number of sample lines that a section exposes. They are counted on each call, in
    /// time proportional to its text.
    pub fn sample_lines(&self, id: &SectionId) -> usize {
        let pieces = self.read().pieces(id);
        pieces.iter().map(|piece| sample_lines(piece)).sum()
    }

    /// The text that a section exposes.
    pub fn text(&self, id: &SectionId) -> Text {
        let pieces = self.read().pieces(id);
        Text::concat(&pieces)
    }

    /// The text that these sections expose together, each family once. Unknown ids are
    /// skipped.
    pub fn texts(&self, ids: &[SectionId]) -> Text {
        let pieces = self.read().pieces_of_all(ids);
        Text::concat(&pieces)
    }

    /// Sums over all sections.
    pub fn totals(&self) -> StoreTotals {
        self.read().totals()
    }

    /// Whether a section or an aggregated family exposes this series, given as in a text. Series
    /// of verbatim texts are not known, and none are while a [large write](Self::is_busy) is
    /// in progress.
    pub fn is_exposed(&self, series: &str) -> bool {
        let hash = hash_series(&self.hasher, series, false);
        self.read().families.owns(hash)
    }

    /// The memory that this section may take.
    pub fn memory_budget(&self, id: &SectionId) -> MemoryLeft {
        let limit = self.limits().bytes;
        let sections = self.read();
        let others = sections.weight - sections.weight_of(id);
        MemoryLeft {
            left: limit.saturating_sub(others),
            limit,
        }
    }
}
