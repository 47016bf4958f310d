//! Reloads that add, change and remove sinks.

use std::io::Read as _;
use std::net::TcpListener;

use tempfile::tempdir;

use crate::harness::{PATIENCE, Proxy, eventually, free_address};
use crate::operations::{Bench, bench};
use crate::reload::reload;
use crate::sinks::listed;
use crate::sinks_events::{events, no_content, values};
use crate::sinks_remote_write::{self as remote_write, assert_in_order, received};
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

    // Waiting items are sent to the new address, with the new header.
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
    // A connection from before the reloads sends there, too.
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
    logged(&near.proxy, "sink log: 50 items, ", 1);
    // A sink with the name of a removed one starts empty.
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

/// A changed sink of the type `remote_write` ends the series that it sent, and sends those of the
/// new settings to the new address.
#[test]
fn a_changed_sink_for_remote_write_ends_its_series_and_begins_new_ones() {
    let servers = [(); 2].map(|()| Upstream::start(|_| no_content()));
    let settings = |server: &Upstream, cluster: &str| {
        format!(
            "[sinks.to]\ntype = \"remote_write\"\nurl = \"http://{}/\"\ninterval = \"100ms\"\n\
             match = [\"jobs\"]\nexternal_labels = {{ cluster = \"{cluster}\" }}\n",
            server.address
        )
    };
    let [before, after] =
        ["one", "two"].map(|cluster| format!("jobs{{cluster=\"{cluster}\",job=\"a\"}}"));
    let push = |proxy: &Proxy, value: u32| {
        let answer = proxy.push("PUT", "/metrics/job/a", format!("jobs {value}\n"));
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let markers = |series: &str| {
        let points = servers.iter().flat_map(received);
        points
            .filter(|point| point.is_stale() && point.series == series)
            .count()
    };
    let proxy = Proxy::start(&settings(&servers[0], "one"));
    push(&proxy, 1);
    let sent = || remote_write::values(&servers[0], &before).len();
    eventually(sent, |sent| *sent > 1);
    let report = reload(&proxy, &settings(&servers[1], "two"));
    assert!(report.contains("changed sinks.to"), "{report}");
    push(&proxy, 2);
    let new = || remote_write::values(&servers[1], &after);
    eventually(new, |new| new.last() == Some(&2.0));
    assert_eq!((markers(&before), markers(&after)), (1, 0));
    assert!(
        !received(&servers[0])
            .iter()
            .any(|point| point.series == after)
    );
    // A removed sink ends its series, too.
    reload(&proxy, "");
    eventually(|| markers(&after), |markers| *markers == 1);
    assert_eq!(sinks(&proxy), serde_json::json!([]));
    for server in &servers {
        assert_in_order(&received(server));
    }
}

/// A changed sink of the type `cql` keeps its waiting items, and connects to the new node.
#[cfg(feature = "cql")]
#[test]
fn a_changed_sink_for_cql_keeps_what_waits_and_connects_to_the_new_node() {
    /// The first bytes of a request of protocol 4 that asks a node for its options.
    const OPTIONS: [u8; 5] = [4, 0, 0, 0, 5];

    let settings = |address: &str| {
        format!(
            "[sinks.raw]\ntype = \"cql\"\nhosts = [\"{address}\"]\nbatch_wait = 0\n\
             timeout = \"5s\"\n"
        )
    };
    let near = bench(&settings(&free_address()));
    let value = b"{\"name\":\"v\",\"op\":\"raw\",\"value\":1}\n";
    assert_eq!(near.send(&value.repeat(10)), "");
    eventually(
        || listed(&near.proxy, "raw")["state"].clone(),
        |state| state == "failing",
    );
    let node = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = node.local_addr().unwrap().to_string();
    let report = reload(&near.proxy, &config(&near, &settings(&address)));
    assert!(report.contains("changed sinks.raw"), "{report}");
    let (mut connection, _) = node.accept().unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = [0; 5];
    connection.read_exact(&mut request).unwrap();
    // Bytes 2 and 3 are the number of the request.
    assert_eq!((request[0], request[4]), (OPTIONS[0], OPTIONS[4]));
    assert_eq!(listed(&near.proxy, "raw")["queued_items"], 10);
    reload(&near.proxy, &config(&near, ""));
    logged(&near.proxy, "sink raw: 10 items, ", 1);
    assert!(near.send(value).contains("cql"));
}
