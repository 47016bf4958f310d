//! `/api/v1/`, `/-/quit`, and pages of other origins.

use serde_json::json;

use crate::harness::Proxy;
use crate::support::{app_path, logged};

fn quiet(push: &str) -> Proxy {
    Proxy::start(&format!("[exporter]\nown_metrics = false\n[push]\n{push}"))
}

#[test]
fn groups_are_shown_with_their_metrics_as_pushgateway_shows_them() {
    let proxy = quiet("");
    let empty = proxy.push("GET", "/api/v1/metrics", "");
    assert_eq!(empty.json(), json!({ "status": "success", "data": [] }));
    let body = "# HELP g A \\\\ gauge\n# TYPE g gauge\ng{a=\"\\\"1\\n\"} 1.5\n# TYPE c counter\nc 1e21\n\
                # TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n\
                # TYPE s summary\ns{quantile=\"0.9\"} 4\ns_sum 5\ns_count 6\nu NaN\n";
    assert_eq!(proxy.push("PUT", "/metrics/job/x?ttl=1h", body).status, 200);
    assert_eq!(
        proxy
            .push("PUT", "/metrics/job/y/instance/i", "m 1 2\n")
            .status,
        400
    );
    let answer = proxy.push("GET", "/api/v1/metrics", "");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(
        answer.header("cache-control"),
        Some("no-cache, no-store, must-revalidate")
    );
    let list = answer.json();
    assert_eq!(list["status"], "success");
    let (y, x) = (&list["data"][0], &list["data"][1]);
    assert_eq!(y["labels"], json!({ "instance": "i", "job": "y" }));
    assert_eq!(y["last_push_successful"], false);
    assert_eq!(x["labels"], json!({ "job": "x" }));
    assert_eq!(x["last_push_successful"], true);
    assert!(x["expires_at"].as_str().unwrap().ends_with('Z'));
    let labels = json!({ "instance": "", "job": "x" });
    assert_eq!(x["g"]["type"], "GAUGE");
    assert_eq!(x["g"]["help"], "A \\ gauge");
    assert!(x["g"]["time_stamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        x["g"]["metrics"],
        json!([{ "labels": { "a": "\"1\n", "instance": "", "job": "x" }, "value": "1.5" }])
    );
    assert_eq!(
        x["c"]["metrics"],
        json!([{ "labels": labels, "value": "1e+21" }])
    );
    assert_eq!(
        x["h"]["metrics"],
        json!([{ "labels": labels, "buckets": { "0.5": "1", "+Inf": "2" }, "sum": "3", "count": "2" }])
    );
    assert_eq!(
        x["s"]["metrics"],
        json!([{ "labels": labels, "quantiles": { "0.9": "4" }, "sum": "5", "count": "6" }])
    );
    assert_eq!(
        (&x["u"]["type"], &x["u"]["metrics"][0]["value"]),
        (&json!("UNTYPED"), &json!("NaN"))
    );
    let time: f64 = x["push_time_seconds"]["metrics"][0]["value"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(time > 1.7e9);
}

#[test]
fn status_tells_flags_under_pushgateways_names_and_ours() {
    let proxy = quiet("enable_lifecycle = true\ngroup_ttl = \"90s\"\n");
    let status = proxy.push("GET", "/api/v1/status", "").json();
    let flags = &status["data"]["flags"];
    assert_eq!(flags["web.listen-address"], *proxy.push);
    assert_eq!(flags["web.enable-lifecycle"], "true");
    assert_eq!(flags["push.disable-consistency-check"], "false");
    assert_eq!(flags["push.group_ttl"], "1m30s");
    assert_eq!(flags["push.max_groups"], "100000");
    assert!(
        flags
            .as_object()
            .unwrap()
            .values()
            .all(serde_json::Value::is_string)
    );
    assert_eq!(
        status["data"]["build_information"]["version"],
        env!("CARGO_PKG_VERSION")
    );
    assert!(
        status["data"]["start_time"]
            .as_str()
            .unwrap()
            .ends_with('Z')
    );
}

#[test]
fn quit_stops_the_program_where_it_is_enabled() {
    let mut proxy = quiet("enable_lifecycle = true\n");
    assert_eq!(proxy.push("GET", "/-/quit", "").status, 405);
    assert_eq!(proxy.push("POST", "/-/quit", "").status, 200);
    assert!(proxy.wait().success());
    logged(&proxy, "asks for a stop", 1);
    let other = quiet("");
    let answer = other.push("PUT", "/-/quit", "");
    assert_eq!(
        (answer.status, &*answer.text()),
        (403, "this is not enabled (push.enable_lifecycle)\n")
    );
    assert_eq!(other.get("/-/ready").status, 200);
}

#[test]
fn wipe_removes_all_groups_where_it_is_enabled() {
    let proxy = quiet("enable_admin_api = true\n");
    proxy.push_tcp(b"{\"app\":\"a 1\"}");
    for job in ["x", "y"] {
        proxy.push("PUT", &format!("/metrics/job/{job}"), "m 1\n");
    }
    assert_eq!(proxy.push("GET", "/api/v1/admin/wipe", "").status, 405);
    let answer = proxy.push("PUT", "/api/v1/admin/wipe", "");
    assert_eq!((answer.status, answer.text()), (202, String::new()));
    assert_eq!(proxy.metrics(), "a 1\n");
}

#[test]
fn a_batch_is_taken_whole_or_not_at_all() {
    let proxy = quiet("");
    let batch = |groups: serde_json::Value| {
        proxy.push(
            "POST",
            "/api/v1/batch",
            json!({ "groups": groups }).to_string(),
        )
    };
    let answer = batch(json!([
        { "labels": { "job": "x" }, "metrics": "m 1\n" },
        { "labels": { "job": "y" }, "method": "POST", "metrics": "m 2", "ttl": "10m" },
        { "labels": { "job": "z" }, "method": "DELETE" },
    ]));
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json(),
        json!({ "status": "success", "data": { "groups": 3 } })
    );
    let before = proxy.metrics();
    for (bad, words) in [
        (
            json!({ "labels": { "job": "b" }, "metrics": "m{" }),
            "groups[1]: group {job=\"b\"}, line 1",
        ),
        (
            json!({ "labels": { "job": "b" }, "metrics": "# TYPE m gauge\nm 1\n" }),
            "group {job=\"b\"}, line 2: family m is a gauge here",
        ),
        (
            json!({ "labels": { "a": "b" } }),
            "groups[1]: a group needs a label \"job\"",
        ),
        (
            json!({ "labels": { "job": "b" }, "method": "DELETE", "metrics": "m 1\n" }),
            "groups[1]: DELETE removes the whole group, so it has no metrics",
        ),
        (
            json!({ "labels": { "job": "b" }, "metrics": "m 1\n", "ttl": "101y" }),
            "groups[1]: ttl must be a number of seconds or text such as \"10m\" (at most \"100y\")",
        ),
    ] {
        let answer = batch(json!([{ "labels": { "job": "a" }, "metrics": "m 3" }, bad]));
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains(words), "{}", answer.text());
        assert_eq!(proxy.metrics(), before);
    }
    assert_eq!(proxy.push("POST", "/api/v1/batch", "{").status, 400);
    let twice = r#"{"groups":[{"labels":{"job":"a","x":"1","x":"2"},"metrics":"m 3"}]}"#;
    let answer = proxy.push("POST", "/api/v1/batch", twice);
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains(r#"label "x" is given twice"#),
        "{}",
        answer.text()
    );
    assert_eq!(proxy.metrics(), before);
    assert_eq!(proxy.push("PUT", "/api/v1/batch", "{}").status, 405);
}

