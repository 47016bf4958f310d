//! Pushed groups: Pushgateway's protocol at `/metrics/job/...`, batches and validation.

pub mod batch;
pub mod config;
pub mod endpoints;
pub mod replace;

pub use endpoints::Push;
pub use replace::{Groups, Method, PushSender};
