//! Shared parts of the load generators (`src/bin/`) and the benchmarks (`benches/`).
//!
//! - [`client`]: the HTTP client that scrapes and pushes
//! - [`datagrams`]: sends them at a rate
//! - [`payload`]: what they push
//! - [`proxy`]: starts the proxy on free ports
//! - [`figures`]: statistics of measured times, and of processes

use mimalloc::MiMalloc;

pub mod client;
pub mod datagrams;
pub mod figures;
pub mod payload;
pub mod proxy;

/// That of the program, so that a benchmark without a process of its own measures the same.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Whether this run measures: only under `cargo bench`, which passes `--bench`.
/// `cargo test` also runs benchmarks, unoptimized, to see that they start.
pub fn is_measuring() -> bool {
    let measuring = std::env::args().any(|argument| argument == "--bench");
    if !measuring {
        println!("nothing is measured without --bench, which `cargo bench` passes");
    }
    measuring
}
