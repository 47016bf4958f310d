//! Reloads that add, change and remove sinks.

use tempfile::tempdir;

use crate::harness::{Proxy, eventually};
use crate::operations::{Bench, bench};
use crate::reload::reload;
use crate::sinks::listed;
use crate::sinks_events::{events, free_address, no_content, values};
use crate::support::logged;
use crate::upstream::Upstream;

/// The configuration of a bench with more settings: first those of `[operations]`.
fn config(near: &Bench, more: &str) -> String {
    format!(
        "[operations]\ntcp = \"127.0.0.1:0\"\nudp = \"127.0.0.1:0\"\n\
         unix_sockets = [{:?}]\nunix_datagram_sockets = [{:?}]\n{more}",
        near.unix, near.datagrams
    )
}

/// A sink for Loki.
fn sink(address: &str, more: &str) -> String {
    format!(
        "[sinks.log]\ntype = \"loki\"\nurl = \"http://{address}/\"\nencoding = \"json\"\n\
         line = \"value\"\nbatch_items = 100\n{more}\n"
    )
}

fn sinks(proxy: &Proxy) -> serde_json::Value {
    proxy.get("/api/v1/sinks").json()["data"].clone()
}

#[test]
fn sinks_come_change_and_go_without_losing_items() {
    use std::io::Write;

    let near = bench("");
    assert!(near.send(events(0..1).as_bytes()).contains("loki"));
    let mut before = near.connect();
    let report = reload(
        &near.proxy,
        &config(&near, &sink(&free_address(), "batch_wait = 0")),
    );
    assert!(report.contains("changed sinks.log"), "{report}");
    assert_eq!(near.send(events(0..250).as_bytes()), "");
    eventually(
        || listed(&near.proxy, "log")["state"].clone(),
        |state| state == "failing",
    );
    assert_eq!(listed(&near.proxy, "log")["queued_items"], 250);

    // What waits is sent to the new address, with the new header.
    let server = Upstream::start(|_| no_content());
    let changed = sink(
        &server.address,
        "batch_wait = 0\nmax_queue = \"2MiB\"\nheaders = { X-Team = \"a\" }",
    );
    reload(&near.proxy, &config(&near, &changed));
    let seen = eventually(|| values(&server), |seen| seen.len() >= 250);
    assert!(seen.into_iter().eq(0..250));
    assert_eq!(server.requests()[0].header("x-team"), Some("a"));
    near.comes_to(
        "exporter_proxy_sink_queued_max_bytes{sink=\"log\"}",
        f64::from(2 << 20),
    );
    // A connection from before the reloads sends to it, too.
    before.write_all(events(250..300).as_bytes()).unwrap();
    eventually(|| values(&server), |seen| seen.len() == 300);

    let waiting = sink(&server.address, "batch_wait = \"1h\"");
    reload(&near.proxy, &config(&near, &waiting));
    assert_eq!(near.send(events(300..350).as_bytes()), "");
    let report = reload(&near.proxy, &config(&near, ""));
    assert!(report.contains("changed sinks.log"), "{report}");
    let seen = eventually(|| values(&server), |seen| seen.len() >= 350);
    assert!(seen.into_iter().eq(0..350), "what waited was sent");
    assert_eq!(sinks(&near.proxy), serde_json::json!([]));
    assert!(!near.proxy.metrics().contains("exporter_proxy_sink"));
    assert!(near.send(events(0..1).as_bytes()).contains("loki"));
}

#[test]
fn what_a_removed_sink_cannot_send_is_dropped_and_logged() {
    let near = bench(&sink(&free_address(), "batch_wait = 0"));
    assert_eq!(near.send(events(0..50).as_bytes()), "");
    reload(&near.proxy, &config(&near, ""));
    logged(&near.proxy, "50 items of events to", 1);
    // A sink of the same name begins anew.
    let server = Upstream::start(|_| no_content());
    let again = sink(&server.address, "batch_wait = 0");
    reload(&near.proxy, &config(&near, &again));
    assert_eq!(near.send(events(50..60).as_bytes()), "");
    let seen = eventually(|| values(&server), |seen| seen.len() >= 10);
    assert!(seen.into_iter().eq(50..60));
}

