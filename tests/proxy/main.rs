//! Drives the real program over real sockets.

#[path = "../harness/mod.rs"]
mod harness;

mod support;

mod bounds;
mod capnp;
mod receive;
