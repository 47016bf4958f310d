//! Pushes and scrapes while every sink is dead and every input is loaded, beside a proxy
//! without sinks.

use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use bench::client::{Body, Client};
use bench::figures::{percentile, resident_bytes, wait_for_quiet};
use bench::payload::{app_text, capnp_message};
use bench::proxy::Proxy;

use crate::{Pair, SERIES, group, put};

const GROUPS: usize = 1_000;
const TURN: Duration = Duration::from_secs(5);
/// Pushes a second that are timed.
const PUSHES: u32 = 200;
/// Time between two scrapes.
const SCRAPES: Duration = Duration::from_millis(50);
/// Events a second, of each kind.
const EVENTS: usize = 2_000;
/// Operations and apps a second.
const OPERATIONS: usize = 2_000;
const APPS: usize = 100;
/// The limit of each queue. It is full before the first turn is over.
const QUEUE_MIB: usize = 4;

/// A proxy with the socket of its operations.
struct Subject {
    with: bool,
    proxy: Proxy,
    socket: PathBuf,
    udp: String,
}

pub fn measure(program: &Path, rounds: usize) -> Result<()> {
    let sockets = tempfile::tempdir()?;
    // A port that accepts connections and never answers, and one where nothing listens.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let closed = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut subjects = Vec::new();
    for with in [false, true] {
        let socket = sockets.path().join(format!("{with}.sock"));
        let udp = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let mut more = format!("[operations]\nunix_sockets = [{socket:?}]\nudp = \"{udp}\"\n");
        if with {
            // Operations are sent on and kept, so that both proxies do the same work.
            more += "forward_keep = true\n";
            let silent = silent.local_addr()?;
            for (name, kind, destination) in [
                ("silent", "loki", format!("url = \"http://{silent}\"")),
                ("closed", "loki", format!("url = \"http://{closed}\"")),
                ("search", "opensearch", format!("url = \"http://{closed}\"")),
                ("raw", "cql", format!("hosts = [\"{closed}\"]")),
                (
                    "prometheus",
                    "remote_write",
                    format!("url = \"http://{closed}\""),
                ),
                ("other", "operations", format!("url = \"tcp://{closed}\"")),
            ] {
                more += &format!(
                    "[sinks.{name}]\ntype = \"{kind}\"\n{destination}\n\
                     max_queue = \"{QUEUE_MIB}MiB\"\n"
                );
            }
        }
        let proxy = Proxy::start(program, 2, &more)?;
        let mut client = Client::connect(&proxy.addresses.push)?;
        (0..GROUPS).try_for_each(|number| put(&mut client, &group(number, 0)))?;
        subjects.push(Subject {
            with,
            proxy,
            socket,
            udp,
        });
    }
    let (mut pushes, mut scrapes, mut memory) = (Pair::default(), Pair::default(), Pair::default());
    // The first turn fills the queues and does not count.
    for round in 0..=rounds {
        subjects.rotate_left(1);
        for subject in &subjects {
            wait_for_quiet()?;
            let (push_times, scrape_times) = turn(subject, round as u64 * 1_000_000)?;
            if round > 0 {
                pushes.add(subject.with, percentile(push_times, 0.99) * 1e6);
                scrapes.add(subject.with, percentile(scrape_times, 0.99) * 1e3);
                let resident = resident_bytes(subject.proxy.pid())?;
                memory.add(subject.with, resident / f64::from(1 << 20));
            }
        }
    }
    println!(
        "\n| All inputs loaded | no sinks | six dead sinks of all kinds, queues of {QUEUE_MIB} MiB | factor |\n\
         | --- | ---: | ---: | ---: |"
    );
    pushes.print("push of 100 series: p99", "µs");
    scrapes.print("scrape of 100,000 series: p99", "ms");
    memory.print("resident memory", "MiB");
    drop(silent);
    Ok(())
}

