//! Native histograms, which a real Prometheus scrapes from the proxy.

use serde_json::json;

use crate::harness::{Proxy, http_request};
use crate::readers::{expect_values, scraping_natives};
use crate::tools::{self, Tool};

#[allow(dead_code, reason = "the other tests use more of it")]
#[path = "../proxy/natives.rs"]
mod schema;

use schema::{GAUGE_HISTOGRAM, HISTOGRAM, Histogram, Span, family, five_observations, push};

#[test]
fn prometheus_reads_native_histograms_beside_verbatim_texts() {
    if !tools::here(&[Tool::Prometheus]) {
        return;
    }
    let proxy = Proxy::start("");
    let pushed = push(
        &proxy,
        "/metrics/job/j",
        &[family("took", HISTOGRAM, five_observations())],
    );
    assert_eq!(pushed.status, 200);
    let apps = json!({
        "a": "# TYPE jobs_total counter\njobs_total{a=\"1\"} 7\n",
        "b": "# TYPE jobs_total counter\njobs_total{b=\"1\"} 8\n",
        "bad": "jobs_total{\n",
    });
    assert_eq!(proxy.push_tcp(apps.to_string().as_bytes()), "");
    expect_values(
        &scraping_natives(&proxy.http),
        &[
            ("up{job=\"exporter-proxy\"}", "1"),
            ("histogram_count(took{job=\"j\"})", "5"),
            ("histogram_sum(took{job=\"j\"})", "5.5"),
            ("sum(jobs_total)", "15"),
            ("exporter_proxy_suspect_texts", "1"),
        ],
    );
}

#[test]
fn prometheus_stores_gauge_histograms_and_empty_ones_as_what_they_are() {
    if !tools::here(&[Tool::Prometheus]) {
        return;
    }
    let proxy = Proxy::start("");
    let empty = Histogram {
        sum: Some(0.0),
        count_float: Some(0.0),
        schema: Some(3),
        zero_threshold: Some(0.001),
        zero_count_float: Some(0.0),
        positive_span: vec![Span {
            offset: 0,
            length: 2,
        }],
        positive_count: vec![0.0, 0.0],
        ..Histogram::default()
    };
    let classic = Histogram {
        count: Some(2),
        sum: Some(-3.0),
        ..Histogram::default()
    };
    let families = [
        family("empty", HISTOGRAM, empty),
        family("gauge", GAUGE_HISTOGRAM, five_observations()),
        family("classic", GAUGE_HISTOGRAM, classic),
    ];
    assert_eq!(push(&proxy, "/metrics/job/j", &families).status, 200);
    let prometheus = scraping_natives(&proxy.http);
    expect_values(
        &prometheus,
        &[
            ("up{job=\"exporter-proxy\"}", "1"),
            ("histogram_count(empty{job=\"j\"})", "0"),
            ("histogram_count(gauge{job=\"j\"})", "5"),
            ("histogram_sum(gauge{job=\"j\"})", "5.5"),
            ("classic_count{job=\"j\"}", "2"),
            ("classic_sum{job=\"j\"}", "-3"),
            ("count(gauge_bucket) or vector(0)", "0"),
        ],
    );
    let metadata = http_request(
        &prometheus.address,
        "GET",
        "/api/v1/targets/metadata?metric=gauge",
        &[],
    );
    assert_eq!(metadata.json()["data"][0]["type"], "gaugehistogram");
}
