//! Pushes over HTTP, by Pushgateway's protocol.

use std::io::Write;

use crate::harness::{PATIENCE, Proxy, free_address, http_request, http_send};
use crate::support::{logged, read_answer};

pub const QUIET: &str = "[exporter]\nown_metrics = false\n";

/// The exposed text without the times of groups.
pub fn text(proxy: &Proxy) -> String {
    let times = |line: &&str| {
        line.contains("push_time_seconds") || line.contains("push_failure_time_seconds")
    };
    let all = proxy.metrics();
    all.lines()
        .filter(|line| !times(line))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[track_caller]
pub fn push(proxy: &Proxy, method: &str, path: &str, body: &str) {
    let answer = proxy.push(method, path, body);
    let expected = if method == "DELETE" { 202 } else { 200 };
    assert_eq!(answer.status, expected, "{}", answer.text());
    assert_eq!(answer.text(), "");
}

fn now() -> f64 {
    let passed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    passed.unwrap().as_secs_f64()
}

#[test]
fn groups_are_replaced_added_to_and_removed() {
    let proxy = Proxy::start(QUIET);
    push(
        &proxy,
        "PUT",
        "/metrics/job/x/zone/a%2Fb",
        "m{zone=\"mine\",b=\"1\"} 1\nn 2\n",
    );
    assert_eq!(
        text(&proxy),
        "# TYPE m untyped\nm{b=\"1\",instance=\"\",job=\"x\",zone=\"a/b\"} 1\n\
         # TYPE n untyped\nn{instance=\"\",job=\"x\",zone=\"a/b\"} 2\n"
    );
    push(&proxy, "POST", "/metrics/job/x/zone/a%2Fb", "n 3");
    assert!(text(&proxy).contains("m{b=\"1\"") && text(&proxy).contains("} 3\n"));
    push(&proxy, "PUT", "/metrics/job/x/zone/a%2Fb", "o 4\n");
    assert_eq!(
        text(&proxy),
        "# TYPE o untyped\no{instance=\"\",job=\"x\",zone=\"a/b\"} 4\n"
    );
    push(&proxy, "DELETE", "/metrics/job/x/zone@base64/YS9i", "");
    assert_eq!(proxy.metrics(), "");
    push(&proxy, "DELETE", "/metrics/job/nobody", "");
}

#[test]
fn histograms_of_groups_are_whole_and_their_bounds_are_numbers() {
    let proxy = Proxy::start(QUIET);
    let pythons = "# TYPE h histogram\nh_bucket{le=\"1.0\"} 2\nh_count 3\nh_sum 4.5\n";
    push(&proxy, "PUT", "/metrics/job/x/a/1", pythons);
    let whole = "# TYPE h histogram\n\
                 h_bucket{a=\"1\",instance=\"\",job=\"x\",le=\"1\"} 2\n\
                 h_bucket{a=\"1\",instance=\"\",job=\"x\",le=\"+Inf\"} 3\n\
                 h_sum{a=\"1\",instance=\"\",job=\"x\"} 4.5\n\
                 h_count{a=\"1\",instance=\"\",job=\"x\"} 3\n";
    assert_eq!(text(&proxy), whole);
    // Another group cannot have the same series in another spelling.
    let others = "# TYPE h histogram\nh_bucket{a=\"1\",le=\"1e0\"} 2\n";
    let answer = proxy.push("PUT", "/metrics/job/x", others);
    assert_eq!(answer.status, 400, "{}", answer.text());
    for (body, words) in [
        (
            "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"1.0\"} 2\n",
            "has one le twice: 1 and 1.0 are one number",
        ),
        ("# TYPE h histogram\nh 2\n", "is not part of a histogram"),
    ] {
        let answer = proxy.push("PUT", "/metrics/job/x/a/1", body);
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.text().contains(words), "{}", answer.text());
    }
    assert_eq!(text(&proxy), whole);
    // If there is no help, the API returns none.
    let list = proxy.push("GET", "/api/v1/metrics", "").json();
    let group = list["data"].as_array().unwrap().iter();
    let mut group = group.filter(|group| group["labels"]["a"] == "1");
    let family = &group.next().unwrap()["h"];
    assert_eq!(family["type"], "HISTOGRAM");
    assert!(family.get("help").is_none(), "{family}");
}

