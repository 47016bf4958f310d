//! Pushes during the stop: everything acknowledged is there after the next start.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{PATIENCE, Proxy, eventually, eventually_within, http_request};
use crate::storage::{exposed, ok};
use crate::support::{Sender, logged, read_answer, text_of};

/// A proxy with every input; without a directory it has no storage.
fn start(directory: Option<&Path>, sync: &str, more: &str) -> Proxy {
    let path = directory.unwrap_or(Path::new(""));
    Proxy::start(&format!(
        "[storage]\npath = {path:?}\nsync = \"{sync}\"\n\
         [operations]\ntcp = \"127.0.0.1:0\"\n\
         [exporter]\n{more}"
    ))
}

/// An input, with a sender that sends increasing numbers.
struct Input {
    /// The series with the last number, or with the number of pushes.
    series: &'static str,
    connect: fn(&Proxy) -> String,
    /// Sends one number. `Ok(false)` if the proxy rejects it since it stops.
    push: fn(&str, &mut Option<TcpStream>, u64) -> io::Result<bool>,
}

/// Sends a request on a kept connection.
fn request(
    address: &str,
    kept: &mut Option<TcpStream>,
    line: &str,
    body: &str,
) -> io::Result<bool> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => TcpStream::connect(address)?,
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "{line} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )?;
    // Either the reply is complete, or the connection ends before it.
    let answer = read_answer(&mut stream, true).ok_or(io::ErrorKind::ConnectionReset)?;
    if answer.header("connection") != Some("close") {
        *kept = Some(stream);
    }
    match answer.status {
        200 | 202 => Ok(true),
        503 => Ok(false),
        _ => panic!("{line}: {answer:?}"),
    }
}

/// Sends to a socket, and waits until the proxy has closed its side.
fn send(address: &str, text: &str) -> io::Result<bool> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(text.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.is_empty())
}

fn push_address(proxy: &Proxy) -> String {
    proxy.push.clone()
}

fn operations_address(proxy: &Proxy) -> String {
    let log = proxy.log();
    let address = log
        .lines()
        .find_map(|line| Some(line.split_once("operations on TCP socket ")?.1));
    address.expect("operations are on").to_owned()
}

const INPUTS: &[Input] = &[
    Input {
        series: "put{instance=\"\",job=\"a\"}",
        connect: push_address,
        push: |address, kept, number| {
            request(
                address,
                kept,
                "PUT /metrics/job/a",
                &format!("put {number}\n"),
            )
        },
    },
    Input {
        series: "post{instance=\"\",job=\"b\"}",
        connect: push_address,
        push: |address, _, number| {
            request(
                address,
                &mut None,
                "POST /metrics/job/b",
                &format!("post {number}\n"),
            )
        },
    },
    Input {
        series: "batch{instance=\"\",job=\"c\"}",
        connect: push_address,
        push: |address, kept, number| {
            let json = format!(
                r#"{{"groups":[{{"labels":{{"job":"c"}},"metrics":"batch {number}\n"}}]}}"#
            );
            request(address, kept, "POST /api/v1/batch", &json)
        },
    },
    Input {
        series: "added_total",
        connect: push_address,
        push: |address, kept, _| {
            let text = "# TYPE added_total counter\nadded_total 1\n";
            request(address, kept, "POST /metrics?mode=aggregate", text)
        },
    },
    Input {
        series: "created_total",
        connect: push_address,
        push: |address, kept, _| {
            let text = "# TYPE created_total counter\ncreated_total 1\n";
            request(address, kept, "POST /create", text)
        },
    },
    Input {
        series: "operation_total",
        connect: operations_address,
        push: |address, _, _| send(address, "operation_total:1|c\n"),
    },
];

/// The numbers that a sender knows.
#[derive(Default)]
struct Sent {
    acknowledged: AtomicU64,
    begun: AtomicU64,
}

/// Pushes to all inputs until the proxy is gone. Stops it with `signal` after `enough`
/// acknowledged pushes of each.
fn stop_under_load(proxy: &mut Proxy, signal: &str, enough: u64) -> Vec<(u64, u64)> {
    let sent: Vec<Sent> = INPUTS.iter().map(|_| Sent::default()).collect();
    let addresses: Vec<String> = INPUTS.iter().map(|input| (input.connect)(proxy)).collect();
    thread::scope(|scope| {
        for ((input, sent), address) in INPUTS.iter().zip(&sent).zip(&addresses) {
            scope.spawn(move || {
                let mut kept = None;
                for number in 1.. {
                    sent.begun.store(number, Ordering::SeqCst);
                    match (input.push)(address, &mut kept, number) {
                        Ok(true) => sent.acknowledged.store(number, Ordering::SeqCst),
                        Ok(false) | Err(_) => break,
                    }
                }
            });
        }
        let fewest = || {
            let counts = sent
                .iter()
                .map(|sent| sent.acknowledged.load(Ordering::SeqCst));
            counts.min().unwrap_or_default()
        };
        eventually_within(4 * PATIENCE, fewest, |fewest| *fewest >= enough);
        proxy.signal(signal);
        let status = proxy.wait();
        assert_eq!(status.code(), Some(0), "{}", proxy.log());
    });
    let counts = |sent: Sent| (sent.acknowledged.into_inner(), sent.begun.into_inner());
    sent.into_iter().map(counts).collect()
}

