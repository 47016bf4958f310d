//! The one way to change the store.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::{Origin, SectionId};
use crate::exposition::{Content, FamilyText};

/// Changes that are seen together or not at all.
#[derive(Debug)]
pub struct Write {
    pub changes: Vec<Change>,
}

impl Write {
    pub fn one(change: Change) -> Self {
        Write {
            changes: vec![change],
        }
    }

    /// The same with each section changed once: of several texts for one
    /// section the last one holds. Who updates or removes names each section
    /// once, since an update before the last would be lost.
    pub(super) fn settled(mut self) -> Self {
        if self.changes.len() > 1 {
            let mut ids = HashSet::new();
            let mut keep: Vec<bool> = self
                .changes
                .iter()
                .rev()
                .map(|change| match change {
                    Change::Replace { id, .. }
                    | Change::Update { id, .. }
                    | Change::Remove { id, .. } => ids.insert(id.clone()),
                    Change::Fail { .. } => true,
                })
                .collect();
            self.changes.retain(|_| keep.pop() == Some(true));
        }
        self
    }
}

/// A change of one section.
#[derive(Debug)]
pub enum Change {
    /// Everything the producer exposes is now `content`.
    Replace {
        id: SectionId,
        content: Content,
        origin: Origin,
        /// Withdraw the section if nothing comes for so long.
        lifetime: Option<Duration>,
    },
    /// These families of the section are replaced.
    Update {
        id: SectionId,
        families: Vec<FamilyText>,
        /// Set where the section has no such family, and kept as they are
        /// where it has.
        defaults: Vec<FamilyText>,
        /// What becomes of the section's other families.
        others: Others,
        origin: Origin,
        /// Withdraw the section if nothing comes for so long.
        lifetime: Option<Duration>,
        /// This tells that something went wrong: the section's time, origin
        /// and lifetime stay, unless it is new.
        problem: Option<String>,
    },
    /// The producer is forgotten, if it is known.
    Remove {
        id: SectionId,
        /// Only if nothing came from it since then.
        unless_since: Option<Instant>,
    },
    /// The producer could not be heard or understood. Its last text stays,
    /// for `keep` after the first failure where that is given.
    Fail {
        id: SectionId,
        origin: Origin,
        problem: String,
        keep: Option<Duration>,
    },
}

impl Change {
    pub fn id(&self) -> &SectionId {
        match self {
            Change::Replace { id, .. }
            | Change::Update { id, .. }
            | Change::Remove { id, .. }
            | Change::Fail { id, .. } => id,
        }
    }
}

/// What becomes of families that an update does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    Keep,
    Drop,
}

/// Why a write changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(
        "{section} is new, and of {limit} apps at most (receiver.max_apps) too few places are left"
    )]
    TooManyApps { section: SectionId, limit: usize },
    #[error(
        "{section} is new, and of {limit} groups at most (push.max_groups) too few places are left"
    )]
    TooManyGroups { section: SectionId, limit: usize },
    #[error(
        "with the text of {section}, {size} bytes would be held, and {limit} may be (exposition.max_total)"
    )]
    TooManyBytes {
        section: SectionId,
        size: usize,
        limit: usize,
    },
    #[error("line {line} of {section}: family {family} is a {kind} here, and a {held} elsewhere")]
    KindConflict {
        section: SectionId,
        line: usize,
        family: String,
        kind: &'static str,
        held: &'static str,
    },
    #[error(
        "line {line} of {section}: family {family} cannot stand beside family {other}, one of whose series would have its name"
    )]
    NameCollision {
        section: SectionId,
        line: usize,
        family: String,
        other: String,
    },
    #[error(
        "{section}: series {series}{} is exposed {}",
        if *.line > 0 { format!(", of the family at line {}," , .line) } else { String::new() },
        if *.twice { "twice" } else { "elsewhere already" }
    )]
    DuplicateSeries {
        section: SectionId,
        line: usize,
        series: String,
        /// By this write itself.
        twice: bool,
    },
}

impl Refused {
    /// The section at fault.
    pub fn section(&self) -> &SectionId {
        match self {
            Refused::TooManyApps { section, .. }
            | Refused::TooManyGroups { section, .. }
            | Refused::TooManyBytes { section, .. }
            | Refused::KindConflict { section, .. }
            | Refused::NameCollision { section, .. }
            | Refused::DuplicateSeries { section, .. } => section,
        }
    }

    /// Where in its text, from 1; `None` where it is the text as a whole.
    pub fn line(&self) -> Option<usize> {
        match self {
            Refused::KindConflict { line, .. }
            | Refused::NameCollision { line, .. }
            | Refused::DuplicateSeries { line, .. } => Some(*line).filter(|line| *line > 0),
            _ => None,
        }
    }
}
