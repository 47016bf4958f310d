//! Pushgateway's protocol: `/metrics/job/...`, batches and validation.

pub mod batch;
pub mod config;
pub mod http;
pub mod replace;

pub use replace::{Method, Sender};
