//! Drives the real program over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that panics is one that fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests read clocks, wait and pass environments"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod support;
mod upstream;

mod aggregate;
mod apps;
mod architecture;
mod bounds;
mod capnp;
mod check_config;
mod clocks;
mod delete_series;
mod discovery;
mod discovery_dns;
mod echo;
mod fairness;
mod faults;
mod formats;
mod front;
mod groups;
mod growth;
mod guard;
mod healthcheck;
mod heavy;
mod http;
mod imports;
mod inspections;
mod json_log;
mod lifecycle;
mod lifecycle_listener;
mod lists;
mod merged;
mod native_histograms;
mod natives;
mod operations;
mod operations_datagrams;
mod operations_defects;
mod operations_ending;
mod operations_lines;
mod own_metrics;
mod page;
mod pingpong;
mod places;
mod poll;
mod poll_answers;
mod poll_connections;
mod poll_failures;
mod poll_limits;
mod poll_listing;
mod poll_memory;
mod poll_on_scrape;
mod poll_proxies;
mod poll_redirects;
mod poll_tls;
#[cfg(feature = "profiling")]
mod profile;
mod protobuf;
mod push;
mod push_api;
mod push_bodies;
mod push_pages;
mod push_validate;
mod readiness;
mod receive;
mod relabel;
mod reload;
mod reload_listeners;
mod reload_settings;
mod reload_watch;
mod roles;
mod sender_log;
mod service;
mod service_discovery;
mod shaping;
mod shutdown;
mod shutdown_pushes;
mod signals;
mod sinks;
mod sinks_events;
mod sinks_guarantees;
#[cfg(feature = "cql")]
mod sinks_raw;
mod sinks_reload;
mod sinks_remote_write;
mod sinks_stored;
mod slow_senders;
mod statsd_dialects;
mod statsd_mapping;
mod storage;
mod storage_faults;
mod textfile;
mod tls;
mod tls_http;
mod values;
mod webhooks;
