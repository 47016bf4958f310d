//! The one way to change the store.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::exposition::{Content, FamilyText};
use crate::peer::Origin;
use crate::store::sections::section_id::SectionId;

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
    pub(in crate::store) fn deduplicated(mut self) -> Self {
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
        others: OtherFamilies,
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
pub enum OtherFamilies {
    Keep,
    Drop,
}
