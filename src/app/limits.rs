//! The limits of the store, and the limits that the proxy's own metrics show.

use crate::config::Config;
use crate::context::MAX_REQUESTED_POLLS;
use crate::http;
use crate::inputs::poller;
use crate::outputs::sinks::config::SinkSettings;
use crate::registry::RegistryLimits;
use crate::store::{ShareLimits, StoreLimits};
use crate::telemetry::ConfiguredLimits;

/// The limits of the store.
pub fn of_store(config: &Config) -> StoreLimits {
    StoreLimits {
        apps: config.receiver.max_apps,
        groups: config.push.groups.max_groups,
        bytes: config.exposition.max_total,
        registry: RegistryLimits {
            families: config.push.aggregation.max_families,
            series: config.push.aggregation.max_series,
            series_per_family: config.push.aggregation.max_series_per_family,
            ..RegistryLimits::default()
        },
    }
}

/// The memory shares of senders.
pub fn of_senders(config: &Config) -> ShareLimits {
    let limits = &config.limits;
    ShareLimits {
        address: limits.address.memory,
        loopback: limits.loopback,
        app: limits.app.memory,
        user: limits.user.memory,
    }
}

/// The limits that are shown as metrics.
pub fn shown(config: &Config) -> ConfiguredLimits {
    ConfiguredLimits {
        apps: config.receiver.max_apps,
        groups: config.push.groups.max_groups,
        targets: config.poll_external.max_targets,
        aggregated_families: config.push.aggregation.max_families,
        aggregated_series: config.push.aggregation.max_series,
        held: config.exposition.max_total,
        received: config.receiver.max_buffered,
        pushed: config.push.requests.max_buffered,
        copied: http::MAX_COPIES,
        polled: poller::MAX_RECEIVED,
        requested_polls: MAX_REQUESTED_POLLS,
        forwarded: forward_queue(config),
        keys: config.push.aggregation.idempotency_keys,
        webhooks: config.push.webhooks.max_webhooks,
        webhook_bytes: config.push.webhooks.max_webhook_bytes,
    }
}

/// Limit on the bytes of operations that wait to be forwarded.
fn forward_queue(config: &Config) -> usize {
    let mut sinks = config.sinks.0.values();
    let sink = sinks.find(|sink| matches!(sink.settings, SinkSettings::Operations(_)));
    sink.map_or(config.operations.forward_queue, |sink| sink.queue.max_queue)
}
