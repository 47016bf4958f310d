//! `exporter-proxy`: many apps, one port.
//!
//! It takes metrics in whatever way an app can give them, keeps the newest of
//! each, and serves them all on one `/metrics`.
//!
//! ```text
//! tcp, unix  ── capnp | JSON ─┐                                ┌─ /metrics
//!                             ├─ Write ─▶ Store ─ snapshot() ─▶┤
//! poller     ── exporters ────┘                                └─ /apps
//! ```
//!
//! The modules, in the order the data flows; begin with [`store`], which
//! everything meets in, then follow one push through [`inputs::sockets`] and
//! one scrape through [`outputs`].

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests read clocks and wait")
)]

// Where bytes come from and go to: listeners, connections, permits.
pub mod net;

// Producers: what comes in becomes a [`store::Write`].
pub mod inputs;

// Admission: checks what comes in and brings it into the form it is kept in.
pub mod ingest;

// The core: what every producer exposes now. Knows no I/O.
pub mod store;

// Looks at verbatim texts in the background.
pub mod inspector;

// Aggregated families, changed by operations and aggregating pushes. Knows no I/O.
pub mod registry;

// The text format. Knows no I/O.
pub mod exposition;

// Readers: everything that goes out begins with [`store::Store::snapshot`].
mod outputs;

// HTTP beneath inputs and outputs: connections, requests, replies.
mod http;

// Small values that everything shares.
pub mod clock;
pub mod peer;
pub mod reason;

// What the proxy knows of itself.
pub mod telemetry;

// What the user said, settled.
pub mod config;
pub mod settings;

// Compressed bodies, unpacked within a limit. Knows no I/O.
pub mod coding;

// Secrets are hidden before anything is shown or logged. Knows no I/O.
mod redact;

// The table of routes.
mod routes;

// What every input and output is given.
pub mod context;

// Puts the parts together.
pub mod app;

pub mod cli;
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
