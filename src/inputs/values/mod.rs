//! `/create` and `/update`: counters, gauges and histograms as JSON or text, as
//! with pingpong.

pub mod change;
mod families_json;
pub mod http;

pub use change::{Form, Verb};
