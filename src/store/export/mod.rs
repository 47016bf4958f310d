//! The store's state as records, and back.
//!
//! [`Store::track_changes`](crate::store::Store::track_changes) begins to note which
//! sections, families and blocks of aggregated series change.
//! [`Store::take_changes`](crate::store::Store::take_changes) copies what is noted and
//! returns [`Changes`], which makes one record at a time. [`Restoration`] fills an empty
//! store from records.
//!
//! Apps, groups and aggregated families are kept exactly: a restored store has the same output, and
//! continues like the one before. Targets' texts, which are polled again, the proxy's own metrics,
//! and findings of inspections are not kept.
//!
//! | Key | Value |
//! | --- | --- |
//! | `section/<producer>/<name>` | [`SectionRecord`]: an app or a group |
//! | `family/<name>` | [`HeadRecord`]: the help and OpenMetrics type of a family, which its sections share |
//! | `part/<replica>/clock` | [`ClockRecord`]: the time that deadlines of blocks count in |
//! | `part/<replica>/<family>/head` | [`AggregatedRecord`]: an aggregated family |
//! | `part/<replica>/<family>/<block>` | [`BlockRecord`]: some of its series; the number has eight hexadecimal digits |
//!
//! A value is a version byte and the record in the format of [postcard]. [`Stored`]
//! reads and writes any of them.
//!
//! Records of sections have wall times; while the program runs, the monotonic clock decides. A
//! lifetime continues during a restart. If the wall clock was set back, no time has passed, so a
//! restart never makes a lifetime longer.
//!
//! [postcard]: https://postcard.jamesmunns.com/wire-format

mod changes;
mod copies;
mod filler;
mod key;
mod records;
mod restoration;
mod stored_section;
#[cfg(test)]
mod tests;

pub use changes::Changes;
pub use filler::Restored;
pub use key::RecordKey;
pub use records::{
    ContentRecord, FamilyRecord, HeadRecord, NativeRecord, PeerRecord, ProblemRecord,
    SectionRecord, Stored,
};
pub use restoration::{Restoration, RestoreError};

pub use crate::registry::export::{
    AggregatedRecord, BlockRecord, ClockRecord, Exact, SeriesRecord, ValueRecord,
};
