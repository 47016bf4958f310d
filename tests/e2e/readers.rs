//! Readers of `/metrics`: Prometheus, `promtool`, `curl`.

use std::fs;

use serde_json::Value;

use crate::clients::{sample_text, stored, with_pycapnp};
use crate::harness::{Proxy, eventually, http_request};
use crate::tools::{self, Server, Tool, command, logged_address, run, run_with, sample};

/// Pushes a sample file as `cat file | nc` does, and waits until it is exposed.
fn push_sample(proxy: &Proxy, file: &str) {
    let document = fs::read(sample(file)).expect("the sample is there");
    assert_eq!(proxy.push_tcp(&document), "");
    let (app, _) = sample_text(file);
    stored(proxy, &app);
}

/// The first value that a query of Prometheus returns.
fn query(prometheus: &Server, expression: &str) -> Option<String> {
    let encoded: String = expression
        .bytes()
        .map(|byte| format!("%{byte:02X}"))
        .collect();
    let path = format!("/api/v1/query?query={encoded}");
    let answer = http_request(&prometheus.address, "GET", &path, &[]);
    // Prometheus answers even while it is not ready.
    if answer.status != 200 {
        return None;
    }
    let value = &answer.json()["data"]["result"][0]["value"][1];
    value.as_str().map(str::to_owned)
}

/// A Prometheus that stores native histograms. Version 3 takes them if a setting asks for them,
/// version 2 if the flag does.
pub fn scraping_natives(address: &str) -> Server {
    const FLAG: &str = "--enable-feature=native-histograms";
    let setting = match tools::prometheus_is_current() {
        true => "  scrape_native_histograms: true\n",
        false => "",
    };
    prometheus(&format!("{}{setting}", job(address)), &[FLAG])
}

/// A real Prometheus, which scrapes the proxy once a second.
pub fn scraping(proxy: &Proxy) -> Server {
    scraping_at(&proxy.http)
}

/// Like [`scraping`], for any address.
pub fn scraping_at(address: &str) -> Server {
    prometheus(&job(address), &[])
}

/// A scrape configuration with one target.
fn job(address: &str) -> String {
    format!(
        "- job_name: exporter-proxy\n  honor_labels: true\n\
         \x20 static_configs:\n  - targets: [\"{address}\"]\n"
    )
}

/// A real Prometheus with these scrape configurations.
pub fn prometheus(jobs: &str, flags: &[&str]) -> Server {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = dir.path().join("prometheus.yml");
    let text = format!(
        "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nscrape_configs:\n{jobs}"
    );
    fs::write(&config, text).expect("the configuration is written");
    Server::start(
        command(Tool::Prometheus)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.path().join("data").display()
            ))
            .arg("--web.listen-address=127.0.0.1:0")
            .args(flags),
        logged_address,
    )
    .keeping(dir)
}

/// Waits until a query gives a value.
#[track_caller]
pub fn expect_query(prometheus: &Server, expression: &str, expected: &str) {
    // The expression is part of what a failure shows.
    eventually(
        || (expression, query(prometheus, expression)),
        |(_, value)| value.as_deref() == Some(expected),
    );
}

/// Waits until Prometheus has these values, and checks that it reports no problem with the scrape.
pub fn expect_values(prometheus: &Server, values: &[(&str, &str)]) {
    for (expression, expected) in values {
        expect_query(prometheus, expression, expected);
    }
    // One scrape may take too long on a busy machine; the next has no problem.
    eventually(
        || {
            let answer = http_request(&prometheus.address, "GET", "/api/v1/targets", &[]);
            answer.json()["data"]["activeTargets"][0]["lastError"].take()
        },
        |error: &Value| error == "",
    );
}

#[test]
fn a_real_prometheus_scrapes_the_proxy_and_returns_what_an_app_pushed() {
    if !tools::here(&[Tool::Prometheus]) {
        return;
    }
    let proxy = Proxy::start("");
    push_sample(&proxy, "json_string.json");
    push_sample(&proxy, "json_array.json");

    let prometheus = scraping(&proxy);
    expect_values(
        &prometheus,
        &[
            ("shop_orders_total{paid=\"card\"}", "1027"),
            ("mail_queue_messages{queue=\"deferred\"}", "5"),
            ("up{job=\"exporter-proxy\"}", "1"),
            ("exporter_proxy_apps", "2"),
        ],
    );
}

