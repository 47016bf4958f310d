//! The other producer that exposes a family, for messages.

use std::fmt;

use crate::store::sections::section_id::SectionId;

/// Who else exposes a family, for messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Holder {
    /// Another part of the same write, or a producer that is not known.
    #[default]
    Unknown,
    /// This section.
    Section(SectionId),
    /// The registry of aggregated families.
    Aggregated,
}

impl Holder {
    /// The section, if it is one.
    pub fn section(&self) -> Option<&SectionId> {
        match self {
            Holder::Section(id) => Some(id),
            Holder::Unknown | Holder::Aggregated => None,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Unknown => f.write_str("elsewhere"),
            Holder::Section(id) => write!(f, "in {id}"),
            Holder::Aggregated => f.write_str("among the aggregated families"),
        }
    }
}
