//! Inspects verbatim texts, and shows them as families.

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;

use crate::clock::Now;
use crate::exposition::{Content, FamilyText, Text, sample_lines};
use crate::peer::Origin;
use crate::store::inspect::inspection::{
    Inspection, InspectionReport, InspectionRules, InspectionTotals, KEPT_FOR,
};
use crate::store::inspect::merged_output::MergedOutput;
use crate::store::sections::findings::Findings;
use crate::store::sections::section::Section;
use crate::store::sections::section_id::SectionId;
use crate::store::sections::table::SectionTable;
use crate::store::snapshot::Snapshot;
use crate::store::store::Store;
use crate::store::write::change::{Change, Write};

impl Store {
    /// Sets the rules for verbatim texts.
    #[must_use]
    pub fn with_rules(self, rules: InspectionRules) -> Self {
        self.set_rules(rules);
        self
    }

    /// Changes the rules for texts that are inspected from now on.
    pub fn set_rules(&self, rules: InspectionRules) {
        self.inspection().rules = rules;
    }

    /// Takes over the texts that were set or removed. Returns whether any wait for
    /// inspection.
    pub fn begin_inspection(&self, now: Now) -> bool {
        let mut inspection = self.inspection();
        let idle = |asked: Instant| now.tick.saturating_duration_since(asked) > KEPT_FOR;
        if inspection.asked.is_some_and(idle) {
            inspection.forget_texts();
        }
        if !self.read().inspection_queue.is_empty() {
            inspection.gather(&mut self.write());
        }
        self.note_levels(&inspection);
        !inspection.waiting.is_empty()
    }

    /// Inspects waiting texts of about `bytes` bytes together. Returns whether more
    /// wait.
    pub fn inspect_some(&self, bytes: usize, now: Now) -> bool {
        let mut inspection = self.inspection();
        let mut done = 0;
        while done < bytes {
            let Some(id) = inspection.waiting.pop_front() else {
                break;
            };
            let (text, findings) = self.write().take_uninspected(&id);
            done += text.as_ref().map_or(0, Bytes::len) + 1;
            inspection.inspect(self, &id, (text, findings), now);
        }
        self.note_levels(&inspection);
        !inspection.waiting.is_empty()
    }

    /// Takes the results since the last call.
    pub fn take_inspection_report(&self) -> InspectionReport {
        std::mem::take(&mut self.inspection().report)
    }

    /// Sums over all findings.
    pub fn inspection_totals(&self) -> InspectionTotals {
        let [suspects, conflicts, bytes, waiting, samples] = &self.inspection_gauges.0;
        let value = |level: &AtomicUsize| level.load(Ordering::Relaxed);
        InspectionTotals {
            suspects: value(suspects),
            conflicts: value(conflicts),
            bytes: value(bytes),
            waiting: value(waiting) + self.read().inspection_queue.len(),
            samples: value(samples),
        }
    }

    /// Whether all of the output is families and nothing is verbatim text.
    pub fn is_merged(&self) -> bool {
        self.read().is_merged()
    }

    /// The whole output as families, each once, in canonical text. Families of verbatim
    /// texts are included unless they cannot be read or they clash. Native histograms
    /// are included if `natives`.
    pub fn families_snapshot(&self, natives: bool, now: Now) -> Snapshot {
        let mut inspection = self.inspection();
        self.inspect_all(&mut inspection, now);
        let snapshot = self.rendered_snapshot(natives);
        let Inspection {
            merged, families, ..
        } = &mut *inspection;
        let natives = snapshot.natives().to_vec();
        let pages = snapshot.pages().iter();
        let pages: Vec<_> = pages.filter(|page| !page.is_verbatim()).cloned().collect();
        drop(snapshot);
        let (merged, left_out) =
            merged.merge(&pages, &families.page_list.to_pages(), &families.families);
        inspection.left_out = left_out;
        self.note_levels(&inspection);
        merged.with_natives(natives)
    }

    /// The families of the verbatim texts of these sections, each family once.
    pub fn texts_as_families(&self, ids: &[SectionId], now: Now) -> Text {
        let mut inspection = self.inspection();
        self.inspect_all(&mut inspection, now);
        let pieces = inspection.families.pieces_of_ids(ids);
        drop(inspection);
        Text::concat(&pieces)
    }

    /// Inspects all waiting texts, and keeps families from then on.
    fn inspect_all(&self, inspection: &mut Inspection, now: Now) {
        if inspection.asked.replace(now.tick).is_none() {
            inspection.read_again();
        }
        // All texts are taken under one lock, so that a write of several sections is
        // seen whole.
        let texts: Vec<_> = {
            let mut sections = self.write();
            inspection.gather(&mut sections);
            let ids = inspection.waiting.drain(..);
            ids.map(|id| (sections.take_uninspected(&id), id)).collect()
        };
        for (text, id) in texts {
            inspection.inspect(self, &id, text, now);
        }
        // Texts whose conflict was resolved wait again.
        while let Some(id) = inspection.waiting.pop_front() {
            let text = self.write().take_uninspected(&id);
            inspection.inspect(self, &id, text, now);
        }
    }

