//! Drives the real program over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that panics is one that fails")]

#[path = "../harness/mod.rs"]
mod harness;

mod support;
mod upstream;

mod architecture;
mod bounds;
mod capnp;
mod faults;
mod http;
mod lifecycle;
mod merged;
mod operations;
mod poll;
mod poll_failures;
mod receive;
mod shutdown;
