//! Sinks with the real systems that they send to. `scripts/test --sinks` gets these
//! and runs the tests; `EXPORTER_PROXY_VICTORIA_LOGS` names the program of VictoriaLogs,
//! which takes the APIs of Loki and of Elasticsearch, and `EXPORTER_PROXY_CASSANDRA` the folder
//! with the jars of Cassandra. [`remote_write`] has Prometheus and VictoriaMetrics.

#![allow(clippy::unwrap_used, reason = "a test that panics is one that fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests read clocks, wait and pass environments"
)]

#[path = "../harness/mod.rs"]
mod harness;

#[cfg(feature = "cql")]
mod cassandra;
#[cfg(feature = "cql")]
mod cql;
#[cfg(feature = "cql-tls")]
mod cql_tls;
mod remote_write;

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::tempdir;

use harness::{PATIENCE, Proxy, eventually, http_request};

/// VictoriaLogs. Dropping it ends the process.
struct VictoriaLogs {
    child: Child,
    address: String,
}

impl VictoriaLogs {
    fn start(address: &str, data: &Path) -> Self {
        let program = std::env::var_os("EXPORTER_PROXY_VICTORIA_LOGS")
            .expect("EXPORTER_PROXY_VICTORIA_LOGS names the program: run scripts/test --sinks");
        let child = Command::new(program)
            .arg(format!("-httpListenAddr={address}"))
            .arg(format!("-storageDataPath={}", data.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("VictoriaLogs starts");
        let server = VictoriaLogs {
            child,
            address: address.to_owned(),
        };
        eventually(|| TcpStream::connect(address).is_ok(), |is_up| *is_up);
        server
    }

    /// Stops as an operator does, so that it keeps all that it took.
    fn stop(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGINT).unwrap();
        self.child.wait().unwrap();
    }

    /// The entries of a query, in JSON.
    fn query(&self, query: &str) -> Vec<serde_json::Value> {
        let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let path = format!("/select/logsql/query?query={query}");
        let answer = http_request(&self.address, "GET", &path, &[]);
        let text = answer.text();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// How many entries have a label.
    fn count(&self, filter: &str) -> u64 {
        let found = self.query(&format!("{filter} | stats count() n"));
        let count = found.first().and_then(|row| row["n"].as_str());
        count.map_or(0, |count| count.parse().unwrap())
    }
}

impl Drop for VictoriaLogs {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A proxy with a socket for operations, and that socket.
fn proxy(sinks: &str) -> (Proxy, String) {
    let proxy = Proxy::start(&format!("[operations]\ntcp = \"127.0.0.1:0\"\n{sinks}"));
    let log = proxy.log();
    let (_, rest) = log.split_once("operations on TCP socket ").unwrap();
    let address = rest.lines().next().unwrap().to_owned();
    (proxy, address)
}

/// Sends messages, and returns the answer.
fn send(address: &str, text: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn messages(op: &str, app: &str, values: std::ops::Range<usize>) -> String {
    let mut text = String::new();
    for value in values {
        let _ = writeln!(
            text,
            "{{\"name\":\"e\",\"op\":\"{op}\",\"value\":{value},\"labels\":{{\"app\":\"{app}\",\"a-b\":\"x \\\"y\\\"\"}}}}"
        );
    }
    text
}

/// The server is stopped while events arrive, and started again: all of them are there,
/// once and in order.
#[test]
#[ignore = "needs VictoriaLogs: scripts/test --sinks"]
fn events_reach_a_log_store_that_is_restarted() {
    let data = tempdir().unwrap();
    let address = free_address();
    for encoding in ["protobuf", "json"] {
        let mut server = VictoriaLogs::start(&address, data.path());
        let (proxy, operations) = proxy(&format!(
            "[sinks.log]\ntype = \"loki\"\nurl = \"http://{address}/insert/loki/api/v1/push\"\n\
             encoding = \"{encoding}\"\nline = \"value\"\nbatch_items = 500\nbatch_wait = \"10ms\"\n"
        ));
        for part in 0..10 {
            if part == 4 {
                server.stop();
                let values = part * 1000..(part + 1) * 1000;
                assert_eq!(send(&operations, &messages("event", encoding, values)), "");
                let failing = "exporter_proxy_sink_up{sink=\"log\"}";
                eventually(|| proxy.sample(failing), |up| *up == Some(0.0));
                server = VictoriaLogs::start(&address, data.path());
                continue;
            }
            let values = part * 1000..(part + 1) * 1000;
            assert_eq!(send(&operations, &messages("event", encoding, values)), "");
        }
        let sent = "exporter_proxy_sink_items_total{result=\"ok\",sink=\"log\"}";
        eventually(|| proxy.sample(sent), |sent| *sent == Some(10_000.0));
        let filter = format!("{{app=\"{encoding}\"}}");
        eventually(|| server.count(&filter), |count| *count == 10_000);
        let entries = server.query(&format!("{filter} | sort by (_time) | fields _msg, a_b"));
        assert_eq!(entries[0]["a_b"], "x \"y\"");
        let lines = entries.iter().map(|entry| entry["_msg"].as_str().unwrap());
        let values = lines.map(|line| line.parse::<usize>().unwrap());
        assert!(values.eq(0..10_000));
        server.stop();
    }
}

#[test]
#[ignore = "needs VictoriaLogs: scripts/test --sinks"]
fn documents_reach_a_store_with_a_bulk_api() {
    let data = tempdir().unwrap();
    let address = free_address();
    let server = VictoriaLogs::start(&address, data.path());
    let (_proxy, operations) = proxy(&format!(
        "[sinks.search]\ntype = \"opensearch\"\nbatch_wait = 0\n\
         url = \"http://{address}/insert/elasticsearch/?_time_field=timestamp&_msg_field=name\"\n"
    ));
    assert_eq!(send(&operations, &messages("index", "docs", 0..3000)), "");
    eventually(|| server.count("labels.app:=docs"), |count| *count == 3000);
    let sum = server.query("labels.app:=docs | stats sum(value) s");
    assert_eq!(sum[0]["s"], (2999 * 3000 / 2).to_string());
}