    fn note_levels(&self, inspection: &Inspection) {
        const SECTION: usize = 256;
        self.inspection_gauges.set(InspectionTotals {
            suspects: inspection.suspects,
            conflicts: inspection.conflicts.len() + inspection.left_out,
            bytes: inspection.families.weight + SECTION * inspection.known.len(),
            waiting: inspection.waiting.len(),
            samples: inspection.samples,
        });
    }
}

/// A section's verbatim text, if it has one, and the findings in the text before.
type Taken = (Option<Bytes>, Option<Arc<Findings>>);

impl Inspection {
    /// Takes over the texts that wait in the store.
    fn gather(&mut self, sections: &mut SectionTable) {
        match sections.inspection_queue.take() {
            Some(ids) => self.waiting.extend(ids),
            None => {
                self.waiting = sections.without_families().into();
                self.waiting.extend(self.known.keys().cloned());
            }
        }
    }

    /// Queues all texts to be read again.
    fn read_again(&mut self) {
        for known in self.known.values_mut() {
            known.print = None;
        }
        self.waiting.extend(self.known.keys().cloned());
    }

    /// Drops the texts of families. All else is found again by the next inspection.
    fn forget_texts(&mut self) {
        self.asked = None;
        self.merged = MergedOutput::default();
        self.left_out = 0;
        self.families = SectionTable::new(false);
        self.serials = HashMap::new();
        self.read_again();
    }

    fn inspect(&mut self, store: &Store, id: &SectionId, (text, before): Taken, now: Now) {
        let Some(text) = text else {
            self.forget(id, now);
            // Targets stay listed.
            if before.is_some() {
                store.write().set_findings(id, None);
            }
            return;
        };
        let print = self.hasher.hash_one(&text[..]);
        let known = self.known.entry(id.clone()).or_default();
        if known.print == Some(print) {
            let findings = known.findings.clone();
            if before != findings {
                store.write().set_findings(id, findings);
            }
            return;
        }
        known.print = Some(print);
        let samples = sample_lines(&text);
        self.samples = self.samples - known.samples + samples;
        known.samples = samples;
        let old = self.families.section(id);
        let (families, findings) = self.read(store, id, &text, old.as_ref());
        self.expose(id, families, old.as_ref(), now);
        let findings = (findings != Findings::default()).then(|| Arc::new(findings));
        self.note(id, findings.as_ref(), true);
        if before != findings {
            store.write().set_findings(id, findings);
        }
    }

    /// Replaces the families of a section.
    fn expose(
        &mut self,
        id: &SectionId,
        families: Vec<FamilyText>,
        old: Option<&Section>,
        now: Now,
    ) {
        let replace = Change::Replace {
            id: id.clone(),
            content: Content::Families(families),
            origin: Origin::default(),
            lifetime: None,
        };
        drop(self.families.apply(Write::one(replace), now));
        let new = self.families.section(id);
        if let Some(new) = &new {
            self.serials.insert(new.serial, id.clone());
        }
        self.look_again(id, old, new.as_ref());
    }

    /// Queues sections whose families clashed with one that `id` no longer has, or has
    /// changed.
    fn look_again(&mut self, id: &SectionId, old: Option<&Section>, new: Option<&Section>) {
        let Some(old) = old.filter(|_| !self.blocked.is_empty()) else {
            return;
        };
        let mut again = BTreeSet::new();
        for member in old.members.iter() {
            let Some(blocked) = self.blocked.get(&*member.family) else {
                continue;
            };
            let now = new.and_then(|new| new.member(&member.family));
            if now.is_none_or(|now| now.series != member.series) {
                again.extend(blocked.iter().filter(|other| *other != id).cloned());
            }
        }
        for id in again {
            if let Some(known) = self.known.get_mut(&id) {
                known.print = None;
                self.waiting.push_back(id);
            }
        }
    }

    fn forget(&mut self, id: &SectionId, now: Now) {
        if !self.known.contains_key(id) {
            return;
        }
        let old = self.families.section(id);
        let remove = Change::Remove {
            id: id.clone(),
            unless_since: None,
        };
        drop(self.families.apply(Write::one(remove), now));
        if let Some(old) = &old {
            self.serials.remove(&old.serial);
        }
        self.look_again(id, old.as_ref(), None);
        self.note(id, None, false);
        if let Some(known) = self.known.remove(id) {
            self.samples -= known.samples;
        }
    }
}
