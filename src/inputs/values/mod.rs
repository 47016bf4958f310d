//! `/create` and `/update`: counters, gauges and histograms as JSON or text, as
//! with pingpong.

pub mod change;
pub mod endpoints;
mod families_json;

pub use change::{Form, Values, Verb};
pub use endpoints::Endpoints;
