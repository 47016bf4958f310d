//! The common parts of all sinks: settings, retries, health.

use crate::harness::{Proxy, eventually, free_address};
use crate::operations::bench;
use crate::page::text;

/// The sink in the list of the proxy.
pub fn listed(proxy: &Proxy, name: &str) -> serde_json::Value {
    let list = proxy.get("/api/v1/sinks").json();
    let sinks = list["data"].as_array().expect("a list").iter();
    let mut found = sinks.filter(|sink| sink["name"] == name);
    found.next().expect("the sink is listed").clone()
}

/// A sink of the type `operations` is another spelling of `operations.forward_to`.
#[test]
fn operations_are_forwarded_by_a_sink_whose_health_is_shown() {
    let address = free_address();
    let near = bench(&format!(
        "[sinks.central]\ntype = \"operations\"\nurl = \"tcp://{address}\"\nmax_queue = \"1MiB\"\n"
    ));
    let waiting = listed(&near.proxy, "central");
    assert_eq!(waiting["state"], "waiting");
    assert_eq!(waiting["type"], "operations");
    let page = text(&near.proxy, "/");
    assert_eq!(page.matches("sinks.central.max_queue").count(), 1, "{page}");
    assert!(!page.contains("operations.forward_queue"), "{page}");
    let help = "operations_forward_queued_bytes: sinks.central.max_queue.\n";
    assert!(near.proxy.metrics().contains(help));
    assert_eq!(near.send(b"c:1|c|#instance:own\n"), "");
    let failing = eventually(
        || listed(&near.proxy, "central"),
        |sink| sink["state"] == "failing",
    );
    assert_eq!(failing["queued_items"], 1);
    assert_eq!(failing["queued_max_bytes"], 1 << 20);
    assert_eq!(failing["last_success"], serde_json::Value::Null);
    let error = failing["last_error"]["message"].as_str().unwrap();
    assert!(error.contains("refused"), "{error}");
    near.comes_to("exporter_proxy_sink_up{sink=\"central\"}", 0.0);
    near.comes_to("exporter_proxy_sink_queued_items{sink=\"central\"}", 1.0);

    let far = bench_at(&address.to_string());
    eventually(
        || far.sample("c{instance=\"own\"}"),
        |seen| *seen == Some(1.0),
    );
    near.comes_to("exporter_proxy_sink_up{sink=\"central\"}", 1.0);
    near.comes_to(
        "exporter_proxy_sink_items_total{result=\"ok\",sink=\"central\"}",
        1.0,
    );
    near.comes_to("exporter_proxy_sink_queued_bytes{sink=\"central\"}", 0.0);
    let working = listed(&near.proxy, "central");
    assert_eq!(working["state"], "working");
    assert!(working["last_success"].is_string());
    assert_eq!(working["items"]["ok"], 1);
    let log = near.proxy.log();
    let failed = format!("sink central: cannot send operations to {address}: ");
    assert_eq!(log.matches(&failed).count(), 1, "{log}");
    let again = format!("sink central: sending operations to {address} again after");
    assert!(log.contains(&again), "{log}");
}

fn bench_at(address: &str) -> Proxy {
    Proxy::start(&format!("[operations]\ntcp = \"{address}\"\n"))
}
