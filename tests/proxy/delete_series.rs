//! Deletion of aggregated series over HTTP: by the labels of a path, by selectors, and by wiping
//! everything.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use crate::harness::{Answer, Proxy, eventually};
use crate::operations::bench;

const QUIET: &str = "[exporter]\nown_metrics = false\n[push]\nenable_admin_api = true\n";

fn added(proxy: &Proxy, path: &str, body: &str) {
    let answer = proxy.push("POST", &format!("{path}?mode=aggregate"), body);
    assert_eq!(answer.status, 202, "{}", answer.text());
}

/// `DELETE /api/v1/series` with this query.
fn delete(proxy: &Proxy, query: &str) -> Answer {
    proxy.push("DELETE", &format!("/api/v1/series?{query}"), "")
}

fn data(answer: &Answer) -> Value {
    let value: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(value["status"], "success", "{value}");
    value["data"].clone()
}

#[test]
fn a_path_with_mode_aggregate_deletes_what_has_its_labels() {
    let proxy = Proxy::start(QUIET);
    added(&proxy, "/metrics/job/x/zone/a", "hits 1\nsize 2\n");
    added(&proxy, "/metrics/job/x", "hits 4\n");
    added(&proxy, "/metrics/job/y", "hits 8\n");
    assert_eq!(
        proxy.push("PUT", "/metrics/job/x", "pushed 1\n").status,
        200
    );

    // The group is deleted, and aggregated series stay.
    assert_eq!(proxy.push("DELETE", "/metrics/job/x", "").status, 202);
    assert!(!proxy.metrics().contains("pushed"));
    assert_eq!(proxy.sample("hits{job=\"x\"}"), Some(4.0));

    let by_path = |path: &str| proxy.push("DELETE", path, "");
    let answer = by_path("/metrics/job/x/zone/a?mode=aggregate");
    assert_eq!((answer.status, answer.text()), (202, String::new()));
    assert_eq!(
        proxy.metrics(),
        "# TYPE hits untyped\nhits{job=\"x\"} 4\nhits{job=\"y\"} 8\n"
    );
    let answer = by_path("/metrics/job/x/zone/a?mode=aggregate");
    assert_eq!(answer.status, 404, "{}", answer.text());
    assert_eq!(answer.text(), "no aggregated series has these labels\n");
    assert_eq!(by_path("/metrics/job@base64/eA?mode=aggregate").status, 202);
    assert_eq!(proxy.metrics(), "# TYPE hits untyped\nhits{job=\"y\"} 8\n");

    // A path without labels must not delete everything; empty labels do not count.
    for path in [
        "/metrics?mode=aggregate",
        "/metrics/?mode=aggregate",
        "/metrics/zone@base64/=?mode=aggregate",
    ] {
        let answer = by_path(path);
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        assert!(
            answer.text().contains("/api/v1/series"),
            "{}",
            answer.text()
        );
    }
    assert_eq!(by_path("/metrics/job?mode=aggregate").status, 400);
    assert_eq!(proxy.sample("hits{job=\"y\"}"), Some(8.0));
}

#[test]
fn where_pushes_are_added_so_are_they_deleted() {
    let proxy = Proxy::start("[exporter]\nown_metrics = false\n[push]\nmode = \"aggregate\"\n");
    assert_eq!(proxy.push("POST", "/metrics/job/x", "hits 1\n").status, 202);
    let group = "/metrics/job/x?mode=replace";
    assert_eq!(proxy.push("PUT", group, "pushed 1\n").status, 200);
    assert_eq!(proxy.push("DELETE", "/metrics/job/x", "").status, 202);
    assert!(proxy.metrics().contains("pushed{"));
    assert!(!proxy.metrics().contains("hits"));
    assert_eq!(proxy.push("DELETE", "/metrics/job/x", "").status, 404);
    assert_eq!(proxy.push("DELETE", group, "").status, 202);
    assert_eq!(proxy.metrics(), "");
}

