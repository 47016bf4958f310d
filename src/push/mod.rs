//! Pushes over HTTP, made into what the store takes. Pure: no I/O.
//!
//! - [`coding`]: bodies that come compressed.

pub mod coding;
