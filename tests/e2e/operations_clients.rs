//! The clients to copy, in `client/`: they send what they should, and never fail the programs that
//! use them.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};

use crate::gateway::Page;
use crate::harness::{eventually, http_request};
use crate::operations::Counting;
use crate::tools::{self, Server, Tool, command, command_of, root, run};

fn client(file: &str) -> PathBuf {
    root().join("client").join(file)
}

/// Every kind of address, with placeholders for the sockets.
const ADDRESSES: [&str; 4] = [
    "unix:<unix>",
    "unixgram:<datagrams>",
    "tcp:<tcp>",
    "udp:<udp>",
];

/// Runs a Python program beside the client, with addresses as arguments.
fn python(program: &str, addresses: &[String]) -> String {
    run(command(Tool::Python)
        .args(["-c", program])
        .args(addresses)
        .env("PYTHONPATH", client("python")))
    .stderr
}

#[test]
fn pythons_client_sends_over_every_socket() {
    if !tools::here(&[Tool::Python]) {
        return;
    }
    let counting = Counting::start("");
    let program = r#"
import logging, sys
from operations import Operations

logging.basicConfig(format="%(message)s")
for address in sys.argv[1:]:
    metrics = Operations(address, timeout=30)
    kind = address.split(":")[0]
    jobs = metrics.counter("jobs_total", "Jobs\ndone.", kind=kind, help="a label", name='"}{\\')
    assert jobs.inc() and jobs.inc(2)
    waiting = metrics.gauge("jobs_waiting", "Jobs that wait.", kind=kind)
    assert waiting.set(7.5) and waiting.add(-1)
    seconds = metrics.histogram("job_seconds", bucket_custom=[0.5, 60]).labels(kind=kind)
    assert seconds.observe(0.25)
    with seconds.time():
        pass
    gone = metrics.gauge("gone", kind=kind)
    assert gone.set(1) and gone.remove()
    assert metrics.send(
        {"name": "sent_total", "op": "inc", "value": 1, "labels": {"kind": kind}},
        {"name": "sent_total", "op": "inc", "value": -1, "labels": {"kind": kind}},
    )
    metrics.close()
"#;
    let addresses = ADDRESSES.map(|address| counting.filled(address));
    let said = python(program, &addresses);
    let refused = "refused: error: message 10: a counter cannot go down, by -1.0\n";
    assert_eq!(said, refused.replace("-1.0", "-1").repeat(2), "streams say");
    for kind in ["unix", "unixgram", "tcp", "udp"] {
        let label = format!("kind=\"{kind}\"");
        counting.come_to(&[
            (
                &format!("jobs_total{{help=\"a label\",{label},name=\"\\\"}}{{\\\\\"}}"),
                3.0,
            ),
            (&format!("jobs_waiting{{{label}}}"), 6.5),
            (&format!("job_seconds_count{{{label}}}"), 2.0),
            (&format!("job_seconds_bucket{{{label},le=\"0.5\"}}"), 2.0),
            (&format!("sent_total{{{label}}}"), 1.0),
        ]);
    }
    let page = Page::parse(&counting.proxy.metrics());
    assert!(!page.families.contains_key("gone"));
    assert_eq!(
        page.families["jobs_total"].help.as_deref(),
        Some("Jobs\\ndone.")
    );
}

#[test]
fn pythons_client_drops_what_cannot_be_sent_and_connects_again() {
    if !tools::here(&[Tool::Python]) {
        return;
    }
    // The proxy soon closes idle connections.
    let counting = Counting::start("idle_timeout = \"50ms\"\n");
    let program = r#"
import select, sys
from operations import Operations

for nowhere in ["unix:/nowhere/x.sock", "unixgram:/nowhere/x.sock", "tcp:127.0.0.1:1"]:
    metrics = Operations(nowhere, timeout=0.5)
    assert not metrics.counter("lost_total").inc()
    metrics.close()
for address in sys.argv[1:]:
    metrics = Operations(address, timeout=30)
    kept = metrics.counter("kept_total", "", kind=address.split(":")[0])
    for _ in range(3):
        assert kept.inc()
        # Until the proxy has closed it.
        assert select.select([metrics.socket], [], [], 30)[0]
"#;
    let addresses = ["unix:<unix>", "tcp:<tcp>"].map(|address| counting.filled(address));
    assert_eq!(python(program, &addresses), "");
    counting.come_to(&[
        ("kept_total{kind=\"unix\"}", 3.0),
        ("kept_total{kind=\"tcp\"}", 3.0),
    ]);
}

