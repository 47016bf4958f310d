//! Sends CPU profiles of the proxy to Pyroscope.
//!
//! - [`config`]: the settings, `[profiling]`;
//! - [`send`]: the requests, and the task that records one profile after another.
//!
//! A profile is a part of a form that is posted to `/ingest`; name, labels and times are
//! parameters. Source: the documentation of Pyroscope's server API.

pub mod config;
#[cfg(feature = "profiling")]
mod send;

#[cfg(all(test, feature = "profiling"))]
mod tests;

pub use config::Settings;
#[cfg(feature = "profiling")]
pub use send::{PyroscopeSink, record};