#[test]
fn paths_that_name_no_group_get_an_error() {
    let proxy = Proxy::start(QUIET);
    for (path, status, words) in [
        ("/metrics/job/%zz", 400, "two hexadecimal digits"),
        ("/metrics/job/x%2", 400, "two hexadecimal digits"),
        ("/metrics/", 404, "a push goes to /metrics/job/<job>"),
        ("/metrics", 405, ""),
    ] {
        let answer = proxy.push("PUT", path, "m 1\n");
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.text().contains(words), "{}", answer.text());
    }
    assert_eq!(
        http_request(&proxy.http, "GET", "/metrics/", &[]).status,
        200
    );
    assert_eq!(proxy.metrics(), "");
}

#[test]
fn times_of_success_and_failure_are_shown_for_each_group() {
    let proxy = Proxy::start(QUIET);
    let success = "push_time_seconds{instance=\"i\",job=\"x\"}";
    let failure = "push_failure_time_seconds{instance=\"i\",job=\"x\"}";
    let path = "/metrics/job/x/instance/i";
    let before = now();
    assert_eq!(proxy.push("PUT", path, "m 1 5\n").status, 400);
    let failed = proxy.sample(failure).unwrap();
    assert!((before - 1.0..=now() + 1.0).contains(&failed), "{failed}");
    assert_eq!(proxy.sample(success), Some(0.0));
    push(&proxy, "PUT", path, "push_time_seconds 1\nm 1\n");
    let pushed = proxy.sample(success).unwrap();
    assert!((failed..=now() + 1.0).contains(&pushed), "{pushed}");
    assert_eq!(proxy.sample(failure), Some(failed));
    assert_eq!(
        text(&proxy),
        "# TYPE m untyped\nm{instance=\"i\",job=\"x\"} 1\n"
    );
    // An empty POST only updates the time.
    push(&proxy, "POST", path, "");
    assert!(proxy.sample(success).unwrap() >= pushed);
    assert!(text(&proxy).contains("m{"));
}

#[test]
fn rejections_are_answered_with_their_place_counted_and_logged() {
    let proxy = Proxy::start("");
    push(
        &proxy,
        "PUT",
        "/metrics/job/y",
        "# TYPE taken gauge\ntaken 1\n",
    );
    for (path, body, status, words, result) in [
        (
            "job/x",
            "m 1\nn 2 3\n",
            400,
            "group {job=\"x\"}, line 2, column 5: expected no timestamp, found 3",
            "timestamp",
        ),
        (
            "job/x",
            "m{a=\"1\" 2\n",
            400,
            "group {job=\"x\"}, line 1, column 9: ",
            "invalid_text",
        ),
        (
            "job/x",
            "m 1\nm 2\n",
            400,
            "line 2, column 1: expected each series once",
            "duplicate_series",
        ),
        (
            "job/x",
            "# TYPE taken counter\ntaken 1\n",
            400,
            "family taken is a counter here, and a gauge in group {job=\"y\"}",
            "kind_conflict",
        ),
        (
            "job/x",
            "# TYPE taken gauge\ntaken{job=\"y\"} 1\n# TYPE taken_sum summary\ntaken_sum_sum 1\n# TYPE exporter_proxy_apps gauge\nexporter_proxy_apps 1\n",
            400,
            "reserved for the proxy's own",
            "reserved_name",
        ),
        (
            "job/x/a",
            "",
            400,
            "no value for the label \"a\"",
            "bad_labels",
        ),
        (
            "job/x?ttl=soon",
            "m 1\n",
            400,
            "ttl must be a number of seconds",
            "bad_parameter",
        ),
    ] {
        let before = text(&proxy);
        let answer = proxy.push("PUT", &format!("/metrics/{path}"), body);
        assert_eq!(answer.status, status, "{path}");
        let message = answer.text();
        assert!(message.contains(words), "{message}");
        assert!(
            message.ends_with('\n') && message.lines().count() == 1,
            "{message}"
        );
        let apps = |text: &str| {
            text.lines()
                .filter(|l| !l.contains("exporter_proxy_"))
                .count()
        };
        assert_eq!(apps(&text(&proxy)), apps(&before), "{path}");
        let counted = format!("exporter_proxy_pushes_total{{method=\"put\",result=\"{result}\"}}");
        assert_eq!(proxy.sample(&counted), Some(1.0), "{result}");
        logged(&proxy, &format!("rejected ({result})"), 1);
    }
    assert_eq!(
        proxy.sample("exporter_proxy_pushes_total{method=\"put\",result=\"ok\"}"),
        Some(1.0)
    );
    assert_eq!(proxy.sample("exporter_proxy_groups"), Some(2.0));
    assert!(proxy.sample("exporter_proxy_push_body_bytes_total{method=\"put\"}") > Some(27.0));
}