/// The client reports a wrong address at once. It drops a value that is not a number, since that is
/// no reason to fail a job.
#[test]
fn pythons_client_tells_wrong_addresses_and_drops_wrong_values() {
    if !tools::here(&[Tool::Python]) {
        return;
    }
    let counting = Counting::start("");
    let program = r#"
import logging, sys
from decimal import Decimal
from fractions import Fraction
from operations import Operations

for wrong in ["", "tcp", "tcp:", "tcp:1", "tcp::1", "tcp:[]:1", "tcp:h:", "udp:host", "udp:host:x",
        "udp:host:0", "udp:host:65536", "udp:host:\u0661", "tcp:a..b:1", "tcp:\ud800:1", "tcp:a\0b:1",
        "unix:", "unix:/a\0b", "unixgram:/" + 107 * "a", "unix:\ud800", "http:h:1", None, b"tcp:h:1"]:
    try:
        Operations(wrong)
    except ValueError:
        continue
    raise AssertionError(wrong)
for wrong in [0, -1, None, float("nan"), float("inf"), 1e300, "1"]:
    try:
        Operations("tcp:127.0.0.1:1", timeout=wrong)
    except ValueError:
        continue
    raise AssertionError(wrong)

logging.basicConfig(format="%(message)s", stream=sys.stdout)
for address in sys.argv[1:]:
    metrics = Operations(address, timeout=30)
    kind = address.split(":")[0]
    jobs = metrics.counter("jobs_total", kind=kind)
    assert jobs.inc(Decimal("1.5")) and jobs.inc(Fraction(1, 4)) and jobs.inc(True)
    seconds = metrics.histogram("job_seconds", bucket_custom=[Decimal("0.5"), 60])
    assert seconds.labels(kind=kind).observe(0.25)
    wrong = [None, "1", b"1", [], {}, 1j, object(), float("nan"), float("-inf"), 10**400,
        Decimal("NaN"), Decimal("sNaN"), Decimal("1e999")]
    for value in wrong:
        assert jobs.inc(value) is False, value
    buckets = metrics.histogram("never_seconds", bucket_custom=[float("nan")])
    assert buckets.observe(1) is False
    endless = {}
    endless["endless"] = endless
    for message in [endless, {(): 1}, {"name": object()}]:
        assert metrics.send(message) is False
    metrics.close()
    print("not sent:", len(wrong))
"#;
    let said = run(command(Tool::Python)
        .args(["-c", program])
        .args(ADDRESSES.map(|address| counting.filled(address)))
        .env("PYTHONPATH", client("python")));
    assert_eq!(said.stderr, "");
    // The client logs each, and sends nothing that the proxy would reject.
    assert!(!said.stdout.contains("refused"), "{}", said.stdout);
    let dropped = said.stdout.matches("not sent: inc of 'jobs_total'");
    assert_eq!(dropped.count(), 13 * ADDRESSES.len(), "{}", said.stdout);
    for kind in ["unix", "unixgram", "tcp", "udp"] {
        let label = format!("kind=\"{kind}\"");
        counting.come_to(&[
            (&format!("jobs_total{{{label}}}"), 2.75),
            (&format!("job_seconds_bucket{{{label},le=\"0.5\"}}"), 1.0),
        ]);
    }
}