#[test]
fn what_a_removed_sink_cannot_send_stays_in_storage() {
    let directory = tempdir().unwrap();
    let storage = format!("[storage]\npath = {:?}\n", directory.path().join("state"));
    let with = |more: &str| format!("{storage}{more}");
    let near = bench(&with(&sink(&free_address(), "batch_wait = 0")));
    assert_eq!(near.send(events(0..50).as_bytes()), "");
    reload(&near.proxy, &config(&near, &with("")));
    logged(
        &near.proxy,
        "of the sink log (type loki), which is not configured",
        1,
    );
    let shown = eventually(
        || sinks(&near.proxy),
        |sinks| *sinks != serde_json::json!([]),
    );
    assert_eq!(shown[0]["name"], "log");
    assert_eq!(shown[0]["state"], "unconfigured");
    assert_eq!(shown[0]["queued_items"], 50);
    near.comes_to("exporter_proxy_sinks_unconfigured_items", 50.0);

    // Another type has other items.
    let other = "[sinks.log]\ntype = \"opensearch\"\nurl = \"http://127.0.0.1:1\"\n";
    reload(&near.proxy, &config(&near, &with(other)));
    near.comes_to("exporter_proxy_sinks_unconfigured_items", 50.0);

    let server = Upstream::start(|_| no_content());
    let again = sink(&server.address, "batch_wait = 0");
    reload(&near.proxy, &config(&near, &with(&again)));
    assert_eq!(near.send(events(50..60).as_bytes()), "");
    let seen = eventually(|| values(&server), |seen| seen.len() >= 60);
    assert!(seen.into_iter().eq(0..60));
    near.comes_to("exporter_proxy_sinks_unconfigured_items", 0.0);
}

#[test]
fn operations_are_kept_or_forwarded_as_the_settings_say_now() {
    let far = bench("");
    let near = bench("");
    let forward = |queue: &str| {
        let more = format!(
            "forward_to = \"tcp://{}\"\nforward_queue = \"{queue}\"\n",
            far.tcp
        );
        reload(&near.proxy, &config(&near, &more));
    };
    assert_eq!(near.send(b"a:1|c\n"), "");
    near.comes_to("a", 1.0);
    forward("1MiB");
    assert_eq!(near.send(b"b:1|c|#instance:i\n"), "");
    far.comes_to("b{instance=\"i\"}", 1.0);
    near.comes_to(
        "exporter_proxy_operations_forward_queued_max_bytes",
        f64::from(1 << 20),
    );
    forward("2MiB");
    near.comes_to(
        "exporter_proxy_sink_queued_max_bytes{sink=\"operations\"}",
        f64::from(2 << 20),
    );
    assert_eq!(near.send(b"b:1|c|#instance:i\n"), "");
    far.comes_to("b{instance=\"i\"}", 2.0);
    reload(&near.proxy, &config(&near, ""));
    assert_eq!(near.send(b"c:1|c\n"), "");
    near.comes_to("c", 1.0);
    assert_eq!(near.proxy.sample("b{instance=\"i\"}"), None);
    assert_eq!(far.proxy.sample("c"), None);
}

/// A mistake in a sink leaves all of them as they are.
#[test]
fn a_refused_reload_leaves_sinks_as_they_are() {
    let server = Upstream::start(|_| no_content());
    let near = bench(&sink(&server.address, "batch_wait = 0"));
    let wrong = sink(
        &free_address(),
        "batch_wait = 0\ntls = { server_name = \"\" }",
    );
    let answer = crate::reload::try_reload(&near.proxy, &config(&near, &wrong));
    assert_ne!(answer.status, 200, "{}", answer.text());
    assert_eq!(near.send(events(0..10).as_bytes()), "");
    let seen = eventually(|| values(&server), |seen| seen.len() >= 10);
    assert!(seen.into_iter().eq(0..10));
}
