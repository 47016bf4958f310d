//! Inspection of verbatim texts, beside the output and never in its way.
//!
//! Verbatim text is exposed unchanged. [`Store::inspect_some`], called in the
//! background, checks later whether a reader would refuse it and whether another
//! producer exposes the same series. The section keeps the [`Findings`].
//!
//! The same inspection makes families of the texts, for readers of OpenMetrics
//! and protobuf. Their text is kept from when such a reader first asks
//! ([`Store::families_snapshot`]) until none has asked for a while. Each text is
//! read once, however many ask.
//!
//! A push notes that its section waits, and nothing else. The lock in here is
//! held while texts are read; neither pushes nor scrapes of plain text take it.

mod findings;
mod merge;
mod queue;
mod read;
mod sections;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::living::Hasher;
use super::sections::Sections;
use super::{Change, Section, SectionId, Snapshot, Store, Write};
use crate::clock::Now;
use crate::exposition::{Content, FamilyText, Text, TextLimits, sample_lines};
use crate::peer::Origin;
use merge::Merged;

pub use findings::{Clash, Conflict, Findings, Suspect};
pub use queue::Uninspected;

/// What texts are held against.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Of one text.
    pub limits: TextLimits,
    /// What no family's name may begin with.
    pub reserved: Option<&'static str>,
}

/// Families are kept for so long after a reader last asked for them.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// Events that wait to be reported at most; past it they are only counted.
const MOST_EVENTS: usize = 1000;

/// Inspections and what they found, since it was last asked.
#[derive(Debug, Default)]
pub struct Report {
    /// Texts in which nothing was found.
    pub fine: u64,
    /// Texts that are suspect.
    pub suspect: Vec<(SectionId, Suspect, IsNew)>,
    /// Families that clash now and did not before.
    pub conflicts: Vec<(SectionId, Conflict)>,
    /// Events for which there was no place.
    pub left_out: u64,
}

/// Whether the text before was fine, or none.
pub type IsNew = bool;

/// Sums over what was found, as of the last inspection, and what waits now.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct InspectionTotals {
    /// Sections whose text is suspect.
    pub suspects: usize,
    /// Families that clash with one of another producer.
    pub conflicts: usize,
    /// Memory that is held for it, about.
    pub bytes: usize,
    /// Texts that wait.
    pub waiting: usize,
    /// Samples in all texts, those that cannot be read included.
    pub samples: usize,
}

/// The same, to be read without a lock.
#[derive(Debug, Default)]
pub(super) struct Levels([AtomicUsize; 5]);

impl Levels {
    fn set(&self, totals: InspectionTotals) {
        let InspectionTotals {
            suspects,
            conflicts,
            bytes,
            waiting,
            samples,
        } = totals;
        let values = [suspects, conflicts, bytes, waiting, samples];
        for (level, value) in self.0.iter().zip(values) {
            level.store(value, Ordering::Relaxed);
        }
    }
}

/// What is known of verbatim texts.
#[derive(Debug)]
pub(super) struct Inspection {
    rules: Rules,
    hasher: Hasher,
    /// The families of the texts, as an output of their own. Without samples,
    /// unless somebody asked for them.
    families: Sections,
    known: HashMap<SectionId, Known>,
    /// Names of sections by the serial numbers that they have in `families`.
    serials: HashMap<u32, SectionId>,
    waiting: VecDeque<SectionId>,
    /// Sections whose families cannot stand beside one of that name: they are
    /// looked at again when it changes.
    blocked: HashMap<Arc<str>, BTreeSet<SectionId>>,
    /// How many sections have a family that clashes, by its name.
    conflicts: HashMap<Arc<str>, usize>,
    suspects: usize,
    /// Samples in all texts.
    samples: usize,
    /// When a reader last asked for families; `None` if they are not kept.
    asked: Option<Instant>,
    merged: Merged,
    /// Families that were left out of the last merged output.
    left_out: usize,
    report: Report,
}

#[derive(Debug, Default)]
struct Known {
    /// A hash of the text; `None` if it is to be read again.
    print: Option<u64>,
    findings: Option<Arc<Findings>>,
    /// Samples in the text.
    samples: usize,
}

impl Inspection {
    pub fn new(hasher: Hasher) -> Self {
        Inspection {
            rules: Rules {
                limits: TextLimits::default(),
                reserved: None,
            },
            hasher,
            families: Sections::new(false),
            known: HashMap::new(),
            serials: HashMap::new(),
            waiting: VecDeque::new(),
            blocked: HashMap::new(),
            conflicts: HashMap::new(),
            suspects: 0,
            samples: 0,
            asked: None,
            merged: Merged::default(),
            left_out: 0,
            report: Report::default(),
        }
    }
}

impl Store {
    /// The same store, which holds verbatim texts against `rules`.
    #[must_use]
    pub fn with_rules(self, rules: Rules) -> Self {
        self.inspection().rules = rules;
        self
    }

    /// Looks for texts that came or went. Returns whether any wait to be
    /// inspected.
    pub fn begin_inspection(&self, now: Now) -> bool {
        let mut inspection = self.inspection();
        let idle = |asked: Instant| now.tick.saturating_duration_since(asked) > KEPT_FOR;
        if inspection.asked.is_some_and(idle) {
            inspection.forget_texts();
        }
        if !self.read().uninspected.is_empty() {
            inspection.gather(&mut self.write());
        }
        self.note_levels(&inspection);
        !inspection.waiting.is_empty()
    }

    /// Inspects waiting texts of about `bytes` bytes together. Returns whether any
    /// are left.
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

