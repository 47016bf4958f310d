//! `exporter-proxy`: many apps, one port.
//!
//! It accepts metrics in many protocols, keeps the newest of each app, and serves them
//! all on one `/metrics`.
//!
//! ```text
//! inputs/  sockets, poller, push      ─ Write ─▶ Store ─ snapshot ─▶  outputs/
//!          aggregate, values,                     ▲ families
//!          operations                 ─ Batch ─▶ Registry
//! ```
//!
//! Begin with [`store`], where everything meets. Then follow one push: from
//! [`inputs::sockets`] through [`ingest`] into the store; and one scrape: from
//! [`http`] through the table of [routes] to [`outputs::metrics`]. `ARCHITECTURE.md`
//! says where to add what.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests read clocks and wait")
)]

// Small values that everything shares.
pub mod clock;
pub mod live;
pub mod peer;
pub mod reason;
pub mod record;

// Pure helpers at the edges.
pub mod coding;
mod redact;
pub mod settings;
pub mod watched;

// Messages that other systems keep.
pub mod event;

// Rules that change the labels of series.
pub mod relabel;

// The core: no I/O, no tasks, time as a parameter.
pub mod exposition;
pub mod registry;
pub mod store;

// Counters, and the log of what senders cause.
pub mod telemetry;

// CPU profiles of this process.
#[cfg(feature = "profiling")]
pub mod profiler;

// Beneath admission: who may do what, and how much.
pub mod fairness;
pub mod security;
// Keeps state beyond this process.
pub mod storage;

// Admission: checks metrics before they are stored.
pub mod ingest;

// Beneath inputs and outputs.
pub mod context;
pub mod http;
mod http_client;
pub mod net;

// What receives, and what gives out.
pub mod inputs;
pub mod outputs;

// All settings, and the lists of parts.
pub mod app;
pub mod config;
mod routes;

// What must hold for every input.
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

// The program around them.
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
