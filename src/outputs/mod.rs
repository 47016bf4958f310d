//! How metrics go out. Everything begins with a read of the
//! [`Store`](crate::store::Store).

pub mod api;
pub mod apps;
pub mod echo;
pub mod metrics;
pub mod sinks;
pub mod status;
