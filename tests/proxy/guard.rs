//! Checks before the handlers: origins of web pages, host names, and unknown parameters.

use std::io::Write;
use std::net::TcpStream;

use serde_json::json;

use crate::harness::{Answer, PATIENCE, Proxy, free_address, http_request, http_send};
use crate::support::{logged, names, read_answer};

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Every request that writes, with a body that it accepts.
const CHANGES: [(&str, &str, &str); 14] = [
    ("PUT", "/metrics/job/x", "m 1\n"),
    ("POST", "/metrics/job/x", "m 1\n"),
    ("DELETE", "/metrics/job/kept", ""),
    ("POST", "/metrics?mode=aggregate", "a_total 1\n"),
    (
        "POST",
        "/api/v1/batch",
        "{\"groups\":[{\"labels\":{\"job\":\"b\"},\"metrics\":\"m 1\"}]}",
    ),
    ("POST", "/api/v1/validate", "m 1\n"),
    ("DELETE", "/api/v1/groups?match[]=%7B%7D", ""),
    ("PUT", "/api/v1/admin/wipe", ""),
    (
        "POST",
        "/create",
        "[{\"name\":\"c_total\",\"metrics\":[{\"value\":1}]}]",
    ),
    (
        "POST",
        "/update",
        "[{\"name\":\"kept_total\",\"metrics\":[{\"value\":1}]}]",
    ),
    ("POST", "/webhook", "{\"alerts\":[]}"),
    ("POST", "/slack", "{}"),
    ("DELETE", "/apps/kept", ""),
    ("PUT", "/-/quit", ""),
];

fn open() -> Proxy {
    let proxy = Proxy::start(
        "[exporter]\nown_metrics = false\n\
         [push]\nenable_admin_api = true\nenable_lifecycle = true\n",
    );
    proxy.push_tcp(b"{\"kept\":\"app 1\"}");
    assert_eq!(proxy.push("PUT", "/metrics/job/kept", "g 1\n").status, 200);
    let create = "[{\"name\":\"kept_total\",\"metrics\":[{\"value\":1}]}]";
    assert_eq!(
        proxy.push_with("POST", "/create", &[JSON], create).status,
        200
    );
    proxy
}

/// The state that a request could have changed.
fn state(proxy: &Proxy) -> (String, usize) {
    let webhooks = proxy.push("GET", "/webhooks?format=json", "").json();
    let webhooks = webhooks["webhooks"].as_array().unwrap().len();
    (proxy.metrics(), webhooks)
}

#[test]
fn a_page_of_another_site_cannot_write_by_any_request() {
    let proxy = open();
    let before = state(&proxy);
    for (method, path, body) in CHANGES {
        for header in [
            ("Origin", "https://evil.example"),
            ("Origin", "null"),
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Site", "same-site"),
        ] {
            let answer = proxy.push_with(method, path, &[JSON, header], body);
            assert_eq!(answer.status, 403, "{method} {path} {header:?}");
            let reported = answer.text();
            assert!(
                reported.contains("push.cors_origins"),
                "{method} {path}: {reported}"
            );
        }
    }
    assert_eq!(state(&proxy), before);
    assert_eq!(names(&proxy), ["kept", "{job=\"kept\"}"]);
    // Such pages can read, and the proxy's own pages can write.
    let evil = ("Origin", "https://evil.example");
    assert_eq!(proxy.push_with("GET", "/metrics", &[evil], "").status, 200);
    let own = format!("http://{}", proxy.push);
    let same = [JSON, ("Origin", &*own), ("Sec-Fetch-Site", "same-origin")];
    for (method, path, body) in CHANGES {
        let answer = proxy.push_with(method, path, &same, body);
        assert!(answer.status < 300, "{method} {path}: {}", answer.text());
    }
}

#[test]
fn rejected_requests_of_pages_are_counted_and_logged() {
    let proxy = Proxy::start("");
    let evil = ("Origin", "https://evil.example");
    proxy.push_with("PUT", "/metrics/job/x", &[evil], "m 1\n");
    proxy.push_with("POST", "/webhook", &[JSON, evil], "{}");
    for counted in [
        "exporter_proxy_pushes_total{method=\"put\",result=\"forbidden_origin\"}",
        "exporter_proxy_http_requests_total{code=\"403\",handler=\"push\"}",
        "exporter_proxy_http_requests_total{code=\"403\",handler=\"webhook\"}",
    ] {
        assert_eq!(proxy.sample(counted), Some(1.0), "{counted}");
    }
    logged(&proxy, "rejected (forbidden_origin)", 2);
}

