//! Raw values to Cassandra.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use scylla::value::CqlTimestamp;
use tempfile::tempdir;

use crate::cassandra::{Cassandra, Client};
use crate::harness::{Proxy, eventually, free_address};
use crate::{messages, proxy, reload, send};

/// Nodes take almost a gigabyte each: one at a time.
static NODE: Mutex<()> = Mutex::new(());

pub fn alone() -> MutexGuard<'static, ()> {
    NODE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A sink with these settings.
pub fn sink(address: &str, more: &str) -> String {
    format!("[sinks.raw]\ntype = \"cql\"\nhosts = [\"{address}\"]\nbatch_wait = \"10ms\"\n{more}")
}

/// The number of items of the sink with this result.
pub fn items(proxy: &Proxy, result: &str) -> Option<f64> {
    proxy.sample(&format!(
        "exporter_proxy_sink_items_total{{result=\"{result}\",sink=\"raw\"}}"
    ))
}

/// Waits until the sink has failed with this message, and returns the whole message.
pub fn failure(proxy: &Proxy, expected: &str) {
    let message = || {
        let list = proxy.get("/api/v1/sinks").json();
        list["data"][0]["last_error"]["message"].to_string()
    };
    eventually(message, |message| message.contains(expected));
}

fn all(values: std::ops::Range<usize>) -> Vec<f64> {
    values.map(|value| value as f64).collect()
}

#[test]
#[ignore = "needs Cassandra: scripts/test --sinks"]
fn raw_values_reach_cassandra() {
    let _alone = alone();
    let mut server = Cassandra::start("");
    let client = server.client(None);
    new_tables_have_every_value(&server, &client);
    tables_of_metrics_server_have_every_value(&server, &client);
    values_that_are_refused_do_not_spoil_others(&server, &client);
    wrong_tables_are_mended_while_values_wait(&server, &client);
    a_reload_changes_the_node_and_the_table(&server, &client);
    a_node_is_restarted_under_load(&mut server, &client);
}

/// Both layouts, in tables that the proxy makes: values of one millisecond and equal ones are kept.
fn new_tables_have_every_value(server: &Cassandra, client: &Client) {
    for layout in ["series", "name"] {
        let more = format!("table = \"made.{layout}\"\ncreate = true\nlayout = \"{layout}\"\n");
        let (proxy, operations) = proxy(&sink(&server.address, &more));
        assert_eq!(send(&operations, &messages("raw", "shop", 0..3000)), "");
        let dated = |value: u32| {
            format!(
                "{{\"name\":\"dated\",\"op\":\"raw\",\"value\":{value},\
                 \"timestamp\":\"2026-01-31T12:00:00.123456Z\"}}\n"
            )
        };
        assert_eq!(send(&operations, &[1, 2, 2].map(dated).concat()), "");
        eventually(|| items(&proxy, "ok"), |sent| *sent == Some(3003.0));
        let table = format!("made.{layout}");
        let mut expected = all(0..3000);
        expected.extend([1.0, 2.0, 2.0]);
        expected.sort_by(f64::total_cmp);
        assert_eq!(client.values(&table), expected);
        let rows = client.rows::<(BTreeMap<String, String>, CqlTimestamp, f64)>(&format!(
            "SELECT labels, timestamp, value FROM {table} WHERE name = 'dated' ALLOW FILTERING"
        ));
        let mut dated: Vec<f64> = rows.iter().map(|row| row.2).collect();
        dated.sort_by(f64::total_cmp);
        assert_eq!(dated, [1.0, 2.0, 2.0]);
        assert!(
            rows.iter()
                .all(|row| row.1 == CqlTimestamp(1_769_860_800_123))
        );
        let labels = client.rows::<(BTreeMap<String, String>,)>(&format!(
            "SELECT labels FROM {table} WHERE name = 'e' LIMIT 1 ALLOW FILTERING"
        ));
        assert_eq!(labels[0].0["a-b"], "x \"y\"");
        assert_eq!(labels[0].0["app"], "shop");
    }
}

