//! `POST /api/v1/validate`: the result that a push would have.

use serde_json::{Value, json};

use crate::harness::Proxy;

fn check(proxy: &Proxy, path: &str, body: &str) -> (u16, Value) {
    let answer = proxy.push("POST", &format!("/api/v1/validate{path}"), body);
    (answer.status, answer.json())
}

fn reason(answer: &Value) -> &str {
    answer["errors"][0]["reason"].as_str().unwrap()
}

#[test]
fn a_push_that_would_be_added_is_checked_as_one() {
    let proxy = Proxy::start("[exporter]\nown_metrics = false\n");
    let added = "# TYPE hits_total counter\nhits_total{a=\"1\"} 1\n";
    let pushed = proxy.push("POST", "/metrics?mode=aggregate", added);
    assert_eq!(pushed.status, 202);
    assert_eq!(proxy.push("PUT", "/metrics/job/x", "m 1\n").status, 200);
    let before = proxy.metrics();
    let fine = json!({ "valid": true, "families": 1, "series": 2, "errors": [] });
    let more = "# TYPE hits_total counter\nhits_total{a=\"1\"} 1\nhits_total{a=\"2\"} 1\n";
    // Any labels are allowed, or none.
    for path in ["", "/", "/shop/s", "/job/y"] {
        let answer = check(&proxy, &format!("{path}?mode=aggregate"), more);
        assert_eq!(answer, (200, fine.clone()), "{path}");
    }
    for (query, body, words) in [
        (
            "",
            "# TYPE hits_total counter\nhits_total -1\n",
            "hits_total",
        ),
        ("", "# TYPE hits_total gauge\nhits_total 1\n", "hits_total"),
        ("", "# TYPE m gauge\nm 1\n", "family m is a gauge here"),
        (
            "",
            "m{instance=\"\",job=\"x\"} 1\n",
            "exposed elsewhere already",
        ),
        ("", "c{clearmode=\"never\"} 1\n", "clearmode"),
        ("&ttl=soon", more, "ttl"),
    ] {
        let path = format!("?mode=aggregate{query}");
        let (status, answer) = check(&proxy, &path, body);
        assert_eq!((status, &answer["valid"]), (400, &json!(false)), "{body}");
        assert!(reason(&answer).contains(words), "{answer}");
        // The push gets the same answer.
        let push = proxy.push("POST", &format!("/metrics{path}"), body);
        assert_eq!(push.status, 400);
        assert_eq!(push.text().trim_end(), reason(&answer));
    }
    let key = [("Idempotency-Key", "")];
    let answer = proxy.push_with("POST", "/api/v1/validate?mode=aggregate", &key, more);
    assert_eq!(answer.status, 400);
    assert_eq!(proxy.metrics(), before);
}

#[test]
fn the_setting_says_whether_a_push_would_be_added() {
    let proxy = Proxy::start("[push]\nmode = \"aggregate\"\n");
    let body = "c{clearmode=\"never\"} 1\n";
    assert_eq!(check(&proxy, "/job/x", body).0, 400);
    assert_eq!(check(&proxy, "/job/x?mode=replace", body).0, 200);
    let (status, answer) = check(&proxy, "/job/x?mode=other", body);
    assert_eq!(status, 400);
    assert!(reason(&answer).contains("mode must be"), "{answer}");
}

#[test]
fn without_labels_series_of_others_are_none_of_a_groups() {
    let proxy = Proxy::start("[exporter]\nown_metrics = false\n");
    let added = "# TYPE hits_total counter\nhits_total 1\n";
    let pushed = proxy.push("POST", "/metrics?mode=aggregate", added);
    assert_eq!(pushed.status, 202);
    // With a job, it would be another series.
    assert_eq!(check(&proxy, "", added).0, 200);
    assert_eq!(check(&proxy, "/job/x", added).0, 200);
    let (status, answer) = check(&proxy, "", "# TYPE hits_total gauge\nhits_total 1\n");
    assert_eq!(status, 400);
    assert!(reason(&answer).contains("elsewhere"), "{answer}");
    // The body itself must have each series once.
    assert_eq!(check(&proxy, "", "m 1\nm 2\n").0, 400);
    assert_eq!(check(&proxy, "?ttl=soon", "m 1\n").0, 400);
}
