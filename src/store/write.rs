//! The one way to change the store.

use std::collections::HashSet;
use std::time::Duration;

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

    /// The same with each section replaced once: of several texts for one
    /// section the last one holds.
    pub(super) fn settled(mut self) -> Self {
        if self.changes.len() > 1 {
            let mut ids = HashSet::new();
            let mut keep: Vec<bool> = self
                .changes
                .iter()
                .rev()
                .map(|change| match change {
                    Change::Replace { id, .. } => ids.insert(id.clone()),
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
    /// The section and its families from now on, if it is replaced. A text
    /// that is passed through has none that are known.
    pub(super) fn families(&self) -> Option<(&SectionId, &[FamilyText])> {
        match self {
            Change::Replace { id, content, .. } => Some((
                id,
                match content {
                    Content::Families(families) => families,
                    Content::Verbatim(_) => &[],
                },
            )),
            Change::Fail { .. } => None,
        }
    }
}

/// Why a write changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(
        "app {app:?} is new, and of {limit} apps at most (receiver.max_apps) too few places are left"
    )]
    TooManyApps { app: String, limit: usize },
    #[error(
        "with the text of app {app:?}, {size} bytes would be held, and {limit} may be (exposition.max_total)"
    )]
    TooManyBytes {
        app: String,
        size: usize,
        limit: usize,
    },
    #[error("line {line} of app {app:?}: family {family} is a {kind} here, and a {held} elsewhere")]
    KindConflict {
        app: String,
        line: usize,
        family: String,
        kind: &'static str,
        held: &'static str,
    },
    #[error(
        "line {line} of app {app:?}: family {family} cannot stand beside family {other}, one of whose series would have its name"
    )]
    NameCollision {
        app: String,
        line: usize,
        family: String,
        other: String,
    },
    #[error(
        "app {app:?}: series {series}, of the family at line {line}, is exposed elsewhere already"
    )]
    DuplicateSeries {
        app: String,
        line: usize,
        series: String,
    },
}

impl Refused {
    /// The app at fault.
    pub fn app(&self) -> &str {
        match self {
            Refused::TooManyApps { app, .. }
            | Refused::TooManyBytes { app, .. }
            | Refused::KindConflict { app, .. }
            | Refused::NameCollision { app, .. }
            | Refused::DuplicateSeries { app, .. } => app,
        }
    }
}
