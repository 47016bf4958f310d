//! Metrics of sinks, if there are any.

use super::families::OwnFamilies;
use crate::clock::Now;
use crate::exposition::Kind;
use crate::telemetry::{SinkHealth, SinkState, SinkStats, Telemetry};

/// A gauge of sinks: name, help, and the function that reads a sample.
type SinkGauge = (
    &'static str,
    &'static str,
    fn(&SinkStats, &SinkHealth, Now) -> f64,
);

const GAUGES: [SinkGauge; 6] = [
    (
        "exporter_proxy_sink_last_success_timestamp_seconds",
        "When the other system last took something, in seconds since 1970; 0 if never.",
        |_, health, _| health.last_success.map_or(0.0, Now::unix_seconds),
    ),
    (
        "exporter_proxy_sink_oldest_age_seconds",
        "Time in seconds since the oldest waiting item was queued; 0 if none waits.",
        |stats, _, now| {
            let age = |since| now.tick.saturating_duration_since(since).as_secs_f64();
            stats.oldest().map_or(0.0, age)
        },
    ),
    (
        "exporter_proxy_sink_queued_bytes",
        "Bytes of the items that wait to be sent.",
        |stats, _, _| stats.queued.value() as f64,
    ),
    (
        "exporter_proxy_sink_queued_items",
        "Items that wait to be sent.",
        |stats, _, _| stats.queued_items.value() as f64,
    ),
    (
        "exporter_proxy_sink_queued_max_bytes",
        "Limit of exporter_proxy_sink_queued_bytes: max_queue of the sink.",
        |stats, _, _| stats.max_queued.value() as f64,
    ),
    (
        "exporter_proxy_sink_up",
        "0 if the last request failed or the sink has stopped, 1 otherwise.",
        |_, health, _| match health.state {
            SinkState::Waiting | SinkState::Working => 1.0,
            SinkState::Failing | SinkState::Stopped => 0.0,
        },
    ),
];

pub fn write(out: &mut OwnFamilies, telemetry: &Telemetry, now: Now) {
    let sinks: Vec<_> = telemetry
        .sinks()
        .into_iter()
        .map(|stats| (stats.health(), stats))
        .collect();
    if telemetry.storage.is_on.value() > 0 {
        let unconfigured = telemetry.unconfigured_sinks.load();
        let items: usize = unconfigured.iter().map(|it| it.items).sum();
        let bytes: usize = unconfigured.iter().map(|it| it.bytes).sum();
        out.family(
            "exporter_proxy_sinks_unconfigured_bytes",
            Kind::Gauge,
            "Bytes of stored items of sinks that are not configured.",
        )
        .sample(&[], bytes as f64);
        out.family(
            "exporter_proxy_sinks_unconfigured_items",
            Kind::Gauge,
            "Stored items of sinks that are not configured.",
        )
        .sample(&[], items as f64);
    }
    if sinks.is_empty() {
        return;
    }
    let family = out.family(
        "exporter_proxy_sink_failures_total",
        Kind::Counter,
        "Requests of a sink that failed and were repeated.",
    );
    for (health, stats) in &sinks {
        family.sample(&[("sink", &stats.name)], health.failures as f64);
    }
    let family = out.family(
        "exporter_proxy_sink_items_total",
        Kind::Counter,
        "Items of a sink by result: ok once the other system took them, or the reason they were dropped.",
    );
    for (_, stats) in &sinks {
        for (result, count) in stats.items.counts() {
            family.sample(&[("result", result), ("sink", &stats.name)], count as f64);
        }
    }
    for (name, help, read) in GAUGES {
        let family = out.family(name, Kind::Gauge, help);
        for (health, stats) in &sinks {
            family.sample(&[("sink", &stats.name)], read(stats, health, now));
        }
    }
}
