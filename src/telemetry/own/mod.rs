//! The proxy's own metrics.
//!
//! All names begin with `exporter_proxy_`, so that they never collide with those of
//! an app. Only process metrics can have their usual names, if that is configured.
//! `docs/metrics.md` lists all of them, and a test keeps it complete. This is the
//! only part of telemetry that knows the store.

mod fairness;
mod families;
mod http;
mod inspections;
mod limits;
mod process;
mod remote_write;
mod security;
mod shaping;
mod sinks;
mod storage;
mod targets;
mod tls;

use serde::Serialize;

use self::families::OwnFamilies;
pub use self::limits::{LimitedGauge, all as limited_gauges};
use super::messages::MessageCount;
use super::{
    Eviction, ListenerName, ListenerStats, MessageStats, OperationStats, Telemetry, WebhookStats,
};
use crate::clock::Now;
use crate::exposition::{Content, Kind};
use crate::peer::Origin;
use crate::store::{Change, SectionId, Store, Write};

/// The prefix of the proxy's own metrics.
pub const OWN_PREFIX: &str = "exporter_proxy_";

/// A counter family: name, help, and the function that reads a sample.
type CountFamily<T> = (&'static str, &'static str, fn(&T) -> u64);

/// A gauge family of listeners: name, help, and the function that reads a sample.
type ListenerGauge = (&'static str, &'static str, fn(&ListenerStats) -> usize);

/// A counter family of the receivers: name, help, and the function that reads its
/// samples.
type MessageFamily = (
    &'static str,
    &'static str,
    fn(&MessageStats) -> Vec<MessageCount>,
);

/// The names of the process metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum ProcessNames {
    /// `exporter_proxy_process_*`, which no app exposes.
    #[default]
    #[serde(rename = "exporter_proxy")]
    Own,
    /// `process_*`, as Prometheus' client libraries call them. Many apps expose
    /// these too; a series that an app exposes is left out.
    #[serde(rename = "process")]
    Usual,
    /// No process metrics.
    #[serde(rename = "off")]
    Off,
}

/// Encodes all counters as a write to the store, in which they are families like
/// any other.
pub fn write(telemetry: &Telemetry, store: &Store, names: ProcessNames, now: Now) -> Write {
    let mut out = OwnFamilies::default();
    limits::write(&mut out, telemetry, store);
    security::authentications(&mut out, &telemetry.security);
    build_info(&mut out);
    reloads(&mut out, telemetry);
    inspections::write(&mut out, telemetry, store);
    connections(&mut out, telemetry);
    expired(&mut out, telemetry);
    exposition(&mut out, store);
    http::requests(&mut out, telemetry);
    operations(&mut out, telemetry, now);
    statsd_mapping(&mut out, &telemetry.operations);
    targets::write(&mut out, telemetry, store);
    process::write(&mut out, telemetry.started, names, store);
    proxy_headers(&mut out, telemetry);
    pushes(&mut out, telemetry);
    received(&mut out, telemetry);
    remote_write::write(&mut out, telemetry);
    http::scrapes(&mut out, telemetry);
    security::write(&mut out, &telemetry.security);
    fairness::write(&mut out, &telemetry.fairness, store);
    shaping::write(&mut out, &telemetry.shaping);
    sinks::write(&mut out, telemetry, now);
    storage::write(&mut out, &telemetry.storage);
    tls::write(&mut out, telemetry);
    webhooks(&mut out, &telemetry.webhooks);
    Write::one(Change::Replace {
        id: SectionId::own(),
        content: Content::Families(out.into_texts()),
        origin: Origin::default(),
        lifetime: None,
    })
}

fn build_info(out: &mut OwnFamilies) {
    out.family(
        "exporter_proxy_build_info",
        Kind::Gauge,
        "Always 1; the version label names the running build.",
    )
    .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
}

fn reloads(out: &mut OwnFamilies, telemetry: &Telemetry) {
    let stats = &telemetry.reloads;
    out.family(
        "exporter_proxy_config_last_reload_success_timestamp_seconds",
        Kind::Gauge,
        "When the configuration was last loaded, in seconds since 1970.",
    )
    .sample(&[], stats.last_success());
    out.family(
        "exporter_proxy_config_last_reload_successful",
        Kind::Gauge,
        "1 if the last reload of the configuration succeeded, 0 if it was refused.",
    )
    .sample(&[], f64::from(u8::from(stats.last_succeeded())));
    let family = out.family(
        "exporter_proxy_config_reloads_total",
        Kind::Counter,
        "Reloads of the configuration, by result: ok or refused.",
    );
    for (result, count) in [("ok", &stats.ok), ("refused", &stats.refused)] {
        family.sample(&[("result", result)], count.value() as f64);
    }
    out.family(
        "exporter_proxy_config_restart_settings",
        Kind::Gauge,
        "Settings that differ from those in use and need a restart, at the last reload.",
    )
    .sample(&[], stats.restart_settings.value() as f64);
}