#[test]
fn pythons_client_sends_nothing_twice() {
    if !tools::here(&[Tool::Python]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = r#"
import socket, sys
from operations import Operations

proxy = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
proxy.bind(sys.argv[1])
proxy.listen()
metrics = Operations("unix:" + sys.argv[1], timeout=30)
assert metrics.counter("a_total").inc()
connection, _ = proxy.accept()
# More than there is room for, and nobody reads.
metrics.timeout = 0.2
long = {"name": "b_total", "op": "inc", "value": 1, "help": "x" * 8_000_000}
assert metrics.send({"name": "a_total", "op": "inc", "value": 1}, long) is False
assert metrics.socket is None
proxy.settimeout(0)
try:
    proxy.accept()
except BlockingIOError:
    pass
else:
    raise AssertionError("sent again")
# Nothing of the next is taken for the rest of it.
metrics.timeout = 30
proxy.settimeout(30)
assert metrics.counter("c_total").inc()
again, _ = proxy.accept()
# The other end stays open, so this ends by its timeout.
metrics.timeout = 0.2
metrics.close()
assert again.makefile().read().count("c_total") == 1
"#;
    let place = dir.path().join("proxy.sock").display().to_string();
    assert_eq!(python(program, &[place]), "");
}

#[test]
fn the_shells_functions_send_over_every_socket() {
    if !tools::here(&[Tool::Netcat, Tool::Socat]) {
        return;
    }
    let counting = Counting::start("");
    let script = r#"
set -eu
. operations.sh
OPS_TO=$1
kind=${1%%:*}
odd=$'a "b" \\ c\td\ne & {f} \x01 ü'
OPS_HELP='Jobs "done".' ops_inc jobs_total kind=$kind "odd=$odd"
ops_inc jobs_total 2 kind=$kind "odd=$odd"
ops_set jobs_waiting 7.5 kind=$kind
ops_add jobs_waiting -1e0 kind=$kind
OPS_BUCKETS='0.5 60' ops_obs job_seconds 41 kind=$kind equation=a=b
ops_set gone 1 kind=$kind
ops_del gone kind=$kind
bash operations.sh inc commands_total kind=$kind
# A value that is not a number is not sent.
! ops_inc jobs_total 1x 2>/dev/null
! ops_set jobs_waiting 2>/dev/null
"#;
    for address in ADDRESSES {
        let printed = run(command_of(Path::new("bash"))
            .args(["-c", script, "script", &counting.filled(address)])
            .env("OPS_TO", counting.filled(address))
            .current_dir(client("shell")));
        assert_eq!(printed.stdout + &printed.stderr, "");
        let kind = address.split(':').next().expect("a kind");
        let label = format!("kind=\"{kind}\"");
        let odd = "odd=\"a \\\"b\\\" \\\\ c\td\\ne & {f} \u{1} ü\"";
        counting.come_to(&[
            (&format!("jobs_total{{{label},{odd}}}"), 3.0),
            (&format!("jobs_waiting{{{label}}}"), 6.5),
            (&format!("commands_total{{{label}}}"), 1.0),
            (
                &format!("job_seconds_bucket{{equation=\"a=b\",{label},le=\"0.5\"}}"),
                0.0,
            ),
            (
                &format!("job_seconds_bucket{{equation=\"a=b\",{label},le=\"60\"}}"),
                1.0,
            ),
        ]);
    }
    // Many messages on one connection, with answers for rejected ones.
    let script = "
. operations.sh
for i in {1..50}; do OPS_TO=- ops_inc looped_total; done | ops_send
ops_inc looped_total -1 && exit 1
for wrong in udp:localhost udp:localhost:x udp:127.0.0.1:65537 udp::1 tcp:127.0.0.1:0; do
    OPS_TO=$wrong ops_inc looped_total 2>/dev/null && exit 1
done
OPS_TO=unix:/nowhere/x.sock ops_inc looped_total 2>/dev/null && exit 1
exit 0
";
    let printed = run(command_of(Path::new("bash"))
        .args(["-c", script])
        .env("OPS_TO", counting.filled("unix:<unix>"))
        .current_dir(client("shell")));
    let expected = "error: message 1: a counter cannot go down, by -1\n";
    assert_eq!(printed.stderr, expected);
    counting.come_to(&[("looped_total", 50.0)]);
    let page = Page::parse(&counting.proxy.metrics());
    assert!(!page.families.contains_key("gone"));
}

#[test]
fn phps_class_sends_datagrams() {
    if !tools::here(&[Tool::PhpSockets]) {
        return;
    }
    let counting = Counting::start("");
    let program = r#"
require $argv[1];
$metrics = new Operations($argv[2]);
$kind = ['kind' => strtok($argv[2], ':')];
$all = $metrics->inc('visits_total') && $metrics->inc('visits_total', 2.5, $kind + ['page' => "\"a\"\n{"])
    && $metrics->inc('visits_total', 1, $kind + ['page' => "no \xff"])
    && $metrics->set('users', 12, $kind, ['help' => 'Users now.'])
    && $metrics->add('users', -2, $kind)
    && $metrics->obs('seconds', 0.3, $kind + ['code' => 404], ['bucket_custom' => [0.1, 0.5]])
    && $metrics->set('gone', 1, $kind) && $metrics->del('gone', $kind);
exit($all ? 0 : 1);
"#;
    for address in ["unixgram:<datagrams>", "udp:<udp>"] {
        let address = counting.filled(address);
        let printed = run(command(Tool::PhpSockets)
            .args(["-d", "error_reporting=-1", "-r", program, "--"])
            .arg(client("php/Operations.php"))
            .arg(&address));
        assert_eq!(printed.stdout + &printed.stderr, "");
        let kind = address.split(':').next().expect("a kind");
        let label = format!("kind=\"{kind}\"");
        counting.come_to(&[
            (
                &format!("visits_total{{{label},page=\"\\\"a\\\"\\n{{\"}}"),
                2.5,
            ),
            (
                &format!("visits_total{{{label},page=\"no \u{fffd}\"}}"),
                1.0,
            ),
            (&format!("users{{{label}}}"), 10.0),
            (
                &format!("seconds_bucket{{code=\"404\",{label},le=\"0.1\"}}"),
                0.0,
            ),
            (
                &format!("seconds_bucket{{code=\"404\",{label},le=\"0.5\"}}"),
                1.0,
            ),
        ]);
    }
    counting.come_to(&[("visits_total", 2.0)]);
    let page = Page::parse(&counting.proxy.metrics());
    assert!(!page.families.contains_key("gone"));
}

#[test]
fn clients_send_to_addresses_of_ipv6() {
    if !tools::here(&[Tool::PhpSockets, Tool::Python]) {
        return;
    }
    if UdpSocket::bind("[::1]:0").is_err() {
        // This machine has no IPv6.
        return;
    }
    let counting = Counting::with("udp = \"[::1]:0\"\ntcp = \"[::1]:0\"\n");
    let program = "require $argv[1]; exit((new Operations($argv[2]))->inc('php_total') ? 0 : 1);";
    run(command(Tool::PhpSockets)
        .args(["-r", program, "--"])
        .arg(client("php/Operations.php"))
        .arg(counting.filled("udp:<udp>")));
    let program = "
import sys
from operations import Operations
for address in sys.argv[1:]:
    metrics = Operations(address, timeout=30)
    assert metrics.counter('python_total').inc()
    metrics.close()
";
    python(
        program,
        &["udp:<udp>", "tcp:<tcp>"].map(|it| counting.filled(it)),
    );
    counting.come_to(&[("php_total", 1.0), ("python_total", 2.0)]);
}

/// Failures to count neither stop a page nor print anything into it.
#[test]
fn phps_class_never_fails_a_page() {
    if !tools::here(&[Tool::PhpSockets]) {
        return;
    }
    let program = r#"
if ($argv[3] === 'throws') {
    // As frameworks do.
    set_error_handler(function ($level, $text) { throw new ErrorException($text); });
}
require $argv[1];
foreach (['unixgram:/nowhere/x.sock', 'udp:nonsense', 'udp:', 'udp:127.0.0.1:65537', 'udp:127.0.0.1:9x', 'udp::9', 'nonsense', ''] as $address) {
    $metrics = new Operations($address);
    if ($metrics->inc('a_total') || $metrics->set('b', NAN) || $metrics->inc('c_total', 1, ['l' => []])) {
        exit(1);
    }
}
// A socket that nobody reads is full at some time.
$full = socket_create(AF_UNIX, SOCK_DGRAM, 0);
socket_bind($full, $argv[2]);
$metrics = new Operations('unixgram:' . $argv[2]);
if ($metrics->set('b', NAN) || $metrics->set('b', null) || $metrics->set('b', 'x')) {
    exit(1);
}
for ($sent = 0; $metrics->inc('a_total', '1.5'); $sent++);
echo $sent > 0 ? 'done' : 'nothing was sent';
"#;
    for warnings in ["shows", "throws"] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let printed = run(command(Tool::PhpSockets)
            .args(["-d", "error_reporting=-1", "-d", "display_errors=1"])
            .args(["-r", program, "--"])
            .arg(client("php/Operations.php"))
            .arg(dir.path().join("full.sock"))
            .arg(warnings));
        assert_eq!(printed.stdout + &printed.stderr, "done", "{warnings}");
    }
}