#[test]
fn unknown_paths_and_methods_are_answered_as_pushgateway_does() {
    let proxy = Proxy::start(QUIET);
    for (method, path, status) in [
        ("PUT", "/metrics", 405),
        ("PUT", "/metrics/job", 404),
        ("PUT", "/metrics/foo/bar", 404),
        ("GET", "/metrics/foo/bar", 404),
        ("GET", "/metrics/job/x", 405),
        ("PATCH", "/metrics/job/x", 405),
        ("OPTIONS", "/metrics/job/x", 200),
        ("PUT", "/metrics/job/", 400),
        ("PUT", "/metrics/job//a/b", 400),
        ("DELETE", "/metrics/job/x/a", 400),
        ("PUT", "/metrics/job/%ff", 400),
        ("PUT", "/api/v1/admin/wipe", 404),
        ("GET", "/api/v1/nothing", 404),
        ("PUT", "/api/v1/metrics", 405),
        ("GET", "/-/quit", 405),
        ("PUT", "/-/quit", 403),
        ("POST", "/-/ready", 405),
        ("GET", "/-/healthy", 200),
        // Extra slashes, in places where no value is possible.
        ("PUT", "//metrics//job/x", 200),
        ("PUT", "/metrics/job/x/", 200),
    ] {
        let answer = proxy.push(method, path, "");
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        if status == 405 {
            assert!(answer.header("allow").is_some(), "{method} {path}");
        }
    }
    assert_eq!(
        proxy.get("/apps?format=json").json()["apps"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn only_the_push_address_takes_pushes_and_it_serves_all_reads() {
    let proxy = Proxy::start(QUIET);
    for (method, path, status) in [
        ("PUT", "/metrics/job/x", 404),
        ("GET", "/api/v1/metrics", 404),
        ("PUT", "/-/quit", 404),
    ] {
        assert_eq!(
            http_send(&proxy.http, method, path, &[], b"m 1\n").status,
            status
        );
    }
    push(&proxy, "PUT", "/metrics/job/x", "m 1\n");
    for path in ["/metrics", "/apps/%7Bjob%3D%22x%22%7D", "/", "/-/ready"] {
        assert_eq!(
            http_request(&proxy.push, "GET", path, &[]).status,
            200,
            "{path}"
        );
    }
    let off = Proxy::start_with(QUIET, &[("PUSH_LISTEN", "")]);
    assert_eq!(off.push, "");
    assert!(!off.log().contains("accepting pushes"));
}

#[test]
fn one_port_serves_scrapes_and_pushes_where_both_name_it() {
    let address = free_address();
    let settings = [
        ("EXPORTER_SCRAPE_EXPOSE_ENDPOINT", &*address),
        ("PUSH_LISTEN", &*address),
    ];
    let proxy = Proxy::start_with(QUIET, &settings);
    assert_eq!((&proxy.push, &proxy.http), (&address, &address));
    push(&proxy, "PUT", "/metrics/job/x", "m 1\n");
    assert!(proxy.metrics().contains("m{instance=\"\",job=\"x\"} 1\n"));
}

#[test]
fn a_unix_socket_takes_pushes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("push.sock").display().to_string();
    let mut proxy = Proxy::start_with(QUIET, &[("PUSH_LISTEN", &path)]);
    assert_eq!(proxy.push, path);
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(
            b"PUT /metrics/job/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nm 1\n",
        )
        .unwrap();
    assert_eq!(read_answer(&mut stream, true).unwrap().status, 200);
    assert!(proxy.metrics().contains("m{instance"));
    drop(stream);
    proxy.signal("TERM");
    assert!(proxy.wait().success());
    assert!(!std::path::Path::new(&path).exists());
}

#[test]
fn names_of_labels_may_be_escaped_where_that_is_set() {
    let proxy = Proxy::start("[exporter]\nown_metrics = false\n[push]\nenable_utf8_names = true\n");
    push(&proxy, "PUT", "/metrics/job/x/U__my_2e_label/1", "m 1\n");
    let any_name = [("Accept", "text/plain;version=1.0.0;escaping=allow-utf-8")];
    let shown = proxy.request("GET", "/metrics", &any_name).text();
    let series = "m{instance=\"\",job=\"x\",\"my.label\"=\"1\"} 1\n";
    assert!(shown.contains(series), "{shown}");
    let list = http_request(&proxy.push, "GET", "/api/v1/metrics", &[]).json();
    assert_eq!(list["data"][0]["labels"]["my.label"], "1");
}

#[test]
fn groups_are_merged_in_every_mode_and_checked_against_apps_where_these_are() {
    let verbatim = Proxy::start(QUIET);
    verbatim.push_tcp(b"{\"app\":\"# TYPE m counter\\nm 1\"}");
    push(&verbatim, "PUT", "/metrics/job/x", "# TYPE m gauge\nm 1\n");
    push(&verbatim, "PUT", "/metrics/job/y", "# TYPE m gauge\nm 2\n");
    assert_eq!(
        text(&verbatim),
        "# TYPE m gauge\nm{instance=\"\",job=\"x\"} 1\nm{instance=\"\",job=\"y\"} 2\n# TYPE m counter\nm 1\n"
    );

    let merged = Proxy::start("[exporter]\nown_metrics = false\n[exposition]\nmode = \"merged\"\n");
    merged.push_tcp(b"{\"app\":\"# TYPE m gauge\\nm{job=\\\"x\\\"} 1\"}");
    let answer = merged.push("PUT", "/metrics/job/x", "# TYPE m gauge\nm 1\n");
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("is exposed elsewhere already"),
        "{}",
        answer.text()
    );
    push(
        &merged,
        "PUT",
        "/metrics/job/x",
        "# TYPE m gauge\nm{a=\"1\"} 2\n",
    );
    assert_eq!(
        text(&merged),
        "# TYPE m gauge\nm{job=\"x\"} 1\nm{a=\"1\",instance=\"\",job=\"x\"} 2\n"
    );
}

#[test]
fn groups_not_pushed_for_their_time_are_withdrawn() {
    let proxy = Proxy::start("[exporter]\nown_metrics = false\n[push]\ngroup_ttl = \"1s\"\n");
    push(&proxy, "PUT", "/metrics/job/gone", "g 1\n");
    push(&proxy, "PUT", "/metrics/job/kept?ttl=1h", "k 1\n");
    push(&proxy, "PUT", "/metrics/job/ever?ttl=0", "e 1\n");
    logged(
        &proxy,
        "group {job=\"gone\"} withdrawn: not heard from in time",
        1,
    );
    assert_eq!(
        text(&proxy)
            .lines()
            .filter(|line| !line.starts_with('#'))
            .count(),
        2
    );
    assert!(!proxy.metrics().contains("gone"));
}

#[test]
fn groups_are_bounded_in_number() {
    let proxy = Proxy::start("[push]\nmax_groups = 1\n");
    push(&proxy, "PUT", "/metrics/job/x", "m 1\n");
    let answer = proxy.push("PUT", "/metrics/job/y", "m 1\n");
    assert_eq!(answer.status, 503);
    assert!(
        answer
            .text()
            .contains("the limit of 1 group is reached (push.max_groups)"),
        "{}",
        answer.text()
    );
    push(&proxy, "POST", "/metrics/job/x", "m 2\n");
    push(&proxy, "DELETE", "/metrics/job/x", "");
    push(&proxy, "PUT", "/metrics/job/y", "m 1\n");
}
