//! `exporter-proxy`: many apps, one port.
//!
//! It accepts metrics over many protocols, keeps the latest from each app, and serves them all on
//! one `/metrics`.
//!
//! ```text
//! inputs/  sockets, poller, push      ─ Write ─▶ Store ─ snapshot ─▶  outputs/
//!          aggregate, values,                     ▲ families
//!          operations                 ─ Batch ─▶ Registry
//! ```
//!
//! Begin with [`store`], where everything meets. Then follow one push, from [`inputs::sockets`]
//! through [`ingest`] into the store, and one scrape, from [`http`] through the route table
//! ([routes]) to [`outputs::metrics`]. `ARCHITECTURE.md` says where to add an input, an output, a
//! sink or a setting.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests read clocks and wait")
)]

// Small types that every module shares.
pub mod clock;
pub mod live;
pub mod peer;
pub mod reason;
pub mod record;

// Helpers: decompression, redaction, reading of settings, changed files.
pub mod coding;
mod json;
mod redact;
pub mod settings;
pub mod watched;
pub mod yaml;

// Events: messages that sinks pass on to other systems.
pub mod event;

// Relabelling rules, as in Prometheus.
pub mod relabel;

// The core: no I/O, no tasks, time as a parameter.
pub mod exposition;
pub mod registry;
pub mod store;

// Counters, logging, and the proxy's own metrics.
pub mod telemetry;

// CPU profiles of this process.
#[cfg(feature = "profiling")]
pub mod profiler;

// Beneath admission: rate limits and access control.
pub mod fairness;
pub mod security;
// State that outlives this process.
pub mod storage;

// Admission: checks metrics before they are stored.
pub mod ingest;

// Plumbing of inputs and outputs.
pub mod context;
pub mod http;
mod http_client;
pub mod net;

// Inputs receive metrics; outputs serve or forward them.
pub mod inputs;
pub mod outputs;

// The composition root, all settings, and the route table.
pub mod app;
pub mod config;
mod routes;

// Fuzz targets.
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

// The binary: command line, health check, service manager, signals.
pub mod cli;
pub mod healthcheck;
pub mod service;
pub mod shutdown;

/// Code generated from `schema/metric_data.capnp`.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    unused_qualifications,
    missing_debug_implementations
)]
mod metric_data_capnp {
    include!(concat!(env!("OUT_DIR"), "/metric_data_capnp.rs"));
}