#[test]
fn phps_page_counts_its_views() {
    if !tools::here(&[Tool::PhpSockets]) {
        return;
    }
    let counting = Counting::start("");
    let web = Server::start(
        command(Tool::PhpSockets)
            .args(["-S", "127.0.0.1:0"])
            .arg(client("php/page.php"))
            .env("OPERATIONS", counting.filled("unixgram:<datagrams>")),
        |log| {
            let (_, rest) = log.split_once("Development Server (http://")?;
            Some(rest.split_once(')')?.0.to_owned())
        },
    );
    for (path, status) in [("/", 200), ("/", 200), ("/?missing", 404)] {
        let answer = eventually(
            || http_request(&web.address, "GET", path, &[]),
            |answer| answer.status == status,
        );
        assert!(answer.text().ends_with("<p>Hello!</p>\n"), "{answer:?}");
    }
    counting.come_to(&[
        ("page_views_total{code=\"200\",page=\"hello\"}", 2.0),
        ("page_views_total{code=\"404\",page=\"hello\"}", 1.0),
        ("page_seconds_count{page=\"hello\"}", 3.0),
        ("page_seconds_bucket{page=\"hello\",le=\"+Inf\"}", 3.0),
    ]);
}

/// Readers copy the heads of the files.
#[test]
fn each_client_says_how_it_is_used() {
    for file in [
        "php/Operations.php",
        "python/operations.py",
        "shell/operations.sh",
    ] {
        let text = fs::read_to_string(client(file)).expect("the client is there");
        let head: Vec<&str> = text.lines().take(12).collect();
        assert!(
            head.join("\n").contains("/run/exporter-proxy-"),
            "{file}: {head:?}"
        );
    }
}