fn proxy_headers(out: &mut OwnFamilies, telemetry: &Telemetry) {
    let family = out.family(
        "exporter_proxy_proxy_headers_total",
        Kind::Counter,
        "Headers of the PROXY protocol at the receiver's TCP port, by result: ok, or the reason for rejection.",
    );
    let headers = &telemetry.listener(ListenerName::Tcp).proxy_headers;
    for (result, count) in headers.counts() {
        family.sample(&[("result", result)], count as f64);
    }
}

fn connections(out: &mut OwnFamilies, telemetry: &Telemetry) {
    let families: [CountFamily<ListenerStats>; 2] = [
        (
            "exporter_proxy_connection_accept_errors_total",
            "Failures to accept a connection, such as too many open files.",
            |stats| stats.accept_errors.value(),
        ),
        (
            "exporter_proxy_connections_accepted_total",
            "Connections accepted, by listener.",
            |stats| stats.accepted.value(),
        ),
    ];
    for (name, help, count) in families {
        let family = out.family(name, Kind::Counter, help);
        for listener in ListenerName::ALL {
            let value = count(telemetry.listener(listener)) as f64;
            family.sample(&[("listener", listener.as_str())], value);
        }
    }
    let family = out.family(
        "exporter_proxy_connections_evicted_total",
        Kind::Counter,
        "Connections closed to make room for others, by result: idle (made no progress), share (its address had more than its share), full (found no free place in time), accept_error (idle when descriptors or memory ran out).",
    );
    for listener in ListenerName::ALL {
        for why in Eviction::ALL {
            let labels = [("listener", listener.as_str()), ("result", why.as_str())];
            family.sample(&labels, telemetry.listener(listener).evicted(why) as f64);
        }
    }
    let gauges: [ListenerGauge; 2] = [
        (
            "exporter_proxy_connections_max",
            "Limit on open connections; 0 if the listener is off.",
            ListenerStats::max,
        ),
        (
            "exporter_proxy_connections_open",
            "Open connections, by listener.",
            ListenerStats::open,
        ),
    ];
    for (name, help, read) in gauges {
        let family = out.family(name, Kind::Gauge, help);
        for listener in ListenerName::ALL {
            let value = read(telemetry.listener(listener)) as f64;
            family.sample(&[("listener", listener.as_str())], value);
        }
    }
}

fn expired(out: &mut OwnFamilies, telemetry: &Telemetry) {
    out.family(
        "exporter_proxy_expired_series_total",
        Kind::Counter,
        "Aggregated series removed because they were not updated within their time to live.",
    )
    .sample(&[], telemetry.expired_series.value() as f64);
    out.family(
        "exporter_proxy_expired_total",
        Kind::Counter,
        "Apps, groups and targets withdrawn because they sent nothing in time.",
    )
    .sample(&[], telemetry.expired.value() as f64);
}

fn exposition(out: &mut OwnFamilies, store: &Store) {
    out.family(
        "exporter_proxy_exposition_size_bytes",
        Kind::Gauge,
        "Bytes of exposed text from apps, groups and targets, without the proxy's own metrics.",
    )
    .sample(&[], store.totals().bytes as f64);
    out.family(
        "exporter_proxy_samples",
        Kind::Gauge,
        "Exposed samples, without the proxy's own; those of verbatim texts as last inspected.",
    )
    .sample(
        &[],
        (store.totals().series + store.inspection_totals().samples) as f64,
    );
}

fn operations(out: &mut OwnFamilies, telemetry: &Telemetry, now: Now) {
    let stats = &telemetry.operations;
    let results = stats.results();
    if results.is_empty() {
        return;
    }
    if let Some(lost) = stats.lost(now.tick) {
        out.family(
            "exporter_proxy_operations_datagrams_lost_total",
            Kind::Counter,
            "Datagrams dropped by the kernel because they were not read in time.",
        )
        .sample(&[("transport", "udp")], lost as f64);
    }
    let forwarded = out.family(
        "exporter_proxy_operations_forwarded_total",
        Kind::Counter,
        "Operations to forward, by result: ok, or the reason for failure.",
    );
    for (result, count) in stats.forwarded().items.counts() {
        forwarded.sample(&[("result", result)], count as f64);
    }
    let bytes = out.family(
        "exporter_proxy_operations_received_bytes_total",
        Kind::Counter,
        "Bytes of operations received, by transport.",
    );
    for (transport, count) in stats.bytes() {
        bytes.sample(&[("transport", transport.as_str())], count as f64);
    }
    let total = out.family(
        "exporter_proxy_operations_total",
        Kind::Counter,
        "Operations and StatsD lines, by transport and by result: ok, or the reason for rejection.",
    );
    for (transport, result, count) in results {
        let labels = [("result", result), ("transport", transport.as_str())];
        total.sample(&labels, count as f64);
    }
}

