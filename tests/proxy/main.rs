//! Drives the real program over real sockets.

#[path = "../harness/mod.rs"]
mod harness;

mod support;
mod upstream;

mod bounds;
mod capnp;
mod faults;
mod http;
mod lifecycle;
mod poll;
mod poll_failures;
mod receive;
mod shutdown;