#[test]
fn every_acknowledged_push_is_there_after_the_restart() {
    for (sync, signal) in [("write", "TERM"), ("always", "INT")] {
        for enough in [1, 10, 40] {
            let directory = tempfile::tempdir().unwrap();
            let mut proxy = start(Some(directory.path()), sync, "");
            let sent = stop_under_load(&mut proxy, signal, enough);
            let proxy = start(Some(directory.path()), sync, "");
            for (input, (acknowledged, begun)) in INPUTS.iter().zip(sent) {
                let found = proxy.sample(input.series).unwrap_or_default();
                assert!(
                    (acknowledged as f64..=begun as f64).contains(&found),
                    "{sync}, {}: {found} of {acknowledged} to {begun}",
                    input.series
                );
            }
        }
    }
}

#[test]
fn without_storage_every_request_is_answered_or_not_begun() {
    for signal in ["TERM", "INT"] {
        let mut proxy = start(None, "write", "");
        stop_under_load(&mut proxy, signal, 20);
        let log = logged(&proxy, "exporter_proxy] stopped\n", 1);
        assert!(!log.contains("did not finish"), "{log}");
    }
}

/// Sends the first half of a push; the rest is `n 7`.
fn half_a_push(proxy: &Proxy) -> Sender {
    let mut sender = Sender::to(&proxy.push);
    sender.send(b"PUT /metrics/job/half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n");
    // The proxy has one thread, which had read the head before it answered this request.
    ok(&proxy.push("PUT", "/metrics/job/other", "other 1\n"));
    sender
}

const ONE_THREAD: &str = "worker_threads = 0\n";

#[test]
fn a_push_that_is_completed_during_the_grace_period_is_stored() {
    for sync in ["write", "always"] {
        let directory = tempfile::tempdir().unwrap();
        let mut proxy = start(Some(directory.path()), sync, ONE_THREAD);
        let mut sender = half_a_push(&proxy);
        proxy.signal("TERM");
        logged(&proxy, "SIGTERM: stopping", 1);
        sender.send(b"n 7\n");
        let answer = read_answer(&mut sender.0, true).expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(proxy.wait().code(), Some(0));
        let proxy = start(Some(directory.path()), sync, "");
        assert!(exposed(&proxy).contains("n{instance=\"\",job=\"half\"} 7"));
    }
}

#[test]
fn a_push_without_its_end_does_not_cost_those_that_were_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let more = format!("{ONE_THREAD}shutdown_timeout = \"300ms\"\n");
    let mut proxy = start(Some(directory.path()), "write", &more);
    let mut sender = half_a_push(&proxy);
    let start_of_stop = Instant::now();
    proxy.signal("TERM");
    assert_eq!(proxy.wait().code(), Some(0));
    assert!(start_of_stop.elapsed() < Duration::from_secs(10));
    assert_eq!(sender.read_to_end(), "");
    let proxy = start(Some(directory.path()), "write", "");
    let text = exposed(&proxy);
    assert!(text.contains("other{") && !text.contains("half"), "{text}");
}

#[test]
fn a_second_signal_ends_it_at_once_and_what_was_acknowledged_is_there() {
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM"), ("TERM", "INT")] {
        let directory = tempfile::tempdir().unwrap();
        let more = format!("{ONE_THREAD}shutdown_timeout = \"1h\"\n");
        let mut proxy = start(Some(directory.path()), "write", &more);
        let _sender = half_a_push(&proxy);
        proxy.signal(first);
        logged(&proxy, "stopping; a second one stops at once", 1);
        proxy.signal(second);
        assert_eq!(proxy.wait().code(), Some(1));
        let proxy = start(Some(directory.path()), "write", "");
        assert!(exposed(&proxy).contains("other{"));
    }
}

#[test]
fn a_scraper_that_does_not_read_is_cut_off_after_the_grace_period() {
    let directory = tempfile::tempdir().unwrap();
    let mut proxy = start(
        Some(directory.path()),
        "write",
        "shutdown_timeout = \"500ms\"\n",
    );
    // More than fits into the buffers of a connection.
    let text = format!("{{\"large\":\"m 1\\n# {}\"}}", "x".repeat(12_000_000));
    assert_eq!(proxy.push_tcp(text.as_bytes()), "");
    eventually(|| text_of(&proxy, "large").is_some(), |there| *there);
    let mut scraper = Sender::to(&proxy.http);
    scraper.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    scraper.0.read_exact(&mut [0; 100]).unwrap();
    ok(&proxy.push("PUT", "/metrics/job/last", "last 1\n"));
    let start_of_stop = Instant::now();
    proxy.signal("TERM");
    assert_eq!(proxy.wait().code(), Some(0));
    let took = start_of_stop.elapsed();
    assert!(
        took >= Duration::from_millis(500) && took < Duration::from_secs(15),
        "{took:?}"
    );
    logged(&proxy, "did not finish within 500ms", 1);
    let proxy = start(Some(directory.path()), "write", "");
    let answer = http_request(&proxy.http, "GET", "/metrics?app=large", &[]);
    assert!(answer.text().contains("m 1\n") && exposed(&proxy).contains("last{"));
}
