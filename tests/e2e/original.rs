//! A configuration of the original program, with its senders.

use crate::clients::{stored, with_pycapnp};
use crate::harness::{Proxy, eventually};
use crate::tools::{self, Tool};

/// The original's keys and values. The harness overrides ports and the socket through the
/// environment.
pub const CONFIG: &str = include_str!("../data/original.toml");

/// Like the original's sample payloads: with times, and without a final newline.
const STRING: &str = "# HELP requests_total Requests answered.\\n# TYPE requests_total counter\\nrequests_total{method=\\\"post\\\"} 1027 1395066363000\\nrequests_total{method=\\\"get\\\"}    3 1395066363000";

#[test]
fn a_string_without_a_last_newline_is_stored_whole() {
    let proxy = Proxy::start(CONFIG);
    let message = format!("{{\"string_app\":\"{STRING}\"}}");
    assert_eq!(proxy.push_tcp(message.as_bytes()), "");
    assert_eq!(
        stored(&proxy, "string_app"),
        "# HELP requests_total Requests answered.\n\
         # TYPE requests_total counter\n\
         requests_total{method=\"post\"} 1027 1395066363000\n\
         requests_total{method=\"get\"}    3 1395066363000\n"
    );
}

#[test]
fn an_array_of_lines_is_stored_and_follows_what_another_app_left_open() {
    let proxy = Proxy::start(CONFIG);
    let string = "{\"a_app\":\"no_newline 1\"}";
    assert_eq!(proxy.push_tcp(string.as_bytes()), "");
    let array = "{\"b_app\": [\"# TYPE jobs gauge\", \"jobs 5\"]}\n";
    assert_eq!(proxy.push_unix(array.as_bytes()), "");
    let metrics = proxy.metrics();
    assert!(
        metrics.ends_with("\nno_newline 1\n# TYPE jobs gauge\njobs 5\n"),
        "{metrics}"
    );
}

#[test]
fn the_table_of_apps_has_the_columns_that_scripts_know() {
    let proxy = Proxy::start(CONFIG);
    assert_eq!(proxy.push_tcp(b"{\"tcp_app\":\"a 1\"}"), "");
    assert_eq!(proxy.push_unix(b"{\"unix_app\":[\"b 1\"]}"), "");
    let table = proxy.get("/apps").text();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| {
            let cells = line.split('|').map(str::trim);
            cells.filter(|cell| !cell.is_empty()).collect()
        })
        .filter(|cells: &Vec<&str>| cells.len() == 3)
        .collect();
    assert_eq!(
        rows.first().map(Vec::as_slice),
        Some(&["App Name", "Last Update Time (UTC)", "Source"][..]),
        "{table}"
    );
    let unix = proxy.unix.display().to_string();
    let sources: Vec<(&str, &str)> = rows[1..].iter().map(|row| (row[0], row[2])).collect();
    assert_eq!(
        sources,
        [("tcp_app", &*proxy.tcp), ("unix_app", &*unix)],
        "{table}"
    );
    assert!(
        rows[1..].iter().all(|row| row[1].ends_with(" UTC")),
        "{table}"
    );
}

#[test]
fn capnp_senders_push_several_messages_on_one_connection() {
    if !tools::here(&[Tool::Pycapnp]) {
        return;
    }
    let proxy = Proxy::start(&CONFIG.replace("format = \"json\"", "format = \"capnp\""));
    let unix = proxy.unix.display().to_string();
    for (script, place, receiver) in [
        ("test_send_tcp_socket_capnp.py", &proxy.tcp, "tcp"),
        ("test_send_unix_socket_capnp.py", &unix, "unix"),
    ] {
        let apps = ["one", "two", "three"].map(|app| format!("{receiver}_{app}"));
        with_pycapnp(script, &[place, &apps[0], &apps[1], &apps[2]]);
        for app in &apps {
            let text = stored(&proxy, app);
            assert!(text.contains(&format!("{app}_jobs_total{{")), "{text}");
        }
        let messages = format!(
            "exporter_proxy_received_messages_total{{format=\"capnp\",receiver=\"{receiver}\",result=\"ok\"}}"
        );
        // It is counted just after the last one was stored.
        eventually(|| proxy.sample(&messages), |count| *count == Some(3.0));
        let connections =
            format!("exporter_proxy_connections_accepted_total{{listener=\"{receiver}\"}}");
        assert_eq!(proxy.sample(&connections), Some(1.0));
    }
}
