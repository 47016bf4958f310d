//! The section table: everything that the lock of the sections protects.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::clock::Now;
use crate::exposition::{FamilyText, Kind, Text, write_label_value};
use crate::store::families::family_name::FamilyName;
use crate::store::families::index::FamilyIndex;
use crate::store::pages::page_list::PageList;
use crate::store::sections::deadlines::Deadlines;
use crate::store::sections::failures::FailureHistories;
use crate::store::sections::inspection_queue::InspectionQueue;
use crate::store::sections::key::{FamilyPart, OutputKey, samples_key};
use crate::store::sections::natives::NativeIndex;
use crate::store::sections::notes::SectionNotes;
use crate::store::sections::section::{Section, SectionState};
use crate::store::sections::section_id::{Producer, SectionId};
use crate::store::sections::shares::Shares;
use crate::store::sections::state_counts::StateCounts;

/// All sections, the output that they make, the family index, and deadlines.
#[derive(Debug)]
pub struct SectionTable {
    /// Boxed: up to half of the map's places are empty.
    pub by_id: HashMap<SectionId, Box<Section>>,
    pub page_list: PageList<OutputKey>,
    pub families: FamilyIndex,
    pub natives: NativeIndex,
    pub deadlines: Deadlines,
    /// Verbatim texts that wait for inspection.
    pub inspection_queue: InspectionQueue,
    /// The family of apps' update times, if it is exposed.
    pub stamps: Option<FamilyName>,
    pub apps: usize,
    /// Sections by producer and state.
    pub states: StateCounts,
    /// The last failures of some sections.
    pub failures: FailureHistories,
    /// The names of all groups.
    pub groups: BTreeSet<Arc<str>>,
    /// All apps and targets.
    pub others: BTreeSet<SectionId>,
    pub bytes: usize,
    /// Memory in bytes of all sections but the proxy's own, and of the registry.
    pub weight: usize,
    pub next_serial: u32,
    /// Serial numbers of removed sections, which are used again.
    pub free_serials: Vec<u32>,
    /// The number of series while a large write has the family index.
    pub series_during_large_write: Option<usize>,
    /// Changes that storage must be told of. `None` unless changes are tracked.
    pub notes: Option<SectionNotes>,
    /// What each sender holds. `None` unless shares are limited.
    pub shares: Option<Shares>,
}

/// The family of apps' update times. Its samples change with every push, so they are
/// kept as fragments.
const STAMPS: &str = "exporter_proxy_app_last_update_timestamp_seconds";
const STAMPS_HELP: &str = "When the app's text was last replaced, in seconds since 1970.";

impl SectionTable {
    pub fn new(stamps: bool) -> Self {
        let mut sections = SectionTable {
            by_id: HashMap::new(),
            page_list: PageList::default(),
            families: FamilyIndex::default(),
            natives: NativeIndex::default(),
            deadlines: Deadlines::default(),
            inspection_queue: InspectionQueue::default(),
            stamps: None,
            apps: 0,
            states: StateCounts::default(),
            failures: FailureHistories::default(),
            groups: BTreeSet::new(),
            others: BTreeSet::new(),
            bytes: 0,
            weight: 0,
            next_serial: 0,
            free_serials: Vec::new(),
            series_during_large_write: None,
            notes: None,
            shares: None,
        };
        if stamps {
            let family = FamilyText {
                name: Arc::from(STAMPS),
                kind: Kind::Gauge,
                help: Some(STAMPS_HELP.to_owned()),
                line: 0,
                samples: Text::default(),
                series: Default::default(),
                natives: Vec::new(),
                open: None,
            };
            let (name, head) = sections.families.join(&family, false, false);
            if let Some(head) = head {
                let key = OutputKey::Family(name.clone(), FamilyPart::Head);
                sections.page_list.set(key, head);
            }
            sections.stamps = Some(name);
        }
        sections
    }

    pub fn is_any_due(&self, now: Now) -> bool {
        self.deadlines.are_due(now.tick)
    }

    /// The table's own copy of the id, if it has one: ids that share their name are compared
    /// without reading it.
    pub fn stored(&self, id: SectionId) -> SectionId {
        let stored = self.by_id.get_key_value(&id);
        stored.map_or(id, |(stored, _)| stored.clone())
    }

    /// Takes a section out for a change, to be put back after it. Also returns whether
    /// it was known; otherwise it is new.
    pub fn take(&mut self, id: &SectionId) -> (Section, bool) {
        if let Some(section) = self.by_id.get_mut(id) {
            let section = std::mem::take(&mut **section);
            if let Some(shares) = &mut self.shares {
                shares.subtract(id, &section);
            }
            self.states.remove(id, section.state);
            return (section, true);
        }
        let serial = self.free_serials.pop().unwrap_or_else(|| {
            self.next_serial += 1;
            self.next_serial
        });
        let section = Section {
            serial,
            ..Section::default()
        };
        (section, false)
    }

