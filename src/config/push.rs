//! `[push]`: pushes over HTTP, in Pushgateway's protocol, and what becomes of them.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::document::Node;
use super::push_rules::{self, Rule};
use super::reader::Table;
use super::receiver::LONGEST_SOCKET_PATH;
use super::value::{
    Address, address, boolean, buffer_size, choice, duration, integer, positive_duration, size,
    text, write_duration, write_size,
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Push {
    /// Where pushes are taken. The scrape address may be given, and then one
    /// port serves both.
    pub listen: Listen,
    /// Bytes of one body, after decompression.
    #[serde(serialize_with = "write_size")]
    pub max_body: usize,
    /// Bytes of bodies that are being taken in, all together.
    #[serde(serialize_with = "write_size")]
    pub max_buffered: usize,
    /// For a body to arrive whole.
    #[serde(serialize_with = "write_duration")]
    pub body_timeout: Duration,
    /// Groups known at once.
    pub max_groups: usize,
    /// Withdraw a group that was not pushed for so long; zero is never.
    #[serde(serialize_with = "write_duration")]
    pub group_ttl: Duration,
    /// Whether `/api/v1/admin/wipe` is there.
    pub enable_admin_api: bool,
    /// Whether `/-/quit` stops the program.
    pub enable_lifecycle: bool,
    /// Whether label names of paths may be escaped with `U__`.
    pub enable_utf8_names: bool,
    /// Origins whose pages may push; `*` is all of them.
    pub cors_origins: Vec<String>,
    /// Names by which servers on the loopback may be called, beside addresses
    /// and `localhost`; `*` is any name.
    pub allowed_hosts: Vec<String>,
    /// What a push does unless it says so itself.
    pub mode: PushMode,
    /// What becomes of gauges that are pushed into aggregated families.
    pub gauges: Policy,
    /// What becomes of histograms whose buckets differ.
    pub bucket_conflict: BucketConflict,
    /// Forget an aggregated series that was not pushed for so long; zero is
    /// never.
    #[serde(serialize_with = "write_duration")]
    pub series_ttl: Duration,
    /// Aggregated series in all, and in one family; aggregated families.
    pub max_series: usize,
    pub max_series_per_family: usize,
    pub max_families: usize,
    /// Idempotency keys that are remembered, and for how long.
    pub idempotency_keys: usize,
    #[serde(serialize_with = "write_duration")]
    pub idempotency_time: Duration,
    /// Webhooks that are kept to be shown, none with 0, and bytes of them, all
    /// together.
    pub max_webhooks: usize,
    #[serde(serialize_with = "write_size")]
    pub max_webhook_bytes: usize,
    /// What holds for single families. The first that matches counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// Where pushes are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    Tcp(Address),
    /// A Unix socket, with the receiver's owner and mode.
    Unix(PathBuf),
}

impl Listen {
    /// Whether this is the port of that address. Port 0, which is chosen when
    /// it is bound, is another one each time.
    pub fn is(&self, other: &Address) -> bool {
        matches!(self, Listen::Tcp(address) if address == other && address.port != 0)
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Listen::Off => to.serialize_str(""),
            Listen::Tcp(address) => address.serialize(to),
            Listen::Unix(path) => to.collect_str(&format_args!("unix:{}", path.display())),
        }
    }
}

/// What a push does to what was pushed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PushMode {
    /// It takes its place, as with Pushgateway.
    Replace,
    /// It is added to it, as with prom-aggregation-gateway.
    Aggregate,
}

/// How a value that is pushed and the one that is there become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    Last,
    Sum,
    Min,
    Max,
}

pub(super) const POLICIES: &[(&str, Policy)] = &[
    ("last", Policy::Last),
    ("sum", Policy::Sum),
    ("min", Policy::Min),
    ("max", Policy::Max),
];

/// What becomes of a histogram whose buckets are not those that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BucketConflict {
    /// Bounds that both have stay, and all that is shown is exact.
    Common,
    /// All bounds stay; at one that a side lacks, that side counts with its
    /// bound below.
    Union,
    /// The push is refused.
    Refuse,
}

