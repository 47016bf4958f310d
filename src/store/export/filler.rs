//! Puts stored sections and families into a store.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::Now;
use crate::exposition::{Content, FamilyText, OpenMetricsHead, plain_name};
use crate::registry::export::RestoredFamily;
use crate::registry::family_text;
use crate::store::export::records::HeadRecord;
use crate::store::export::stored_section::{StoredContent, StoredFamilyText, StoredSection};
use crate::store::rejection::{BatchRejection, Rejection};
use crate::store::sections::key::{FamilyPart, OutputKey};
use crate::store::sections::notes::SectionNotes;
use crate::store::sections::section_id::{Producer, SectionId};
use crate::store::sections::table::SectionTable;
use crate::store::store::Store;
use crate::store::write::changeset::SectionChangeset;
use crate::store::write::large::LargeWrite;

/// The result of a restoration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// The number of apps and groups.
    pub sections: usize,
    /// The number of aggregated series.
    pub series: usize,
    /// The number of apps and groups whose lifetime is over.
    pub expired_sections: usize,
    /// The number of aggregated series whose lifetime is over.
    pub expired_series: usize,
    /// The number of sections and families that can no longer be exposed.
    pub skipped: usize,
    /// The reasons for the first of these.
    pub skips: Vec<String>,
    /// Limits that are exceeded now, as messages. What was accepted stays, and more is
    /// rejected.
    pub exceeded: Vec<String>,
}

/// Maximum number of messages in [`Restored::skips`].
const MOST_SKIPS: usize = 100;

/// What all sections of a family share, as it was stored.
#[derive(Debug, Default)]
pub struct FamilyHead {
    help: Option<String>,
    open: Option<Box<OpenMetricsHead>>,
}

/// Fills a store. Like a large write, this happens beside the output.
pub struct Filler<'s> {
    now: Now,
    /// A prefix that no family's name may have.
    reserved: Option<&'static str>,
    heads: HashMap<Arc<str>, FamilyHead>,
    large: LargeWrite<'s>,
    pub restored: Restored,
    /// What differs from the records.
    notes: SectionNotes,
    changed: Vec<SectionId>,
}

impl<'s> Filler<'s> {
    /// Begins to fill an empty store. The caller holds the writers' turn. No family may
    /// have a name with the prefix `reserved`.
    pub fn new(
        store: &'s Store,
        heads: HashMap<Arc<str>, FamilyHead>,
        reserved: Option<&'static str>,
        now: Now,
    ) -> Self {
        Filler {
            now,
            reserved,
            heads,
            large: LargeWrite::begin(store, HashMap::new()),
            restored: Restored::default(),
            notes: SectionNotes::default(),
            changed: Vec::new(),
        }
    }

    /// Adds a section, unless its lifetime is over or its families clash with others.
    pub fn section(&mut self, stored: StoredSection) {
        let times = stored.times(self.now);
        if times.left.is_some_and(|left| left.is_zero()) {
            self.restored.expired_sections += 1;
            return self.notes.note_id(&stored.id);
        }
        let id = stored.id;
        let (content, received) = match stored.content {
            StoredContent::Verbatim(text) => (Content::Verbatim(text), Vec::new()),
            StoredContent::Families(families) => {
                let (families, received) = self.families_of(&id, families);
                if let Err(rejection) = self.check(&id, &families) {
                    self.skip(&rejection.to_string());
                    return self.notes.note_id(&id);
                }
                (Content::Families(families), received)
            }
        };
        // Nothing is freed, since nothing is replaced.
        let mut freed = Vec::new();
        let sections = &mut self.large.sections;
        let (mut section, known) = sections.take(&id);
        sections.apps += usize::from(id.producer == Producer::App);
        sections.expose(&id, &mut section, content, self.now, &mut freed);
        sections.set_received(&id, &mut section, received.into_iter());
        section.state = stored.state;
        section.origin = stored.origin;
        section.problem = times.problem;
        section.updated = times.updated;
        section.deadline = times.left.map(|left| self.now.tick + left);
        sections.deadlines.note(&id, &mut section);
        if let Some(updated) = times.updated {
            sections.stamp(&id, updated, &mut freed);
        }
        sections.put_back(id.clone(), section, known);
        self.restored.sections += 1;
        self.changed.push(id);
    }

