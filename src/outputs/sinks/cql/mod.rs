//! Writes events as rows to a table of Cassandra or ScyllaDB.
//!
//! - [`config`]: the settings;
//! - [`table`]: the table, its layouts, and the statements;
//! - [`rows`]: events as rows, and the rows of one partition as a request;
//! - [`slots`]: milliseconds of rows, for tables without the column `id`;
//! - [`session`]: connections to the cluster;
//! - [`failure`]: the meaning of the driver's errors.
//!
//! The driver finds the nodes of the cluster and sends each request to a replica of its
//! partition. It connects with the first batch, so the proxy starts even if the cluster is away.
//!
//! All but the settings needs the feature `cql`, and TLS needs `cql-tls`: the driver's TLS
//! compiles a second library of ciphers, which nothing calls.

pub mod config;
#[cfg(feature = "cql")]
mod failure;
#[cfg(feature = "cql")]
mod rows;
#[cfg(feature = "cql")]
mod session;
#[cfg(feature = "cql")]
mod sink;
#[cfg(feature = "cql")]
mod slots;
mod table;

#[cfg(test)]
mod tests;

pub use config::{Settings, read};
#[cfg(feature = "cql")]
pub use sink::CqlSink;
