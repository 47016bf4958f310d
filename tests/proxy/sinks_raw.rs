//! Raw values to Cassandra, without a cluster: settings, and a server that is away. Tests with a
//! real one are in `tests/sinks`.

use crate::harness::{eventually, free_address};
use crate::operations::bench;
use crate::sinks::listed;
use crate::support::logged;

/// The proxy starts even if the cluster is away, and values wait for it.
#[test]
fn raw_values_wait_for_a_cluster_that_is_away() {
    let address = free_address();
    let near = bench(&format!(
        "[sinks.raw]\ntype = \"cql\"\nhosts = [\"{address}\"]\nbatch_wait = 0\n"
    ));
    assert_eq!(listed(&near.proxy, "raw")["state"], "waiting");
    let value = b"{\"name\":\"v\",\"op\":\"raw\",\"value\":1}\n";
    assert_eq!(near.send(value), "");
    let failing = eventually(
        || listed(&near.proxy, "raw"),
        |sink| sink["state"] == "failing",
    );
    assert_eq!(failing["queued_items"], 1);
    let error = failing["last_error"]["message"].as_str().unwrap();
    assert_eq!(error, "connection refused");
    assert_eq!(near.proxy.sample("v"), None, "a raw value is no metric");
    logged(
        &near.proxy,
        "cannot send rows to tracking.metrics: connection refused",
        1,
    );
}