#[test]
fn promtool_finds_nothing_to_say_about_a_page_with_all_samples() {
    if !tools::here(&[Tool::Promtool, Tool::Pycapnp]) {
        return;
    }
    let upstreams = [0; 3].map(|_| crate::upstreams::page_server());
    let proxy = Proxy::start(&format!(
        "[poll_external]
         poll_other_scrape_endpoints = true
         other_scrape_endpoints = [\"http://{}/1025.html\", \"http://{}/1026.html\", \"http://{}/1027.html\"]
         poll_interval = \"300ms\"",
        upstreams[0].address, upstreams[1].address, upstreams[2].address
    ));
    push_sample(&proxy, "json_string.json");
    push_sample(&proxy, "json_array.json");
    let unix = proxy.unix.display().to_string();
    with_pycapnp("test_send_tcp_socket_capnp.py", &[&proxy.tcp]);
    with_pycapnp("test_send_unix_socket_capnp.py", &[&unix]);
    // So that the proxy's own metrics include failures.
    assert!(proxy.push_tcp(b"{\"wrong\": 1}").starts_with("error: "));
    assert_eq!(proxy.get("/nowhere").status, 404);
    proxy.request("GET", "/metrics", &[("Accept-Encoding", "gzip")]);

    let metrics = eventually(
        || proxy.metrics(),
        |metrics| {
            [
                "\nshop_orders_total{",
                "\nmail_queue_messages{",
                "\npython_tcp_capnp_jobs_total{",
                "\npython_unix_capnp_jobs_total{",
                "\nprinter_pages_total{",
                "\nroom_temperature_celsius{",
                "\nbackup_duration_seconds_count ",
            ]
            .iter()
            .all(|sample| metrics.contains(sample))
        },
    );
    let printed = run_with(
        command(Tool::Promtool).args(["check", "metrics"]),
        metrics.as_bytes(),
    );
    assert_eq!(printed.stdout + &printed.stderr, "", "{metrics}");
}

/// The texts of apps: everything after the proxy's own metrics.
fn apps_part(page: &str, first_line: &str) -> String {
    let at = page
        .find(&format!("\n{first_line}\n"))
        .unwrap_or_else(|| panic!("{first_line} in {page}"));
    page[at + 1..].to_owned()
}

#[test]
fn a_compressed_page_reads_back_as_the_plain_one() {
    if !tools::here(&[Tool::Curl, Tool::Python, Tool::Zcat]) {
        return;
    }
    let proxy = Proxy::start("");
    push_sample(&proxy, "json_array.json");
    push_sample(&proxy, "json_string.json");
    let first_line = "# HELP mail_queue_messages Messages waiting to be sent.";
    let plain = apps_part(&proxy.metrics(), first_line);
    let (_, last) = sample_text("json_string.json");
    assert!(plain.ends_with(&last), "{plain}");

    let url = format!("http://{}/metrics", proxy.http);
    let curl = run(command(Tool::Curl).args(["--silent", "--show-error", "--compressed", &url]));
    assert_eq!(apps_part(&curl.stdout, first_line), plain);

    let read = "
import gzip, sys, urllib.request
request = urllib.request.Request(sys.argv[1], headers={'Accept-Encoding': 'gzip'})
with urllib.request.urlopen(request) as answer:
    assert answer.headers['Content-Encoding'] == 'gzip', answer.headers
    sys.stdout.buffer.write(gzip.decompress(answer.read()))
";
    let python = run(command(Tool::Python).args(["-c", read, &url]));
    assert_eq!(apps_part(&python.stdout, first_line), plain);

    let answer = proxy.request("GET", "/metrics", &[("Accept-Encoding", "gzip")]);
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    let zcat = run_with(&mut command(Tool::Zcat), &answer.body);
    assert_eq!(apps_part(&zcat.stdout, first_line), plain);
}
