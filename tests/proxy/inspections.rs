//! Verbatim texts, as seen by the background inspection and by readers of OpenMetrics and
//! protobuf.

use serde_json::{Value, json};

use crate::harness::{Proxy, eventually};
use crate::natives::{DELIMITED, HISTOGRAM, family, five_observations, histogram_of};
use crate::natives::{push as push_natives, scrape as scrape_protobuf};
use crate::support::{detail, logged};
use crate::upstream::{Upstream, ok};

/// The `Accept` of a Prometheus without native histograms.
const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0";

const QUIET: &str = "[exporter]\nown_metrics = false\n";

fn push(proxy: &Proxy, apps: &Value) {
    assert_eq!(proxy.push_tcp(apps.to_string().as_bytes()), "");
}

/// Waits until a series has this value. A finding is shown before it is counted.
#[track_caller]
fn counts(proxy: &Proxy, series: &str, value: f64) {
    eventually(|| proxy.sample(series), |seen| *seen == Some(value));
}

/// Waits until the details of an app are as wanted.
#[track_caller]
fn once(proxy: &Proxy, app: &str, holds: impl Fn(&Value) -> bool) -> Value {
    eventually(
        || detail(proxy, app).unwrap_or_default(),
        |details| holds(details),
    )
}

fn text(proxy: &Proxy, path: &str, accept: &str) -> (String, String) {
    let answer = proxy.request("GET", path, &[("Accept", accept)]);
    let content_type = answer.header("content-type").unwrap().to_owned();
    (content_type, answer.text())
}

#[test]
fn a_text_that_prometheus_would_reject_is_passed_on_and_marked_suspect() {
    let proxy = Proxy::start("");
    let bad = "# TYPE m gauge\nm 1\nm{a=\"b\" 2\n";
    push(&proxy, &json!({ "bad": bad, "good": "g 1\n" }));
    let found = once(&proxy, "bad", |it| !it["suspect"].is_null());
    let suspect = &found["suspect"];
    assert_eq!(
        (&suspect["line"], &suspect["reason"]),
        (&json!(3), &json!("invalid_text"))
    );
    let message = suspect["message"].as_str().unwrap();
    assert!(message.starts_with("line 3, column "), "{message}");
    assert_eq!(found["state"], "fresh");
    assert!(
        proxy.metrics().contains(bad),
        "it is passed on all the same"
    );
    assert!(detail(&proxy, "good").unwrap()["suspect"].is_null());

    let wide = proxy.get("/apps?wide=1").text();
    let row = wide.lines().find(|row| row.contains("| bad ")).unwrap();
    assert!(row.contains("| suspect: line 3, column "), "{row}");
    counts(&proxy, "exporter_proxy_suspect_texts", 1.0);
    // The scrape job of the alert reads this, while all of the output fails.
    let own = proxy
        .get("/metrics?name[]=exporter_proxy_suspect_texts")
        .text();
    assert_eq!(own.lines().count(), 3, "{own}");
    assert!(own.ends_with("\nexporter_proxy_suspect_texts 1\n"), "{own}");
    let counted = |result: &str| {
        let series = format!("exporter_proxy_inspected_texts_total{{result=\"{result}\"}}");
        proxy.sample(&series)
    };
    eventually(|| counted("invalid_text"), |count| *count == Some(1.0));
    eventually(|| counted("ok"), |count| *count >= Some(1.0));

    // It stays suspect without further log lines, until a better text comes.
    push(&proxy, &json!({ "bad": "m{a=\"b\" 3\n" }));
    once(&proxy, "bad", |it| it["suspect"]["line"] == 1);
    push(&proxy, &json!({ "bad": "m 3\n" }));
    once(&proxy, "bad", |it| it["suspect"].is_null());
    counts(&proxy, "exporter_proxy_suspect_texts", 0.0);
    let log = logged(&proxy, "app \"bad\" is suspect (invalid_text): line 3", 1);
    assert_eq!(log.matches("is suspect").count(), 1, "{log}");
}

#[test]
fn a_polled_target_is_inspected_like_an_app() {
    let upstream = Upstream::start(|_| ok("exporter_proxy_apps 7\n"));
    let address = &upstream.address;
    let proxy = Proxy::start(&format!(
        "[poll_external]\npoll_other_scrape_endpoints = true\nother_scrape_endpoints = [\"http://{address}/metrics\"]\n"
    ));
    let target = format!("external_poll: {address}");
    let found = once(&proxy, &target, |it| !it["suspect"].is_null());
    assert_eq!(found["suspect"]["reason"], "reserved_name");
    assert_eq!(found["suspect"]["line"], 1);
}

#[test]
fn many_suspect_texts_are_a_few_lines_of_log() {
    let proxy = Proxy::start("");
    let apps: serde_json::Map<String, Value> = (0..100)
        .map(|n| (format!("bad{n}"), json!("m{\n")))
        .collect();
    push(&proxy, &Value::Object(apps));
    eventually(
        || proxy.sample("exporter_proxy_suspect_texts"),
        |count| *count == Some(100.0),
    );
    let log = logged(&proxy, "findings in texts not logged", 1);
    assert!(log.matches("is suspect").count() < 40, "{log}");
}

