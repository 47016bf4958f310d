//! The Prometheus text format, pure: no I/O, no clock, no locks.
//!
//! - [`Text`]: a sender's exposition text, made safe to stand beside others.
//! - [`Encoder`]: writes families in text format 0.0.4.

mod encode;
mod text;

pub use encode::{Encoder, Family, Kind};
pub use text::Text;