#[test]
fn a_batch_past_the_limit_of_groups_says_how_many_it_adds() {
    let proxy = quiet("max_groups = 2\n");
    let groups: Vec<_> = (0..3)
        .map(|n| json!({ "labels": { "job": format!("b{n}") }, "metrics": "m 1\n" }))
        .collect();
    let batch = json!({ "groups": groups }).to_string();
    let answer = proxy.push("POST", "/api/v1/batch", batch);
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.text(),
        "cannot add group {job=\"b0\"} and 2 more together: with them the limit of 2 groups is \
         exceeded (push.max_groups)\n"
    );
}

#[test]
fn the_longest_time_to_live_is_named() {
    let proxy = quiet("");
    for ttl in ["101y", "1e30", "99999999999999999999999999y"] {
        let answer = proxy.push("PUT", &format!("/metrics/job/x?ttl={ttl}"), "m 1\n");
        assert_eq!(answer.status, 400, "{ttl}");
        assert!(
            answer.text().contains("(at most \"100y\")"),
            "{}",
            answer.text()
        );
    }
}

#[test]
fn a_body_can_be_checked_without_being_stored() {
    let proxy = quiet("");
    proxy.push("PUT", "/metrics/job/x", "# TYPE m gauge\nm 1\n");
    let before = proxy.metrics();
    let check = |path: &str, body: &str| {
        let answer = proxy.push("POST", &format!("/api/v1/validate{path}"), body);
        (answer.status, answer.json())
    };
    let fine = json!({ "valid": true, "families": 2, "series": 3, "errors": [] });
    assert_eq!(check("", "a{b=\"1\"} 1\na 2\nc 3"), (200, fine));
    let (status, bad) = check("/job/y", "a 1\nb{ 1\n");
    assert_eq!((status, &bad["valid"]), (400, &json!(false)));
    let error = &bad["errors"][0];
    assert_eq!((&error["line"], &error["column"]), (&json!(2), &json!(4)));
    let (status, bad) = check("/job/y", "m 1\n");
    assert_eq!(status, 400);
    let reason = bad["errors"][0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("family m is untyped here, and a gauge"),
        "{reason}"
    );
    assert_eq!(check("/job", "").0, 400);
    assert_eq!(check("/job/x", "# TYPE m counter\nm 5\n").0, 200);
    assert_eq!(proxy.metrics(), before);
}

