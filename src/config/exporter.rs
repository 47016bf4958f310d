//! `[exporter]`: the process, and the HTTP side that is scraped.

use std::time::Duration;

use serde::Serialize;

use crate::settings::reader::Table;
use crate::settings::value::{
    Address, address, boolean, choice, integer, positive_duration, write_duration,
};
use crate::telemetry::own::ProcessNames;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exporter {
    /// Threads that serve: 0 is one thread for everything, N is N workers. With
    /// two, pushes go on while a large scrape is being copied out.
    pub worker_threads: usize,
    /// Connections served at once, on each receiver.
    pub concurrent_requests: usize,
    /// Where `/metrics` and `/apps` are served.
    pub scrape_expose_endpoint: Address,
    /// HTTP connections served at once.
    pub max_connections: usize,
    /// For a request's head to arrive, and for a connection between requests.
    #[serde(serialize_with = "write_duration")]
    pub header_timeout: Duration,
    /// For a client to take some of an answer before it is given up.
    #[serde(serialize_with = "write_duration")]
    pub write_timeout: Duration,
    /// Whether the proxy's own metrics are part of `/metrics`.
    pub own_metrics: bool,
    /// Whether the time of each app's last update is one of them.
    pub app_metrics: bool,
    /// What the metrics of the process are called.
    pub process_metrics: ProcessNames,
    /// For what has begun to finish, after a request to stop.
    #[serde(serialize_with = "write_duration")]
    pub shutdown_timeout: Duration,
}

/// What a receiver or the scrape port can be told to serve at once.
const MOST_CONNECTIONS: usize = 1_000_000;

pub fn read(mut table: Table<'_>) -> Exporter {
    let exporter = Exporter {
        worker_threads: table.take("worker_threads", 2, integer(0, 1024)),
        concurrent_requests: table.take("concurrent_requests", 2048, integer(1, MOST_CONNECTIONS)),
        scrape_expose_endpoint: table.take(
            "scrape_expose_endpoint",
            Address::new("0.0.0.0", 6555),
            address,
        ),
        max_connections: table.take("max_connections", 512, integer(1, MOST_CONNECTIONS)),
        header_timeout: table.take("header_timeout", Duration::from_secs(30), positive_duration),
        write_timeout: table.take("write_timeout", Duration::from_secs(30), positive_duration),
        own_metrics: table.take("own_metrics", true, boolean),
        app_metrics: table.take("app_metrics", true, boolean),
        process_metrics: table.take(
            "process_metrics",
            ProcessNames::Own,
            choice(&[
                ("exporter_proxy", ProcessNames::Own),
                ("process", ProcessNames::Usual),
                ("off", ProcessNames::Off),
            ]),
        ),
        shutdown_timeout: table.take(
            "shutdown_timeout",
            Duration::from_secs(10),
            positive_duration,
        ),
    };
    table.finish();
    exporter
}
