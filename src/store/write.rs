//! The one way to change the store.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::SectionId;
use crate::exposition::{Content, FamilyText, counted};
use crate::peer::Origin;
use crate::reason::Reason;

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
                    Change::Expect { .. } | Change::Fail { .. } => true,
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
    /// A target is polled from now on. It is listed before its first answer.
    Expect {
        id: SectionId,
        origin: Origin,
        /// What is polled, without its secrets.
        url: Arc<str>,
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
            | Change::Expect { id, .. }
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

/// Who else exposes a family, for messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Elsewhere {
    /// Another part of the same write, or nobody that can be named.
    #[default]
    Unknown,
    Section(SectionId),
    /// The registry.
    Aggregated,
}

impl Elsewhere {
    pub fn section(&self) -> Option<&SectionId> {
        match self {
            Elsewhere::Section(id) => Some(id),
            Elsewhere::Unknown | Elsewhere::Aggregated => None,
        }
    }
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Elsewhere::Unknown => f.write_str("elsewhere"),
            Elsewhere::Section(id) => write!(f, "in {id}"),
            Elsewhere::Aggregated => f.write_str("among the aggregated families"),
        }
    }
}

/// Why a write changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(
        "cannot add {section}: the limit of {} is reached (receiver.max_apps)",
        counted(*.limit, "app", "apps")
    )]
    TooManyApps { section: SectionId, limit: usize },
    #[error(
        "cannot add {section}: the limit of {} is reached (push.max_groups)",
        counted(*.limit, "group", "groups")
    )]
    TooManyGroups { section: SectionId, limit: usize },
    #[error(
        "{section}: with its text {size} bytes would be held, and the limit is {limit} (exposition.max_total)"
    )]
    TooManyBytes {
        section: SectionId,
        size: usize,
        limit: usize,
    },
    #[error("{section}, line {line}: family {family} is {kind} here, and {held} {holder}")]
    KindConflict {
        section: SectionId,
        line: usize,
        family: String,
        kind: &'static str,
        held: &'static str,
        holder: Elsewhere,
    },
    #[error(
        "{section}, line {line}: family {family} cannot be exposed beside family {other} ({holder}): a series of one would have the name of the other"
    )]
    NameCollision {
        section: SectionId,
        line: usize,
        family: String,
        other: String,
        holder: Elsewhere,
    },
    #[error(
        "{section}{}: series {series} is exposed {}",
        if *.line > 0 { format!(", family at line {}" , .line) } else { String::new() },
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
    /// The family of another producer that is in the way, by its full name,
    /// and where to note whose it is.
    pub(super) fn in_the_way(&mut self) -> Option<(&str, &mut Elsewhere)> {
        match self {
            Refused::KindConflict { family, holder, .. } => Some((family, holder)),
            Refused::NameCollision { other, holder, .. } => Some((other, holder)),
            _ => None,
        }
    }

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

impl From<&Refused> for Reason {
    fn from(refused: &Refused) -> Self {
        match refused {
            Refused::TooManyApps { .. } => Reason::TooManyApps,
            Refused::TooManyGroups { .. } => Reason::TooManyGroups,
            Refused::TooManyBytes { .. } => Reason::TooManyBytes,
            Refused::KindConflict { .. } => Reason::KindConflict,
            Refused::NameCollision { .. } => Reason::NameCollision,
            Refused::DuplicateSeries { .. } => Reason::DuplicateSeries,
        }
    }
}
