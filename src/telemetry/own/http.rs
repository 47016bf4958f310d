//! Metrics of HTTP requests and scrapes.

use super::families::OwnFamilies;
use crate::exposition::Kind;
use crate::telemetry::Telemetry;
use crate::telemetry::durations::BOUNDS;

pub fn requests(out: &mut OwnFamilies, telemetry: &Telemetry) {
    let requests = telemetry.requests();
    let family = out.family(
        "exporter_proxy_http_request_duration_seconds",
        Kind::Histogram,
        "Time in seconds from the head of a request until its response is ready.",
    );
    for (handler, stats) in &requests {
        let (counts, sum) = stats.durations.read();
        family.histogram(&[("handler", handler)], &BOUNDS, &counts, sum);
    }
    let family = out.family(
        "exporter_proxy_http_requests_total",
        Kind::Counter,
        "HTTP requests answered, by handler and status code.",
    );
    for (handler, stats) in &requests {
        for (code, count) in &stats.answers {
            let labels = [("code", &*code.to_string()), ("handler", handler)];
            family.sample(&labels, *count as f64);
        }
    }
}

pub fn scrapes(out: &mut OwnFamilies, telemetry: &Telemetry) {
    let last = telemetry.last_scrape();
    let seconds = last.map_or(0.0, |last| last.at.unix_millis() as f64 / 1000.0);
    out.family(
        "exporter_proxy_last_scrape_timestamp_seconds",
        Kind::Gauge,
        "When /metrics was last answered before this scrape, in seconds since 1970; 0 if never.",
    )
    .sample(&[], seconds);
    let (counts, sum) = telemetry.scrape_durations.read();
    out.family(
        "exporter_proxy_scrape_duration_seconds",
        Kind::Histogram,
        "Time in seconds from the request of a scrape until its whole response is written to the connection.",
    )
    .histogram(&[], &BOUNDS, &counts, sum);
    let encodings = [
        ("gzip", &telemetry.scrapes_gzip),
        ("identity", &telemetry.scrapes_identity),
    ];
    let family = out.family(
        "exporter_proxy_scrape_sent_bytes_total",
        Kind::Counter,
        "Bytes of the bodies of /metrics, as sent, by content coding.",
    );
    for (encoding, stats) in encodings {
        family.sample(&[("encoding", encoding)], stats.bytes.value() as f64);
    }
    let family = out.family(
        "exporter_proxy_scrapes_total",
        Kind::Counter,
        "Scrapes of /metrics answered, by content coding.",
    );
    for (encoding, stats) in encodings {
        family.sample(&[("encoding", encoding)], stats.count.value() as f64);
    }
}
