//! Storage: state that survives a restart.
//!
//! Each state that survives is [`Persistent`]: it notes its changes and hands them out as
//! [records](crate::record). The flusher takes the changes of all states at one moment,
//! each second and whenever a push waits, and writes them to an [`Engine`] as one unit. An
//! input that acknowledges a push waits for it with [`Journal::kept`].
//!
//! | Key | Value | State |
//! | --- | --- | --- |
//! | `section/…`, `family/…`, `part/…` | apps, groups, aggregated families | the store |
//! | `key/<idempotency key>` | what it guarded, and until when | `ingest` |
//! | `set/<family>/<labels>` | the values of a StatsD set; those of a large one are in parts, `…#<part>` | `inputs/operations` |
//! | `hook/<number>` | a webhook | `inputs/webhooks` |
//! | `sink/<type>/<name>/<number>` | items that wait for another system | `outputs/sinks` |
//! | `meta/…` | the number of starts | this module |
//!
//! Opening and restoring finish before any listener accepts. Scrapes never wait for storage.

pub mod config;
mod core;
mod engine;
mod error;
mod flusher;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod journal;
mod persistent;
mod readable;
mod setup;
pub mod tool;

#[cfg(test)]
mod tests;

pub use core::StoredCore;
pub use engine::{Engine, LocalEngine, Visit};
pub use error::{DiskProblem, OpenError, ReadError, WriteError};
pub use journal::{Journal, NotKept};
pub use persistent::{Changes, Layer, Persistent, StoredRecords};
pub use readable::ReadableForm;
#[cfg(test)]
pub use tests::{Disk, moved};