/// Origins, or hosts, in a list: each is looked at for every request.
const MOST_ORIGINS: usize = 1000;

/// One page shows all of them.
const MOST_WEBHOOKS: usize = 10_000;

pub fn read(mut table: Table<'_>) -> Push {
    let origins_place = table.place("cors_origins");
    let hosts_place = table.place("allowed_hosts");
    let push = Push {
        listen: table.take(
            "listen",
            Listen::Tcp(Address::new("127.0.0.1", 6556)),
            listen,
        ),
        max_body: table.take("max_body", 64 << 20, buffer_size),
        max_buffered: table.take("max_buffered", 256 << 20, size),
        body_timeout: table.take("body_timeout", Duration::from_secs(30), positive_duration),
        max_groups: table.take("max_groups", 100_000, integer(1, 100_000_000)),
        group_ttl: table.take("group_ttl", Duration::ZERO, duration),
        enable_admin_api: table.take("enable_admin_api", false, boolean),
        enable_lifecycle: table.take("enable_lifecycle", false, boolean),
        enable_utf8_names: table.take("enable_utf8_names", false, boolean),
        cors_origins: table.take_list("cors_origins", origin),
        allowed_hosts: table.take_list("allowed_hosts", host_name),
        mode: table.take(
            "mode",
            PushMode::Replace,
            choice(&[
                ("replace", PushMode::Replace),
                ("aggregate", PushMode::Aggregate),
            ]),
        ),
        gauges: table.take("gauges", Policy::Last, choice(POLICIES)),
        bucket_conflict: table.take(
            "bucket_conflict",
            BucketConflict::Common,
            choice(&[
                ("common", BucketConflict::Common),
                ("union", BucketConflict::Union),
                ("refuse", BucketConflict::Refuse),
            ]),
        ),
        series_ttl: table.take("series_ttl", Duration::ZERO, duration),
        max_series: table.take("max_series", 1_000_000, integer(1, 1_000_000_000)),
        max_series_per_family: table.take(
            "max_series_per_family",
            100_000,
            integer(1, 1_000_000_000),
        ),
        max_families: table.take("max_families", 10_000, integer(1, 100_000_000)),
        idempotency_keys: table.take("idempotency_keys", 10_000, integer(1, 100_000_000)),
        idempotency_time: table.take(
            "idempotency_time",
            Duration::from_secs(600),
            positive_duration,
        ),
        max_webhooks: table.take("max_webhooks", 100, integer(0, MOST_WEBHOOKS)),
        max_webhook_bytes: table.take("max_webhook_bytes", 8 << 20, size),
        rules: table.take_tables("rules", push_rules::read),
    };
    if let Some(place) = origins_place
        && push.cors_origins.len() > MOST_ORIGINS
    {
        let problem = format!(
            "`push.cors_origins` has {} origins; the limit is {MOST_ORIGINS}; use \"*\" for all",
            push.cors_origins.len()
        );
        table.fault(place, problem);
    }
    if let Some(place) = hosts_place
        && push.allowed_hosts.len() > MOST_ORIGINS
    {
        let problem = format!(
            "`push.allowed_hosts` has {} hosts; the limit is {MOST_ORIGINS}; use \"*\" for all",
            push.allowed_hosts.len()
        );
        table.fault(place, problem);
    }
    table.finish();
    push
}

/// `*`, or a name as in `Host`, with its port or for all ports.
fn host_name(node: &Node) -> Result<String, String> {
    let written = text(node)?;
    let (name, port) = written.split_once(':').unwrap_or((&written, "0"));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let right = written == "*"
        || (!name.is_empty() && name.chars().all(plain) && port.parse::<u16>().is_ok());
    match right {
        true => Ok(written.trim_end_matches('.').to_ascii_lowercase()),
        false => Err(format!(
            "must be a host name such as \"metrics.example.com\", or \"*\", not {written:?}"
        )),
    }
}

