//! `/api/v1/sd`, and the paths to which it sends Prometheus.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::harness::{Proxy, eventually};
use crate::support::detail;
use crate::upstream::{Upstream, ok, reply};

/// The labels of each entry, by its name.
fn entries(proxy: &Proxy, path: &str) -> Vec<(String, Value)> {
    let answer = proxy.get(path);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let answer = answer.json();
    let entries = answer.as_array().unwrap().iter();
    entries
        .map(|entry| {
            let name = &entry["labels"]["__meta_exporter_proxy_name"];
            (name.as_str().unwrap().to_owned(), entry.clone())
        })
        .collect()
}

#[test]
fn each_app_target_and_group_is_a_target_of_its_own() {
    let upstream = Upstream::start(|_| ok("t 1\n"));
    let target = |name: &str, address: &str| {
        format!(
            "[[poll_external.targets]]\nname = \"{name}\"\nurl = \"http://{address}/\"\n\
             interval = \"2h\"\ntimeout = \"1h\"\nlabels = {{ env = \"a\\\\b\" }}\n"
        )
    };
    // Never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_address = silent.local_addr().unwrap().to_string();
    let targets = target("a target", &upstream.address) + &target("waiting", &silent_address);
    let proxy = Proxy::start(&targets);
    proxy.push_tcp(b"{\"billing\":\"m 1\",\"a/b\":\"m 2\"}");
    let group = "/metrics/job/backup/instance/db/zone@base64/YS9i";
    assert_eq!(proxy.push("PUT", group, "g 3\n").status, 200);
    eventually(
        || detail(&proxy, "a target").unwrap(),
        |it| it["state"] == "fresh",
    );

    let key = "{instance=\"db\",job=\"backup\",zone=\"a/b\"}";
    let all = entries(&proxy, "/api/v1/sd");
    let names: Vec<&str> = all.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["a target", "a/b", "billing", key]);
    let labels = |index: usize| &all[index].1["labels"];
    assert_eq!(
        all[2].1,
        json!({
            "targets": [proxy.http],
            "labels": {
                "__scheme__": "http",
                "__metrics_path__": "/apps/billing/metrics",
                "__param_kind": "app",
                "__meta_exporter_proxy_kind": "app",
                "__meta_exporter_proxy_name": "billing",
                "__meta_exporter_proxy_source": proxy.tcp,
                "app": "billing",
            },
        })
    );
    assert_eq!(labels(0)["target"], "a target");
    assert_eq!(labels(0)["env"], "a\\b");
    for (label, value) in [("job", "backup"), ("instance", "db"), ("zone", "a/b")] {
        assert_eq!(labels(3)[label], value);
    }

    // Each path serves the entry's metrics.
    for (index, text) in [(0, "t{env=\"a\\\\b\"} 1\n"), (1, "m 2\n"), (2, "m 1\n")] {
        let path = labels(index)["__metrics_path__"].as_str().unwrap();
        let kind = labels(index)["__param_kind"].as_str().unwrap();
        let answer = proxy.get(&format!("{path}?kind={kind}"));
        assert_eq!((answer.status, &*answer.text()), (200, text));
    }
    let path = labels(3)["__metrics_path__"].as_str().unwrap();
    assert!(path.starts_with("/apps@base64/"), "{path}");
    let accept = [("Accept", "application/openmetrics-text")];
    let answer = proxy.request("GET", &format!("{path}?kind=group"), &accept);
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    assert!(
        answer
            .text()
            .contains("g{instance=\"db\",job=\"backup\",zone=\"a/b\"} 3")
    );
    assert_eq!(proxy.get("/apps@base64/bm9uZQ/metrics").status, 404);
    assert_eq!(proxy.get("/apps@base64/%21/metrics").status, 400);

    let some = entries(&proxy, "/api/v1/sd?kind=app&kind=group");
    assert_eq!(some.len(), 3);
    assert!(some.iter().all(|(name, _)| name != "a target"));
    let answer = proxy.get("/api/v1/sd?kind=job");
    let error = "kind must be one of app, target, group, not \"job\"";
    assert_eq!(
        (answer.status, &answer.json()["error"]),
        (400, &json!(error))
    );
}

#[test]
fn the_address_is_that_of_the_request_or_of_the_external_url() {
    let proxy = Proxy::start("[web]\nroute_prefix = \"/p\"\n");
    proxy.push_tcp(b"{\"a\":\"m 1\"}");
    // The authority of an absolute URL replaces `Host`.
    let entry = &proxy.get("http://192.0.2.7:8080/p/api/v1/sd").json()[0];
    assert_eq!(entry["targets"], json!(["192.0.2.7:8080"]));
    assert_eq!(entry["labels"]["__metrics_path__"], "/p/apps/a/metrics");
    let proxy = Proxy::start("[web]\nexternal_url = \"https://example.com/proxy\"\n");
    proxy.push_tcp(b"{\"a\":\"m 1\"}");
    let entry = &proxy.get("/proxy/api/v1/sd").json()[0];
    assert_eq!(entry["targets"], json!(["example.com"]));
    assert_eq!(entry["labels"]["__scheme__"], "https");
    assert_eq!(entry["labels"]["__metrics_path__"], "/proxy/apps/a/metrics");
    assert_eq!(proxy.get("/proxy/apps/a/metrics").text(), "m 1\n");
}

#[test]
fn a_target_that_fails_is_an_error_for_its_reader() {
    let upstream = Upstream::start(|_| ok("t 1\n"));
    let proxy = Proxy::start(&format!(
        "[[poll_external.targets]]\nname = \"t\"\nurl = \"http://{}/\"\ninterval = \"50ms\"\n",
        upstream.address
    ));
    let get = |query: &str| {
        let answer = proxy.get(&format!("/apps/t/metrics{query}"));
        (answer.status, answer.text())
    };
    eventually(|| get(""), |answer| *answer == (200, "t 1\n".to_owned()));
    upstream.change(|_| reply("500 Internal Server Error", &[], b""));
    let (_, text) = eventually(|| get(""), |(status, _)| *status == 502);
    let expected = "the last poll of target \"t\" failed: status: answered 500 Internal Server Error\n\
                    (?stale=1 shows its last text)\n";
    assert_eq!(text, expected);
    assert_eq!(get("?stale=1"), (200, "t 1\n".to_owned()));
    assert_eq!(get("?stale=x").0, 400);
    // It is still listed, so that `up` is 0, and still part of all metrics.
    assert_eq!(entries(&proxy, "/api/v1/sd?kind=target").len(), 1);
    assert!(proxy.metrics().contains("\nt 1\n"));
    upstream.change(|_| ok("t 2\n"));
    eventually(|| get(""), |answer| *answer == (200, "t 2\n".to_owned()));
}
