//! Lines of StatsD libraries, with rules for their names.

use serde_json::json;
use tempfile::TempDir;

use crate::operations::{Counting, python};
use crate::tools::{self, Tool, command, root, run, run_with};

const MAPPING: &str = "
mappings:
- {match: shop.*.orders, name: shop_orders_total, labels: {via: $1}}
- match: shop.*.time
  name: shop_seconds
  observer_type: histogram
  histogram_options: {buckets: [0.3]}
  labels: {via: $1}
- {match: 'shop.*.*', name: 'shop_$2', labels: {via: $1}}
- {match: 'debug', match_type: regex, action: drop}
";

/// A proxy with the mapping, and the directory of its file.
fn mapped() -> (TempDir, Counting) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mapping = dir.path().join("mapping.yml");
    std::fs::write(&mapping, MAPPING).expect("a file");
    let settings = format!("statsd_mapping = {mapping:?}\nstatsd_events = true\n");
    (dir, Counting::start(&settings))
}

#[test]
fn hot_shots_sends_lines_that_rules_name() {
    // Both packages are installed together.
    if !tools::here(&[Tool::PromClient]) {
        return;
    }
    let (_dir, counting) = mapped();
    let mut node = command(Tool::PromClient);
    node.arg(root().join("tests/clients/node/hot_shots.js"));
    run(node.args([&counting.udp, &counting.tcp]));
    come_to_what_clients_send(&counting, ["udp", "tcp"]);
}

/// Waits until two sockets have these values.
fn come_to_what_clients_send(counting: &Counting, sockets: [&str; 2]) {
    for via in sockets {
        let labels = format!("env=\"prod\",via=\"{via}\"");
        let check = format!("check=\"shop.{via}.shop\",env=\"prod\",host=\"{via}\"");
        counting.come_to(&[
            (
                &format!("shop_orders_total{{env=\"prod\",size=\"big\",via=\"{via}\"}}"),
                3.0,
            ),
            (
                &format!("shop_seconds_bucket{{env=\"prod\",le=\"0.3\",via=\"{via}\"}}"),
                1.0,
            ),
            (&format!("shop_seconds_sum{{{labels}}}"), 0.25),
            (&format!("shop_load{{{labels}}}"), 0.25),
            (&format!("shop_users{{{labels}}}"), 2.0),
            (&format!("shop_spread_sum{{{labels}}}"), 0.3),
            (&format!("dogstatsd_service_check_status{{{check}}}"), 1.0),
        ]);
    }
    let events = "dogstatsd_events_total{alert_type=\"error\",env=\"prod\",priority=\"normal\"}";
    counting.come_to(&[(events, 2.0)]);
    let page = counting.proxy.metrics();
    assert!(!page.contains("debug"), "{page}");
}

#[test]
fn etsys_statsd_repeats_lines_that_rules_name() {
    if !tools::here(&[Tool::EtsyStatsd]) {
        return;
    }
    let (_dir, counting) = mapped();
    let lines = json!([
        "shop.etsy.orders:2|c\nshop.etsy.orders:1|c|@0.5\ndebug.cache:1|c",
        "shop.etsy.time:250|ms|@0.5",
        "shop.etsy.load:0.5|g\nshop.etsy.load:-0.25|g",
        "shop.etsy.users:ann|s\nshop.etsy.users:bob|s",
    ]);
    let mut etsy = command(Tool::EtsyStatsd);
    etsy.arg(root().join("tests/clients/node/etsy_statsd.js"));
    let told = run_with(etsy.arg(&counting.udp), lines.to_string().as_bytes()).stdout;
    assert!(told.contains("shop.etsy.orders"), "{told}");
    counting.come_to(&[
        ("shop_orders_total{via=\"etsy\"}", 4.0),
        ("shop_seconds_bucket{le=\"0.3\",via=\"etsy\"}", 2.0),
        ("shop_seconds_sum{via=\"etsy\"}", 0.5),
        ("shop_load{via=\"etsy\"}", 0.25),
        ("shop_users{via=\"etsy\"}", 2.0),
    ]);
    let page = counting.proxy.metrics();
    assert!(!page.contains("debug"), "{page}");
}

#[test]
fn pythons_datadog_package_sends_lines_that_rules_name() {
    if !tools::here(&[Tool::StatsdClients]) {
        return;
    }
    let (_dir, counting) = mapped();
    let program = r#"
import sys
from datadog.dogstatsd import DogStatsd

def use(client, kind):
    prefix, tags = "shop." + kind, ["env:prod"]
    client.increment(prefix + ".orders", 2, tags=tags + ["size:big"])
    client.increment(prefix + ".orders", tags=tags + ["size:big"])
    client.timing(prefix + ".time", 250, tags=tags)
    client.gauge(prefix + ".load", 0.25, tags=tags)
    client.set(prefix + ".users", "ann", tags=tags)
    client.set(prefix + ".users", "bob", tags=tags)
    client.distribution(prefix + ".spread", 0.3, tags=tags)
    client.service_check(prefix + ".shop", 1, tags=tags, hostname=kind)
    client.event("a title", "a text", alert_type="error", tags=tags)
    client.increment("debug.cache")
    client.flush()

_, udp, _, path = sys.argv[1:]
host, port = udp.split(":")
use(DogStatsd(host=host, port=int(port), disable_telemetry=True), "udp")
waiting = {"socket_timeout": 30}
use(DogStatsd(socket_path=path, disable_telemetry=True, **waiting), "unix")
"#;
    python(Tool::StatsdClients, program, &counting);
    come_to_what_clients_send(&counting, ["udp", "unix"]);
}
