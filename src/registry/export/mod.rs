//! The registry's state as records, and back.
//!
//! [`changes`] notes what changes and copies it under the registry's lock. [`records`] turns the
//! copies into their stored form without the lock. [`restore`] makes families from records again.
//!
//! A block is exported whole, since it is small. Its deadlines and windows count
//! from the registry's own time, whose relation to the wall clock is a
//! [`ClockRecord`]. So a record stays valid until its block changes.

pub mod changes;
pub mod exact;
pub mod histograms;
pub mod records;
pub mod restore;

pub use crate::registry::block::parts::BlockParts;
pub use changes::{ChangeNotes, RegistryCopy};
pub use exact::Exact;
pub use records::{AggregatedRecord, BlockRecord, ClockRecord, SeriesRecord, ValueRecord};
pub use restore::{RestoredFamily, StoredFamily};
