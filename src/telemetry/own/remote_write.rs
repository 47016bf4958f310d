//! Metrics of sinks for remote write, if there are any.

use std::sync::Arc;

use super::families::OwnFamilies;
use crate::exposition::Kind;
use crate::telemetry::{Counter, RemoteWriteStats, SinkStats, Telemetry};

/// The type of sink that has these metrics.
const KIND: &str = "remote_write";

pub fn write(out: &mut OwnFamilies, telemetry: &Telemetry) {
    let mut sinks = telemetry.sinks();
    sinks.retain(|sink| sink.kind == KIND);
    if sinks.is_empty() {
        return;
    }
    let family = out.family(
        "exporter_proxy_remote_write_collection_seconds",
        Kind::Gauge,
        "Time that the last collection of all series took.",
    );
    for sink in &sinks {
        let seconds = sink.remote_write.collection_seconds();
        family.sample(&[("sink", &sink.name)], seconds);
    }
    points(out, &sinks);
    let family = out.family(
        "exporter_proxy_remote_write_series",
        Kind::Gauge,
        "Series that are sent.",
    );
    for sink in &sinks {
        let series = sink.remote_write.series();
        family.sample(&[("sink", &sink.name)], series as f64);
    }
    let family = out.family(
        "exporter_proxy_remote_write_skipped_series_total",
        Kind::Counter,
        "Series that are not sent: another one has the same labels, or rules removed the name. Each counts when it is found.",
    );
    for sink in &sinks {
        let stats = &sink.remote_write;
        for (reason, count) in [
            ("nameless", &stats.nameless_series),
            ("repeated", &stats.repeated_series),
        ] {
            let labels = [("reason", reason), ("sink", &*sink.name)];
            family.sample(&labels, count.value() as f64);
        }
    }
    let family = out.family(
        "exporter_proxy_remote_write_unwritten_total",
        Kind::Counter,
        "Samples, native histograms and exemplars that were sent and that the server did not take, as it says itself. Only protocol 2.0 has it.",
    );
    for sink in &sinks {
        let unwritten = sink.remote_write.unwritten.value();
        family.sample(&[("sink", &sink.name)], unwritten as f64);
    }
}

/// A type of point, and its counter.
type PointCounter = (&'static str, fn(&RemoteWriteStats) -> &Counter);

fn points(out: &mut OwnFamilies, sinks: &[Arc<SinkStats>]) {
    const TYPES: [PointCounter; 4] = [
        ("exemplar", |stats| &stats.exemplars),
        ("histogram", |stats| &stats.histograms),
        ("sample", |stats| &stats.samples),
        ("stale_marker", |stats| &stats.stale_markers),
    ];
    let family = out.family(
        "exporter_proxy_remote_write_points_total",
        Kind::Counter,
        "What was collected and handed to the queue, by type.",
    );
    for sink in sinks {
        for (kind, read) in TYPES {
            let labels = [("sink", &*sink.name), ("type", kind)];
            family.sample(&labels, read(&sink.remote_write).value() as f64);
        }
    }
}
