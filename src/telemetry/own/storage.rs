//! Metrics of storage, if state is stored.

use super::families::OwnFamilies;
use crate::exposition::Kind;
use crate::telemetry::StorageStats;
use crate::telemetry::durations::BOUNDS;

pub fn write(out: &mut OwnFamilies, stats: &StorageStats) {
    if stats.is_on.value() == 0 {
        return;
    }
    let gauges = [
        (
            "exporter_proxy_storage_disk_bytes",
            "Bytes that storage takes on the disk, as last measured.",
            stats.disk_bytes.value(),
        ),
        (
            "exporter_proxy_storage_pending_bytes",
            "Bytes of changes that wait until storage can write again.",
            stats.pending_bytes.value(),
        ),
        (
            "exporter_proxy_storage_restored_records",
            "Stored records that were restored at start.",
            stats.restored.value(),
        ),
        (
            "exporter_proxy_storage_up",
            "1 if changes can be stored, 0 otherwise.",
            1 - stats.is_failing.value().min(1),
        ),
    ];
    for (name, help, value) in gauges {
        out.family(name, Kind::Gauge, help)
            .sample(&[], value as f64);
    }
    let histograms = [
        (
            "exporter_proxy_storage_flush_duration_seconds",
            "Time in seconds to take changes and to write them.",
            &stats.durations,
        ),
        (
            "exporter_proxy_storage_sync_duration_seconds",
            "Time in seconds until the disk has what was written.",
            &stats.sync_durations,
        ),
    ];
    for (name, help, durations) in histograms {
        let (counts, sum) = durations.read();
        out.family(name, Kind::Histogram, help)
            .histogram(&[], &BOUNDS, &counts, sum);
    }
    let family = out.family(
        "exporter_proxy_storage_flushes_total",
        Kind::Counter,
        "Flushes of changes, by result: ok, full (no space), read_only (or no permission), failed.",
    );
    for (result, count) in stats.flushes.counts() {
        family.sample(&[("result", result)], count as f64);
    }
    let counters = [
        (
            "exporter_proxy_storage_starts_total",
            "Starts of the program with this storage.",
            stats.starts.value(),
        ),
        (
            "exporter_proxy_storage_unkept_total",
            "Changes over HTTP that were applied and not stored before they were answered, because storage failed or was slow.",
            stats.unkept.value(),
        ),
        (
            "exporter_proxy_storage_written_bytes_total",
            "Bytes of the records written to storage, before compression.",
            stats.written_bytes.value(),
        ),
        (
            "exporter_proxy_storage_written_records_total",
            "Records written to storage.",
            stats.written_records.value(),
        ),
    ];
    for (name, help, value) in counters {
        out.family(name, Kind::Counter, help)
            .sample(&[], value as f64);
    }
}