#[test]
fn unknown_host_names_are_rejected_on_the_loopback() {
    let proxy = Proxy::start(
        "[exporter]\nown_metrics = false\n[push]\nallowed_hosts = [\"Metrics.corp\"]\n",
    );
    let ask = |address: &str, method: &str, path: &str, host: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        read_answer(&mut stream, true).unwrap()
    };
    for (host, heard) in [
        ("evil.example:6556", false),
        ("localhost.evil.example", false),
        ("localhost:6556", true),
        ("127.0.0.1", true),
        ("[::1]:6556", true),
        ("metrics.corp:80", true),
    ] {
        for (address, method, path) in [
            (&proxy.push, "PUT", "/metrics/job/x"),
            (&proxy.push, "GET", "/metrics"),
            (&proxy.http, "GET", "/metrics"),
        ] {
            let answer = ask(address, method, path, host);
            let expected = if heard { 200 } else { 403 };
            assert_eq!(answer.status, expected, "{method} {path} of {host}");
            assert!(heard || answer.text().contains("push.allowed_hosts"));
        }
    }
    // A listener on all interfaces accepts any name.
    let network = Proxy::start_with("", &[("PUSH_LISTEN", "0.0.0.0:0")]);
    let address = network.push.replace("0.0.0.0", "127.0.0.1");
    assert_eq!(
        ask(&address, "PUT", "/metrics/job/x", "any.example").status,
        200
    );
}