/// Tables as metrics-server makes and describes them, which have no column for an identity: values
/// of one millisecond move to the next ones.
fn tables_of_metrics_server_have_every_value(server: &Cassandra, client: &Client) {
    client.run(
        "CREATE KEYSPACE tracking WITH replication = {'class': 'SimpleStrategy', \
         'replication_factor': 1}",
    );
    client.run(
        "CREATE TABLE tracking.metrics (name text, labels frozen<map<text, text>>, \
         timestamp timestamp, value double, PRIMARY KEY ((name, labels), timestamp)) \
         WITH CLUSTERING ORDER BY (timestamp DESC) \
         AND compaction = {'class': 'TimeWindowCompactionStrategy'}",
    );
    client.run("CREATE INDEX metrics_labels ON tracking.metrics (full(labels))");
    client.run(
        "CREATE TABLE tracking.by_name (name text, labels frozen<map<text, text>>, \
         timestamp timestamp, value double, PRIMARY KEY (name, timestamp))",
    );
    for table in ["tracking.metrics", "tracking.by_name"] {
        let more = format!("table = \"{table}\"\nconsistency = \"one\"\n");
        let (proxy, operations) = proxy(&sink(&server.address, &more));
        assert_eq!(send(&operations, &messages("raw", "shop", 0..2000)), "");
        assert_eq!(send(&operations, &messages("raw", "other", 2000..4000)), "");
        eventually(|| items(&proxy, "ok"), |sent| *sent == Some(4000.0));
        assert_eq!(client.values(table), all(0..4000), "{table}");
    }
}

fn values_that_are_refused_do_not_spoil_others(server: &Cassandra, client: &Client) {
    let (proxy, operations) = proxy(&sink(&server.address, "table = \"made.name\"\n"));
    client.run("TRUNCATE made.name");
    let good = messages("raw", "shop", 0..200);
    let nameless = "{\"name\":\"\",\"op\":\"raw\",\"value\":-1}\n".repeat(3);
    assert_eq!(
        send(&operations, &format!("{nameless}{good}{nameless}")),
        ""
    );
    eventually(|| items(&proxy, "refused"), |refused| *refused == Some(6.0));
    eventually(|| items(&proxy, "ok"), |sent| *sent == Some(200.0));
    assert_eq!(client.values("made.name"), all(0..200));
    failure(&proxy, "Key may not be empty");
    let log = proxy.log();
    assert!(
        log.contains("sink raw: ") && log.contains(" refused: "),
        "{log}"
    );
    assert!(
        !log.contains("Key may not"),
        "the log does not quote: {log}"
    );
}

/// A missing or wrong table is an operator's mistake: no value is lost.
fn wrong_tables_are_mended_while_values_wait(server: &Cassandra, client: &Client) {
    let (proxy, operations) = proxy(&sink(&server.address, "table = \"made.later\"\n"));
    assert_eq!(send(&operations, &messages("raw", "shop", 0..100)), "");
    failure(
        &proxy,
        "the table made.later does not exist: create it, or set `create = true`",
    );
    let columns = "name text, labels frozen<map<text, text>>, timestamp timestamp";
    let key = "PRIMARY KEY ((name, labels), timestamp)";
    client.run(&format!(
        "CREATE TABLE made.later ({columns}, value int, {key})"
    ));
    failure(
        &proxy,
        "the column value of made.later is of the type int; it must be double",
    );
    client.run("DROP TABLE made.later");
    client.run(&format!(
        "CREATE TABLE made.later ({columns}, value double, {key})"
    ));
    eventually(|| items(&proxy, "ok"), |sent| *sent == Some(100.0));
    // It is replaced by another table while the sink works.
    client.run("DROP TABLE made.later");
    assert_eq!(send(&operations, &messages("raw", "shop", 100..200)), "");
    failure(&proxy, "the table made.later does not exist");
    client.run(&format!("CREATE TABLE made.later ({columns}, value double, id uuid, PRIMARY KEY (name, timestamp, id))"));
    eventually(|| items(&proxy, "ok"), |sent| *sent == Some(200.0));
    assert_eq!(client.values("made.later"), all(100..200));
    assert_eq!(items(&proxy, "refused").unwrap_or_default(), 0.0);
}

