//! Pages of other origins that push to `/metrics` itself.

use crate::harness::{Answer, Proxy};

const ORIGIN: &str = "https://app.example";

#[test]
fn a_page_may_ask_before_it_adds_to_metrics() {
    let proxy = Proxy::start(&format!("[push]\ncors_origins = [\"{ORIGIN}\"]\n"));
    let ask = |origin: &str, path: &str| {
        let headers = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "idempotency-key"),
        ];
        proxy.push_with("OPTIONS", path, &headers, "")
    };
    for path in [
        "/metrics?mode=aggregate",
        "/metrics",
        "/metrics/",
        "/metrics/shop/x?mode=aggregate",
    ] {
        let answer = ask(ORIGIN, path);
        assert_eq!(answer.status, 204, "{path}");
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, Some(ORIGIN), "{path}");
        let headers = answer.header("access-control-allow-headers").unwrap();
        assert!(headers.contains("Idempotency-Key"), "{headers}");
        assert_eq!(ask("https://other.example", path).status, 403, "{path}");
    }
    let headers = [("Origin", ORIGIN), ("Idempotency-Key", "one")];
    let answer = proxy.push_with(
        "POST",
        "/metrics?mode=aggregate",
        &headers,
        "page_views 1\n",
    );
    assert_eq!(answer.status, 202);
    assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN));
    assert_eq!(proxy.sample("page_views"), Some(1.0));
    // The page can read whether the push was a repeat.
    let answer = proxy.push_with(
        "POST",
        "/metrics?mode=aggregate",
        &headers,
        "page_views 1\n",
    );
    assert_eq!(answer.header("idempotent-replayed"), Some("true"));
    let exposed = answer.header("access-control-expose-headers").unwrap();
    assert!(exposed.contains("Idempotent-Replayed"), "{exposed}");
    // The page can read that a path does not exist; a page of another origin cannot.
    let answer = proxy.push_with("GET", "/metric", &headers, "");
    assert_eq!(answer.status, 404);
    assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN));
    let other = [("Origin", "https://other.example")];
    let answer = proxy.push_with("GET", "/metric", &other, "");
    assert_eq!(answer.header("access-control-allow-origin"), None);
    // An `OPTIONS` request without these headers is not a preflight request.
    assert_eq!(proxy.push("OPTIONS", "/metrics", "").status, 405);
}

#[test]
fn no_page_gets_through_where_no_origin_is_set() {
    let proxy = Proxy::start("");
    let headers = [
        ("Origin", ORIGIN),
        ("Access-Control-Request-Method", "POST"),
    ];
    let answer = proxy.push_with("OPTIONS", "/metrics?mode=aggregate", &headers, "");
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[test]
fn a_page_may_ask_before_it_removes_an_app() {
    let proxy = Proxy::start(&format!("[push]\ncors_origins = [\"{ORIGIN}\"]\n"));
    proxy.push_tcp(b"{\"shop\":\"m 1\"}");
    let headers = [
        ("Origin", ORIGIN),
        ("Access-Control-Request-Method", "DELETE"),
    ];
    let answer = proxy.push_with("OPTIONS", "/apps/shop", &headers, "");
    assert_eq!(answer.status, 204);
    let allowed = |answer: &Answer| {
        answer
            .header("access-control-allow-origin")
            .map(str::to_owned)
    };
    assert_eq!(allowed(&answer), Some(ORIGIN.to_owned()));
    let methods = answer.header("access-control-allow-methods").unwrap();
    assert!(methods.contains("DELETE"), "{methods}");
    // Pages of other origins cannot read the list of apps, on any listener.
    let read = proxy.push_with("GET", "/apps/shop", &headers[..1], "");
    assert_eq!((read.status, allowed(&read)), (200, None));
    let answer = proxy.push_with("DELETE", "/apps/shop", &headers[..1], "");
    assert_eq!(
        (answer.status, allowed(&answer)),
        (200, Some(ORIGIN.to_owned()))
    );
}

#[test]
fn pages_use_what_the_table_gives_them() {
    let proxy = Proxy::start(&format!("[push]\ncors_origins = [\"{ORIGIN}\"]\n"));
    for (path, expected) in [
        ("/time", Some(ORIGIN)),
        ("/echo", Some(ORIGIN)),
        ("/webhooks", Some(ORIGIN)),
        ("/api/v1/groups", Some(ORIGIN)),
        ("/healthy", None),
        ("/ready", None),
        ("/ping", None),
        ("/metrics", Some(ORIGIN)),
    ] {
        let answer = proxy.push_with("GET", path, &[("Origin", ORIGIN)], "");
        assert_eq!(answer.status, 200, "{path}");
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, expected, "{path}");
    }
}
