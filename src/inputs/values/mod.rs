//! Values that change aggregated families, as in pingpong: `/create` and `/update` take
//! them as JSON or text, and `/ping` counts itself.

mod change;
mod endpoints;
mod families_json;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod ping;

pub use endpoints::Values;
pub use ping::Ping;
