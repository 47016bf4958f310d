//! Real clients and real servers around the real program.

#![allow(
    clippy::disallowed_methods,
    reason = "tests read clocks, wait and pass environments"
)]

#[path = "../harness/mod.rs"]
mod harness;

/// Programs that a machine may lack, and servers that are started for a test.
mod tools;

/// The sample clients.
mod clients;

/// The first commands that a person types.
mod readme;

/// A configuration of the original program, with its senders.
mod original;

/// A gateway that is pushed to: the proxy, or a Pushgateway to compare it with.
mod gateway;

/// Jobs that push with the client libraries of their languages.
mod push_clients;

/// The same requests to the proxy and to Pushgateway.
mod pushgateway;

/// Examples in documents, and their results.
mod documents;

/// The examples of `docs/pushing.md`.
mod pushing_docs;

/// Operations, sent with the tools and libraries that people use.
mod operations;

/// Lines of StatsD libraries, with rules for their names.
mod statsd_clients;

/// Lines of StatsD, compared with etsy's own server.
mod statsd_oracle;

/// The examples and tables of `docs/operations.md`.
mod operations_docs;

/// The settings, tables and commands of `docs/deploying.md`.
mod deploying_docs;

/// The clients to copy, in `client/`.
mod operations_clients;

/// CPU profiles, read by Go's tool.
#[cfg(feature = "profiling")]
mod profiles;

/// Upstream exporters that are polled.
mod upstreams;

/// What Prometheus discovers in the proxy.
mod discovery;

/// Readers of `/metrics`: Prometheus, `promtool`, `curl`.
mod readers;

/// Clients with basic authentication.
mod roles;

/// Prometheus, which scrapes with TLS and credentials.
mod secure_scrapes;

/// TLS with openssl, curl and a load balancer.
mod tls;

/// Sockets that a service manager passes, and HTTP over Unix sockets.
mod unix_sockets;

/// The alerts of the documents.
mod alerts;

/// The demo, and the questions of the document about it.
mod learning;

/// Merged output, read by real readers.
mod merged;

/// OpenMetrics, read by its strictest parser.
mod openmetrics;

/// Native histograms.
mod natives;

/// The checked-in code of the schema.
mod schema;

/// A real Alertmanager, whose notifications the proxy receives.
mod alertmanager;
