//! Pushes over HTTP, made into what the store takes. Pure: no I/O.
//!
//! - [`coding`]: bodies that come compressed.
//! - [`aggregate`]: families as additions to living ones; [`clearmode`] says
//!   how, where the sender wants to.
//! - [`idempotency`]: pushes that are sent again.

pub mod aggregate;
pub mod clearmode;
pub mod coding;
pub mod idempotency;
