//! Applies a checked write to the section table.

use bytes::Bytes;

use crate::clock::Now;
use crate::exposition::{Content, FamilyText};
use crate::store::sections::section::{LastFailure, SectionState};
use crate::store::sections::section_id::Producer;
use crate::store::sections::table::SectionTable;
use crate::store::write::change::{Change, OtherFamilies, Write};

impl SectionTable {
    /// Applies a write that was checked. Returns memory for the caller to free.
    pub fn apply(&mut self, write: Write, now: Now) -> Vec<Bytes> {
        let mut freed = Vec::new();
        if write.changes.len() > 1 {
            for change in &write.changes {
                self.remove_released(change, &mut freed);
            }
        }
        for change in write.changes {
            match change {
                Change::Replace {
                    id,
                    content,
                    origin,
                    lifetime,
                } => {
                    let id = self.stored(id);
                    let (mut section, known) = self.take(&id);
                    self.apps += usize::from(!known && id.producer == Producer::App);
                    self.expose(&id, &mut section, content, now, &mut freed);
                    section.origin = origin;
                    section.updated = Some(now);
                    section.state = SectionState::Fresh;
                    section.deadline = lifetime.map(|lifetime| now.tick + lifetime);
                    self.deadlines.note(&id, &mut section);
                    self.stamp(&id, now, &mut freed);
                    self.put_back(id, section, known);
                }
                Change::Update {
                    id,
                    families,
                    defaults,
                    others,
                    origin,
                    lifetime,
                    problem,
                } => {
                    let id = self.stored(id);
                    let (mut section, known) = self.take(&id);
                    self.apps += usize::from(!known && id.producer == Producer::App);
                    self.update(
                        &id,
                        &mut section,
                        (families, defaults, others),
                        now,
                        &mut freed,
                    );
                    if problem.is_none() || !known {
                        section.origin = origin;
                        section.deadline = lifetime.map(|lifetime| now.tick + lifetime);
                        self.deadlines.note(&id, &mut section);
                    }
                    if let Some(reason) = problem {
                        self.failures.note(&id, &reason, now);
                        section.problem = Some(LastFailure { reason, at: now });
                        section.state = section.state.after_failure();
                    } else {
                        section.updated = Some(now);
                        section.state = SectionState::Fresh;
                    }
                    self.put_back(id, section, known);
                }
                Change::Remove { id, unless_since } => {
                    let section = self.by_id.get(&id);
                    if section.is_some_and(|section| section.is_removed(unless_since)) {
                        self.forget(&id, &mut freed);
                    }
                }
                Change::Expect { id, origin, url } => {
                    let (mut section, known) = self.take(&id);
                    if !known {
                        section.origin = origin;
                    }
                    section.url = Some(url);
                    self.put_back(id, section, known);
                }
                Change::Fail {
                    id,
                    origin,
                    problem,
                    keep,
                } => {
                    // A rejected push does not add a section.
                    if id.producer != Producer::Target && !self.by_id.contains_key(&id) {
                        continue;
                    }
                    let (mut section, known) = self.take(&id);
                    if section.updated.is_none() {
                        section.origin = origin;
                    }
                    self.failures.note(&id, &problem, now);
                    section.problem = Some(LastFailure {
                        reason: problem,
                        at: now,
                    });
                    let before = section.state;
                    section.state = before.after_failure();
                    // The last text stays for `keep` after the first failure.
                    if before == SectionState::Fresh {
                        if let Some(keep) = keep {
                            section.deadline = Some(now.tick + keep);
                        }
                        self.deadlines.note(&id, &mut section);
                    }
                    self.put_back(id, section, known);
                }
            }
        }
        freed
    }

    /// Removes the families that the section does not have after `change`. With several
    /// changes this is done for all of them first, since one may add what another
    /// removes.
    fn remove_released(&mut self, change: &Change, freed: &mut Vec<Bytes>) {
        let no_families: &[FamilyText] = &[];
        let (families, defaults) = match change {
            Change::Replace {
                content: Content::Families(families),
                ..
            } => (&families[..], no_families),
            Change::Update {
                families,
                defaults,
                others: OtherFamilies::Drop,
                ..
            } => (&families[..], &defaults[..]),
            Change::Remove { id, unless_since } => {
                let section = self.by_id.get(id);
                if !section.is_some_and(|section| section.is_removed(*unless_since)) {
                    return;
                }
                (no_families, no_families)
            }
            Change::Replace { .. } => (no_families, no_families),
            Change::Update { .. } | Change::Expect { .. } | Change::Fail { .. } => return,
        };
        let id = change.id();
        if !self.by_id.contains_key(id) {
            return;
        }
        let (mut section, _) = self.take(id);
        let names = families.iter().chain(defaults);
        self.keep_only(id, &mut section, names.map(|family| &*family.name), freed);
        self.put_back(id.clone(), section, true);
    }
}
