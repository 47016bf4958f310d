//! The listener of `[lifecycle]`, like that of prom-aggregation-gateway: health checks and own
//! metrics, but no apps. The CORS headers and `DELETE` that its clients expect.

use crate::harness::{Answer, Proxy, eventually, http_request};

const QUIET: &str = "[exporter]\nown_metrics = false\n";

/// A proxy with the listener, and its address.
fn start(config: &str) -> (Proxy, String) {
    let proxy = Proxy::start(&format!("{config}[lifecycle]\nlisten = \"127.0.0.1:0\"\n"));
    let log = proxy.log();
    let (_, rest) = log.split_once("health and own metrics on http://").unwrap();
    let address = rest.split_whitespace().next().unwrap().to_owned();
    (proxy, address)
}

fn get(address: &str, path: &str) -> Answer {
    http_request(address, "GET", path, &[])
}

#[test]
fn it_serves_health_checks_and_own_metrics_alone() {
    let (proxy, address) = start(QUIET);
    proxy.push_tcp(b"{\"app\":\"app_metric 1\"}");
    assert_eq!(proxy.push("PUT", "/metrics/job/x", "m 1\n").status, 200);
    for path in ["/healthy", "/ready"] {
        let answer = get(&address, path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.json()["alive"], true, "{path}");
    }
    for path in ["/-/healthy", "/-/ready", "/health"] {
        assert_eq!(get(&address, path).status, 200, "{path}");
    }
    for path in [
        "/",
        "/apps",
        "/ping",
        "/api/v1/groups",
        "/metrics/job/x",
        "/nothing",
    ] {
        assert_eq!(get(&address, path).status, 404, "{path}");
    }
    let push = http_request(
        &address,
        "PUT",
        "/metrics/job/y",
        &[("Content-Length", "0")],
    );
    assert_eq!(push.status, 404, "{}", push.text());

    // Own metrics are here, although they are switched off elsewhere.
    // The connections of the requests above are closed before they are no longer counted.
    let own = eventually(
        || get(&address, "/metrics").text(),
        |own| own.contains("exporter_proxy_connections_open{listener=\"lifecycle\"} 1\n"),
    );
    for sample in ["exporter_proxy_apps 1", "exporter_proxy_groups 1"] {
        assert!(own.contains(&format!("\n{sample}\n")), "{sample}: {own}");
    }
    let other = |line: &&str| !line.starts_with("exporter_proxy_") && !line.starts_with("# ");
    assert_eq!(own.lines().find(other), None);
    assert!(!proxy.metrics().contains("exporter_proxy_"));

    // In every format, and up to date.
    let accept = ("Accept", "application/openmetrics-text; version=1.0.0");
    let open = http_request(&address, "GET", "/metrics", &[accept]);
    assert!(open.text().ends_with("# EOF\n"), "{}", open.text());
    proxy.push_tcp(b"{\"second\":\"app_metric 2\"}");
    eventually(
        || get(&address, "/metrics").text(),
        |own| own.contains("\nexporter_proxy_apps 2\n"),
    );
}

#[test]
fn its_scrapes_are_not_counted_as_scrapes_of_the_metrics() {
    let (proxy, address) = start("");
    let count = || {
        let identity = proxy.sample("exporter_proxy_scrapes_total{encoding=\"identity\"}");
        identity.expect("the count of scrapes")
    };
    let before = count();
    for _ in 0..5 {
        assert_eq!(get(&address, "/metrics").status, 200);
    }
    assert_eq!(count(), before + 1.0, "the scrape that counted before");
}

#[test]
fn its_port_must_be_free_of_other_listeners() {
    let proxy = Proxy::start("");
    let output = crate::harness::program()
        .arg("check-config")
        .env("EXPORTER_PROXY_LIFECYCLE_LISTEN", "127.0.0.1:6556")
        .current_dir(proxy.dir.path().parent().unwrap())
        .output()
        .unwrap();
    let problem = String::from_utf8(output.stderr).unwrap();
    assert!(
        problem.contains("`lifecycle.listen` = 127.0.0.1:6556 uses the same port as `push.listen`"),
        "{problem}"
    );
}

#[test]
fn pages_of_allowed_origins_read_metrics_where_pushes_are_accepted() {
    let page = ("Origin", "https://app.example");
    for (allowed, expected) in [
        ("\"https://app.example\"", Some("https://app.example")),
        ("\"*\"", Some("*")),
        ("\"https://other.example\"", None),
    ] {
        let proxy = Proxy::start(&format!("{QUIET}[push]\ncors_origins = [{allowed}]\n"));
        proxy.push_tcp(b"{\"app\":\"m 1\"}");
        let read = proxy.push_with("GET", "/metrics", &[page], "");
        assert_eq!(read.text(), "m 1\n");
        assert_eq!(
            read.header("access-control-allow-origin"),
            expected,
            "{allowed}"
        );
        let elsewhere = proxy.request("GET", "/metrics", &[page]);
        assert_eq!(elsewhere.header("access-control-allow-origin"), None);
    }
}

#[test]
fn a_deletion_without_such_series_is_404_as_all_are_there() {
    let proxy = Proxy::start(&format!("{QUIET}[push]\nmode = \"aggregate\"\n"));
    assert_eq!(proxy.push("DELETE", "/metrics/job/x", "").status, 404);
    assert_eq!(proxy.push("POST", "/metrics/job/x", "m 1\n").status, 202);
    assert_eq!(proxy.push("DELETE", "/metrics/job/y", "").status, 404);
    assert_eq!(proxy.push("DELETE", "/metrics/job/x", "").status, 202);
    assert_eq!(proxy.metrics(), "");
}
