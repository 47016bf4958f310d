//! Gauges of limited resources, each with a gauge of its limit.

use std::borrow::Cow;

use super::families::OwnFamilies;
use crate::exposition::Kind;
use crate::store::Store;
use crate::telemetry::{POLL_RECEIVED, Telemetry};

/// A gauge of use and its limit.
#[derive(Debug, Clone)]
pub struct LimitedGauge {
    name: &'static str,
    help: &'static str,
    /// The used amount.
    pub value: usize,
    /// The name of the gauge of the limit.
    max_name: &'static str,
    /// The setting of the limit, or `fixed`.
    pub setting: Cow<'static, str>,
    /// The limit.
    pub max: usize,
    /// The resource, in a few words for people.
    pub title: &'static str,
    /// Whether bytes are counted.
    pub is_bytes: bool,
}

/// All gauges. Each reads a count that is kept up to date; none counts here.
pub fn all(telemetry: &Telemetry, store: &Store) -> Vec<LimitedGauge> {
    let limits = telemetry.limits.load();
    let totals = store.totals();
    let aggregated = store.aggregated_totals();
    let mut all = vec![
        LimitedGauge {
            name: "exporter_proxy_aggregated_families",
            help: "Aggregated families, from aggregated pushes, operations, /create and /update.",
            value: aggregated.families,
            max_name: "exporter_proxy_aggregated_families_max",
            setting: Cow::Borrowed("push.max_families"),
            max: limits.aggregated_families,
            title: "Aggregated families",
            is_bytes: false,
        },
        LimitedGauge {
            name: "exporter_proxy_aggregated_series",
            help: "Series of all aggregated families.",
            value: aggregated.series,
            max_name: "exporter_proxy_aggregated_series_max",
            setting: Cow::Borrowed("push.max_series"),
            max: limits.aggregated_series,
            title: "Aggregated series",
            is_bytes: false,
        },
        LimitedGauge {
            name: "exporter_proxy_apps",
            help: "Apps whose text is exposed.",
            value: totals.apps,
            max_name: "exporter_proxy_apps_max",
            setting: Cow::Borrowed("receiver.max_apps"),
            max: limits.apps,
            title: "Apps",
            is_bytes: false,
        },
        LimitedGauge {
            name: "exporter_proxy_groups",
            help: "Groups pushed over HTTP.",
            value: totals.groups,
            max_name: "exporter_proxy_groups_max",
            setting: Cow::Borrowed("push.max_groups"),
            max: limits.groups,
            title: "Pushed groups",
            is_bytes: false,
        },
        LimitedGauge {
            name: "exporter_proxy_held_bytes",
            help: "Approximate memory in bytes of all exposed text and the index of its series, without the proxy's own metrics.",
            value: totals.held,
            max_name: "exporter_proxy_held_max_bytes",
            setting: Cow::Borrowed("exposition.max_total"),
            max: limits.held,
            title: "Memory of all metrics",
            is_bytes: true,
        },
        LimitedGauge {
            name: "exporter_proxy_poll_received_bytes",
            help: "Bytes of responses to polls that are being received or processed.",
            value: POLL_RECEIVED.value(),
            max_name: "exporter_proxy_poll_received_max_bytes",
            setting: Cow::Borrowed("fixed"),
            max: limits.polled,
            title: "Responses to polls",
            is_bytes: true,
        },
        LimitedGauge {
            name: "exporter_proxy_polls_requested",
            help: "Polls in progress that a scrape or /probe requested.",
            value: telemetry.requested_polls.value(),
            max_name: "exporter_proxy_polls_requested_max",
            setting: Cow::Borrowed("fixed"),
            max: limits.requested_polls,
            title: "Polls on request",
            is_bytes: false,
        },
        LimitedGauge {
            name: "exporter_proxy_push_buffered_bytes",
            help: "Bytes of HTTP bodies being received.",
            value: telemetry.pushes.buffered.value(),
            max_name: "exporter_proxy_push_buffered_max_bytes",
            setting: Cow::Borrowed("push.max_buffered"),
            max: limits.pushed,
            title: "Bodies being received",
            is_bytes: true,
        },
        LimitedGauge {
            name: "exporter_proxy_push_keys",
            help: "Remembered idempotency keys.",
            value: telemetry.pushes.keys.value(),
            max_name: "exporter_proxy_push_keys_max",
            setting: Cow::Borrowed("push.idempotency_keys"),
            max: limits.keys,
            title: "Idempotency keys",
            is_bytes: false,
        },
        LimitedGauge {
            name: "exporter_proxy_receive_buffered_bytes",
            help: "Bytes of unfinished messages at the receivers.",
            value: telemetry.buffered.value(),
            max_name: "exporter_proxy_receive_buffered_max_bytes",
            setting: Cow::Borrowed("receiver.max_buffered"),
            max: limits.received,
            title: "Unfinished messages of apps",
            is_bytes: true,
        },
        LimitedGauge {
            name: "exporter_proxy_scrape_copied_bytes",
            help: "Bytes of responses to /metrics?app=, /metrics?name[]= and /apps/NAME/metrics that wait to be sent.",
            value: telemetry.copied.value(),
            max_name: "exporter_proxy_scrape_copied_max_bytes",
            setting: Cow::Borrowed("fixed"),
            max: limits.copied,
            title: "Partial scrapes being sent",
            is_bytes: true,
        },
        LimitedGauge {
            name: "exporter_proxy_webhooks_kept",
            help: "Webhooks kept for /webhooks.",
            value: telemetry.webhooks.kept.value(),
            max_name: "exporter_proxy_webhooks_kept_max",
            setting: Cow::Borrowed("push.max_webhooks"),
            max: limits.webhooks,
            title: "Webhooks",
            is_bytes: false,
        },
        LimitedGauge {
            name: "exporter_proxy_webhooks_kept_bytes",
            help: "Bytes of the webhooks kept for /webhooks.",
            value: telemetry.webhooks.kept_bytes.value(),
            max_name: "exporter_proxy_webhooks_kept_max_bytes",
            setting: Cow::Borrowed("push.max_webhook_bytes"),
            max: limits.webhook_bytes,
            title: "Memory of webhooks",
            is_bytes: true,
        },
    ];
    if telemetry.operations.is_used() {
        let forwarded = telemetry.operations.forwarded();
        let setting = match forwarded.limit_setting() {
            none if none.is_empty() => Cow::Borrowed("operations.forward_queue"),
            setting => Cow::Owned(setting),
        };
        all.push(LimitedGauge {
            name: "exporter_proxy_operations_forward_queued_bytes",
            help: "Bytes of operations waiting to be forwarded.",
            value: forwarded.queued.value(),
            max_name: "exporter_proxy_operations_forward_queued_max_bytes",
            setting,
            max: limits.forwarded,
            title: "Operations to forward",
            is_bytes: true,
        });
    }
    all
}

/// Writes all gauges.
pub fn write(out: &mut OwnFamilies, telemetry: &Telemetry, store: &Store) {
    for gauge in all(telemetry, store) {
        out.family(gauge.name, Kind::Gauge, gauge.help)
            .sample(&[], gauge.value as f64);
        let help = format!("Limit of {}: {}.", gauge.name, gauge.setting);
        out.family(gauge.max_name, Kind::Gauge, &help)
            .sample(&[], gauge.max as f64);
    }
}
