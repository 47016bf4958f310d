//! `/create` and `/update`: values as JSON or text that change aggregated families, as
//! in pingpong.

mod change;
mod endpoints;
mod families_json;

pub use endpoints::Values;