    pub fn put_back(&mut self, id: SectionId, mut section: Section, known: bool) {
        if let Some(notes) = self.notes.as_mut().filter(|_| id.producer.is_kept()) {
            notes.note(&id, &mut section);
        }
        if let Some(shares) = &mut self.shares {
            shares.add(&id, &section);
        }
        self.states.add(&id, section.state);
        match self.by_id.get_mut(&id).filter(|_| known) {
            Some(place) => **place = section,
            None => {
                match id.producer {
                    Producer::Group => {
                        self.groups.insert(Arc::clone(&id.name));
                    }
                    Producer::App | Producer::Target => {
                        self.others.insert(id.clone());
                    }
                    Producer::Own => {}
                }
                self.by_id.insert(id, Box::new(section));
            }
        }
    }

    /// Exposes the time of an app's update.
    pub fn stamp(&mut self, id: &SectionId, now: Now, freed: &mut Vec<Bytes>) {
        let Some(family) = self
            .stamps
            .as_ref()
            .filter(|_| id.producer == Producer::App)
        else {
            return;
        };
        let mut line = String::with_capacity(STAMPS.len() + id.name.len() + 32);
        line.push_str(STAMPS);
        line.push_str("{app=\"");
        write_label_value(&mut line, &id.name);
        line.push_str("\"} ");
        let millis = now.unix_millis();
        let written = writeln!(line, "{}.{:03}", millis / 1000, millis % 1000);
        written.expect("writing to a String cannot fail");
        freed.push(
            self.page_list
                .set(samples_key(family, id), Bytes::from(line)),
        );
    }

    /// Takes the next section whose deadline has passed.
    pub fn next_due(&mut self, now: Instant) -> Option<SectionId> {
        while let Some((due, id)) = self.deadlines.pop_due(now) {
            let section = self.by_id.get_mut(&id);
            let Some(section) = section.filter(|section| section.queued == Some(due)) else {
                continue;
            };
            section.queued = None;
            match section.deadline {
                Some(deadline) if deadline <= now => return Some(id),
                Some(_) => self.deadlines.note(&id, section),
                None => {}
            }
        }
        None
    }

    /// Removes what a section exposes. Targets stay listed, other sections are removed.
    pub fn withdraw(&mut self, id: &SectionId, freed: &mut Vec<Bytes>) {
        if id.producer != Producer::Target {
            return self.forget(id, freed);
        }
        let (mut section, _) = self.take(id);
        self.clear(id, &mut section, freed);
        section.deadline = None;
        section.state = SectionState::Withdrawn;
        self.put_back(id.clone(), section, true);
    }

    /// Removes a section and everything that it exposes.
    pub fn forget(&mut self, id: &SectionId, freed: &mut Vec<Bytes>) {
        let Some(mut section) = self.by_id.remove(id) else {
            return;
        };
        if let Some(shares) = &mut self.shares {
            shares.subtract(id, &section);
        }
        self.clear(id, &mut section, freed);
        if let Some(notes) = self.notes.as_mut().filter(|_| id.producer.is_kept()) {
            notes.note(id, &mut section);
        }
        self.free_serials.push(section.serial);
        self.states.remove(id, section.state);
        self.failures.forget(id);
        self.unlist(id);
        let by_id = &self.by_id;
        self.deadlines.drop_stale(by_id.len(), |due, id| {
            let section = by_id.get(id);
            section.is_some_and(|section| section.queued == Some(due))
        });
        match id.producer {
            Producer::App => {
                self.apps -= 1;
                if let Some(family) = &self.stamps {
                    freed.push(self.page_list.remove(&samples_key(family, id)));
                }
            }
            Producer::Target | Producer::Group | Producer::Own => {}
        }
    }

    /// Notes all that exists, if changes are tracked.
    pub fn note_everything(&mut self) {
        if let Some(notes) = &mut self.notes {
            notes.everything = true;
        }
    }

    /// Notes that the head of a family may have changed, if storage keeps it.
    pub fn note_head(&mut self, name: &FamilyName) {
        if let Some(notes) = &mut self.notes {
            notes.note_family(name.shared());
        }
    }

    /// Removes a section from the ordered listings.
    pub fn unlist(&mut self, id: &SectionId) {
        match id.producer {
            Producer::Group => drop(self.groups.remove(&id.name)),
            Producer::App | Producer::Target => drop(self.others.remove(id)),
            Producer::Own => {}
        }
    }

    #[cfg(test)]
    pub fn deadlines(&self) -> usize {
        self.deadlines.len()
    }

    #[cfg(test)]
    pub fn families(&self) -> &FamilyIndex {
        &self.families
    }
}