#[test]
fn families_of_two_apps_that_lose_samples_are_counted_logged_and_shown() {
    let proxy = Proxy::start("");
    push(&proxy, &json!({ "a": "up 1\nown{a=\"1\"} 1\n" }));
    eventually(
        || proxy.sample("exporter_proxy_inspected_texts_total{result=\"ok\"}"),
        |count| *count == Some(1.0),
    );
    push(&proxy, &json!({ "b": "up 2\nown{b=\"1\"} 1\n" }));
    let found = once(&proxy, "b", |it| !it["conflicts"].is_null());
    assert_eq!(
        found["conflicts"],
        json!([{
            "family": "up",
            "with": "a",
            "message": "family up: up is exposed in app \"a\" too",
        }])
    );
    counts(&proxy, "exporter_proxy_conflicting_families", 1.0);
    let wide = proxy.get("/apps?wide=1").text();
    let reported = "| conflict: family up: up is exposed in app \"a\" too";
    assert!(wide.contains(reported), "{wide}");
    logged(
        &proxy,
        "app \"b\": family up clashes with that in app \"a\"",
        1,
    );

    // Once the other no longer has it, there is no conflict.
    push(&proxy, &json!({ "a": "up{a=\"1\"} 1\n" }));
    once(&proxy, "b", |it| it["conflicts"].is_null());
    counts(&proxy, "exporter_proxy_conflicting_families", 0.0);
    push(&proxy, &json!({ "a": "up 1\n" }));
    counts(&proxy, "exporter_proxy_conflicting_families", 1.0);
    let log = proxy.log();
    assert_eq!(log.matches("clashes with").count(), 1, "{log}");
}

#[test]
fn native_histograms_stay_native_beside_texts_of_apps() {
    let proxy = Proxy::start(QUIET);
    let histogram = five_observations();
    let pushed = push_natives(
        &proxy,
        "/metrics/job/j",
        &[family("h", HISTOGRAM, histogram.clone())],
    );
    assert_eq!(pushed.status, 200);
    push(
        &proxy,
        &json!({ "a": "# TYPE up gauge\nup 1\n", "bad": "up{\n", "b": "z 1\n" }),
    );
    let families = scrape_protobuf(&proxy, "/metrics");
    assert_eq!(histogram_of(&families, "h"), histogram);
    let names: Vec<&str> = families.iter().map(|family| &*family.name).collect();
    let expected = [
        "h",
        "push_failure_time_seconds",
        "push_time_seconds",
        "up",
        "z",
    ];
    assert_eq!(names, expected);
    // The result does not depend on whether it existed before, or was made in parts.
    assert_eq!(scrape_protobuf(&proxy, "/metrics"), families);
    let some = scrape_protobuf(&proxy, "/metrics?name[]=h&name[]=z");
    let names: Vec<&str> = some.iter().map(|family| &*family.name).collect();
    assert_eq!(names, ["h", "z"]);
    assert_eq!(scrape_protobuf(&proxy, "/metrics?app=b").len(), 1);
    assert_eq!(scrape_protobuf(&proxy, "/apps/b/metrics").len(), 1);
    assert_eq!(scrape_protobuf(&proxy, "/apps/bad/metrics").len(), 0);
    // Changes are in the next answer.
    push(&proxy, &json!({ "b": "z 1\ny 2\n" }));
    assert_eq!(scrape_protobuf(&proxy, "/metrics").len(), 6);
}

#[test]
fn readers_of_text_get_it_as_it_was_sent() {
    let proxy = Proxy::start(QUIET);
    let sent = "# a comment\nup   1\n\nup{} 2\n";
    push(&proxy, &json!({ "a": sent, "b": "bad{\n" }));
    for accept in ["", "*/*", PROMETHEUS, "text/plain; version=0.0.4"] {
        let (content_type, text) = text(&proxy, "/metrics", accept);
        assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
        assert_eq!(text, format!("{sent}bad{{\n"), "{accept}");
    }
    // A reader that accepts protobuf and text gets the one that it prefers.
    let (content_type, _) = text(
        &proxy,
        "/metrics",
        &format!("{DELIMITED};q=0.7,{PROMETHEUS}"),
    );
    assert!(content_type.starts_with("application/vnd.google.protobuf"));
}

#[test]
fn readers_of_open_metrics_alone_get_each_family_once() {
    let proxy = Proxy::start(QUIET);
    proxy.push(
        "PUT",
        "/metrics/job/j",
        "# TYPE m_total counter\nm_total{a=\"1\"} 1\n",
    );
    push(
        &proxy,
        &json!({
            "a": "# TYPE m_total counter\nm_total{a=\"2\"} 2 1500\n",
            "b": "# HELP m_total Help.\n# TYPE m_total counter\nm_total{a=\"1\",job=\"j\",instance=\"\"} 9\nm_total{a=\"3\"} 3\n",
            "c": "# TYPE m_total gauge\nm_total{a=\"4\"} 4\n",
            "d": "bad{\n",
        }),
    );
    let (content_type, text) = text(&proxy, "/metrics", OPEN_METRICS);
    assert!(
        content_type.starts_with("application/openmetrics-text"),
        "{content_type}"
    );
    let own: Vec<&str> = text.lines().filter(|line| line.contains("m")).collect();
    assert_eq!(text.matches("# TYPE m counter\n").count(), 1, "{text}");
    for line in [
        "m_total{a=\"1\",instance=\"\",job=\"j\"} 1",
        "m_total{a=\"2\"} 2 1.500",
        "m_total{a=\"3\"} 3",
    ] {
        assert!(own.contains(&line), "{text}");
    }
    assert!(!text.contains("} 9\n") && !text.contains("} 4\n"), "{text}");
    assert!(text.ends_with("# EOF\n"));
}
