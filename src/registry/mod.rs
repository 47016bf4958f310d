//! Living families: values that are added to, set and observed, where a
//! section's text is replaced.

mod batch;
mod refused;

pub use batch::{Batch, BucketConflict, Change, Limits, Update};
pub use refused::Refused;
