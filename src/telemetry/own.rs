//! The proxy's own metrics.
//!
//! All names begin with `exporter_proxy_`, so that they never meet those of an
//! app, and families stand in the order of their names.

use super::process::Process;
use super::received::ReceivedCount;
use super::{
    Eviction, ListenerName, ListenerStats, OperationStats, Received, Telemetry, WebhookStats,
};
use crate::exposition::{Content, Encoder, Kind};
use crate::store::{Change, Now, Origin, SectionId, Store, Write};

/// A counter family: name, help, and how a sample's value is found.
type CountFamily<T> = (&'static str, &'static str, fn(&T) -> u64);

/// A gauge family of listeners, in the same way.
type LevelFamily = (&'static str, &'static str, fn(&ListenerStats) -> usize);

type ReceivedFamily = (
    &'static str,
    &'static str,
    fn(&Received) -> Vec<ReceivedCount>,
);

/// Everything that is known now, as a write to the store: these are families
/// like any other.
pub fn write(telemetry: &Telemetry, store: &Store, now: Now) -> Write {
    let mut out = Encoder::default();
    apps(&mut out, store);
    build_info(&mut out);
    connections(&mut out, telemetry);
    expired(&mut out, telemetry);
    exposition(&mut out, store);
    groups(&mut out, store);
    requests(&mut out, telemetry);
    operations(&mut out, &telemetry.operations, now);
    polls(&mut out, telemetry);
    process(&mut out, telemetry.started);
    pushes(&mut out, telemetry);
    received(&mut out, telemetry);
    scrapes(&mut out, telemetry);
    targets(&mut out, store);
    webhooks(&mut out, &telemetry.webhooks);
    Write::one(Change::Replace {
        id: SectionId::own(),
        content: Content::Families(out.into_families()),
        origin: Origin::default(),
        lifetime: None,
    })
}

fn apps(out: &mut Encoder, store: &Store) {
    out.family(
        "exporter_proxy_apps",
        Kind::Gauge,
        "Apps whose text is exposed.",
    )
    .sample(&[], store.totals().apps as f64);
}

fn build_info(out: &mut Encoder) {
    out.family(
        "exporter_proxy_build_info",
        Kind::Gauge,
        "Always 1; the labels tell which build runs.",
    )
    .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
}

