//! Operations, sent with the tools and libraries that people use.

use std::path::PathBuf;

use tempfile::TempDir;

use crate::gateway::Page;
use crate::harness::{Proxy, eventually};
use crate::readers::{expect_values, scraping};
use crate::tools::{self, Tool, command, run, run_with};

/// A proxy with a socket of each kind for operations.
pub struct Counting {
    pub proxy: Proxy,
    /// `127.0.0.1:port`.
    pub tcp: String,
    pub udp: String,
    pub unix: PathBuf,
    pub datagrams: PathBuf,
    /// Holds the sockets.
    _dir: TempDir,
}

impl Counting {
    /// Starts it with further settings of `[operations]`.
    pub fn start(config: &str) -> Self {
        Counting::with(&format!(
            "tcp = \"127.0.0.1:0\"\nudp = \"127.0.0.1:0\"\n{config}"
        ))
    }

    /// Like [`start`](Self::start), with addresses in the settings.
    pub fn with(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (unix, datagrams) = (dir.path().join("o.sock"), dir.path().join("d.sock"));
        let proxy = Proxy::start(&format!(
            "[operations]\nunix_sockets = [{unix:?}]\nunix_datagram_sockets = [{datagrams:?}]\n{config}"
        ));
        let log = proxy.log();
        let bound = |sort: &str| {
            let marker = format!("operations on {sort} socket ");
            let (_, rest) = log.split_once(&marker).expect("the address is logged");
            rest.lines().next().expect("a line").to_owned()
        };
        Counting {
            tcp: bound("TCP"),
            udp: bound("UDP"),
            unix,
            datagrams,
            proxy,
            _dir: dir,
        }
    }

    /// Replaces `<unix>`, `<datagrams>`, `<tcp>` and `<udp>` in a text by the sockets: paths, or
    /// `host:port`.
    pub fn filled(&self, text: &str) -> String {
        text.replace("<datagrams>", &self.datagrams.display().to_string())
            .replace("<unix>", &self.unix.display().to_string())
            .replace("<tcp>", &self.tcp)
            .replace("<udp>", &self.udp)
    }

    /// Waits until series have these values.
    #[track_caller]
    pub fn come_to(&self, samples: &[(&str, f64)]) {
        for (series, value) in samples {
            eventually(
                || Page::parse(&self.proxy.metrics()),
                |page| page.value(series) == Some(*value),
            );
        }
    }

    /// The number of messages with this result, on all sockets.
    pub fn results(&self, result: &str) -> f64 {
        let text = self.proxy.metrics();
        let start = format!("exporter_proxy_operations_total{{result=\"{result}\",");
        let counts = text.lines().filter(|line| line.starts_with(&start));
        counts
            .map(|line| {
                let (_, value) = line.rsplit_once(' ').expect("a value");
                value.parse::<f64>().expect("a number")
            })
            .sum()
    }
}

/// Runs a Python program with the sockets as arguments: TCP, UDP, the stream socket, the datagram
/// socket.
pub fn python(tool: Tool, program: &str, counting: &Counting) {
    run(command(tool)
        .args(["-c", program])
        .args([&counting.tcp, &counting.udp])
        .args([&counting.unix, &counting.datagrams]));
}

