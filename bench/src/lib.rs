//! Shared parts of the load generators (`src/bin/`) and the benchmarks (`benches/`).
//!
//! - [`client`]: the HTTP client that scrapes and pushes
//! - [`datagrams`]: sends prepared datagrams at a rate
//! - [`payload`]: the texts that they push
//! - [`proxy`]: starts the proxy on free ports
//! - [`figures`]: statistics of measured times, and of processes

use mimalloc::MiMalloc;

pub mod client;
pub mod datagrams;
pub mod figures;
pub mod payload;
pub mod proxy;

/// The program's allocator, so that a benchmark in this process measures the same.
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
