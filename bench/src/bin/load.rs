//! Load generator: pushes the metrics of many apps to a proxy at full speed, scrapes them, and
//! prints the results as Markdown.
//!
//! `bench/main_job` builds and runs it. It starts the proxy from its own directory on free ports of
//! the loopback; with `--tcp`, `--unix` and `--http` it uses a running proxy. A push counts once
//! the proxy has closed the connection after reading it. At the end, the proxy's count of stored
//! messages must match.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use bench::figures::{median, resident_bytes};
use bench::payload::{app_text, capnp_message, json_document};
use bench::proxy::{self, Addresses, Proxy};

#[derive(Parser)]
#[command(about = "Pushes and scrapes as fast as the proxy takes it, and prints the figures.")]
struct Arguments {
    /// Apps that push
    #[arg(long, default_value_t = 1000)]
    apps: usize,
    /// Series of each app
    #[arg(long, default_value_t = 100)]
    series: usize,
    /// Seconds for each way of pushing
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Rounds; medians are printed
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Sending threads
    #[arg(long, default_value_t = 4)]
    threads: usize,
    /// Scrapes to time in each coding
    #[arg(long, default_value_t = 50)]
    scrapes: usize,
    /// The proxy to start [default: the one in this program's directory]
    #[arg(long)]
    proxy: Option<PathBuf>,
    /// Worker threads of the started proxy
    #[arg(long, default_value_t = 2)]
    worker_threads: usize,
    /// TCP receiver of a running proxy
    #[arg(long, requires_all = ["unix", "http"])]
    tcp: Option<String>,
    /// Unix receiver of a running proxy
    #[arg(long)]
    unix: Option<PathBuf>,
    /// HTTP address of a running proxy
    #[arg(long)]
    http: Option<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let started = match &arguments.tcp {
        None => Some(start(&arguments)?),
        Some(_) => None,
    };
    let proxy = match (&started, &arguments) {
        (Some(started), _) => started.addresses.clone(),
        (
            None,
            Arguments {
                tcp: Some(tcp),
                unix: Some(unix),
                http: Some(http),
                ..
            },
        ) => Addresses {
            tcp: tcp.clone(),
            unix: unix.clone(),
            http: http.clone(),
            push: String::new(),
        },
        _ => bail!("--tcp, --unix and --http go together"),
    };
    run(&arguments, &proxy, started.as_ref().map(Proxy::pid))
}

/// The pushes of all apps in both formats.
struct Payloads {
    json: Vec<Vec<u8>>,
    capnp: Vec<Vec<u8>>,
    text_bytes: usize,
}

impl Payloads {
    fn new(apps: usize, series: usize) -> Self {
        let mut payloads = Payloads {
            json: Vec::with_capacity(apps),
            capnp: Vec::with_capacity(apps),
            text_bytes: 0,
        };
        // Two versions of the values, so that every push is a change.
        for version in 0..2 {
            for app in 0..apps {
                let name = format!("load_{app:05}");
                let text = app_text(&name, series, version);
                payloads.text_bytes += if version == 0 { text.len() } else { 0 };
                payloads.json.push(json_document(&name, &text));
                payloads.capnp.push(capnp_message(&name, &text));
            }
        }
        payloads
    }
}

/// A way of pushing.
#[derive(Clone, Copy)]
enum Way {
    /// One connection per push, as senders of the original exporter-proxy do.
    TcpJsonEach,
    UnixJsonEach,
    /// Many documents or messages per connection.
    TcpJson,
    UnixJson,
    TcpCapnp,
    UnixCapnp,
}

impl Way {
    const ALL: [Way; 6] = [
        Way::TcpJsonEach,
        Way::UnixJsonEach,
        Way::TcpJson,
        Way::UnixJson,
        Way::TcpCapnp,
        Way::UnixCapnp,
    ];

    fn name(self) -> &'static str {
        match self {
            Way::TcpJsonEach => "JSON over TCP, a connection each",
            Way::UnixJsonEach => "JSON over Unix, a connection each",
            Way::TcpJson => "JSON over TCP, one connection a sender",
            Way::UnixJson => "JSON over Unix, one connection a sender",
            Way::TcpCapnp => "Cap'n Proto over TCP, one connection a sender",
            Way::UnixCapnp => "Cap'n Proto over Unix, one connection a sender",
        }
    }

    fn is_tcp(self) -> bool {
        matches!(self, Way::TcpJsonEach | Way::TcpJson | Way::TcpCapnp)
    }

    fn is_each(self) -> bool {
        matches!(self, Way::TcpJsonEach | Way::UnixJsonEach)
    }

    fn payloads(self, payloads: &Payloads) -> &[Vec<u8>] {
        match self {
            Way::TcpCapnp | Way::UnixCapnp => &payloads.capnp,
            _ => &payloads.json,
        }
    }
}