    /// The families of a section without those that have a reserved name, and when each
    /// was received, with its bytes.
    fn families_of(
        &mut self,
        id: &SectionId,
        stored: Vec<StoredFamilyText>,
    ) -> (Vec<FamilyText>, Vec<(u64, u32)>) {
        let mut families = Vec::with_capacity(stored.len());
        let mut received = Vec::with_capacity(stored.len());
        for StoredFamilyText {
            mut family,
            updated_ms,
            bytes,
        } in stored
        {
            if self.is_reserved(&family.name) {
                let name = family_text(&family.name);
                self.skip(&format!("{id}: family {name} has a reserved name"));
                self.notes.note_id(id);
                continue;
            }
            if let Some(head) = self.heads.get(&family.name) {
                family.help.clone_from(&head.help);
                family.open.clone_from(&head.open);
            }
            families.push(family);
            received.push((updated_ms, bytes));
        }
        (families, received)
    }

    fn check(&self, id: &SectionId, families: &[FamilyText]) -> Result<(), Rejection> {
        self.large.sections.families.check(&[SectionChangeset {
            id,
            added: families.iter().collect(),
            removed: Vec::new(),
            old: None,
            origin: None,
            is_removal: false,
            added_bytes: 0,
            removed_bytes: 0,
        }])
    }

    /// Takes the names and series of an aggregated family. Returns false if they are not free, or
    /// if it has no series.
    pub fn takes(&mut self, name: &Arc<str>, family: &RestoredFamily) -> bool {
        if family.series() == 0 {
            self.notes.note_family(name);
            return false;
        }
        if self.is_reserved(name) {
            self.skip(&format!("family {} has a reserved name", family_text(name)));
            return false;
        }
        let reservation = &family.reservation;
        let series_name = |number| family.series_name(number);
        let sections = &mut self.large.sections;
        let checked = sections
            .families
            .check_reservation(reservation, series_name);
        if let Err(rejection) = checked {
            self.skip(&BatchRejection::to_string(&rejection));
            return false;
        }
        sections.take_reservation(reservation);
        true
    }

    fn is_reserved(&self, family: &str) -> bool {
        let reserved = self.reserved;
        reserved.is_some_and(|reserved| plain_name(family).starts_with(reserved))
    }

    fn skip(&mut self, why: &str) {
        self.restored.skipped += 1;
        if self.restored.skips.len() < MOST_SKIPS {
            self.restored.skips.push(why.to_owned());
        }
    }

    /// Exposes everything. Also returns notes of what differs from the records.
    pub fn finish(mut self) -> (Restored, SectionNotes) {
        let heads = std::mem::take(&mut self.heads);
        for (name, head) in heads {
            if !self.large.sections.set_head(&name, head) {
                self.notes.note_family(&name);
            }
        }
        self.large.finish(self.changed);
        (self.restored, self.notes)
    }
}

impl SectionTable {
    /// Sets what a family's sections share. Returns whether one of them is kept.
    fn set_head(&mut self, name: &str, head: FamilyHead) -> bool {
        let slot = self.families.by_name.get(&*plain_name(name));
        let held = slot.map(|slot| &mut self.families.slots[*slot]);
        let Some(held) = held.filter(|held| *held.name == *name && held.kept > 0) else {
            return false;
        };
        if held.help != head.help || held.open != head.open {
            held.help = head.help;
            held.open = head.open;
            let (help, open) = (held.help.as_deref(), held.open.as_deref());
            let text = FamilyText::head_of(&held.name, held.kind, help, open);
            let key = OutputKey::Family(held.name.clone(), FamilyPart::Head);
            self.page_list.set(key, text);
        }
        true
    }
}

impl From<HeadRecord<'_>> for FamilyHead {
    fn from(record: HeadRecord<'_>) -> Self {
        let open = OpenMetricsHead {
            kind: record.open_kind,
            unit: record.unit.as_deref().map(Box::from),
        };
        FamilyHead {
            help: record.help.map(Into::into),
            open: (open != OpenMetricsHead::default()).then(|| Box::new(open)),
        }
    }
}