#[test]
fn pages_of_allowed_origins_may_push() {
    let proxy = quiet("cors_origins = [\"https://app.example\"]\n");
    let ask = |origin: &str, path: &str| {
        let headers = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
        ];
        proxy.push_with("OPTIONS", path, &headers, "")
    };
    for path in ["/metrics/job/x", "/api/v1/batch"] {
        let answer = ask("https://app.example", path);
        assert_eq!(answer.status, 204);
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some("https://app.example")
        );
        assert_eq!(answer.header("vary"), Some("Origin"));
        assert_eq!(answer.header("access-control-max-age"), Some("600"));
        let methods = answer.header("access-control-allow-methods").unwrap();
        assert!(
            methods.contains("PUT") && methods.contains("DELETE"),
            "{methods}"
        );
        let headers = answer.header("access-control-allow-headers").unwrap();
        for name in [
            "Content-Type",
            "Content-Encoding",
            "Authorization",
            "Idempotency-Key",
        ] {
            assert!(headers.contains(name), "{headers}");
        }
        let other = ask("https://evil.example", path);
        assert_eq!(other.status, 403);
        assert_eq!(other.header("access-control-allow-origin"), None);
        assert_eq!(other.header("vary"), Some("Origin"));
    }
    let push = |origin| proxy.push_with("POST", "/metrics/job/x", &[("Origin", origin)], "m 1\n");
    let mine = push("https://app.example");
    assert_eq!(
        (mine.status, mine.header("access-control-allow-origin")),
        (200, Some("https://app.example"))
    );
    let evil = push("https://evil.example");
    assert_eq!(
        (evil.status, evil.header("access-control-allow-origin")),
        (403, None)
    );

    let open = quiet("cors_origins = [\"*\"]\n");
    let answer = open.push_with(
        "POST",
        "/metrics/job/x",
        &[("Origin", "https://a.example")],
        "m 1\n",
    );
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    // Without listed origins, no page can push, not even with a preflight request.
    let closed = quiet("");
    let answer = closed.push_with(
        "POST",
        "/metrics/job/x",
        &[("Origin", "https://a.example")],
        "m 1\n",
    );
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (403, None)
    );
}

#[test]
fn groups_stand_among_apps_in_every_list() {
    let proxy = quiet("");
    proxy.push_tcp(b"{\"app\":\"a 1\"}");
    proxy.push("PUT", "/metrics/job/x?ttl=1h", "m 1\nm{a=\"1\"} 2\n");
    let list = proxy.get("/apps?format=json").json();
    let (app, group) = (&list["apps"][0], &list["apps"][1]);
    assert_eq!(app.get("expires_at"), None);
    assert_eq!(
        (&group["name"], &group["kind"]),
        (&json!("{job=\"x\"}"), &json!("group"))
    );
    assert_eq!(
        (&group["source"], &group["samples"]),
        (&json!(proxy.push), &json!(4))
    );
    assert!(group["expires_at"].as_str().unwrap().ends_with('Z'));
    for path in ["/apps", "/apps?wide=1"] {
        assert!(proxy.get(path).text().contains("| {job=\"x\"} |"), "{path}");
    }
    let detail = proxy.get(&app_path("{job=\"x\"}")).json();
    assert_eq!(detail["kind"], "group");
    // A filter by app selects apps only.
    assert_eq!(proxy.get("/metrics?app=%7Bjob%3D%22x%22%7D").text(), "");
}