/// Waiting items are sent to the node and the table of the new settings.
fn a_reload_changes_the_node_and_the_table(server: &Cassandra, client: &Client) {
    let created = |address: &str, table: &str| {
        sink(
            address,
            &format!("table = \"made.{table}\"\ncreate = true\n"),
        )
    };
    let (proxy, operations) = proxy(&created(&free_address(), "before"));
    assert_eq!(send(&operations, &messages("raw", "shop", 0..500)), "");
    failure(&proxy, "connection refused");
    reload(&proxy, &created(&server.address, "before"));
    eventually(|| items(&proxy, "ok"), |sent| *sent == Some(500.0));
    reload(&proxy, &created(&server.address, "after"));
    assert_eq!(send(&operations, &messages("raw", "shop", 500..900)), "");
    eventually(|| items(&proxy, "ok"), |sent| *sent == Some(900.0));
    assert_eq!(client.values("made.before"), all(0..500));
    assert_eq!(client.values("made.after"), all(500..900));
    reload(&proxy, "");
    let answer = send(&operations, &messages("raw", "shop", 0..1));
    assert!(answer.contains("cql"), "{answer}");
}

fn a_node_is_restarted_under_load(server: &mut Cassandra, client: &Client) {
    client.run("TRUNCATE made.series");
    let (proxy, operations) = proxy(&sink(
        &server.address,
        "table = \"made.series\"\nbatch_items = 500\ntimeout = \"10s\"\n",
    ));
    for part in 0..10 {
        let values = part * 1000..(part + 1) * 1000;
        if part == 4 {
            server.stop();
        }
        assert_eq!(send(&operations, &messages("raw", "shop", values)), "");
        if part == 6 {
            let failing = "exporter_proxy_sink_up{sink=\"raw\"}";
            eventually(|| proxy.sample(failing), |up| *up == Some(0.0));
            server.start_again();
        }
    }
    eventually(|| items(&proxy, "ok"), |sent| *sent == Some(10_000.0));
    let client = server.client(None);
    assert_eq!(client.values("made.series"), all(0..10_000));
    assert_eq!(items(&proxy, "refused").unwrap_or_default(), 0.0);
}

/// The password is read again for each connection, so it can be mended while values wait.
#[test]
#[ignore = "needs Cassandra: scripts/test --sinks"]
fn a_login_is_needed_and_can_change() {
    let _alone = alone();
    let server =
        Cassandra::start("authenticator: PasswordAuthenticator\nauthorizer: CassandraAuthorizer\n");
    let client = server.client(Some(("cassandra", "cassandra")));
    client.run("CREATE ROLE writer WITH PASSWORD = 'right' AND LOGIN = true");
    client.run(
        "CREATE KEYSPACE tracking WITH replication = {'class': 'SimpleStrategy', \
         'replication_factor': 1}",
    );
    client.run(
        "CREATE TABLE tracking.metrics (name text, labels frozen<map<text, text>>, \
         timestamp timestamp, value double, PRIMARY KEY ((name, labels), timestamp))",
    );
    {
        let (proxy, operations) = proxy(&sink(&server.address, ""));
        assert_eq!(send(&operations, &messages("raw", "shop", 0..1)), "");
        failure(&proxy, "the server wants a login, and `login` is not set");
    }
    let dir = tempdir().unwrap();
    let password = dir.path().join("password");
    fs::write(&password, "wrong\n").unwrap();
    let more = format!(
        "login = {{ username = \"writer\", password_file = \"{}\" }}\n",
        password.display()
    );
    let (proxy, operations) = proxy(&sink(&server.address, &more));
    assert_eq!(send(&operations, &messages("raw", "shop", 0..100)), "");
    failure(&proxy, "the login is refused");
    fs::write(&password, "right\n").unwrap();
    // The user may log in, but not write.
    failure(&proxy, "doesn't have the right");
    client.run("GRANT MODIFY ON tracking.metrics TO writer");
    eventually(|| items(&proxy, "ok"), |sent| *sent == Some(100.0));
    assert_eq!(client.values("tracking.metrics"), all(0..100));
    let log = proxy.log();
    assert!(!log.contains("wrong") && !log.contains("right\n"), "{log}");
}