#[test]
fn netcat_and_socat_send_on_every_socket() {
    if !tools::here(&[Tool::Netcat, Tool::Socat]) {
        return;
    }
    let counting = Counting::start("");
    let (host, port) = counting.tcp.split_once(':').expect("a port");
    let (_, udp_port) = counting.udp.split_once(':').expect("a port");
    let (unix, datagrams) = (counting.filled("<unix>"), counting.filled("<datagrams>"));
    let ways: [(Tool, &[&str]); 9] = [
        (Tool::Netcat, &["-N", "-U", &unix]),
        (Tool::Netcat, &["-N", host, port]),
        (Tool::Netcat, &["-u", "-w1", host, udp_port]),
        (Tool::Socat, &["-u", "-", &format!("UNIX-CONNECT:{unix}")]),
        (Tool::Socat, &["-", &format!("UNIX-CONNECT:{unix}")]),
        (
            Tool::Socat,
            &["-u", "-", &format!("UNIX-SENDTO:{datagrams}")],
        ),
        (Tool::Socat, &["-u", "-", &format!("TCP:{}", counting.tcp)]),
        (Tool::Socat, &["-", &format!("TCP:{}", counting.tcp)]),
        (
            Tool::Socat,
            &["-u", "-", &format!("UDP-SENDTO:{}", counting.udp)],
        ),
    ];
    for (number, (tool, arguments)) in ways.into_iter().enumerate() {
        let text = format!(
            "{{\"name\":\"sent_total\",\"op\":\"inc\",\"value\":2,\n \"labels\":{{\"way\":\"{number}\"}}}}\n\
             sent_total:1|c|#way:{number}\n"
        );
        let printed = run_with(command(tool).args(arguments), text.as_bytes());
        assert_eq!(printed.stdout + &printed.stderr, "", "{arguments:?}");
        counting.come_to(&[(&format!("sent_total{{way=\"{number}\"}}"), 3.0)]);
    }
    let wrong = b"{\"name\":\"sent_total\",\"op\":\"inc\",\"value\":-1}\nsent_total:1|c\n";
    let printed = run_with(command(Tool::Netcat).args(["-N", "-U", &unix]), wrong);
    let expected = "error: message 1: a counter cannot go down, by -1\n";
    assert_eq!(printed.stdout, expected);
    counting.come_to(&[("sent_total", 1.0)]);
}

