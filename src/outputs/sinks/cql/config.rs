//! The settings of the type `cql`.

use std::time::Duration;

use serde::Serialize;

use super::table::{Create, Layout, TableName};
use crate::http_client::credentials::BasicAuth;
use crate::http_client::tls;
use crate::outputs::sinks::QueueConfig;
use crate::outputs::sinks::http::ServerTls;
use crate::settings::document::Node;
use crate::settings::reader::Table;
use crate::settings::value::{
    Address, boolean, choice, integer, parse_address, positive_duration, text, write_duration,
};

/// The port of a host without one.
const PORT: u16 = 9042;

/// The default of `timeout`.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Limit on `hosts`. The driver finds the other nodes through them.
const MAX_HOSTS: usize = 100;

/// Limit on the length of `datacenter`, in bytes.
const MAX_DATACENTER: usize = 128;

/// Limits of one batch, which becomes many requests, one for each partition: the more items,
/// the more of them share a request.
const BATCH: (usize, usize) = (20_000, 4 << 20);

/// The settings of a sink for Cassandra or ScyllaDB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Nodes that are contacted first.
    pub hosts: Vec<Address>,
    /// The table that rows are written to.
    pub table: TableName,
    /// The datacenter whose nodes are preferred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<String>,
    /// How many replicas must have a row.
    pub consistency: Level,
    /// The keyspace and the table to create where they are missing.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub create: Option<Create>,
    /// Time for connecting to the cluster, and for each request.
    #[serde(serialize_with = "write_duration")]
    pub timeout: Duration,
    /// User and password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<BasicAuth>,
    /// Certificates of the proxy and of the cluster; `None` without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTls>,
}

/// A consistency level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are those of CQL")]
pub enum Level {
    Any,
    One,
    Two,
    Three,
    Quorum,
    All,
    LocalQuorum,
    EachQuorum,
    LocalOne,
}

const LEVELS: [(&str, Level); 9] = [
    ("any", Level::Any),
    ("one", Level::One),
    ("two", Level::Two),
    ("three", Level::Three),
    ("quorum", Level::Quorum),
    ("all", Level::All),
    ("local_quorum", Level::LocalQuorum),
    ("each_quorum", Level::EachQuorum),
    ("local_one", Level::LocalOne),
];

const LAYOUTS: [(&str, Layout); 2] = [("series", Layout::Series), ("name", Layout::Name)];

/// Reads the table of a sink.
pub fn read(mut table: Table<'_>) -> Option<(Settings, QueueConfig)> {
    let own = table.own_place().cloned();
    let hosts_place = table.place("hosts").or_else(|| own.clone());
    let tls_place = table.place("tls");
    let mut is_wrong = false;
    let hosts = table.take_list("hosts", |node| host(node).inspect_err(|_| is_wrong = true));
    let settings = Settings {
        table: table.take("table", TableName::default(), |node| {
            TableName::parse(&text(node)?)
        }),
        datacenter: table.take_option("datacenter", datacenter),
        consistency: table.take("consistency", Level::LocalQuorum, choice(&LEVELS)),
        create: take_create(&mut table),
        timeout: table.take("timeout", TIMEOUT, positive_duration),
        login: table
            .optional_table("login")
            .and_then(|(table, place)| BasicAuth::read(table, place)),
        tls: tls_place.is_some().then(|| {
            let (client, trust) = tls::take(&mut table);
            ServerTls {
                ca_file: trust.ca_file,
                insecure_skip_verify: trust.insecure_skip_verify.unwrap_or(false),
                client,
            }
        }),
        hosts,
    };
    let name = table.name().to_owned();
    if let Some(place) = hosts_place
        && !is_wrong
        && !(1..=MAX_HOSTS).contains(&settings.hosts.len())
    {
        let problem =
            format!("`{name}.hosts` must have 1 to {MAX_HOSTS} hosts such as \"10.0.0.5:{PORT}\"");
        table.fault(place, problem);
    }
    let missing = match tls_place {
        _ if !cfg!(feature = "cql") => own.map(|place| (place, "cql")),
        place if !cfg!(feature = "cql-tls") => place.map(|place| (place, "cql-tls")),
        _ => None,
    };
    if let Some((place, feature)) = missing {
        let problem = format!(
            "`{name}`: this program was built without the feature `{feature}`, which it needs"
        );
        table.fault(place, problem);
    }
    let defaults = QueueConfig {
        batch_items: BATCH.0,
        batch_bytes: BATCH.1,
        ..QueueConfig::default()
    };
    let queue = QueueConfig::take(&mut table, defaults);
    table.finish();
    Some((settings, queue))
}

/// Takes `create` and the settings that matter only with it.
fn take_create(table: &mut Table<'_>) -> Option<Create> {
    let written = ["layout", "replication_factor"].map(|key| (key, table.place(key)));
    let create = Create {
        create: table.take("create", false, boolean),
        layout: table.take("layout", Layout::Series, choice(&LAYOUTS)),
        replication_factor: table.take("replication_factor", 1, integer(1, 100)),
    };
    for (key, place) in written {
        if let Some(place) = place.filter(|_| !create.create) {
            let name = table.name();
            let problem =
                format!("`{name}.{key}` is for a new table, and needs `{name}.create` to be true");
            table.fault(place, problem);
        }
    }
    create.create.then_some(create)
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn host(node: &Node) -> Result<Address, String> {
    let written = text(node)?;
    let address = parse_address(&written).or_else(|| parse_address(&format!("{written}:{PORT}")));
    address
        .filter(|address| !written.starts_with(':') && address.port != 0)
        .ok_or_else(|| {
            format!(
                "must have hosts such as \"10.0.0.5\" or \"db.internal:{PORT}\", not {written:?}"
            )
        })
}

fn datacenter(node: &Node) -> Result<String, String> {
    let name = text(node)?;
    match (1..=MAX_DATACENTER).contains(&name.len()) {
        true => Ok(name),
        false => Err(format!("must have 1 to {MAX_DATACENTER} bytes")),
    }
}
