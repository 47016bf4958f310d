//! Native histograms, as a real Prometheus reads them of the proxy.

use serde_json::json;

use crate::harness::Proxy;
use crate::readers::{expect_values, scraping_at};
use crate::tools::{self, Tool};

#[allow(dead_code, reason = "the other tests use more of it")]
#[path = "../proxy/natives.rs"]
mod schema;

use schema::{HISTOGRAM, family, five_observations, push};

const NATIVE: &[&str] = &["--enable-feature=native-histograms"];

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
        &scraping_at(&proxy.http, NATIVE),
        &[
            ("up{job=\"exporter-proxy\"}", "1"),
            ("histogram_count(took{job=\"j\"})", "5"),
            ("histogram_sum(took{job=\"j\"})", "5.5"),
            ("sum(jobs_total)", "15"),
            ("exporter_proxy_suspect_texts", "1"),
        ],
    );
}
