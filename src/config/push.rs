//! `[push]`: the listener for pushes. Each input that it serves reads its own part of the
//! table.

use serde::Serialize;

use crate::http::config::{self as requests, Requests};
use crate::http::listen::{self, HttpListeners};
use crate::ingest::config::{Aggregation, read_aggregation};
use crate::inputs::{push, webhooks};
use crate::settings::listen::{Listen, listen as listen_at};
use crate::settings::{Address, Table};

/// The settings of `[push]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Push {
    /// The listeners for pushes. One with the address of a scrape listener is one port
    /// that serves both.
    pub listen: HttpListeners,
    /// Limits on bodies, allowed origins and hosts.
    #[serde(flatten)]
    pub requests: Requests,
    /// Pushed groups.
    #[serde(flatten)]
    pub groups: push::config::Config,
    /// Webhooks.
    #[serde(flatten)]
    pub webhooks: webhooks::config::Config,
    /// Aggregated families.
    #[serde(flatten)]
    pub aggregation: Aggregation,
}

/// Reads the table.
pub fn read(mut table: Table<'_>) -> Push {
    let push = Push {
        listen: listen::take(
            &mut table,
            "listen",
            Listen::Tcp(Address::new("127.0.0.1", 6556)),
            listen_at,
        ),
        requests: requests::read(&mut table),
        groups: push::config::read(&mut table),
        webhooks: webhooks::config::read(&mut table),
        aggregation: read_aggregation(&mut table),
    };
    table.finish();
    push
}
