//! Remote write to the Prometheus in the path, and to VictoriaMetrics and the current Prometheus,
//! which `EXPORTER_PROXY_VICTORIA_METRICS` and `EXPORTER_PROXY_PROMETHEUS` name.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::tempdir;

use crate::harness::certificates::Authority;
use crate::harness::{Proxy, eventually, free_address, http_request, program};

#[allow(dead_code, reason = "tests of formats use more of it")]
#[path = "../proxy/natives.rs"]
mod natives;

/// A program that accepts remote write and answers PromQL.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Program {
    /// Debian's Prometheus, which accepts only protocol 1.0.
    Prometheus,
    /// A Prometheus that accepts protocol 2.0.
    CurrentPrometheus,
    VictoriaMetrics,
}

/// Programs that accept protocol 1.0.
const ALL: [Program; 2] = [Program::Prometheus, Program::VictoriaMetrics];

/// A running program. Dropping it ends the process.
struct Server {
    child: Child,
    address: String,
}

fn named(variable: &str) -> OsString {
    std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} names the program: run scripts/test --sinks"))
}

impl Program {
    fn start(self, address: &str, data: &Path, more: &[String]) -> Server {
        let data = data.join(format!("{self:?}"));
        let mut command = match self {
            Program::VictoriaMetrics => {
                let mut command = Command::new(named("EXPORTER_PROXY_VICTORIA_METRICS"));
                command
                    .arg(format!("-httpListenAddr={address}"))
                    .arg(format!("-storageDataPath={}", data.display()))
                    .arg("-search.latencyOffset=0s")
                    .arg("-search.disableCache");
                command
            }
            Program::Prometheus | Program::CurrentPrometheus => {
                let config = data.with_extension("yml");
                fs::write(&config, "{}\n").unwrap();
                let mut command = Command::new(match self {
                    Program::CurrentPrometheus => named("EXPORTER_PROXY_PROMETHEUS"),
                    _ => "prometheus".into(),
                });
                command
                    .arg(format!("--web.listen-address={address}"))
                    .arg(format!("--config.file={}", config.display()))
                    .arg(format!("--storage.tsdb.path={}", data.display()))
                    .arg("--web.enable-remote-write-receiver")
                    .arg("--enable-feature=native-histograms");
                command
            }
        };
        let child = command
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|problem| panic!("{self:?}: {problem}"));
        let server = Server {
            child,
            address: address.to_owned(),
        };
        eventually(|| TcpStream::connect(address).is_ok(), |is_up| *is_up);
        server
    }
}

impl Server {
    /// Stops the program as an operator does, so that it keeps all accepted data.
    fn stop(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
    }

    /// The series of a query: labels, and the value or values.
    fn query(&self, query: &str) -> Vec<Value> {
        let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let path = format!("/api/v1/query?query={query}");
        let answer = http_request(&self.address, "GET", &path, &[]);
        match answer.status {
            200 => answer.json()["data"]["result"].as_array().unwrap().clone(),
            // It is still starting.
            _ => Vec::new(),
        }
    }

