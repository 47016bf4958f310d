//! Merged output, read by real readers.

use serde_json::json;

use crate::harness::{Proxy, eventually};
use crate::readers::{expect_values, scraping, scraping_natives};
use crate::tools::{self, Tool, command, run, run_with};

const MERGED: &str = "[exposition]\nmode = \"merged\"\napp_label = \"app\"\n";

/// Many apps that expose the same families, enough for hundreds of pages.
fn push_many(proxy: &Proxy) {
    for app in 0..300 {
        let mut text = String::from(
            "# HELP requests_total Requests.\n# TYPE requests_total counter\n# TYPE latency_seconds histogram\n",
        );
        for path in 0..30 {
            text.push_str(&format!(
                "requests_total{{path=\"/{path}\"}} {}\n",
                app * 100 + path
            ));
        }
        for (bound, count) in [("0.1", 1), ("1", 2), ("+Inf", 3)] {
            text.push_str(&format!(
                "latency_seconds_bucket{{le=\"{bound}\"}} {count}\n"
            ));
        }
        text.push_str(
            "latency_seconds_sum 4.5\nlatency_seconds_count 3\n# TYPE odd untyped\nodd 1 1500\n",
        );
        let document = json!({ format!("app_{app:03}"): text });
        assert_eq!(proxy.push_tcp(document.to_string().as_bytes()), "");
    }
    eventually(
        || proxy.sample("exporter_proxy_apps"),
        |apps| *apps == Some(300.0),
    );
}

#[test]
fn a_real_prometheus_that_wants_native_histograms_reads_protobuf() {
    if !tools::here(&[Tool::Prometheus]) {
        return;
    }
    let proxy = Proxy::start(&format!("{MERGED}timestamps = \"strip\"\n"));
    push_many(&proxy);
    expect_values(
        &scraping_natives(&proxy.http),
        &[
            ("up{job=\"exporter-proxy\"}", "1"),
            ("count(requests_total)", "9000"),
            ("requests_total{app=\"app_299\",path=\"/29\"}", "29929"),
            // For protobuf Prometheus writes bounds itself, and writes this one so.
            ("count(latency_seconds_bucket{le=\"1.0\"})", "300"),
            ("sum(latency_seconds_sum)", "1350"),
            ("sum(odd)", "300"),
        ],
    );
}

#[test]
fn a_real_prometheus_reads_the_merged_output_of_many_apps() {
    if !tools::here(&[Tool::Prometheus]) {
        return;
    }
    let proxy = Proxy::start(&format!("{MERGED}timestamps = \"strip\"\n"));
    push_many(&proxy);
    expect_values(
        &scraping(&proxy),
        &[
            ("up{job=\"exporter-proxy\"}", "1"),
            ("count(requests_total)", "9000"),
            ("requests_total{app=\"app_299\",path=\"/29\"}", "29929"),
            ("count(latency_seconds_bucket{le=~\"\\\\+Inf\"})", "300"),
            ("sum(odd)", "300"),
            (
                "exporter_proxy_scrapes_total{encoding=\"gzip\"} > bool 0",
                "1",
            ),
        ],
    );
}

#[test]
fn promtool_finds_nothing_to_say_about_merged_output() {
    if !tools::here(&[Tool::Promtool]) {
        return;
    }
    let proxy = Proxy::start(MERGED);
    push_many(&proxy);
    // promtool wants help for every family.
    let metrics = proxy.metrics();
    let metrics = metrics
        .replace(
            "# TYPE latency_seconds ",
            "# HELP latency_seconds Latency.\n# TYPE latency_seconds ",
        )
        .replace("# TYPE odd ", "# HELP odd Odd.\n# TYPE odd ");
    let printed = run_with(
        command(Tool::Promtool).args(["check", "metrics"]),
        metrics.as_bytes(),
    );
    assert_eq!(printed.stdout + &printed.stderr, "");
}

#[test]
fn hundreds_of_pages_are_one_gzip_member_to_every_reader() {
    if !tools::here(&[Tool::Curl, Tool::Python, Tool::Zcat]) {
        return;
    }
    for config in [MERGED, ""] {
        let proxy = Proxy::start(&format!("[exporter]\nown_metrics = false\n{config}"));
        for app in 0..300 {
            let text = format!("m_{app:03}{{a=\"b\"}} {app}\n");
            let filler = (0..100).map(|n| format!("n{{app=\"{app}\",n=\"{n}\"}} {}\n", n * app));
            let document = json!({ format!("{app:03}"): text + &filler.collect::<String>() });
            assert_eq!(proxy.push_unix(document.to_string().as_bytes()), "");
        }
        let plain = eventually(
            || proxy.metrics(),
            |text| text.lines().filter(|line| !line.starts_with('#')).count() == 300 * 101,
        );
        let answer = proxy.request("GET", "/metrics", &[("Accept-Encoding", "gzip")]);
        let zcat = run_with(&mut command(Tool::Zcat), &answer.body);
        assert!(zcat.stdout == plain, "zcat reads something else");
        // This also fails if it is not a single member, or has a wrong checksum.
        let strict = "
import sys, zlib
reader = zlib.decompressobj(16 + zlib.MAX_WBITS)
text = reader.decompress(sys.stdin.buffer.read())
assert reader.eof and not reader.unused_data
sys.stdout.buffer.write(text)
";
        let python = run_with(command(Tool::Python).args(["-c", strict]), &answer.body);
        assert!(python.stdout == plain, "Python reads something else");
        let url = format!("http://{}/metrics", proxy.http);
        let curl =
            run(command(Tool::Curl).args(["--silent", "--show-error", "--compressed", &url]));
        assert!(curl.stdout == plain, "curl reads something else");
    }
}
