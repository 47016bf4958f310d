//! A write: the one way to change sections.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::exposition::{Content, FamilyText};
use crate::peer::Origin;
use crate::store::sections::section_id::SectionId;

/// Changes that are applied together or not at all. A snapshot has all of them or none.
#[derive(Debug)]
pub struct Write {
    /// The changes, in order.
    pub changes: Vec<Change>,
}

impl Write {
    /// A write of one change.
    pub fn one(change: Change) -> Self {
        Write {
            changes: vec![change],
        }
    }

    /// The write with one change per section: the last one. So callers put at most one update
    /// or removal of a section into a write, since an earlier one would be lost.
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
    /// Replaces everything that the section exposes.
    Replace {
        /// The section; it is added if it does not exist.
        id: SectionId,
        /// What it exposes from now on.
        content: Content,
        /// The listener and the sender.
        origin: Origin,
        /// The section is withdrawn if it is not updated for this long.
        lifetime: Option<Duration>,
    },
    /// Replaces some families of the section.
    Update {
        /// The section; it is added if it does not exist.
        id: SectionId,
        /// The families to replace or add.
        families: Vec<FamilyText>,
        /// Families that are added unless the section has them.
        defaults: Vec<FamilyText>,
        /// What happens to the section's other families.
        others: OtherFamilies,
        /// The listener and the sender.
        origin: Origin,
        /// The section is withdrawn if it is not updated for this long.
        lifetime: Option<Duration>,
        /// The message of a failure that this update reports. Then the time, origin and
        /// lifetime of an existing section do not change.
        problem: Option<String>,
    },
    /// Removes the section, if it exists.
    Remove {
        /// The section.
        id: SectionId,
        /// Keep the section if it was updated at or after this time.
        unless_since: Option<Instant>,
    },
    /// Lists a target that is polled from now on, before its first response.
    Expect {
        /// The target's section.
        id: SectionId,
        /// The target.
        origin: Origin,
        /// The URL that is polled, without secrets.
        url: Arc<str>,
    },
    /// Notes a failure of the producer. Its last text stays exposed.
    Fail {
        /// The section.
        id: SectionId,
        /// The listener and the sender.
        origin: Origin,
        /// The message of the failure.
        problem: String,
        /// The last text is withdrawn this long after the first failure.
        keep: Option<Duration>,
    },
}

impl Change {
    /// The section that is changed.
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

/// What happens to families that an update does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherFamilies {
    /// They stay.
    Keep,
    /// They are removed.
    Drop,
}
