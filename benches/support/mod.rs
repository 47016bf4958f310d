//! What the load generator and the benchmarks share.

#![allow(dead_code, reason = "each program uses its own part of this")]

pub mod figures;
pub mod payload;
pub mod proxy;