fn connections(out: &mut Encoder, telemetry: &Telemetry) {
    let families: [CountFamily<ListenerStats>; 2] = [
        (
            "exporter_proxy_connection_accept_errors_total",
            "Failures to accept a connection, such as too many open files.",
            |stats| stats.accept_errors.value(),
        ),
        (
            "exporter_proxy_connections_accepted_total",
            "Connections accepted.",
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
        "Connections closed so that others are served, by reason: idle made no progress, share is \
         of an address with more than its share, full waited for a place in vain, accept_error \
         was idle when descriptors or memory ran out.",
    );
    for listener in ListenerName::ALL {
        for why in Eviction::ALL {
            let labels = [("listener", listener.as_str()), ("reason", why.as_str())];
            family.sample(&labels, telemetry.listener(listener).evicted(why) as f64);
        }
    }
    let levels: [LevelFamily; 2] = [
        (
            "exporter_proxy_connections_max",
            "Connections that may be open at once; 0 where nothing listens.",
            ListenerStats::max,
        ),
        (
            "exporter_proxy_connections_open",
            "Connections open now.",
            ListenerStats::open,
        ),
    ];
    for (name, help, level) in levels {
        let family = out.family(name, Kind::Gauge, help);
        for listener in ListenerName::ALL {
            let value = level(telemetry.listener(listener)) as f64;
            family.sample(&[("listener", listener.as_str())], value);
        }
    }
}

fn expired(out: &mut Encoder, telemetry: &Telemetry) {
    out.family(
        "exporter_proxy_expired_series_total",
        Kind::Counter,
        "Aggregated series withdrawn because nothing was added to them in time.",
    )
    .sample(&[], telemetry.expired_series.value() as f64);
    out.family(
        "exporter_proxy_expired_total",
        Kind::Counter,
        "Apps, groups and targets withdrawn because nothing was heard from them in time.",
    )
    .sample(&[], telemetry.expired.value() as f64);
}

fn exposition(out: &mut Encoder, store: &Store) {
    out.family(
        "exporter_proxy_exposition_size_bytes",
        Kind::Gauge,
        "Text of apps, groups and targets that is exposed now, the proxy's own metrics aside.",
    )
    .sample(&[], store.totals().bytes as f64);
}

fn groups(out: &mut Encoder, store: &Store) {
    out.family(
        "exporter_proxy_groups",
        Kind::Gauge,
        "Groups of series that were pushed over HTTP and are known.",
    )
    .sample(&[], store.totals().groups as f64);
}

fn requests(out: &mut Encoder, telemetry: &Telemetry) {
    let family = out.family(
        "exporter_proxy_http_requests_total",
        Kind::Counter,
        "HTTP requests answered.",
    );
    for ((handler, status), count) in telemetry.requests() {
        let labels = [("code", &*status.to_string()), ("handler", handler)];
        family.sample(&labels, count as f64);
    }
}

fn operations(out: &mut Encoder, stats: &OperationStats, now: Now) {
    let results = stats.results();
    if results.is_empty() {
        return;
    }
    if let Some(lost) = stats.lost(now.tick) {
        out.family(
            "exporter_proxy_operations_datagrams_lost_total",
            Kind::Counter,
            "Datagrams that the kernel dropped because they were not read in time.",
        )
        .sample(&[("transport", "udp")], lost as f64);
    }
    out.family(
        "exporter_proxy_operations_forward_queued_bytes",
        Kind::Gauge,
        "Operations that wait to be sent on; operations.forward_queue bounds them.",
    )
    .sample(&[], stats.queued.value() as f64);
    let forwarded = out.family(
        "exporter_proxy_operations_forwarded_total",
        Kind::Counter,
        "Operations to send on, by result: ok, or the reason of failure.",
    );
    for (result, count) in stats.forwarded.counts() {
        forwarded.sample(&[("result", result)], count as f64);
    }
    let bytes = out.family(
        "exporter_proxy_operations_received_bytes_total",
        Kind::Counter,
        "Bytes of messages with operations.",
    );
    for (transport, count) in stats.bytes() {
        bytes.sample(&[("transport", transport.as_str())], count as f64);
    }
    let total = out.family(
        "exporter_proxy_operations_total",
        Kind::Counter,
        "Messages with operations, by result: ok, or the reason of refusal.",
    );
    for (transport, result, count) in results {
        let labels = [("result", result), ("transport", transport.as_str())];
        total.sample(&labels, count as f64);
    }
}

fn polls(out: &mut Encoder, telemetry: &Telemetry) {
    let targets: Vec<_> = telemetry
        .targets()
        .into_iter()
        .map(|stats| (stats.name.clone(), stats.polls()))
        .collect();
    if targets.is_empty() {
        return;
    }
    let family = out.family(
        "exporter_proxy_poll_duration_seconds",
        Kind::Gauge,
        "How long the last poll took.",
    );
    for (name, polls) in &targets {
        if polls.success.is_some() {
            family.sample(&[("target", name)], polls.duration.as_secs_f64());
        }
    }
    let family = out.family(
        "exporter_proxy_poll_last_success_timestamp_seconds",
        Kind::Gauge,
        "When a poll last succeeded, in seconds since 1970; 0 if none has.",
    );
    for (name, polls) in &targets {
        let at = polls.last_success.map_or(0.0, Now::unix_seconds);
        family.sample(&[("target", name)], at);
    }
    let family = out.family(
        "exporter_proxy_poll_success",
        Kind::Gauge,
        "Whether the last poll succeeded.",
    );
    for (name, polls) in &targets {
        if let Some(success) = polls.success {
            family.sample(&[("target", name)], f64::from(u8::from(success)));
        }
    }
    let family = out.family(
        "exporter_proxy_polls_total",
        Kind::Counter,
        "Polls by result: ok, or the reason of failure.",
    );
    for (name, polls) in &targets {
        for (result, count) in &polls.results {
            family.sample(&[("result", result), ("target", name)], *count as f64);
        }
    }
}

fn process(out: &mut Encoder, started: Now) {
    let process = Process::read();
    let mut gauge = |name, kind, help, value: Option<f64>| {
        if let Some(value) = value {
            out.family(name, kind, help).sample(&[], value);
        }
    };
    let whole = |value: Option<u64>| value.map(|value| value as f64);
    gauge(
        "exporter_proxy_process_cpu_seconds_total",
        Kind::Counter,
        "User and system CPU time spent.",
        process.cpu_seconds,
    );
    gauge(
        "exporter_proxy_process_max_fds",
        Kind::Gauge,
        "File descriptors that may be open.",
        whole(process.max_fds),
    );
    gauge(
        "exporter_proxy_process_open_fds",
        Kind::Gauge,
        "File descriptors that are open.",
        whole(process.open_fds),
    );
    gauge(
        "exporter_proxy_process_resident_memory_bytes",
        Kind::Gauge,
        "Memory resident.",
        whole(process.resident_bytes),
    );
    gauge(
        "exporter_proxy_process_start_time_seconds",
        Kind::Gauge,
        "When the process started, in seconds since 1970.",
        Some(started.unix_seconds()),
    );
    gauge(
        "exporter_proxy_process_threads",
        Kind::Gauge,
        "Threads of the operating system.",
        whole(process.threads),
    );
    gauge(
        "exporter_proxy_process_virtual_memory_bytes",
        Kind::Gauge,
        "Address space in use.",
        whole(process.virtual_bytes),
    );
}

fn pushes(out: &mut Encoder, telemetry: &Telemetry) {
    let family = out.family(
        "exporter_proxy_push_body_bytes_total",
        Kind::Counter,
        "Bytes of the bodies of pushes over HTTP, as sent.",
    );
    for (method, bytes) in telemetry.pushes.bytes() {
        family.sample(&[("method", method)], bytes as f64);
    }
    out.family(
        "exporter_proxy_push_buffered_bytes",
        Kind::Gauge,
        "Bytes of bodies that are being taken in; push.max_buffered bounds them.",
    )
    .sample(&[], telemetry.pushes.buffered.value() as f64);
    out.family(
        "exporter_proxy_push_keys_forgotten_total",
        Kind::Counter,
        "Idempotency keys forgotten before their time: push.idempotency_keys is too low.",
    )
    .sample(&[], telemetry.pushes.forgotten_keys.value() as f64);
    out.family(
        "exporter_proxy_pushes_repeated_total",
        Kind::Counter,
        "Successful pushes that had come before, by their Idempotency-Key, and did not count again.",
    )
    .sample(&[], telemetry.pushes.repeated.value() as f64);
    let family = out.family(
        "exporter_proxy_pushes_total",
        Kind::Counter,
        "Pushes over HTTP, by result: ok, or the reason of failure.",
    );
    for (method, result, count) in telemetry.pushes.counts() {
        family.sample(&[("method", method), ("result", result)], count as f64);
    }
}

fn received(out: &mut Encoder, telemetry: &Telemetry) {
    out.family(
        "exporter_proxy_receive_buffered_bytes",
        Kind::Gauge,
        "Bytes of pushed messages that are not whole yet; receiver.max_buffered bounds them.",
    )
    .sample(&[], telemetry.buffered.value() as f64);
    let receivers = [
        (ListenerName::Tcp, &telemetry.received_tcp),
        (ListenerName::Unix, &telemetry.received_unix),
    ];
    let families: [ReceivedFamily; 2] = [
        (
            "exporter_proxy_received_bytes_total",
            "Bytes of pushed messages, by result: ok, or the reason of failure.",
            Received::bytes,
        ),
        (
            "exporter_proxy_received_messages_total",
            "Pushed messages, by result: ok, or the reason of failure.",
            Received::messages,
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

fn scrapes(out: &mut Encoder, telemetry: &Telemetry) {
    let encodings = [
        ("gzip", &telemetry.scrapes_gzip),
        ("identity", &telemetry.scrapes_identity),
    ];
    let family = out.family(
        "exporter_proxy_scrape_sent_bytes_total",
        Kind::Counter,
        "Bytes of the bodies of answered scrapes, as sent.",
    );
    for (encoding, stats) in encodings {
        family.sample(&[("encoding", encoding)], stats.bytes.value() as f64);
    }
    let family = out.family(
        "exporter_proxy_scrapes_total",
        Kind::Counter,
        "Scrapes of /metrics that were answered, by content coding.",
    );
    for (encoding, stats) in encodings {
        family.sample(&[("encoding", encoding)], stats.count.value() as f64);
    }
}

fn targets(out: &mut Encoder, store: &Store) {
    out.family(
        "exporter_proxy_targets",
        Kind::Gauge,
        "Polled targets that have been tried.",
    )
    .sample(&[], store.totals().targets as f64);
}

fn webhooks(out: &mut Encoder, stats: &WebhookStats) {
    let family = out.family(
        "exporter_proxy_webhooks_refused_total",
        Kind::Counter,
        "Webhooks that were refused, by result: the reason.",
    );
    for (kind, reason, count) in stats.refused() {
        family.sample(&[("kind", kind), ("result", reason)], count as f64);
    }
    let family = out.family(
        "exporter_proxy_webhooks_total",
        Kind::Counter,
        "Webhooks that were taken. One that tells of several alerts counts for each of their names.",
    );
    for (labels, count) in stats.taken() {
        let labels = [
            ("alertname", &*labels.alertname),
            ("kind", labels.kind),
            ("receiver", &*labels.receiver),
            ("status", labels.status),
        ];
        family.sample(&labels, count as f64);
    }
}
