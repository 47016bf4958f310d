//! Events to VictoriaLogs, which has the APIs of Loki and of Elasticsearch.
//! `EXPORTER_PROXY_VICTORIA_LOGS` names the program.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::tempdir;

use crate::harness::certificates::Authority;
use crate::harness::{Proxy, eventually, free_address, http_request};
use crate::{messages, proxy, send};

/// How long the server is away under load.
const OUTAGE: Duration = Duration::from_secs(30);

/// VictoriaLogs. Dropping it ends the process.
struct VictoriaLogs {
    child: Child,
    address: String,
}

impl VictoriaLogs {
    fn start(address: &str, data: &Path) -> Self {
        VictoriaLogs::start_with(address, data, &[])
    }

    fn start_with(address: &str, data: &Path, flags: &[String]) -> Self {
        let program = std::env::var_os("EXPORTER_PROXY_VICTORIA_LOGS")
            .expect("EXPORTER_PROXY_VICTORIA_LOGS names the program: run scripts/test --sinks");
        let child = Command::new(program)
            .arg(format!("-httpListenAddr={address}"))
            .arg(format!("-storageDataPath={}", data.display()))
            .args(flags)
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

    /// Stops the server as an operator does, so that it keeps all accepted data.
    fn stop(mut self) {
        self.signal(Signal::SIGINT);
        self.child.wait().unwrap();
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap();
    }

    /// The values of an app's entries, in the order of their times.
    fn values(&self, app: &str) -> Vec<usize> {
        let entries = self.query(&format!(
            "{{app=\"{app}\"}} | sort by (_time) | fields _msg"
        ));
        let lines = entries.iter().map(|entry| entry["_msg"].as_str().unwrap());
        lines.map(|line| line.parse().unwrap()).collect()
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

    /// The number of entries with a label.
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

const SENT: &str = "exporter_proxy_sink_items_total{result=\"ok\",sink=\"log\"}";

/// A proxy that sends the values of events.
fn to(url: &str, more: &str) -> (Proxy, String) {
    proxy(&format!(
        "[sinks.log]\ntype = \"loki\"\nurl = \"{url}/insert/loki/api/v1/push\"\n\
         line = \"value\"\nbatch_wait = \"10ms\"\n{more}"
    ))
}

/// The server is stopped while events arrive, and started again: all of them are stored, once and
/// in order.
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

/// Events keep arriving while the server is away: none is lost, and all are in order.
#[test]
#[ignore = "needs VictoriaLogs: scripts/test --sinks"]
fn nothing_is_lost_while_a_server_is_away_for_long() {
    let data = tempdir().unwrap();
    let address = free_address();
    let server = VictoriaLogs::start(&address, data.path());
    let (proxy, operations) = to(&format!("http://{address}"), "");
    let mut next = 0;
    let mut send_some = || {
        assert_eq!(
            send(&operations, &messages("event", "away", next..next + 500)),
            ""
        );
        next += 500;
        thread::sleep(Duration::from_millis(100));
        next
    };
    for _ in 0..10 {
        send_some();
    }
    server.stop();
    let stopped = Instant::now();
    while stopped.elapsed() < OUTAGE {
        send_some();
    }
    assert_eq!(
        proxy.sample("exporter_proxy_sink_up{sink=\"log\"}"),
        Some(0.0)
    );
    let server = VictoriaLogs::start(&address, data.path());
    let total = send_some();
    eventually(|| proxy.sample(SENT), |sent| *sent == Some(total as f64));
    eventually(
        || server.count("{app=\"away\"}"),
        |count| *count >= total as u64,
    );
    assert!(
        server.values("away").into_iter().eq(0..total),
        "each once and in order"
    );
    server.stop();
}

/// A server that does not answer for a while gets everything once.
#[test]
#[ignore = "needs VictoriaLogs: scripts/test --sinks"]
fn a_slow_server_gets_everything_once() {
    let data = tempdir().unwrap();
    let address = free_address();
    let server = VictoriaLogs::start(&address, data.path());
    let (proxy, operations) = to(&format!("http://{address}"), "");
    for part in 0..5 {
        server.signal(Signal::SIGSTOP);
        let values = part * 1000..(part + 1) * 1000;
        let begun = Instant::now();
        assert_eq!(send(&operations, &messages("event", "slow", values)), "");
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "senders do not wait"
        );
        thread::sleep(Duration::from_millis(500));
        server.signal(Signal::SIGCONT);
    }
    eventually(|| proxy.sample(SENT), |sent| *sent == Some(5000.0));
    eventually(|| server.count("{app=\"slow\"}"), |count| *count >= 5000);
    assert!(server.values("slow").into_iter().eq(0..5000));
    assert_eq!(
        proxy.sample("exporter_proxy_sink_failures_total{sink=\"log\"}"),
        Some(0.0)
    );
    server.stop();
}

/// The number of the rejected message, in a line of an answer.
fn rejected(line: &str) -> usize {
    let (_, rest) = line.split_once("message ").unwrap();
    rest.split_once(':').unwrap().0.parse().unwrap()
}

/// A full queue rejects new items. Accepted ones arrive.
#[test]
#[ignore = "needs VictoriaLogs: scripts/test --sinks"]
fn what_a_full_queue_accepted_arrives() {
    let data = tempdir().unwrap();
    let address = free_address();
    let more = "max_queue = \"200KiB\"\nbatch_bytes = \"50KiB\"\n";
    let (proxy, operations) = to(&format!("http://{address}"), more);
    let mut accepted = Vec::new();
    for part in 0..100 {
        let values = part * 100..(part + 1) * 100;
        let answer = send(&operations, &messages("event", "full", values.clone()));
        let rejected: Vec<usize> = answer.lines().map(rejected).collect();
        assert!(
            answer.is_empty() || answer.contains("max_queue"),
            "{answer}"
        );
        accepted.extend(values.filter(|value| !rejected.contains(&(value % 100 + 1))));
    }
    assert!(
        accepted.len() > 500 && accepted.len() < 9000,
        "{}",
        accepted.len()
    );
    let rejected = "exporter_proxy_sink_items_total{result=\"no_buffer\",sink=\"log\"}";
    assert_eq!(
        proxy.sample(rejected),
        Some((10_000 - accepted.len()) as f64)
    );
    let server = VictoriaLogs::start(&address, data.path());
    eventually(
        || server.count("{app=\"full\"}"),
        |count| *count >= accepted.len() as u64,
    );
    assert_eq!(server.values("full"), accepted);
    server.stop();
}

#[test]
#[ignore = "needs VictoriaLogs: scripts/test --sinks"]
fn events_reach_a_server_with_tls_that_is_trusted() {
    let data = tempdir().unwrap();
    let address = free_address();
    let authority = Authority::new(data.path(), "ca");
    let own = authority.issue_for_address("server", &address);
    let flags = [
        "-tls".to_owned(),
        format!("-tlsCertFile={}", own.cert.display()),
        format!("-tlsKeyFile={}", own.key.display()),
    ];
    let server = VictoriaLogs::start_with(&address, &data.path().join("logs"), &flags);
    let trusting = format!("tls = {{ ca_file = {:?} }}\n", authority.ca);
    let (proxy, operations) = to(&format!("https://{address}"), &trusting);
    assert_eq!(send(&operations, &messages("event", "tls", 0..100)), "");
    eventually(|| proxy.sample(SENT), |sent| *sent == Some(100.0));
    let (other, operations) = to(&format!("https://{address}"), "");
    assert_eq!(send(&operations, &messages("event", "tls", 0..1)), "");
    let up = "exporter_proxy_sink_up{sink=\"log\"}";
    eventually(|| other.sample(up), |up| *up == Some(0.0));
    assert_eq!(other.sample(SENT), Some(0.0));
    drop(server);
}
