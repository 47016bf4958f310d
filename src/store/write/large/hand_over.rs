//! Hands sections over to a large write, and takes them back.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use crate::store::pages::page_list::PageList;
use crate::store::sections::deadlines::Deadlines;
use crate::store::sections::failures::FailureHistories;
use crate::store::sections::inspection_queue::InspectionQueue;
use crate::store::sections::natives::NativeChange;
use crate::store::sections::notes::SectionNotes;
use crate::store::sections::section::Section;
use crate::store::sections::section_id::SectionId;
use crate::store::sections::table::SectionTable;
use crate::store::write::change::Write;

impl SectionTable {
    /// Whether `write` removes so much that it is a large write.
    pub fn removes_much(&self, write: &Write) -> bool {
        write.changes.iter().any(|change| {
            let section = self.by_id.get(change.id());
            section.is_some_and(|section| {
                section.is_large() && change.may_remove_families(section.members.len())
            })
        })
    }

    /// Whether removing the section takes long.
    pub fn is_large(&self, id: &SectionId) -> bool {
        self.by_id.get(id).is_some_and(|section| section.is_large())
    }

    /// A table for a large write of the sections `old`. It takes the family index over.
    pub(in crate::store) fn begin_large_write(&mut self, old: HashMap<SectionId, Section>) -> Self {
        self.series_during_large_write = Some(self.families.series());
        let mut large = SectionTable {
            by_id: HashMap::new(),
            page_list: PageList::noting(),
            families: std::mem::take(&mut self.families),
            natives: self.natives.noting(),
            deadlines: Deadlines::default(),
            inspection_queue: InspectionQueue::default(),
            stamps: self.stamps.clone(),
            apps: self.apps,
            states: self.states,
            failures: FailureHistories::default(),
            groups: BTreeSet::new(),
            others: BTreeSet::new(),
            bytes: self.bytes,
            weight: self.weight,
            next_serial: self.next_serial,
            free_serials: std::mem::take(&mut self.free_serials),
            series_during_large_write: None,
            notes: self.notes.as_ref().map(|_| SectionNotes::default()),
            shares: None,
        };
        large.set_old(old);
        large
    }

    /// Sets the sections that the large write changes, as they are now.
    pub(in crate::store) fn set_old(&mut self, old: HashMap<SectionId, Section>) {
        let sections = old.into_iter().map(|(id, mut section)| {
            section.uninspected = false;
            (id, Box::new(section))
        });
        self.by_id = sections.collect();
    }

    /// Takes the `changed` sections, sums and native histograms of a large write over,
    /// and the family index back. Returns memory for the caller to free.
    pub(in crate::store) fn end_large_write(
        &mut self,
        large: &mut SectionTable,
        changed: Vec<SectionId>,
        natives: Vec<NativeChange>,
    ) -> (Vec<Option<Box<Section>>>, Vec<Bytes>) {
        let mut freed = Vec::with_capacity(changed.len());
        for id in changed {
            if let Some(shares) = &mut self.shares
                && let Some(before) = self.by_id.get(&id)
            {
                shares.subtract(&id, before);
            }
            match large.by_id.remove_entry(&id) {
                Some((id, mut section)) => {
                    let before = self.by_id.get(&id);
                    let known = before.is_some();
                    // Inspections continued meanwhile.
                    section.is_noted = before.is_some_and(|before| before.is_noted);
                    if let Some(before) = before {
                        section.uninspected = before.uninspected;
                        section.findings.clone_from(&before.findings);
                    }
                    freed.push(self.by_id.get_mut(&id).map(std::mem::take));
                    self.put_back(id, *section, known);
                }
                None => {
                    freed.push(self.by_id.remove(&id));
                    self.failures.forget(&id);
                    self.unlist(&id);
                    if let Some(notes) = self.notes.as_mut().filter(|_| id.producer.is_kept()) {
                        notes.note_id(&id);
                    }
                }
            }
        }
        for name in large.notes.take().unwrap_or_default().families {
            if let Some(notes) = &mut self.notes {
                notes.note_family(&name);
            }
        }
        for id in large.inspection_queue.take().unwrap_or_default() {
            // Removed sections are inspected too, so that their findings are dropped.
            let mut gone = Box::default();
            let section = self.by_id.get_mut(&id).unwrap_or(&mut gone);
            self.inspection_queue.note(&id, section);
        }
        self.apps = large.apps;
        self.states = large.states;
        self.failures.append(&mut large.failures);
        self.bytes = large.bytes;
        self.weight = large.weight;
        self.deadlines.append(&mut large.deadlines);
        self.take_index_back(large);
        let mut texts = Vec::new();
        for (family, id, natives) in natives {
            texts.extend(self.natives.set(&family, &id, natives));
        }
        (freed, texts)
    }

    /// Takes the family index back.
    pub(in crate::store) fn take_index_back(&mut self, large: &mut SectionTable) {
        self.families = std::mem::take(&mut large.families);
        self.free_serials = std::mem::take(&mut large.free_serials);
        self.next_serial = large.next_serial;
        self.series_during_large_write = None;
    }
}