    /// What was found since it was last asked.
    pub fn take_inspection_report(&self) -> Report {
        std::mem::take(&mut self.inspection().report)
    }

    pub fn inspection_totals(&self) -> InspectionTotals {
        let [suspects, conflicts, bytes, waiting, samples] = &self.inspected.0;
        let value = |level: &AtomicUsize| level.load(Ordering::Relaxed);
        InspectionTotals {
            suspects: value(suspects),
            conflicts: value(conflicts),
            bytes: value(bytes),
            waiting: value(waiting) + self.read().uninspected.len(),
            samples: value(samples),
        }
    }

    /// Whether all of the output is families, none of it verbatim text.
    pub fn is_merged(&self) -> bool {
        self.read().is_merged()
    }

    /// Everything as families, each once, in normal text: verbatim texts too, as
    /// far as they can be read and clash with nothing. With `natives`, native
    /// histograms are in it.
    pub fn families_snapshot(&self, natives: bool, now: Now) -> Snapshot {
        let mut inspection = self.inspection();
        self.inspect_all(&mut inspection, now);
        let snapshot = self.flushed_snapshot(natives);
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

    /// Inspects all that waits, and keeps families from then on.
    fn inspect_all(&self, inspection: &mut Inspection, now: Now) {
        if inspection.asked.replace(now.tick).is_none() {
            inspection.read_again();
        }
        // A write of several sections is to be seen whole.
        let texts: Vec<_> = {
            let mut sections = self.write();
            inspection.gather(&mut sections);
            let ids = inspection.waiting.drain(..);
            ids.map(|id| (sections.take_uninspected(&id), id)).collect()
        };
        for (text, id) in texts {
            inspection.inspect(self, &id, text, now);
        }
        // What was blocked may stand now.
        while let Some(id) = inspection.waiting.pop_front() {
            let text = self.write().take_uninspected(&id);
            inspection.inspect(self, &id, text, now);
        }
    }

    fn inspection(&self) -> MutexGuard<'_, Inspection> {
        self.inspection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn note_levels(&self, inspection: &Inspection) {
        const SECTION: usize = 256;
        self.inspected.set(InspectionTotals {
            suspects: inspection.suspects,
            conflicts: inspection.conflicts.len() + inspection.left_out,
            bytes: inspection.families.weight + SECTION * inspection.known.len(),
            waiting: inspection.waiting.len(),
            samples: inspection.samples,
        });
    }
}

/// A section's text, if it has one, and what was found in the text before.
type Taken = (Option<Bytes>, Option<Arc<Findings>>);

impl Inspection {
    /// Takes over what waits in the store.
    fn gather(&mut self, sections: &mut Sections) {
        match sections.uninspected.take() {
            Some(ids) => self.waiting.extend(ids),
            None => {
                self.waiting = sections.without_families().into();
                self.waiting.extend(self.known.keys().cloned());
            }
        }
    }

    /// Has all texts read again.
    fn read_again(&mut self) {
        for known in self.known.values_mut() {
            known.print = None;
        }
        self.waiting.extend(self.known.keys().cloned());
    }

    /// Lets the texts of families go. What else is known of them is found again
    /// with the next inspection.
    fn forget_texts(&mut self) {
        self.asked = None;
        self.merged = Merged::default();
        self.left_out = 0;
        self.families = Sections::new(false);
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

    /// Makes `families` what is exposed for a section.
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

    /// Has sections inspected again whose families were blocked by one that
    /// `id` had and has no longer, or not as before.
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

    /// Notes what was found in a section's text, in place of what was found
    /// before.
    fn note(&mut self, id: &SectionId, findings: Option<&Arc<Findings>>, inspected: bool) {
        let Some(known) = self.known.get_mut(id) else {
            return;
        };
        let before = std::mem::replace(&mut known.findings, findings.cloned());
        let of = |findings: Option<&Arc<Findings>>| {
            findings.map_or_else(Findings::default, |findings| Findings::clone(findings))
        };
        let (before, after) = (of(before.as_ref()), of(findings));
        for conflict in &before.conflicts {
            if let Some(ids) = self.blocked.get_mut(conflict.blocker()) {
                ids.remove(id);
                if ids.is_empty() {
                    self.blocked.remove(conflict.blocker());
                }
            }
            if let Some(count) = self.conflicts.get_mut(&conflict.family) {
                *count -= 1;
                if *count == 0 {
                    self.conflicts.remove(&conflict.family);
                }
            }
        }
        for conflict in &after.conflicts {
            let blocked = self.blocked.entry(Arc::clone(conflict.blocker()));
            blocked.or_default().insert(id.clone());
            *self
                .conflicts
                .entry(Arc::clone(&conflict.family))
                .or_default() += 1;
            let is_new = !before
                .conflicts
                .iter()
                .any(|it| it.family == conflict.family);
            if is_new && self.report.has_room() {
                self.report.conflicts.push((id.clone(), conflict.clone()));
            }
        }
        self.suspects += usize::from(after.suspect.is_some());
        self.suspects -= usize::from(before.suspect.is_some());
        match after.suspect {
            Some(suspect) => {
                if self.report.has_room() {
                    let is_new = before.suspect.is_none();
                    self.report.suspect.push((id.clone(), suspect, is_new));
                }
            }
            None => self.report.fine += u64::from(inspected),
        }
    }
}

impl Report {
    /// Whether there is place for one more event; counts it if there is none.
    fn has_room(&mut self) -> bool {
        let room = self.suspect.len() + self.conflicts.len() < MOST_EVENTS;
        self.left_out += u64::from(!room);
        room
    }
}