#[test]
fn a_request_of_http_1_1_names_one_host() {
    let proxy = Proxy::start("[exporter]\nown_metrics = false\n");
    let ask = |head: &str| {
        let mut stream = TcpStream::connect(&proxy.push).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        read_answer(&mut stream, true).unwrap()
    };
    for (head, status) in [
        ("GET /metrics HTTP/1.1\r\n\r\n", 400),
        (
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
            400,
        ),
        ("GET /metrics HTTP/1.1\r\nHost: local host\r\n\r\n", 400),
        ("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        ("GET /metrics HTTP/1.0\r\n\r\n", 200),
        (
            "GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
            403,
        ),
    ] {
        let answer = ask(head);
        assert_eq!(answer.status, status, "{head}: {}", answer.text());
    }
}

#[test]
fn unknown_and_repeated_parameters_are_rejected_and_change_nothing() {
    let proxy = open();
    let before = state(&proxy);
    let scrape = |path: &str| http_request(&proxy.http, "GET", path, &[]);
    let reported = |answer: Answer, words: &str| {
        assert_eq!(answer.status, 400, "{words}");
        assert!(answer.text().contains(words), "{}", answer.text());
    };
    for (method, path, body, words) in [
        (
            "PUT",
            "/metrics/job/x?tll=10m",
            "m 1\n",
            "unknown parameter \"tll\"; did you mean ttl?",
        ),
        (
            "POST",
            "/metrics/job/x?mod=aggregate",
            "m 1\n",
            "did you mean mode?",
        ),
        (
            "POST",
            "/metrics?mode=aggregate&tt=1m",
            "m 1\n",
            "did you mean ttl?",
        ),
        (
            "PUT",
            "/metrics/job/x?mode=replace&mode=aggregate",
            "m 1\n",
            "mode is given more than once",
        ),
        (
            "DELETE",
            "/metrics/job/kept?ttl=1m",
            "",
            "unknown parameter \"ttl\"",
        ),
        ("POST", "/create?mode=x", "[]", "unknown parameter \"mode\""),
        (
            "POST",
            "/api/v1/validate?tl=1m",
            "m 1\n",
            "did you mean ttl?",
        ),
        (
            "DELETE",
            "/api/v1/groups?match[]=%7B%7D&limit=1",
            "",
            "known here: match[], match, older_than, dry_run",
        ),
        (
            "DELETE",
            "/api/v1/groups?match[]=%7B%7D&dryrun=1",
            "",
            "did you mean dry_run?",
        ),
        (
            "GET",
            "/api/v1/groups?mtach[]=%7B%7D",
            "",
            "did you mean match[]?",
        ),
        (
            "PUT",
            "/api/v1/admin/wipe?dry_run=1",
            "",
            "no parameters are known here",
        ),
        (
            "DELETE",
            "/apps/kept?dry_run=1",
            "",
            "no parameters are known here",
        ),
        ("GET", "/webhooks?alert=x", "", "did you mean alertname?"),
    ] {
        reported(proxy.push_with(method, path, &[JSON], body), words);
    }
    for (path, words) in [
        (
            "/metrics?name=a",
            "unknown parameter \"name\"; did you mean name[]?",
        ),
        ("/metrics?apps=a", "did you mean app?"),
        ("/apps?fromat=json", "did you mean format?"),
        ("/apps?wide=1&wide=1", "wide is given more than once"),
        ("/apps/kept/metrics?name[]=app", "known here: kind"),
    ] {
        reported(scrape(path), words);
    }
    assert_eq!(state(&proxy), before);
    // Errors have the formats of the API and of validation.
    let answer = proxy.push("GET", "/api/v1/status?x", "").json();
    assert_eq!(
        (&answer["status"], &answer["errorType"]),
        (&json!("error"), &json!("bad_data"))
    );
    let answer = proxy.push("POST", "/api/v1/validate?x", "m 1\n").json();
    assert_eq!(answer["valid"], false);
    // Webhooks, health checks and the like accept any parameter.
    for path in ["/webhook?token=a&token=b", "/slack?x"] {
        assert_eq!(
            proxy.push_with("POST", path, &[JSON], "{}").status,
            200,
            "{path}"
        );
    }
}

#[test]
fn every_rejection_is_counted_by_its_method() {
    let proxy = Proxy::start("[push]\nmax_body = 1000\n");
    let large = "x".repeat(2000);
    for (method, path, counted) in [
        ("PUT", "/metrics/job/x", "put"),
        ("POST", "/metrics/job/x", "post"),
        ("POST", "/metrics?mode=aggregate", "aggregate"),
        ("POST", "/api/v1/batch", "batch"),
        ("POST", "/api/v1/validate", "validate"),
        ("POST", "/create", "create"),
        ("POST", "/update", "update"),
        ("POST", "/echo", "echo"),
    ] {
        assert_eq!(
            proxy.push_with(method, path, &[JSON], &large).status,
            413,
            "{path}"
        );
        let series =
            format!("exporter_proxy_pushes_total{{method=\"{counted}\",result=\"too_large\"}}");
        assert_eq!(proxy.sample(&series), Some(1.0), "{counted}");
    }
    for (method, path, status, counted, result) in [
        ("POST", "/api/v1/validate", 400, "validate", "invalid_text"),
        ("POST", "/api/v1/validate/a", 400, "validate", "bad_labels"),
        (
            "DELETE",
            "/api/v1/groups",
            400,
            "delete_groups",
            "bad_parameter",
        ),
        ("DELETE", "/apps/nobody", 404, "delete_app", "not_found"),
        ("PUT", "/-/quit", 403, "quit", "not_allowed"),
    ] {
        assert_eq!(proxy.push(method, path, "m{").status, status, "{path}");
        let series =
            format!("exporter_proxy_pushes_total{{method=\"{counted}\",result=\"{result}\"}}");
        assert_eq!(proxy.sample(&series), Some(1.0), "{counted}");
    }
}

#[test]
fn a_removed_app_makes_room_for_another() {
    let proxy = Proxy::start("[receiver]\nmax_apps = 2\n");
    proxy.push_tcp(b"{\"a b\":\"m 1\",\"c\":\"n 1\"}");
    let full = proxy.push_tcp(b"{\"d\":\"o 1\"}");
    assert!(full.contains("the limit of 2 apps is reached"), "{full}");
    let answer = proxy.push("DELETE", "/apps/a%20b", "");
    assert_eq!(
        (answer.status, &*answer.text()),
        (200, "removed app \"a b\"\n")
    );
    assert_eq!(names(&proxy), ["c"]);
    assert!(!proxy.metrics().contains("app=\"a b\""));
    assert_eq!(proxy.push_tcp(b"{\"d\":\"o 1\"}"), "");
    assert_eq!(names(&proxy), ["c", "d"]);
    assert_eq!(proxy.push("DELETE", "/apps/a%20b", "").status, 404);
    // The next push creates it again.
    proxy.push("DELETE", "/apps/c", "");
    assert_eq!(proxy.push_tcp(b"{\"c\":\"n 2\"}"), "");
    assert_eq!(names(&proxy), ["c", "d"]);
    assert_eq!(
        proxy.sample("exporter_proxy_pushes_total{method=\"delete_app\",result=\"ok\"}"),
        Some(2.0)
    );
}

#[test]
fn groups_and_targets_cannot_be_removed_as_apps() {
    let target = "[[poll_external.targets]]\nname = \"t\"\nurl = \"http://127.0.0.1:9/\"\n";
    let proxy = Proxy::start(&format!(
        "[poll_external]\npoll_other_scrape_endpoints = true\npoll_interval = \"10ms\"\n{target}"
    ));
    proxy.push("PUT", "/metrics/job/x", "m 1\n");
    crate::harness::eventually(|| names(&proxy), |all| all.iter().any(|name| name == "t"));
    for (path, words) in [
        ("/apps/t", "remove it from the configuration"),
        ("/apps/%7Bjob=%22x%22%7D", "to remove it, DELETE its path"),
    ] {
        let answer = proxy.push("DELETE", path, "");
        assert_eq!(answer.status, 409, "{path}");
        assert!(answer.text().contains(words), "{}", answer.text());
    }
    assert_eq!(names(&proxy).len(), 2);
}

#[test]
fn the_scrape_port_names_the_push_listener() {
    let proxy = Proxy::start("");
    let there = format!("pushes are accepted at http://{} (push.listen)", proxy.push);
    for (method, path, status) in [
        ("PUT", "/metrics/job/x", 404),
        ("POST", "/api/v1/batch", 404),
        ("PUT", "/metrics", 405),
        ("DELETE", "/apps/x", 405),
    ] {
        let answer = http_send(&proxy.http, method, path, &[], b"");
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.text().contains(&there), "{}", answer.text());
    }
    let nowhere = Proxy::start_with("", &[("PUSH_LISTEN", "")]);
    let answer = http_send(&nowhere.http, "PUT", "/metrics/job/x", &[], b"");
    assert!(
        answer
            .text()
            .contains("pushes are not accepted (push.listen = \"\")")
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("push.sock").display().to_string();
    let unix = Proxy::start_with("", &[("PUSH_LISTEN", &path)]);
    let answer = http_send(&unix.http, "PUT", "/metrics/job/x", &[], b"");
    assert!(
        answer
            .text()
            .contains(&format!("at Unix socket {path} (push.listen)"))
    );
}

#[test]
fn one_port_can_serve_scrapes_and_pushes() {
    let address = free_address();
    let settings = [
        ("PUSH_LISTEN", &*address),
        ("EXPORTER_SCRAPE_EXPOSE_ENDPOINT", &*address),
    ];
    let proxy = Proxy::start_with("", &settings);
    proxy.push_tcp(b"{\"a\":\"m 1\"}");
    let send = |method: &str, path: &str, headers: &[(&str, &str)]| {
        http_send(&address, method, path, headers, b"").status
    };
    let evil = [("Origin", "https://evil.example")];
    assert_eq!(send("DELETE", "/apps/a", &evil), 403);
    assert_eq!(send("DELETE", "/apps/a", &[]), 200);
    assert_eq!(send("PUT", "/metrics/job/x", &[]), 200);
    assert_eq!(send("PUT", "/metrics/job/x", &evil), 403);
}

#[test]
fn long_names_are_cut_in_replies() {
    let proxy = Proxy::start("");
    let long = "x".repeat(60_000);
    for path in [
        format!("/apps/{long}"),
        format!("/{long}"),
        format!("/metrics?{long}"),
    ] {
        let answer = proxy.get(&path);
        assert!(matches!(answer.status, 400 | 404), "{}", answer.status);
        assert!(answer.body.len() < 600, "{}", answer.body.len());
    }
}
