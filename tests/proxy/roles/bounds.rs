//! What a sender with bounds on apps and labels can write and delete.

use super::{ask, ask_with, basic, with_entries};
use crate::harness::http_send;

#[test]
fn a_bound_sender_writes_and_deletes_only_what_matches() {
    let (_dir, proxy) = with_entries();
    let writer = basic("both", "both");
    for (path, body) in [
        ("/metrics/job/other", "m 1\n"),
        ("/metrics/job/other?mode=aggregate", "o_total 1\n"),
    ] {
        let answer = ask_with(&proxy.push, "POST", path, &writer, body);
        assert!(answer.status < 300, "{path}: {}", answer.text());
    }
    let json = "application/json";
    let value = |labels: &str| {
        format!("[{{\"name\":\"v_total\",\"metrics\":[{{\"labels\":{labels},\"value\":1}}]}}]")
    };
    let batch = |job: &str| {
        format!(
            "{{\"groups\":[{{\"labels\":{{\"job\":\"backup\"}},\"metrics\":\"m 1\"}},{{\"labels\":{{\"job\":\"{job}\",\"a\":\"b\"}},\"metrics\":\"m 1\"}}]}}"
        )
    };
    for (method, path, body, expected) in [
        ("PUT", "/metrics/job/backup", "m 1\n", 200),
        ("PUT", "/metrics/job/backup/instance/a", "m 1\n", 200),
        ("PUT", "/metrics/job/other", "m 2\n", 403),
        ("POST", "/metrics/job/backups", "m 1\n", 403),
        // The label in the body is not a label of the group.
        ("PUT", "/metrics/job/other", "m{job=\"backup\"} 1\n", 403),
        ("PUT", "/metrics/instance/a/job/backup", "m 1\n", 404),
        ("DELETE", "/metrics/job/other", "", 403),
        ("DELETE", "/metrics/job/backup/instance/a", "", 202),
        ("POST", "/api/v1/batch", &batch("other"), 403),
        ("POST", "/api/v1/batch", &batch("backup"), 200),
        ("POST", "/api/v1/validate/job/other", "m 1\n", 400),
        ("POST", "/api/v1/validate/job/backup", "m 1\n", 200),
        (
            "POST",
            "/metrics/job/backup?mode=aggregate",
            "t_total 1\n",
            202,
        ),
        (
            "POST",
            "/metrics/job/other?mode=aggregate",
            "t_total 1\n",
            403,
        ),
        (
            "POST",
            "/metrics?mode=aggregate",
            "t_total{job=\"backup\"} 1\n",
            202,
        ),
        (
            "POST",
            "/metrics?mode=aggregate",
            "t_total{job=\"backup\"} 1\nt_total 1\n",
            403,
        ),
        (
            "POST",
            "/metrics?mode=aggregate",
            "t_total{job=\"backup\",clearmode=\"family\"} 1\n",
            403,
        ),
        ("DELETE", "/metrics/instance/a?mode=aggregate", "", 403),
        ("DELETE", "/metrics/job/?mode=aggregate", "", 400),
        ("DELETE", "/metrics/job/backup?mode=aggregate", "", 202),
        ("POST", "/create", &value("{\"job\":\"backup\"}"), 200),
        ("POST", "/create", &value("{\"job\":\"other\"}"), 403),
        ("POST", "/update", &value("{}"), 403),
        ("DELETE", "/apps/shop-a", "", 404),
        ("DELETE", "/apps/bank", "", 403),
        (
            "DELETE",
            "/api/v1/series?match[]=%7Bjob=%22backup%22%7D",
            "",
            403,
        ),
        ("POST", "/webhook", "{\"alerts\":[]}", 403),
    ] {
        let headers = [("Authorization", "Bearer bound"), ("Content-Type", json)];
        let used = if body.starts_with(['{', '[']) { 2 } else { 1 };
        let answer = http_send(&proxy.push, method, path, &headers[..used], body.as_bytes());
        assert_eq!(
            answer.status,
            expected,
            "{method} {path} {body}: {}",
            answer.text()
        );
    }
    let metrics = ask(&proxy.http, "GET", "/metrics", &writer).text();
    for kept in [
        "m{instance=\"\",job=\"other\"} 1\n",
        "o_total{job=\"other\"} 1\n",
        "v_total{job=\"backup\"} 1\n",
    ] {
        assert!(metrics.contains(kept), "{kept}: {metrics}");
    }
    assert!(!metrics.contains("job=\"other\"} 2"), "{metrics}");
}
