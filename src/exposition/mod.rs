//! The Prometheus text format, pure: no I/O, no clock, no locks.
//!
//! - [`Text`]: a sender's exposition text, made safe to stand beside others.
//! - [`Encoder`]: writes families in text format 0.0.4.
//! - [`Parser`]: reads text 0.0.4 and OpenMetrics 1.0, line by line.
//! - [`Families`]: the entries of one sender's text, family by family.

mod encode;
mod families;
mod kind;
mod parse;
mod text;

pub use encode::{Encoder, Family};
pub use families::{Families, FamilyView, Limits, Samples};
pub use kind::Kind;
pub use parse::{
    Entry, Format, Label, Labels, Limit, ParseError, Parser, Reason, Sample, Timestamp, unescape,
    unescape_help,
};
pub use text::Text;
