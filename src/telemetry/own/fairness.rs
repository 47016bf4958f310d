//! Metrics of the limits on senders.

use super::families::OwnFamilies;
use crate::exposition::Kind;
use crate::store::Store;
use crate::telemetry::FairnessStats;

/// The families, in order of names.
pub fn write(out: &mut OwnFamilies, stats: &FairnessStats, store: &Store) {
    let family = out.family(
        "exporter_proxy_sender_limit_exceeded_total",
        Kind::Counter,
        "Messages rejected or dropped and connections paused because a sender exceeded a limit of [limits], by limit (address, app, user) and by resource (messages, bytes, new_series, memory).",
    );
    for (limited, resource, count) in stats.exceeded() {
        let labels = [("limit", limited.as_str()), ("resource", resource.as_str())];
        family.sample(&labels, count as f64);
    }
    for (of, count) in store.exceeded_shares() {
        let labels = [("limit", of.as_str()), ("resource", "memory")];
        family.sample(&labels, count as f64);
    }
    out.family(
        "exporter_proxy_sender_limit_paused_seconds_total",
        Kind::Counter,
        "Time for which connections were not read because their sender exceeded a rate of [limits].",
    )
    .sample(&[], stats.paused());
    out.family(
        "exporter_proxy_senders_limited",
        Kind::Gauge,
        "Senders whose rates are remembered: addresses, apps and users; 0 without rates in [limits].",
    )
    .sample(&[], stats.senders() as f64);
}
