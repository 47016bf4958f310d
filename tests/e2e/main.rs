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

/// What a person types first.
mod readme;

/// A configuration of the original program, with its senders.
mod original;

/// What is pushed to: the proxy, or the Pushgateway beside it.
mod gateway;

/// Jobs that push with the client libraries of their languages.
mod push_clients;

/// The same requests to the proxy and to Pushgateway.
mod pushgateway;

/// Examples in documents, and what they leave.
mod documents;

/// The examples of `docs/pushing.md`.
mod pushing_docs;

/// Operations, by the tools and libraries that people send them with.
mod operations;

/// Lines of StatsD libraries, with rules for their names.
mod statsd_clients;

/// Lines of StatsD, as etsy's own server reads them.
mod statsd_oracle;

/// The examples and tables of `docs/operations.md`.
mod operations_docs;

/// The settings, tables and commands of `docs/deploying.md`.
mod deploying_docs;

/// The clients to copy, of `client/`.
mod operations_clients;

/// CPU profiles, as Go's tool reads them.
#[cfg(feature = "profiling")]
mod profiles;

/// Upstream exporters that are polled.
mod upstreams;

/// What Prometheus discovers in the proxy.
mod discovery;

/// What reads `/metrics`: Prometheus, `promtool`, `curl`.
mod readers;

/// Clients with basic authentication.
mod roles;

/// Prometheus, which scrapes with TLS and credentials.
mod secure_scrapes;

/// TLS, as openssl, curl and a load balancer use it.
mod tls;

/// Sockets that a service manager passes, and HTTP over Unix sockets.
mod unix_sockets;

/// The alerts of the documents.
mod alerts;

/// The demo, and the questions that a document asks of it.
mod learning;

/// Merged output, and what real readers make of it.
mod merged;

/// OpenMetrics, as the strictest of its parsers reads it.
mod openmetrics;

/// Native histograms.
mod natives;

/// The checked-in code of the schema.
mod schema;

/// A real Alertmanager, whose notices come here.
mod alertmanager;
