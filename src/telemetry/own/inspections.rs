//! What is known of verbatim texts.

use super::super::Telemetry;
use crate::exposition::{Encoder, Kind};
use crate::store::Store;

pub fn write(out: &mut Encoder, telemetry: &Telemetry, store: &Store) {
    let totals = store.inspection_totals();
    let mut gauge = |name, help, value: usize| {
        out.family(name, Kind::Gauge, help)
            .sample(&[], value as f64);
    };
    gauge(
        "exporter_proxy_conflicting_families",
        "Families of verbatim texts that clash with one of another producer, as last inspected.",
        totals.conflicts,
    );
    gauge(
        "exporter_proxy_inspection_memory_bytes",
        "Memory, about, for what is known of verbatim texts; exposition.max_total bounds it.",
        totals.bytes,
    );
    gauge(
        "exporter_proxy_inspection_waiting_texts",
        "Verbatim texts that changed and wait for their inspection in this round.",
        totals.waiting,
    );
    gauge(
        "exporter_proxy_suspect_texts",
        "Apps and targets whose verbatim text is suspect: /apps?wide=1 tells why.",
        totals.suspects,
    );
    let family = out.family(
        "exporter_proxy_inspected_texts_total",
        Kind::Counter,
        "Verbatim texts that were inspected, by result: ok, or why the text is suspect.",
    );
    for (result, count) in telemetry.inspections.counts() {
        family.sample(&[("result", result)], count as f64);
    }
}
