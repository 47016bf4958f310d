//! The Prometheus text format, pure: no I/O, no clock, no locks.
//!
//! - [`Text`]: a sender's exposition text, made safe to stand beside others.
//! - [`Content`]: what a producer exposes, verbatim or as [`FamilyText`]s.
//! - [`Encoder`]: writes families in text format 0.0.4.

mod encode;
mod family;
mod text;

pub use encode::{Encoder, FamilyEncoder, Kind, write_label_value};
pub use family::{Content, FamilyText};
pub use text::Text;