/// `host:port`, or the path of a Unix socket, or nothing.
fn listen(node: &Node) -> Result<Listen, String> {
    let written = text(node)?;
    let path = match written.strip_prefix("unix:") {
        Some(path) => path,
        None if written.starts_with('/') => &written,
        None if written.is_empty() => return Ok(Listen::Off),
        None => {
            return address(node).map(Listen::Tcp).map_err(|_| {
                format!(
                    "must be host:port such as \"127.0.0.1:6556\", a Unix socket such as \
                     \"/run/push.sock\", or \"\" to disable pushes, not {written:?}"
                )
            });
        }
    };
    // `unix:///run/x` is how URLs have it.
    let path = path.strip_prefix("//").unwrap_or(path);
    match path.len() {
        0 => Err("must have the path of a Unix socket after \"unix:\"".to_owned()),
        1..=LONGEST_SOCKET_PATH => Ok(Listen::Unix(PathBuf::from(path))),
        length => Err(format!(
            "is {length} bytes long; the path of a Unix socket has at most {LONGEST_SOCKET_PATH}"
        )),
    }
}

/// `*`, or what a browser sends as `Origin`: a scheme and a host, no path.
fn origin(node: &Node) -> Result<String, String> {
    let written = text(node)?;
    let right = written == "*"
        || written == "null"
        || written.split_once("://").is_some_and(|(scheme, host)| {
            let scheme_chars = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
            let plain = |c: char| c.is_ascii_graphic() && !"/?#@,".contains(c);
            !scheme.is_empty()
                && scheme.chars().all(scheme_chars)
                && !host.is_empty()
                && host.chars().all(plain)
        });
    if right {
        Ok(written.to_ascii_lowercase())
    } else {
        Err(format!(
            "must be an origin such as \"https://app.example.com\", or \"*\", not {written:?}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::document::{Place, Value};

    fn node(text: &str) -> Node {
        Node {
            value: Value::Text(text.to_owned()),
            place: Place::Variable("TEST".to_owned()),
        }
    }

    #[test]
    fn it_listens_at_an_address_or_a_socket_or_nowhere() {
        let tcp = |host: &str, port| Listen::Tcp(Address::new(host, port));
        let unix = |path: &str| Listen::Unix(PathBuf::from(path));
        for (written, expected) in [
            ("", Listen::Off),
            ("127.0.0.1:6556", tcp("127.0.0.1", 6556)),
            (":9091", tcp("0.0.0.0", 9091)),
            ("/run/p.sock", unix("/run/p.sock")),
            ("unix:/run/p.sock", unix("/run/p.sock")),
            ("unix:///run/p.sock", unix("/run/p.sock")),
            ("unix:p.sock", unix("p.sock")),
        ] {
            assert_eq!(listen(&node(written)), Ok(expected), "{written}");
        }
        for wrong in [
            "6556",
            "host",
            "unix:",
            "p.sock",
            &format!("/{}", "x".repeat(200)),
        ] {
            assert!(listen(&node(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_port_is_meant_where_the_addresses_are_the_same() {
        let address = Address::new("0.0.0.0", 6555);
        assert!(Listen::Tcp(address.clone()).is(&address));
        assert!(!Listen::Tcp(Address::new("0.0.0.0", 6556)).is(&address));
        assert!(!Listen::Off.is(&address));
        let any = Address::new("127.0.0.1", 0);
        assert!(!Listen::Tcp(any.clone()).is(&any));
    }

    #[test]
    fn origins_are_what_browsers_send() {
        for right in [
            "*",
            "null",
            "https://a.example",
            "http://[::1]:8080",
            "HTTP://A.example",
        ] {
            assert_eq!(origin(&node(right)), Ok(right.to_ascii_lowercase()));
        }
        for wrong in [
            "",
            "a.example",
            "https://",
            "https://a/",
            "https://a/b",
            "://a",
            "https://a b",
        ] {
            assert!(origin(&node(wrong)).is_err(), "{wrong}");
        }
    }
}