#[test]
fn selectors_delete_series_and_a_dry_run_tells_which() {
    let proxy = Proxy::start(QUIET);
    let body = "# TYPE hits_total counter\nhits_total{page=\"a\"} 1\nhits_total{page=\"b\"} 2\n\
                # TYPE t histogram\nt_bucket{le=\"1\"} 1\nt_bucket{le=\"+Inf\"} 1\nt_sum 1\nt_count 1\n";
    added(&proxy, "/metrics/job/x", body);
    let before = proxy.metrics();
    let query = "match[]=hits_total%7Bpage=~%22a%7Cc%22%7D&match[]=t";
    let reported = data(&delete(&proxy, &format!("{query}&dry_run")));
    assert_eq!(
        (&reported["count"], &reported["dry_run"]),
        (&2.into(), &true.into())
    );
    assert_eq!(proxy.metrics(), before);
    let reported = data(&delete(&proxy, query));
    assert_eq!(
        (&reported["count"], &reported["dry_run"]),
        (&2.into(), &false.into())
    );
    let listed = reported["series"].as_array().unwrap();
    let first = serde_json::json!({"__name__": "hits_total", "job": "x", "page": "a"});
    assert!(listed.contains(&first), "{reported}");
    assert_eq!(
        proxy.metrics(),
        "# TYPE hits_total counter\nhits_total{job=\"x\",page=\"b\"} 2\n"
    );

    // Selectors that match nothing, or no selectors.
    let answer = delete(&proxy, query);
    assert_eq!(answer.status, 404, "{}", answer.text());
    let value: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(value["errorType"], "not_found");
    assert_eq!(
        data(&delete(&proxy, &format!("{query}&dry_run=1")))["count"],
        0
    );
    for query in ["", "match[]=", "match[]={", "match[]=t&dry_run=yes"] {
        assert_eq!(delete(&proxy, query).status, 400, "{query}");
    }
    assert_eq!(
        proxy.push("GET", "/api/v1/series?match[]=t", "").status,
        405
    );
    assert_eq!(proxy.sample("hits_total{job=\"x\",page=\"b\"}"), Some(2.0));
    data(&delete(&proxy, "match[]=%7B%7D"));
    assert_eq!(proxy.metrics(), "");
}

#[test]
fn a_wipe_clears_groups_and_aggregated_series() {
    let proxy = Proxy::start(QUIET);
    added(&proxy, "/metrics/job/x", "hits 1\n");
    assert_eq!(
        proxy.push("PUT", "/metrics/job/x", "pushed 1\n").status,
        200
    );
    assert_eq!(proxy.push("PUT", "/api/v1/admin/wipe", "").status, 202);
    assert_eq!(proxy.metrics(), "");
    assert_eq!(proxy.push("PUT", "/api/v1/admin/wipe", "").status, 202);
}

#[test]
fn a_key_is_remembered_though_what_it_added_is_deleted() {
    let proxy = Proxy::start(QUIET);
    let send = || {
        let headers = [("Idempotency-Key", "k1")];
        proxy.push_with(
            "POST",
            "/metrics/job/x?mode=aggregate",
            &headers,
            "hits 1\n",
        )
    };
    assert_eq!(send().status, 202);
    data(&delete(&proxy, "match[]=hits"));
    assert_eq!(send().header("idempotent-replayed"), Some("true"));
    assert_eq!(proxy.metrics(), "");
}

/// Deleting a family that operations write to also empties its sets.
#[test]
fn what_operations_count_is_deleted_too() {
    let bench = bench("");
    assert_eq!(bench.send(b"c:1|c\nu:ann|s:bob|s\n"), "");
    bench.comes_to("u", 2.0);
    data(&delete(&bench.proxy, "match[]=u&match[]=c"));
    assert_eq!(bench.proxy.sample("u"), None);
    assert_eq!(bench.send(b"c:4|c\nu:ann|s\n"), "");
    bench.comes_to("u", 1.0);
    bench.comes_to("c", 4.0);
}

/// Pushes and scrapes go on while very many series are deleted, and other series stay as they
/// are counted meanwhile.
#[test]
fn others_go_on_while_very_many_are_deleted() {
    let proxy = Proxy::start(QUIET);
    let mut body = String::new();
    for number in 0..60_000 {
        body.push_str(&format!("many{{n=\"{number}\"}} 1\n"));
    }
    added(&proxy, "/metrics/job/x", &body);
    let over = AtomicBool::new(false);
    let pushed = thread::scope(|scope| {
        let pusher = scope.spawn(|| {
            let mut pushed = 0.0;
            while !over.load(Ordering::Relaxed) {
                added(&proxy, "/metrics/job/y", "kept 1\n");
                pushed += 1.0;
            }
            pushed
        });
        let reported = data(&delete(&proxy, "match[]=many"));
        assert_eq!(reported["count"], 60_000);
        assert_eq!(reported["series"].as_array().unwrap().len(), 1000);
        over.store(true, Ordering::Relaxed);
        pusher.join().unwrap()
    });
    assert!(!proxy.metrics().contains("many"));
    if pushed > 0.0 {
        eventually(
            || proxy.sample("kept{job=\"y\"}"),
            |seen| *seen == Some(pushed),
        );
    }
}