/// Writes nothing without rules.
fn statsd_mapping(out: &mut OwnFamilies, stats: &OperationStats) {
    let stats = stats.mapping();
    let Some(loaded) = stats.loaded() else {
        return;
    };
    let lines = out.family(
        "exporter_proxy_statsd_mapping_lines_total",
        Kind::Counter,
        "Values of StatsD lines by what the rules of operations.statsd_mapping made of them: mapped, dropped or unmapped.",
    );
    for (result, count) in [
        ("dropped", &stats.dropped),
        ("mapped", &stats.mapped),
        ("unmapped", &stats.unmapped),
    ] {
        lines.sample(&[("result", result)], count.value() as f64);
    }
    let lookups = out.family(
        "exporter_proxy_statsd_mapping_cache_lookups_total",
        Kind::Counter,
        "Lookups of StatsD names in the cache of rules, by result: hit or miss.",
    );
    for (result, count) in [("hit", &stats.cache_hits), ("miss", &stats.cache_misses)] {
        lookups.sample(&[("result", result)], count.value() as f64);
    }
    for (name, help, value) in [
        (
            "exporter_proxy_statsd_mapping_cached_names",
            "StatsD names whose rules are remembered.",
            loaded.cached(),
        ),
        (
            "exporter_proxy_statsd_mapping_rules",
            "Rules of operations.statsd_mapping.",
            loaded.rules,
        ),
    ] {
        out.family(name, Kind::Gauge, help)
            .sample(&[], value as f64);
    }
}

fn pushes(out: &mut OwnFamilies, telemetry: &Telemetry) {
    let family = out.family(
        "exporter_proxy_push_body_bytes_total",
        Kind::Counter,
        "Bytes of the bodies of pushes over HTTP, before decompression.",
    );
    for (method, bytes) in telemetry.pushes.bytes() {
        family.sample(&[("method", method)], bytes as f64);
    }
    out.family(
        "exporter_proxy_push_keys_forgotten_total",
        Kind::Counter,
        "Idempotency keys forgotten before push.idempotency_time; if it grows, raise push.idempotency_keys.",
    )
    .sample(&[], telemetry.pushes.forgotten_keys.value() as f64);
    out.family(
        "exporter_proxy_pushes_repeated_total",
        Kind::Counter,
        "Repeats of successful pushes, recognized by their Idempotency-Key and not counted again.",
    )
    .sample(&[], telemetry.pushes.repeated.value() as f64);
    let family = out.family(
        "exporter_proxy_pushes_total",
        Kind::Counter,
        "Pushes over HTTP, by method and by result: ok, or the reason for rejection.",
    );
    for (method, result, count) in telemetry.pushes.counts() {
        family.sample(&[("method", method), ("result", result)], count as f64);
    }
}

fn received(out: &mut OwnFamilies, telemetry: &Telemetry) {
    let receivers = [
        (ListenerName::Tcp, &telemetry.received_tcp),
        (ListenerName::Unix, &telemetry.received_unix),
    ];
    let families: [MessageFamily; 2] = [
        (
            "exporter_proxy_received_bytes_total",
            "Bytes of messages at the receivers, by result: ok, or the reason for rejection.",
            MessageStats::bytes,
        ),
        (
            "exporter_proxy_received_messages_total",
            "Messages at the receivers, by result: ok, or the reason for rejection.",
            MessageStats::messages,
        ),
    ];
    for (name, help, counts) in families {
        let family = out.family(name, Kind::Counter, help);
        for (receiver, received) in receivers {
            for (format, result, count) in counts(received) {
                let labels = [
                    ("format", format),
                    ("receiver", receiver.as_str()),
                    ("result", result),
                ];
                family.sample(&labels, count as f64);
            }
        }
    }
}

fn webhooks(out: &mut OwnFamilies, stats: &WebhookStats) {
    let family = out.family(
        "exporter_proxy_webhooks_refused_total",
        Kind::Counter,
        "Webhooks rejected; the result is the reason.",
    );
    for (kind, reason, count) in stats.rejected() {
        family.sample(&[("kind", kind), ("result", reason)], count as f64);
    }
    let family = out.family(
        "exporter_proxy_webhooks_total",
        Kind::Counter,
        "Webhooks accepted. A webhook with several alerts counts once for each alert name and status.",
    );
    for (labels, count) in stats.accepted() {
        let labels = [
            ("alertname", &*labels.alertname),
            ("kind", labels.kind),
            ("receiver", &*labels.receiver),
            ("status", labels.status),
        ];
        family.sample(&labels, count as f64);
    }
}
