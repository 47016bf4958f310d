//! The names, series lines and memory that a change of the registry takes and
//! gives back.

use std::sync::Arc;

use crate::exposition::Kind;

/// Names, series lines and memory that a [`Changeset`](super::Changeset) or an
/// expiry takes and gives back.
///
/// Names and series lines are unique among all producers. The registry knows
/// only its own, so the store checks a reservation against those of all
/// sections, and enters it, before the changeset is committed.
#[derive(Debug, Default, PartialEq)]
pub struct Reservation {
    /// New families.
    pub added_families: Vec<FamilyHead>,
    /// Existing families that get a help text or a type.
    pub changed_families: Vec<FamilyHead>,
    /// Families that lose their last series.
    pub removed_families: Vec<Arc<str>>,
    /// Hashes of added series lines, each with the index of its series in the
    /// changeset (see [`Changeset::series_name`](super::Changeset::series_name)).
    /// An existing series that is shown in other lines afterwards reserves these.
    pub reserved_series: Vec<(u64, u32)>,
    /// Hashes of removed series lines. A hash may be in both lists.
    pub released_series: Vec<u64>,
    /// Approximate memory that is taken, in bytes.
    pub reserved_bytes: usize,
    /// Approximate memory that is given back, in bytes.
    pub released_bytes: usize,
}

/// The `HELP` and `TYPE` lines ahead of a family's samples.
#[derive(Debug, Clone, PartialEq)]
pub struct FamilyHead {
    /// The family's name, escaped as in [`Update::family`](super::Update::family).
    pub family: Arc<str>,
    /// The type.
    pub kind: Kind,
    /// The help text, escaped as in the text format.
    pub help: Option<Arc<str>>,
}

impl Reservation {
    /// Whether nothing is taken or given back, because only values change.
    pub fn is_empty(&self) -> bool {
        *self == Reservation::default()
    }
}
