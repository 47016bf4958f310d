//! The one way to change the store.

use std::time::Duration;

use super::{Origin, SectionId};
use crate::exposition::Text;

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
}

/// A change of one section.
#[derive(Debug)]
pub enum Change {
    /// Everything the producer exposes is now `text`.
    Replace {
        id: SectionId,
        text: Text,
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

/// Why a write changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(
        "app {app:?} is new, and of {limit} apps at most (receiver.max_apps) too few places are left"
    )]
    TooManyApps { app: String, limit: usize },
}
