//! `[push]`: pushes over HTTP, in Pushgateway's protocol, and what becomes of them.

use std::time::Duration;

use serde::Serialize;

use crate::ingest::config::{BucketConflict, POLICIES, Policy, PushMode};
use crate::ingest::rules::{self, Rule};
use crate::settings::Table;
use crate::settings::document::Node;
use crate::settings::listen::{Listen, listen};
use crate::settings::value::{
    Address, boolean, buffer_size, choice, duration, integer, positive_duration, size, text,
    write_duration, write_size,
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
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

/// Origins, or hosts, in a list: each is looked at for every request.
const MOST_ORIGINS: usize = 1000;

/// One page shows all of them.
const MOST_WEBHOOKS: usize = 10_000;

pub fn read(mut table: Table<'_>) -> Config {
    let origins_place = table.place("cors_origins");
    let hosts_place = table.place("allowed_hosts");
    let push = Config {
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
        rules: table.take_tables("rules", rules::read),
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
    use crate::settings::document::{Place, Value};

    fn node(text: &str) -> Node {
        Node {
            value: Value::Text(text.to_owned()),
            place: Place::Variable("TEST".to_owned()),
        }
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
