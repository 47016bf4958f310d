//! Metrics of the inspection of verbatim texts.

use super::super::Telemetry;
use super::families::OwnFamilies;
use crate::exposition::Kind;
use crate::store::Store;

pub fn write(out: &mut OwnFamilies, telemetry: &Telemetry, store: &Store) {
    let totals = store.inspection_totals();
    let mut gauge = |name, help, value: usize| {
        out.family(name, Kind::Gauge, help)
            .sample(&[], value as f64);
    };
    gauge(
        "exporter_proxy_conflicting_families",
        "Families of verbatim texts that conflict with a family of another producer, as last inspected.",
        totals.conflicts,
    );
    gauge(
        "exporter_proxy_inspection_memory_bytes",
        "Approximate memory in bytes for findings and parsed families of verbatim texts; the limit is exposition.max_total.",
        totals.bytes,
    );
    gauge(
        "exporter_proxy_inspection_waiting_texts",
        "Changed verbatim texts waiting for inspection.",
        totals.waiting,
    );
    gauge(
        "exporter_proxy_suspect_texts",
        "Apps and targets whose verbatim text a scraper may refuse; /apps?wide=1 shows why.",
        totals.suspects,
    );
    let family = out.family(
        "exporter_proxy_inspected_texts_total",
        Kind::Counter,
        "Verbatim texts inspected, by result: ok, or the reason why the text is suspect.",
    );
    for (result, count) in telemetry.inspections.counts() {
        family.sample(&[("result", result)], count as f64);
    }
}