/// Times of pushes and scrapes, in seconds, while other inputs are loaded.
fn turn(subject: &Subject, version: u64) -> Result<(Vec<f64>, Vec<f64>)> {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = [
            scope.spawn(|| operate(subject, &ended)),
            scope.spawn(|| send_apps(subject, &ended)),
            scope.spawn(|| send_datagrams(subject, &ended)),
        ];
        let scrapes = scope.spawn(|| scrape(subject, &ended));
        let pushes = push(subject, version);
        ended.store(true, Ordering::Relaxed);
        for thread in load {
            thread.join().expect("a sender does not panic")?;
        }
        let scrapes = scrapes.join().expect("a scraper does not panic")?;
        Ok((pushes?, scrapes))
    })
}

fn push(subject: &Subject, version: u64) -> Result<Vec<f64>> {
    let mut client = Client::connect(&subject.proxy.addresses.push)?;
    let texts: Vec<_> = (0..GROUPS).map(|number| group(number, version)).collect();
    let mut times = Vec::new();
    let begun = Instant::now();
    for (count, pushed) in (0..).zip(texts.iter().cycle()) {
        thread::sleep((Duration::from_secs(count) / PUSHES).saturating_sub(begun.elapsed()));
        if begun.elapsed() > TURN {
            break;
        }
        let start = Instant::now();
        put(&mut client, pushed)?;
        times.push(start.elapsed().as_secs_f64());
    }
    Ok(times)
}

fn scrape(subject: &Subject, ended: &AtomicBool) -> Result<Vec<f64>> {
    let mut client = Client::connect(&subject.proxy.addresses.http)?;
    let mut times = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let start = Instant::now();
        client.get("/metrics", true, Body::Count)?;
        times.push(start.elapsed().as_secs_f64());
        thread::sleep(SCRAPES);
    }
    Ok(times)
}

/// Operations and events over a Unix socket. Without sinks, events are rejected.
fn operate(subject: &Subject, ended: &AtomicBool) -> Result<()> {
    let mut stream = UnixStream::connect(&subject.socket)?;
    let mut answers = stream.try_clone()?;
    // Rejected messages are answered, and the answers must be read.
    thread::spawn(move || std::io::copy(&mut answers, &mut std::io::sink()));
    let mut line = 0;
    at_rate(OPERATIONS + 3 * EVENTS, ended, |count| {
        let mut text = Vec::new();
        for _ in 0..count {
            line += 1;
            let op = ["inc", "event", "index", "raw"][line % 4];
            writeln!(
                text,
                "{{\"name\":\"load_{}\",\"op\":\"{op}\",\"value\":1,\"labels\":{{\"host\":\"h{}\"}}}}",
                line % 10,
                line % 100
            )?;
        }
        stream.write_all(&text)?;
        Ok(())
    })
}

fn send_apps(subject: &Subject, ended: &AtomicBool) -> Result<()> {
    let mut stream = UnixStream::connect(&subject.proxy.addresses.unix)?;
    let mut number = 0;
    at_rate(APPS, ended, |count| {
        for _ in 0..count {
            number += 1;
            let app = format!("app{:02}", number % 50);
            stream.write_all(&capnp_message(&app, &app_text(&app, SERIES, number)))?;
        }
        Ok(())
    })
}

fn send_datagrams(subject: &Subject, ended: &AtomicBool) -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    at_rate(OPERATIONS, ended, |count| {
        for _ in 0..count {
            socket.send_to(b"datagrams:1|c|#a:b", &subject.udp)?;
        }
        Ok(())
    })
}

/// Calls `send` with the number of messages that are due, until the turn has ended.
fn at_rate(
    rate: usize,
    ended: &AtomicBool,
    mut send: impl FnMut(usize) -> Result<()>,
) -> Result<()> {
    let begun = Instant::now();
    let mut sent = 0;
    while !ended.load(Ordering::Relaxed) {
        let due = (begun.elapsed().as_secs_f64() * rate as f64) as usize;
        send(due - sent)?;
        sent = due;
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
