//! What every producer exposes now.
//!
//! Each producer owns a [`Section`], named by a [`SectionId`]. Everything that
//! comes in is a [`Write`], applied whole or not at all by [`Store::apply`];
//! everything that goes out begins with [`Store::snapshot`]. Reads are free to
//! all, writes are these named methods, and time is a parameter, so the store
//! has no clock, no I/O and no task of its own.

mod expiry;
mod now;
mod section;
mod snapshot;
mod write;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

pub use now::Now;
pub use section::{Kind, Origin, Peer, Problem, Section, SectionId, State};
pub use snapshot::Snapshot;
pub use write::{Change, Refused, Write};

use expiry::Deadlines;

/// The sections of all producers, in the order they are exposed in.
#[derive(Debug)]
pub struct Store {
    sections: RwLock<Sections>,
    /// Apps known at once. Targets are bounded by the configuration.
    max_apps: usize,
}

#[derive(Debug, Default)]
struct Sections {
    by_id: BTreeMap<SectionId, Section>,
    deadlines: Deadlines,
    apps: usize,
    bytes: usize,
}

/// Sums over the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    pub apps: usize,
    pub targets: usize,
    /// Bytes of text exposed.
    pub bytes: usize,
}

impl Store {
    pub fn new(max_apps: usize) -> Self {
        Store {
            sections: RwLock::default(),
            max_apps,
        }
    }

    /// Applies all of `write` or, where it is refused, nothing.
    pub fn apply(&self, mut write: Write, now: Now) -> Result<(), Refused> {
        let mut sections = self.write();
        let new_apps = sections.new_apps(&write);
        if let Some(first) = new_apps.first()
            && sections.apps + new_apps.len() > self.max_apps
        {
            return Err(Refused::TooManyApps {
                app: first.name.to_string(),
                limit: self.max_apps,
            });
        }
        for change in &mut write.changes {
            sections.change(change, now);
        }
        // What was replaced now lies in `write`: it is freed without the lock.
        drop(sections);
        Ok(())
    }

    /// Withdraws what has not been heard from for its time. Apps are
    /// forgotten; targets stay listed, since they are still being tried.
    pub fn expire(&self, now: Now) -> Vec<SectionId> {
        if !self.read().deadlines.are_due(now.tick) {
            return Vec::new();
        }
        let mut gone = Vec::new();
        let mut freed = Vec::new();
        let mut sections = self.write();
        while let Some(id) = sections.next_due(now.tick) {
            freed.push(sections.withdraw(&id));
            gone.push(id);
        }
        drop(sections);
        gone
    }

    /// The text of all sections as it is now.
    pub fn snapshot(&self) -> Snapshot {
        let sections = self.read();
        let pieces = sections
            .by_id
            .values()
            .filter(|section| !section.text.is_empty())
            .map(|section| section.text.bytes().clone())
            .collect();
        Snapshot::new(pieces, sections.bytes)
    }

    /// Every section, in order. The texts are shared, not copied.
    pub fn sections(&self) -> Vec<(SectionId, Section)> {
        self.read()
            .by_id
            .iter()
            .map(|(id, section)| (id.clone(), section.clone()))
            .collect()
    }

    /// The section of that name: an app's, or else a target's.
    pub fn section(&self, name: &str) -> Option<(SectionId, Section)> {
        let sections = self.read();
        [Kind::App, Kind::Target].into_iter().find_map(|kind| {
            let id = SectionId::new(name, kind);
            let section = sections.by_id.get(&id)?.clone();
            Some((id, section))
        })
    }

    /// When each app was last written.
    pub fn app_updates(&self) -> Vec<(Arc<str>, Now)> {
        self.read()
            .by_id
            .iter()
            .filter(|(id, _)| id.kind == Kind::App)
            .filter_map(|(id, section)| Some((Arc::clone(&id.name), section.updated?)))
            .collect()
    }

    pub fn totals(&self) -> Totals {
        let sections = self.read();
        Totals {
            apps: sections.apps,
            targets: sections.by_id.len() - sections.apps,
            bytes: sections.bytes,
        }
    }

    // A panic while the lock is held is a bug in a few lines that do not call
    // out; the sections are whole at every point where one could happen.
    fn read(&self) -> RwLockReadGuard<'_, Sections> {
        self.sections.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Sections> {
        self.sections
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sections {
    /// The apps in `write` that are not here yet.
    fn new_apps<'w>(&self, write: &'w Write) -> Vec<&'w SectionId> {
        let mut new: Vec<&SectionId> = write
            .changes
            .iter()
            .filter_map(|change| match change {
                Change::Replace { id, .. } if id.kind == Kind::App => Some(id),
                _ => None,
            })
            .filter(|id| !self.by_id.contains_key(*id))
            .collect();
        new.sort_unstable();
        new.dedup();
        new
    }

    /// Applies one change, and leaves in it what it replaced.
    fn change(&mut self, change: &mut Change, now: Now) {
        match change {
            Change::Replace {
                id,
                text,
                origin,
                lifetime,
            } => {
                let deadline = lifetime.map(|lifetime| now.tick + lifetime);
                let section = match self.by_id.get_mut(id) {
                    Some(section) => section,
                    None => {
                        self.apps += usize::from(id.kind == Kind::App);
                        self.by_id.entry(id.clone()).or_default()
                    }
                };
                self.bytes = self.bytes - section.text.len() + text.len();
                std::mem::swap(&mut section.text, text);
                std::mem::swap(&mut section.origin, origin);
                section.updated = Some(now);
                section.state = State::Fresh;
                section.deadline = deadline;
                self.deadlines.note(id, section);
            }
            Change::Fail {
                id,
                origin,
                problem,
                keep,
            } => {
                // A bad push does not make a section of its own; a target is
                // listed from its first failure on.
                let section = match id.kind {
                    Kind::App => self.by_id.get_mut(id),
                    Kind::Target => Some(self.by_id.entry(id.clone()).or_default()),
                };
                let Some(section) = section else { return };
                if section.updated.is_none() {
                    std::mem::swap(&mut section.origin, origin);
                }
                section.problem = Some(Problem {
                    reason: std::mem::take(problem),
                    at: now,
                });
                // The last text is kept for so long after the first failure.
                if section.state == State::Fresh {
                    if let Some(keep) = keep {
                        section.deadline = Some(now.tick + *keep);
                    }
                    section.state = State::Stale;
                    self.deadlines.note(id, section);
                }
            }
        }
    }

    /// Takes the next section whose time is up.
    fn next_due(&mut self, now: Instant) -> Option<SectionId> {
        while let Some(id) = self.deadlines.pop_due(now) {
            let Some(section) = self.by_id.get_mut(&id) else {
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

    fn withdraw(&mut self, id: &SectionId) -> Option<Section> {
        let gone = match id.kind {
            Kind::App => {
                self.apps -= 1;
                self.by_id.remove(id)?
            }
            Kind::Target => {
                let section = self.by_id.get_mut(id)?;
                section.deadline = None;
                section.state = State::Withdrawn;
                Section {
                    text: std::mem::take(&mut section.text),
                    ..Section::default()
                }
            }
        };
        self.bytes -= gone.text.len();
        Some(gone)
    }
}

#[cfg(test)]
mod tests;
