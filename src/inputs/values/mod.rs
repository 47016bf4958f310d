//! `/create` and `/update`: values as JSON or text that change aggregated families, as
//! in pingpong.

pub mod change;
pub mod endpoints;
mod families_json;

pub use change::{Action, BodyFormat, Values};
pub use endpoints::Endpoints;
