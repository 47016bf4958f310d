//! Drives the real program over real sockets.

#[path = "../harness/mod.rs"]
mod harness;

mod support;
mod upstream;

mod bounds;
mod capnp;
mod http;
mod poll;
mod poll_failures;
mod receive;
