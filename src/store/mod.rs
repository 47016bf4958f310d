//! What every producer exposes now.
//!
//! Each producer owns a [`Section`], named by a [`SectionId`]. Everything that
//! comes in is a [`Write`], applied whole or not at all by [`Store::apply`];
//! everything that goes out begins with [`Store::snapshot`]. Reads are free to
//! all, writes are these named methods, and time is a parameter, so the store
//! has no clock, no I/O and no task of its own.
//!
//! Values that are added to, set and observed live in the
//! [registry], which the store owns: [`Store::operate`]
//! changes it, and its families stand among those of the sections.
//!
//! The texts themselves lie in a [page_list] of fragments, cut into [page]s that
//! are joined and compressed once: a scrape costs what changed since the last
//! one, and a write costs what was pushed.

mod aggregated;
mod families;
mod inspect;
mod limits;
mod locks;
mod messages;
mod pages;
mod reads;
mod rejection;
mod sections;
mod snapshot;
mod write;

#[cfg(test)]
mod tests;

pub use aggregated::operate::AggregatedTotals;
pub use inspect::inspection::{InspectionReport, InspectionRules, InspectionTotals};
pub use limits::{MemoryBudget, StoreLimits};
pub use locks::Store;
pub use rejection::{BatchRejection, Rejection};
pub use sections::findings::{Clash, Conflict, Findings, Suspect};
pub use sections::holder::Holder;
pub use sections::listing::{ShownFamily, StoreTotals};
pub use sections::natives::FamilyNatives;
pub use sections::section::{LastFailure, Section, SectionState};
pub use sections::section_id::{Producer, SectionId};
pub use snapshot::{Snapshot, Texts};
pub use write::change::{Change, OtherFamilies, Write};