fn run(arguments: &Arguments, proxy: &Addresses, pid: Option<u32>) -> Result<()> {
    let payloads = Payloads::new(arguments.apps, arguments.series);
    println!(
        "{} apps of {} series, {:.1} MB of text, {} sending threads, medians of {} rounds\n",
        arguments.apps,
        arguments.series,
        payloads.text_bytes as f64 / 1e6,
        arguments.threads,
        arguments.rounds
    );
    println!("| What | Figure |\n| --- | --- |");

    let mut pushed = 0;
    let mut rates = vec![Vec::new(); Way::ALL.len()];
    for _ in 0..arguments.rounds {
        for (way, rates) in Way::ALL.into_iter().zip(&mut rates) {
            let (count, elapsed) = push(arguments, proxy, way, &payloads)?;
            pushed += count;
            rates.push(count as f64 / elapsed.as_secs_f64());
        }
    }
    for (way, rates) in Way::ALL.into_iter().zip(rates) {
        println!("| {} | {:.0} pushes/s |", way.name(), median(rates));
    }

    for (name, headers) in [("identity", ""), ("gzip", "Accept-Encoding: gzip\r\n")] {
        let mut times = Vec::new();
        let mut size = 0;
        for _ in 0..arguments.scrapes {
            let start = Instant::now();
            size = scrape(&proxy.http, headers)?.len();
            times.push(start.elapsed().as_secs_f64());
        }
        ensure!(size > 0, "the scrape is empty");
        println!(
            "| scrape, {name}, {:.1} MB | {:.2} ms |",
            size as f64 / 1e6,
            median(times) * 1e3
        );
    }
    if let Some(pid) = pid {
        println!("| resident memory | {:.1} MB |", resident_bytes(pid)? / 1e6);
    }

    let text = String::from_utf8(scrape(&proxy.http, "")?)?;
    let stored: f64 = text
        .lines()
        .filter(|line| line.starts_with("exporter_proxy_received_messages_total"))
        .filter(|line| line.contains("result=\"ok\""))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum();
    println!("| pushes sent, and stored by the proxy's own count | {pushed}, {stored} |");
    ensure!(
        arguments.tcp.is_some() || stored as u64 == pushed,
        "the proxy stored {stored} of {pushed} pushes"
    );
    Ok(())
}

/// Pushes from every thread until the time is up. Returns the number of pushes that the proxy has
/// read, and the time until the last of them.
fn push(
    arguments: &Arguments,
    proxy: &Addresses,
    way: Way,
    payloads: &Payloads,
) -> Result<(u64, Duration)> {
    let payloads = way.payloads(payloads);
    let over = AtomicBool::new(false);
    let count = AtomicU64::new(0);
    let start = Instant::now();
    thread::scope(|scope| -> Result<()> {
        let senders: Vec<_> = (0..arguments.threads)
            .map(|thread| {
                // Each thread starts with a different app.
                let first = thread * payloads.len() / arguments.threads;
                let (over, count) = (&over, &count);
                scope.spawn(move || -> Result<()> {
                    let next = payloads.iter().cycle().skip(first);
                    let sent = if way.is_each() {
                        send_each(proxy, way, next, over)?
                    } else {
                        send_all(proxy, way, next, over)?
                    };
                    count.fetch_add(sent, Ordering::Relaxed);
                    Ok(())
                })
            })
            .collect();
        thread::sleep(Duration::from_secs_f64(arguments.seconds));
        over.store(true, Ordering::Relaxed);
        for sender in senders {
            sender.join().expect("a sender does not panic")?;
        }
        Ok(())
    })?;
    Ok((count.into_inner(), start.elapsed()))
}

/// A connection to a receiver.
enum Link {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Link {
    fn connect(proxy: &Addresses, way: Way) -> Result<Self> {
        if way.is_tcp() {
            let stream = TcpStream::connect(&proxy.tcp).context("connecting over TCP")?;
            Ok(Link::Tcp(stream))
        } else {
            let stream =
                UnixStream::connect(&proxy.unix).context("connecting to the Unix socket")?;
            Ok(Link::Unix(stream))
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Link::Tcp(stream) => stream.write_all(bytes)?,
            Link::Unix(stream) => stream.write_all(bytes)?,
        }
        Ok(())
    }

    /// Half-closes and waits until the proxy has read everything: it then closes, and answers only
    /// if something is wrong.
    fn finish(mut self) -> Result<()> {
        let mut answer = String::new();
        match &mut self {
            Link::Tcp(stream) => {
                stream.shutdown(Shutdown::Write)?;
                stream.read_to_string(&mut answer)?;
            }
            Link::Unix(stream) => {
                stream.shutdown(Shutdown::Write)?;
                stream.read_to_string(&mut answer)?;
            }
        }
        ensure!(answer.is_empty(), "the proxy answered: {answer}");
        Ok(())
    }
}

fn send_each<'p>(
    proxy: &Addresses,
    way: Way,
    payloads: impl Iterator<Item = &'p Vec<u8>>,
    over: &AtomicBool,
) -> Result<u64> {
    let mut sent = 0;
    for payload in payloads {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let mut link = Link::connect(proxy, way)?;
        link.send(payload)?;
        link.finish()?;
        sent += 1;
    }
    Ok(sent)
}

fn send_all<'p>(
    proxy: &Addresses,
    way: Way,
    payloads: impl Iterator<Item = &'p Vec<u8>>,
    over: &AtomicBool,
) -> Result<u64> {
    /// Approximate bytes per write; pushes are sent together.
    const WRITE_SIZE: usize = 128 * 1024;

    let mut link = Link::connect(proxy, way)?;
    let mut sent = 0;
    let mut batch = Vec::with_capacity(2 * WRITE_SIZE);
    for payload in payloads {
        batch.extend_from_slice(payload);
        sent += 1;
        if batch.len() >= WRITE_SIZE {
            link.send(&batch)?;
            batch.clear();
            if over.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    link.send(&batch)?;
    link.finish()?;
    Ok(sent)
}

/// One scrape on its own connection; returns the body as sent.
fn scrape(address: &str, headers: &str) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    let request =
        format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::with_capacity(16 << 20);
    stream.read_to_end(&mut answer)?;
    ensure!(
        answer.starts_with(b"HTTP/1.1 200 OK\r\n"),
        "the scrape failed"
    );
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let head = head.context("the answer has no end of head")? + 4;
    answer.drain(..head);
    Ok(answer)
}

fn start(arguments: &Arguments) -> Result<Proxy> {
    let program = match &arguments.proxy {
        Some(path) => path.clone(),
        None => proxy::beside_this_program()?,
    };
    Proxy::start(&program, arguments.worker_threads, "")
}
