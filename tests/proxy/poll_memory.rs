//! The memory of many targets.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{Proxy, eventually_within};
use crate::support::resident;

const TARGETS: usize = 1000;

/// The approximate size of one target's text, in bytes.
const TEXT: usize = 9000;

/// Memory of a target beside its text, in bytes, in a build without optimisation, whose tasks are
/// larger. For an optimised build, `scripts/attack c14` allows 15 kB.
const ALLOWED: usize = 20 << 10;

/// A thousand polls take long on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

fn polling(targets: usize, port: u16) -> Proxy {
    let mut config =
        "[poll_external]\npoll_interval = \"5s\"\nclient_timeout = \"60s\"\n".to_owned();
    for at in 0..targets {
        // Each target has its own address, and so its own connections.
        let host = format!("127.1.{}.{}", at / 250, at % 250 + 1);
        let url = format!("http://{host}:{port}/metrics");
        writeln!(config, "[[poll_external.targets]]\nurl = \"{url}\"").unwrap();
    }
    Proxy::start(&config)
}

fn fresh(proxy: &Proxy) -> usize {
    let metrics = proxy.metrics();
    let succeeded =
        |line: &&str| line.starts_with("exporter_proxy_poll_success{") && line.ends_with(" 1");
    metrics.lines().filter(succeeded).count()
}

/// A server that keeps its connections. Returns its port, and the count of its answers.
fn server() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answers);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let count = Arc::clone(&count);
            thread::spawn(move || serve(stream.unwrap(), &count));
        }
    });
    (port, answers)
}

fn serve(mut stream: TcpStream, answers: &AtomicUsize) {
    let host = stream.local_addr().unwrap().ip();
    let mut text = String::with_capacity(TEXT + 200);
    for number in 0.. {
        if text.len() >= TEXT {
            break;
        }
        writeln!(
            text,
            "some_metric_total{{host=\"{host}\",number=\"{number}\"}} 7"
        )
        .unwrap();
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
    let answer = head + &text;
    // Requests are small, and arrive in one piece.
    let mut request = [0; 4096];
    while stream.read(&mut request).is_ok_and(|read| read > 0) {
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
        answers.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_thousand_targets_take_little_memory_beside_their_text() {
    let (port, answers) = server();
    let one = polling(1, port);
    eventually_within(LIMIT, || fresh(&one), |fresh| *fresh == 1);
    let base = resident(one.pid());
    let many = polling(TARGETS, port);
    eventually_within(LIMIT, || fresh(&many), |fresh| *fresh == TARGETS);
    // Each was polled more than once.
    eventually_within(
        LIMIT,
        || answers.load(Ordering::SeqCst),
        |answers| *answers > 2 * TARGETS + 100,
    );
    // Running polls take more memory, and on a busy machine many run at once.
    let each = || {
        let text = many.metrics().len() as u64;
        resident(many.pid()).saturating_sub(base + text) / TARGETS as u64
    };
    eventually_within(LIMIT, each, |each| *each <= ALLOWED as u64);
}
