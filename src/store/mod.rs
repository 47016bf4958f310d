//! What every producer exposes now.
//!
//! Each producer has a [`Section`], identified by a [`SectionId`]. Everything that comes in
//! is a [`Write`], which [`Store::apply`] applies whole or not at all, or a batch of
//! operations on aggregated families, which [`Store::operate`] passes to the
//! [registry](crate::registry). Everything that goes out begins with [`Store::snapshot`].
//!
//! Time is a parameter, so the store has no clock. It does no I/O and runs no task.
//!
//! The output is a list of pages. The first scrape after a page changes joins it, and the
//! first one with gzip compresses it; both results are kept until it changes again. So a
//! scrape costs what changed since the last one, and a write costs what was pushed.
//!
//! | Module | What it does |
//! | --- | --- |
//! | [`write`] | plans, checks and applies a write |
//! | [`aggregated`] | reserves names for the registry's families, and renders them |
//! | [`sections`] | the sections, and all that their lock protects |
//! | [`families`] | the index of families and the owners of series |
//! | [`pages`] | the output: fragments, pages, compression |
//! | [`snapshot`], [`protobuf`], [`reads`] | reading the output as text, gzip or protobuf |
//! | [`inspect`] | checks verbatim texts in the background, shows them as families |
//! | [`export`] | the state as records for storage, and back |
//! | [`store`] | the [`Store`], its locks and their order |
//! | [`limits`], [`rejection`] | limits, and why a write or batch was rejected |
//!
//! Modules of data do not import [`Store`]; modules with its methods do.
//!
//! ```
//! use exporter_proxy::clock::Now;
//! use exporter_proxy::exposition::{Content, Text};
//! use exporter_proxy::peer::Origin;
//! use exporter_proxy::registry::RegistryLimits;
//! use exporter_proxy::store::{Change, Producer, SectionId, Store, StoreLimits, Write};
//!
//! let limits = StoreLimits {
//!     apps: 100,
//!     groups: 100,
//!     bytes: 64 << 20,
//!     registry: RegistryLimits::default(),
//! };
//! let store = Store::new(limits, false);
//! let write = Write::one(Change::Replace {
//!     id: SectionId::new("billing", Producer::App),
//!     content: Content::Verbatim(Text::new("jobs_total 3\n")),
//!     origin: Origin::default(),
//!     lifetime: None,
//! });
//! store.apply(write, Now::read())?;
//! assert_eq!(store.snapshot().text(), b"jobs_total 3\n");
//! # Ok::<(), exporter_proxy::store::Rejection>(())
//! ```

mod aggregated;
pub mod export;
mod families;
mod inspect;
mod limits;
mod pages;
mod protobuf;
mod reads;
mod rejection;
mod sections;
mod snapshot;
#[expect(
    clippy::module_inception,
    reason = "the file is named after the type in it"
)]
mod store;
mod write;

#[cfg(test)]
mod tests;

pub use crate::registry::FamilySummary;
pub use aggregated::operate::AggregatedTotals;
pub use inspect::inspection::{InspectionReport, InspectionRules, InspectionTotals};
pub use limits::{MemoryLeft, ShareLimits, StoreLimits};
pub use pages::deflate::Deflate;
pub use rejection::{BatchRejection, Rejection, ShareOf};
pub use sections::failures::FailureRun;
pub use sections::findings::{Clash, Conflict, Findings, Suspect};
pub use sections::holder::Holder;
pub use sections::listing::{ShownFamily, StoreTotals};
pub use sections::natives::FamilyNatives;
pub use sections::section::{LastFailure, Section, SectionState};
pub use sections::section_id::{Producer, SectionId};
pub use sections::state_counts::StateCounts;
pub use snapshot::{PageId, PageView, Snapshot, Texts};
pub use store::Store;
pub use write::change::{Change, OtherFamilies, Write};
