//! Metrics of shaping.

use super::families::OwnFamilies;
use crate::exposition::Kind;
use crate::telemetry::ShapingStats;

pub fn write(out: &mut OwnFamilies, stats: &ShapingStats) {
    let family = out.family(
        "exporter_proxy_shaped_samples_total",
        Kind::Counter,
        "Samples and updates that [[shape]] changed or dropped, by result: changed or dropped. Labels that are added are not counted.",
    );
    for (result, count) in [("changed", &stats.changed), ("dropped", &stats.dropped)] {
        family.sample(&[("result", result)], count.value() as f64);
    }
    out.family(
        "exporter_proxy_skipped_lines_total",
        Kind::Counter,
        "Lines left out of texts because they cannot be read (shape.lenient).",
    )
    .sample(&[], stats.skipped.value() as f64);
    out.family(
        "exporter_proxy_unshaped_lines_total",
        Kind::Counter,
        "Lines passed through in verbatim mode without [[shape]], because they cannot be read.",
    )
    .sample(&[], stats.unread.value() as f64);
}
