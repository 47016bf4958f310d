//! Outputs: everything that leaves the proxy. Each reads the
//! [`Store`](crate::store::Store) and changes nothing unless its route says so.

pub mod api;
pub mod apps;
mod base64_name;
mod batches;
pub mod echo;
mod kind;
mod listing;
pub mod metrics;
pub mod own_metrics;
pub mod page;
#[cfg(feature = "profiling")]
pub mod profile;
pub mod reload;
mod scrape_timeout;
pub mod sinks;
pub mod status;
