//! Lines of StatsD libraries, with rules for their names.

use crate::operations::Counting;
use crate::tools::{self, Tool, command, root, run};

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

#[test]
fn hot_shots_sends_lines_that_rules_name() {
    // Its packages are installed together.
    if !tools::here(&[Tool::PromClient]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mapping = dir.path().join("mapping.yml");
    std::fs::write(&mapping, MAPPING).expect("a file");
    let counting = Counting::start(&format!(
        "statsd_mapping = {mapping:?}\nstatsd_events = true\n"
    ));
    let mut node = command(Tool::PromClient);
    node.arg(root().join("tests/clients/node/hot_shots.js"));
    run(node.args([&counting.udp, &counting.tcp]));
    for via in ["udp", "tcp"] {
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
