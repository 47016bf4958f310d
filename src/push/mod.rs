//! What a push over HTTP means, without the HTTP.

pub mod aggregate;
pub mod clearmode;
pub mod idempotency;