    /// The value of the only series of a query; `None` if there is no series.
    fn value(&self, query: &str) -> Option<f64> {
        let found = self.query(query);
        assert!(found.len() < 2, "{found:?}");
        let value = found.first()?["value"][1].as_str()?;
        Some(value.parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A proxy that sends the series of the job `a` each half second.
fn proxy(url: &str, more: &str) -> Proxy {
    Proxy::start(&format!(
        "[sinks.to]\ntype = \"remote_write\"\nurl = \"{url}\"\ninterval = \"500ms\"\n\
         match = [\"{{job=\\\"a\\\"}}\"]\n{more}"
    ))
}

fn push(proxy: &Proxy, text: &str) {
    let answer = proxy.push("PUT", "/metrics/job/a", text);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
#[ignore = "needs Prometheus and VictoriaMetrics: scripts/test --sinks"]
fn series_arrive_change_and_go() {
    let data = tempdir().unwrap();
    for program in ALL {
        let address = free_address();
        let server = program.start(&address, data.path(), &[]);
        let mut proxy = proxy(
            &format!("http://{address}/api/v1/write"),
            "external_labels = { cluster = \"c\" }\n",
        );
        push(
            &proxy,
            "# TYPE orders counter\norders{kind=\"new é\"} 3\norders{kind=\"old\"} 4\n",
        );
        let new = "orders{cluster=\"c\",job=\"a\",kind=\"new é\"}";
        eventually(|| server.value(new), |it| *it == Some(3.0));
        push(&proxy, "# TYPE orders counter\norders{kind=\"new é\"} 5\n");
        eventually(|| server.value(new), |it| *it == Some(5.0));
        // Without a marker, the last value would be shown for five minutes.
        eventually(|| server.value("orders{kind=\"old\"}"), Option::is_none);
        assert_eq!(
            server.value("count_over_time(orders{kind=\"old\"}[5m]) > bool 0"),
            Some(1.0)
        );
        proxy.signal("TERM");
        assert!(proxy.wait().success());
        eventually(|| server.value(new), Option::is_none);
        assert!(!proxy.log().contains("refused"), "{}", proxy.log());
        server.stop();
    }
}

/// A server of protocol 2.0 takes samples, native histograms and markers, and confirms it: nothing
/// is sent in 1.0, and nothing counts as unwritten.
#[test]
#[ignore = "needs a current Prometheus: scripts/test --sinks"]
fn a_current_prometheus_takes_protocol_2() {
    let data = tempdir().unwrap();
    let address = free_address();
    let server = Program::CurrentPrometheus.start(&address, data.path(), &[]);
    let url = format!("http://{address}/api/v1/write");
    let proxy = proxy(&url, "protocol = \"2.0\"\n");
    let text = "# TYPE orders counter\norders{kind=\"new é\"} 3\norders{kind=\"old\"} 4\n";
    push(&proxy, text);
    let family = natives::family("took", natives::HISTOGRAM, natives::five_observations());
    let pushed = natives::push_with(&proxy, "POST", "/metrics/job/a", &[family]);
    assert_eq!(pushed.status, 200, "{}", pushed.text());
    eventually(|| server.value("sum(orders)"), |it| *it == Some(7.0));
    let took =
        || ["count", "sum"].map(|of| server.value(&format!("histogram_{of}(took{{job=\"a\"}})")));
    eventually(took, |it| *it == [Some(5.0), Some(5.5)]);
    push(&proxy, "# TYPE orders counter\norders{kind=\"new é\"} 5\n");
    // Two series and the histogram: all removed series have their markers.
    eventually(|| server.value("sum(orders)"), |it| *it == Some(5.0));
    eventually(took, |it| *it == [None, None]);
    let own = |name: &str| proxy.sample(&format!("exporter_proxy_remote_write_{name}"));
    assert_eq!(own("unwritten_total{sink=\"to\"}"), Some(0.0));
    assert!(own("points_total{sink=\"to\",type=\"histogram\"}").is_some_and(|it| it >= 1.0));
    let log = proxy.log();
    assert!(
        !log.contains("protocol") && !log.contains("refused"),
        "{log}"
    );
    server.stop();
}

/// The server is stopped for half a minute under load. Afterwards it has exactly the samples that
/// were queued.
#[test]
#[ignore = "needs Prometheus and VictoriaMetrics: scripts/test --sinks"]
fn a_server_that_is_away_for_half_a_minute_gets_everything() {
    const SERIES: usize = 1000;
    const ROUND: Duration = Duration::from_millis(250);
    let data = tempdir().unwrap();
    let mut addresses = Vec::new();
    let (mut servers, mut proxies) = (Vec::new(), Vec::new());
    for program in ALL {
        let address = free_address();
        servers.push(program.start(&address, data.path(), &[]));
        let url = format!("http://{address}/api/v1/write");
        // Unchanged values are not sent, so that samples can be compared.
        let more = "batch_items = 300\nresend_unchanged = \"2m\"\n";
        proxies.push(proxy(&url, more));
        addresses.push(address);
    }
    let mut value = 0;
    let mut load = |time: Duration| {
        for _ in 0..time.div_duration_f64(ROUND) as usize {
            value += 1;
            let lines = (0..SERIES).map(|n| format!("load{{n=\"{n}\"}} {value}\n"));
            let text: String = lines.collect();
            proxies.iter().for_each(|proxy| push(proxy, &text));
            sleep(ROUND);
        }
        value
    };
    load(Duration::from_secs(2));
    for server in &servers {
        eventually(
            || server.value("count(load)"),
            |it| *it == Some(SERIES as f64),
        );
    }
    servers.into_iter().for_each(Server::stop);
    load(Duration::from_secs(30));
    let programs = ALL.iter().zip(&addresses);
    let programs = programs.map(|(program, address)| program.start(address, data.path(), &[]));
    let servers: Vec<Server> = programs.collect();
    let last = load(Duration::from_secs(2));
    for (server, proxy) in servers.iter().zip(&proxies) {
        let settled = format!("count(load == {last})");
        eventually(|| server.value(&settled), |it| *it == Some(SERIES as f64));
        let sent = "exporter_proxy_remote_write_points_total{sink=\"to\",type=\"sample\"}";
        // `count` drops names, so the test counts family by family.
        let families = ["load", "push_time_seconds", "push_failure_time_seconds"];
        let stored = families.map(|family| format!("sum(count_over_time({family}[10m]))"));
        let stored = stored.join(" + ");
        let counts = || (proxy.sample(sent), server.value(&stored));
        eventually(counts, |(sent, stored)| sent.is_some() && sent == stored);
        // Each push changes all series, and is collected completely.
        let counts = "count_over_time(load[10m])";
        let spread = format!("max({counts}) - min({counts})");
        assert_eq!(server.value(&spread), Some(0.0), "{}", server.address);
        for result in ["refused", "no_buffer", "timeout"] {
            let dropped =
                format!("exporter_proxy_sink_items_total{{result=\"{result}\",sink=\"to\"}}");
            assert_eq!(proxy.sample(&dropped), None, "{}", server.address);
        }
    }
}

/// A sample that Prometheus refuses is counted, and does not affect others of the request.
#[test]
#[ignore = "needs Prometheus: scripts/test --sinks"]
fn refused_samples_are_counted_and_cost_no_others() {
    let data = tempdir().unwrap();
    let address = free_address();
    let server = Program::Prometheus.start(&address, data.path(), &[]);
    let url = format!("http://{address}/api/v1/write");
    let proxy = Proxy::start(&format!(
        "[exposition]\nmode = \"merged\"\n[sinks.to]\ntype = \"remote_write\"\nurl = \"{url}\"\n\
             interval = \"500ms\"\nmatch = [\"good\", \"bad\"]\n"
    ));
    assert_eq!(proxy.push_tcp(b"{\"a\":\"good 1\"}"), "");
    let count = || server.value("count_over_time(good[1m])");
    // An empty database accepts any time.
    eventually(count, |it| it.is_some_and(|it| it > 1.0));
    assert_eq!(proxy.push_tcp(b"{\"a\":\"bad 1 1000\\ngood 1\"}"), "");
    let refused = "exporter_proxy_sink_items_total{result=\"refused\",sink=\"to\"}";
    eventually(|| proxy.sample(refused), |it| *it == Some(1.0));
    let before = count().unwrap();
    eventually(count, |it| it.is_some_and(|it| it > before + 2.0));
    assert_eq!(server.value("bad"), None);
    // It is sent once.
    assert_eq!(proxy.sample(refused), Some(1.0));
}

/// The bcrypt hash of a password.
fn hash(password: &str) -> String {
    let mut child = program()
        .arg("hash-password")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
#[ignore = "needs Prometheus: scripts/test --sinks"]
fn prometheus_with_tls_and_a_password() {
    let data = tempdir().unwrap();
    let authority = Authority::new(data.path(), "ca");
    let address = free_address();
    let pair = authority.issue_for_address("server", &address);
    let web = data.path().join("web.yml");
    fs::write(
        &web,
        format!(
            "tls_server_config:\n  cert_file: {}\n  key_file: {}\nbasic_auth_users:\n  writer: {}\n",
            pair.cert.display(),
            pair.key.display(),
            hash("secret")
        ),
    )
    .unwrap();
    let more = format!("--web.config.file={}", web.display());
    let _server = Program::Prometheus.start(&address, data.path(), &[more]);
    let sent = "exporter_proxy_sink_items_total{result=\"ok\",sink=\"to\"}";
    let refused = "exporter_proxy_sink_items_total{result=\"refused\",sink=\"to\"}";
    for (password, expected) in [("secret", sent), ("wrong", refused)] {
        let proxy = proxy(
            &format!("https://{address}/api/v1/write"),
            &format!(
                "basic_auth = {{ username = \"writer\", password = \"{password}\" }}\ntls = {{ ca_file = \"{}\" }}\n",
                authority.ca.display()
            ),
        );
        push(&proxy, "a 1\n");
        eventually(
            || proxy.sample(expected),
            |it| it.is_some_and(|it| it >= 2.0),
        );
    }
}
