//! `[exporter]`: the process, and the listener for scrapes.

use std::time::Duration;

use serde::Serialize;

use crate::http::listen::{self, HttpListeners};
use crate::settings::listen::{Listen, listen_always};
use crate::settings::reader::Table;
use crate::settings::value::{
    Address, boolean, choice, integer, positive_duration, write_duration,
};
use crate::telemetry::own::ProcessNames;

/// The settings of `[exporter]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exporter {
    /// The number of serving threads; 0 runs everything on the main thread. With two, a
    /// large scrape does not delay pushes.
    pub worker_threads: usize,
    /// The limit on connections of each receiver.
    pub concurrent_requests: usize,
    /// The listeners for scrapes.
    pub scrape_expose_endpoint: HttpListeners,
    /// The limit on connections of each HTTP listener.
    pub max_connections: usize,
    /// The time limit for the head of a request, and for an idle connection.
    #[serde(serialize_with = "write_duration")]
    pub header_timeout: Duration,
    /// The time limit for a client to read more of a reply.
    #[serde(serialize_with = "write_duration")]
    pub write_timeout: Duration,
    /// The time limit for a TLS handshake.
    #[serde(serialize_with = "write_duration")]
    pub tls_handshake_timeout: Duration,
    /// Whether `/metrics` includes the proxy's own metrics.
    pub own_metrics: bool,
    /// Whether they include the time of the last update of each app.
    pub app_metrics: bool,
    /// The names of the process metrics.
    pub process_metrics: ProcessNames,
    /// Grace period for work in progress at shutdown.
    #[serde(serialize_with = "write_duration")]
    pub shutdown_timeout: Duration,
}

/// The largest value of the limits on connections.
const MAX_CONNECTIONS: usize = 1_000_000;

/// Reads the table.
pub fn read(mut table: Table<'_>) -> Exporter {
    let endpoint = table.place("scrape_expose_endpoint");
    let exporter = Exporter {
        worker_threads: table.take("worker_threads", 2, integer(0, 1024)),
        concurrent_requests: table.take("concurrent_requests", 2048, integer(1, MAX_CONNECTIONS)),
        scrape_expose_endpoint: listen::take(
            &mut table,
            "scrape_expose_endpoint",
            Listen::Tcp(Address::new("0.0.0.0", 6555)),
            listen_always,
        ),
        max_connections: table.take("max_connections", 512, integer(1, MAX_CONNECTIONS)),
        header_timeout: table.take("header_timeout", Duration::from_secs(30), positive_duration),
        write_timeout: table.take("write_timeout", Duration::from_secs(30), positive_duration),
        tls_handshake_timeout: table.take(
            "tls_handshake_timeout",
            Duration::from_secs(10),
            positive_duration,
        ),
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
    if let Some(place) = endpoint
        && exporter.scrape_expose_endpoint.is_empty()
    {
        let problem = "`exporter.scrape_expose_endpoint` needs at least one address";
        table.fault(place, problem);
    }
    table.finish();
    exporter
}