/// Messages as metrics-server's own users send them.
#[test]
fn php_sends_datagrams_by_socket_sendto() {
    if !tools::here(&[Tool::PhpSockets]) {
        return;
    }
    let counting = Counting::start("");
    let program = r#"
function send($socket, $message, ...$to) {
    $text = json_encode($message);
    if (socket_sendto($socket, $text, strlen($text), 0, ...$to) !== strlen($text)) {
        exit(1);
    }
}
[, $udp, $path] = $argv;
$messages = [
    ['name' => 'php_visits_total', 'op' => 'inc', 'value' => 1, 'labels' => ['page' => "Zürich {\"/\"}"]],
    ['name' => 'php_visits_total', 'op' => 'inc', 'value' => 1.5, 'labels' => null],
    ['name' => 'php_users', 'op' => 'set', 'value' => 12, 'help' => "Users\nnow."],
    ['name' => 'php_size', 'op' => 'obs', 'value' => 25, 'buckets' => 3, 'bucket_width' => 20],
];
[$host, $port] = explode(':', $udp);
$inet = socket_create(AF_INET, SOCK_DGRAM, SOL_UDP);
$unix = socket_create(AF_UNIX, SOCK_DGRAM, 0);
foreach ($messages as $message) {
    send($inet, $message, $host, (int) $port);
    send($unix, $message, $path);
}
// Several messages in one datagram.
$text = json_encode($messages);
socket_sendto($inet, $text, strlen($text), 0, $host, (int) $port);
"#;
    let printed = run(command(Tool::PhpSockets)
        .args(["-r", program, "--", &counting.udp])
        .arg(&counting.datagrams));
    assert_eq!(printed.stdout + &printed.stderr, "");
    counting.come_to(&[
        (r#"php_visits_total{page="Zürich {\"/\"}"}"#, 3.0),
        ("php_visits_total", 4.5),
        ("php_users", 12.0),
        ("php_size_bucket{le=\"0\"}", 0.0),
        ("php_size_bucket{le=\"20\"}", 0.0),
        ("php_size_bucket{le=\"40\"}", 3.0),
        ("php_size_sum", 75.0),
    ]);
    let page = Page::parse(&counting.proxy.metrics());
    assert_eq!(
        page.families["php_users"].help.as_deref(),
        Some("Users\\nnow.")
    );
    // They are counted just after their values are visible.
    eventually(|| counting.results("ok"), |count| *count == 12.0);
}

#[test]
fn pythons_statsd_package_sends_over_udp_tcp_and_unix() {
    if !tools::here(&[Tool::StatsdClients]) {
        return;
    }
    let counting = Counting::start("");
    let program = r#"
import random, sys
from datetime import timedelta
import statsd
from statsd.client import UnixSocketStatsClient

random.random = lambda: 0.0  # what is sampled is always sent

def use(client):
    client.incr("hits")
    client.incr("hits", 3)
    client.incr("sampled", rate=0.25)
    client.decr("hits")
    client.gauge("temperature", 20)
    client.gauge("temperature", 1.5, delta=True)
    client.gauge("temperature", -0.5, delta=True)
    client.gauge("below", -7)
    client.timing("work", 250)
    client.timing("work", timedelta(seconds=2))
    client.set("users", "ann")
    client.set("users", "bob")
    client.set("users", "ann")
    with client.pipeline() as pipe:
        pipe.incr("piped.calls")
        pipe.incr("piped.calls", 4)
    client.close()

tcp, udp, path, _ = sys.argv[1:]
host, port = udp.split(":")
use(statsd.StatsClient(host, int(port), prefix="udp"))
host, port = tcp.split(":")
use(statsd.TCPStatsClient(host, int(port), prefix="tcp"))
use(UnixSocketStatsClient(path, prefix="unix"))
"#;
    python(Tool::StatsdClients, program, &counting);
    for kind in ["udp", "tcp", "unix"] {
        let of = |rest: &str| format!("{kind}_{rest}");
        counting.come_to(&[
            (&of("hits"), 4.0),
            (&of("sampled"), 4.0),
            (&of("temperature"), 21.0),
            (&of("below"), -7.0),
            (&of("work_count"), 2.0),
            (&of("work_sum"), 2.25),
            (&of("work_bucket{le=\"0.25\"}"), 1.0),
            (&of("work_bucket{le=\"2.5\"}"), 2.0),
            (&of("users"), 2.0),
            (&of("piped_calls"), 5.0),
        ]);
    }
    assert_eq!(counting.results("bad_value"), 3.0, "counters do not fall");
}

#[test]
fn pythons_datadog_package_sends_over_udp_and_unix_datagrams() {
    if !tools::here(&[Tool::StatsdClients]) {
        return;
    }
    let counting = Counting::start("");
    let program = r#"
import sys
from datadog.dogstatsd import DogStatsd

def use(client, kind):
    tags = ["kind:" + kind, "env:prod", "canary"]
    client.increment("dog.hits", 2, tags=tags)
    client.increment("dog.hits", tags=tags)
    client.gauge("dog.load", 0.5, tags=tags)
    client.histogram("dog.size", 3, tags=tags)
    client.distribution("dog.spread", 0.3, tags=tags)
    client.timing("dog.work", 250, tags=tags)
    client.set("dog.users", "ann:b", tags=tags)
    client.set("dog.users", "bob", tags=tags)
    client.event("a title", "a text")
    client.service_check("app.ok", 0)
    client.flush()
    # Many lines in one datagram.
    with client:
        for _ in range(20):
            client.increment("dog.packed", tags=tags)

_, udp, _, path = sys.argv[1:]
host, port = udp.split(":")
use(DogStatsd(host=host, port=int(port), telemetry_min_flush_interval=0), "udp")
# It is to wait where the socket is full, and not to drop.
waiting = {"socket_timeout": 30, "telemetry_socket_timeout": 30}
use(DogStatsd(socket_path=path, telemetry_min_flush_interval=0, **waiting), "unix")
"#;
    python(Tool::StatsdClients, program, &counting);
    for kind in ["udp", "unix"] {
        let of = |name: &str, more: &str| {
            format!("{name}{{canary=\"true\",env=\"prod\",kind=\"{kind}\"{more}}}")
        };
        counting.come_to(&[
            (&of("dog_hits", ""), 3.0),
            (&of("dog_load", ""), 0.5),
            (&of("dog_size_sum", ""), 3.0),
            (&of("dog_size_bucket", ",le=\"5\""), 1.0),
            (&of("dog_spread_count", ""), 1.0),
            (&of("dog_work_sum", ""), 0.25),
            (&of("dog_users", ""), 2.0),
            (&of("dog_packed", ""), 20.0),
        ]);
    }
    // Events and checks become no metrics; everything else is accepted, including the package's
    // counts of itself.
    eventually(|| counting.results("unsupported"), |count| *count == 4.0);
    let metrics = counting.proxy.metrics();
    assert!(
        metrics.contains("datadog_dogstatsd_client_metrics{"),
        "{metrics}"
    );
    let rejected = metrics.lines().filter(|line| {
        line.starts_with("exporter_proxy_operations_total{")
            && !line.contains("\"ok\"")
            && !line.contains("\"unsupported\"")
    });
    assert_eq!(rejected.count(), 0, "{metrics}");
}

/// One operation of each kind, with help, as a careful sender would write them.
const CAREFUL: &str = r#"
{"name": "orders_total", "op": "inc", "value": 41, "help": "Orders.", "labels": {"paid": "card"}}
{"name": "orders_total", "op": "inc", "value": 2, "labels": {"shop": "ü \"quoted\" \\ and\na line"}}
{"name": "queue_messages", "op": "set", "value": 7, "help": "Messages that wait."}
{"name": "queue_messages", "op": "add", "value": -2}
{"name": "job_seconds", "op": "obs", "value": 0.3, "help": "Time of jobs.", "bucket_custom": [0.1, 1, 10]}
{"name": "visitors", "op": "set", "value": 0, "help": "Visitors that were seen."}
job_seconds:2:30|h
job_seconds:500|ms|@0.5
visitors:ann|s
visitors:bob|s
"#;

#[test]
fn promtool_finds_nothing_to_say_about_what_was_counted() {
    if !tools::here(&[Tool::Promtool, Tool::Netcat]) {
        return;
    }
    let counting = Counting::start("");
    let unix = counting.filled("<unix>");
    // The last one is rejected, so that the page has a reason, too.
    let text = format!("{CAREFUL}{{\"name\": \"orders_total\", \"op\": \"set\"}}\n");
    let printed = run_with(
        command(Tool::Netcat).args(["-N", "-U", &unix]),
        text.as_bytes(),
    );
    let expected = "error: message 11: family orders_total is a gauge here, and a counter already";
    assert_eq!(printed.stdout.trim_end(), expected);
    counting.come_to(&[("visitors", 2.0)]);
    let metrics = counting.proxy.metrics();
    let printed = run_with(
        command(Tool::Promtool).args(["check", "metrics"]),
        metrics.as_bytes(),
    );
    assert_eq!(printed.stdout + &printed.stderr, "", "{metrics}");
}

#[test]
fn a_real_prometheus_has_what_was_counted() {
    if !tools::here(&[Tool::Prometheus, Tool::Netcat, Tool::Socat]) {
        return;
    }
    let counting = Counting::start("extra_labels = { site = \"zrh\" }\n");
    let unix = counting.filled("<unix>");
    run_with(
        command(Tool::Netcat).args(["-N", "-U", &unix]),
        CAREFUL.as_bytes(),
    );
    let prometheus = scraping(&counting.proxy);
    expect_values(
        &prometheus,
        &[
            ("orders_total{paid=\"card\",site=\"zrh\"}", "41"),
            (
                r#"orders_total{shop="ü \"quoted\" \\ and\na line",site="zrh"}"#,
                "2",
            ),
            ("queue_messages", "5"),
            ("job_seconds_count", "5"),
            ("job_seconds_sum", "33.3"),
            // Prometheus 3 writes the bound as a float.
            ("job_seconds_bucket{le=~\"1|1.0\"}", "3"),
            ("visitors", "2"),
            ("up{job=\"exporter-proxy\"}", "1"),
            (
                "exporter_proxy_operations_total{result=\"ok\",transport=\"unix\"}",
                "10",
            ),
        ],
    );
    // Later operations appear in a later scrape, so that a rate can be computed.
    let datagrams = format!("UNIX-SENDTO:{}", counting.filled("<datagrams>"));
    run_with(
        command(Tool::Socat).args(["-u", "-", &datagrams]),
        b"orders_total:9|c|#paid:card\n{\"name\":\"queue_messages\",\"op\":\"del\"}\n",
    );
    expect_values(
        &prometheus,
        &[
            ("orders_total{paid=\"card\"}", "50"),
            ("increase(orders_total{paid=\"card\"}[1h]) > bool 0", "1"),
            ("absent(queue_messages)", "1"),
        ],
    );
}
