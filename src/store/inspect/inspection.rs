//! The state of the inspection, with its rules, reports and sums.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::exposition::TextLimits;
use crate::store::inspect::merged_output::MergedOutput;
use crate::store::sections::findings::{Conflict, Findings, Suspect};
use crate::store::sections::section_id::SectionId;
use crate::store::sections::table::SectionTable;

/// What texts are checked for.
#[derive(Debug, Clone, Copy)]
pub struct InspectionRules {
    /// The limits of one text.
    pub limits: TextLimits,
    /// A prefix that no family's name may have.
    pub reserved: Option<&'static str>,
}

/// How long families are kept after a reader last asked for them.
pub const KEPT_FOR: Duration = Duration::from_secs(600);

/// Maximum number of events in a report. Further ones are only counted.
const MOST_EVENTS: usize = 1000;

/// The results of inspections since the last report.
#[derive(Debug, Default)]
pub struct InspectionReport {
    /// The number of texts in which nothing was found.
    pub fine: u64,
    /// Suspect texts.
    pub suspect: Vec<(SectionId, Suspect, IsNew)>,
    /// Families that clash and did not before.
    pub conflicts: Vec<(SectionId, Conflict)>,
    /// The number of events that did not fit.
    pub left_out: u64,
}

/// Whether the section had no suspect text before.
pub type IsNew = bool;

/// Sums over all findings as of the last inspection, and the texts that wait now.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct InspectionTotals {
    /// The number of sections whose text is suspect.
    pub suspects: usize,
    /// The number of families that clash with one of another producer.
    pub conflicts: usize,
    /// The approximate memory of the inspection, in bytes.
    pub bytes: usize,
    /// The number of texts that wait.
    pub waiting: usize,
    /// The number of samples in all texts, including those that cannot be read.
    pub samples: usize,
}

/// [`InspectionTotals`] that are read without a lock.
#[derive(Debug, Default)]
pub struct InspectionGauges(pub [AtomicUsize; 5]);

impl InspectionGauges {
    pub fn set(&self, totals: InspectionTotals) {
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

/// The state of the inspection.
#[derive(Debug)]
pub struct Inspection {
    pub rules: InspectionRules,
    pub hasher: RandomState,
    /// The families of the texts, as an output of their own. They have samples only
    /// while readers ask for them.
    pub families: SectionTable,
    pub known: HashMap<SectionId, InspectedText>,
    /// Sections by the serial numbers that they have in `families`.
    pub serials: HashMap<u32, SectionId>,
    pub waiting: VecDeque<SectionId>,
    /// Sections with a family that clashes with the family of this name. They are
    /// inspected again when it changes.
    pub blocked: HashMap<Arc<str>, BTreeSet<SectionId>>,
    /// The number of sections in which the family of this name clashes.
    pub conflicts: HashMap<Arc<str>, usize>,
    pub suspects: usize,
    /// The number of samples in all texts.
    pub samples: usize,
    /// When a reader last asked for families; `None` if families are not kept.
    pub asked: Option<Instant>,
    pub merged: MergedOutput,
    /// The number of families left out of the last merged output.
    pub left_out: usize,
    pub report: InspectionReport,
}

#[derive(Debug, Default)]
pub struct InspectedText {
    /// A hash of the text; `None` if it must be read again.
    pub print: Option<u64>,
    pub findings: Option<Arc<Findings>>,
    /// The number of samples in the text.
    pub samples: usize,
}

impl Inspection {
    pub fn new(hasher: RandomState) -> Self {
        Inspection {
            rules: InspectionRules {
                limits: TextLimits::default(),
                reserved: None,
            },
            hasher,
            families: SectionTable::new(false),
            known: HashMap::new(),
            serials: HashMap::new(),
            waiting: VecDeque::new(),
            blocked: HashMap::new(),
            conflicts: HashMap::new(),
            suspects: 0,
            samples: 0,
            asked: None,
            merged: MergedOutput::default(),
            left_out: 0,
            report: InspectionReport::default(),
        }
    }
}

impl Inspection {
    /// Replaces the findings in a section's text.
    pub fn note(&mut self, id: &SectionId, findings: Option<&Arc<Findings>>, inspected: bool) {
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

impl InspectionReport {
    /// Whether one more event fits. If not, it is counted.
    fn has_room(&mut self) -> bool {
        let room = self.suspect.len() + self.conflicts.len() < MOST_EVENTS;
        self.left_out += u64::from(!room);
        room
    }
}
