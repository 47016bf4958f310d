//! Load generator for operations: prints the rate that a proxy applies, how many operations are
//! lost, and how long scrapes take while some series change. One figure per line.
//!
//! ```text
//! cargo build --release -p exporter-proxy -p bench
//! target/release/operations stream
//! target/release/operations udp --rate 100000
//! target/release/operations scrape
//! ```
//!
//! It starts the proxy from its own directory on free ports of the loopback. With `--http` and
//! `--to` it uses a running proxy, whose counts before the run are subtracted.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use tempfile::TempDir;

use bench::datagrams::send_until;
use bench::figures::{percentile, process_time, resident_bytes};
use bench::proxy::{self, Proxy};

#[derive(Parser)]
#[command(about = "Sends operations as fast as the proxy takes them, and prints the figures.")]
struct Arguments {
    mode: Mode,
    /// Aggregated series [default: 10000, or 100000 with `scrape`]
    #[arg(long)]
    series: Option<usize>,
    /// Operations to send over the stream
    #[arg(long, default_value_t = 5_000_000)]
    count: usize,
    /// Operations per second over UDP; 0 for full speed
    #[arg(long, default_value_t = 100_000)]
    rate: usize,
    /// Seconds to send over UDP
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Operations in one datagram
    #[arg(long, default_value_t = 1)]
    pack: usize,
    /// Series to change before each scrape [default: one of a hundred]
    #[arg(long)]
    changed: Option<usize>,
    /// Change neighbouring series instead of evenly spread ones
    #[arg(long)]
    together: bool,
    /// Scrapes to time in each coding
    #[arg(long, default_value_t = 300)]
    rounds: usize,
    /// `Accept` header of the scraper
    #[arg(long, default_value = "*/*")]
    accept: String,
    /// Codings to scrape in
    #[arg(long, value_delimiter = ',', default_value = "identity,gzip")]
    codings: Vec<String>,
    /// Send StatsD lines instead of JSON
    #[arg(long)]
    statsd: bool,
    /// The proxy to start [default: the one in this program's directory]
    #[arg(long)]
    proxy: Option<PathBuf>,
    /// Worker threads of the started proxy
    #[arg(long, default_value_t = 2)]
    worker_threads: usize,
    /// HTTP address of a running proxy, host:port
    #[arg(long, requires = "to")]
    http: Option<String>,
    /// Its socket for operations: unix:PATH or tcp:HOST:PORT, or HOST:PORT with `udp`
    #[arg(long, requires = "http")]
    to: Option<String>,
}

#[derive(Clone, Copy, ValueEnum, PartialEq)]
enum Mode {
    /// Operations over one stream
    Stream,
    /// Operations over UDP at a rate, and how many are lost
    Udp,
    /// Scrapes, with changed series between them
    Scrape,
}

/// Operations per write on a stream.
const AT_ONCE: usize = 100;

/// Rate of operations that create the series before UDP is measured.
const WARM_UP: usize = 50_000;

/// Series per family.
const FAMILY: usize = 10_000;

/// Time without a new datagram after which the count is final.
const PATIENCE: Duration = Duration::from_secs(2);

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let series = arguments.series.unwrap_or(match arguments.mode {
        Mode::Scrape => 100_000,
        Mode::Stream | Mode::Udp => 10_000,
    });
    let messages: Vec<Vec<u8>> = (0..series.max(1))
        .map(|i| message(i, !arguments.statsd))
        .collect();
    let measured = start(&arguments)?;
    println!("series            {}", messages.len());
    match arguments.mode {
        Mode::Stream => stream(&measured, arguments.count, &messages)?,
        Mode::Udp => udp(&measured, &arguments, &messages)?,
        Mode::Scrape => {
            let changed = arguments.changed.unwrap_or(messages.len() / 100);
            let Target { http, to, .. } = &measured;
            scrape(http, to, &messages, changed, &arguments)?;
        }
    }
    if let Some((proxy, _)) = &measured.started {
        let mib = resident_bytes(proxy.pid())? / f64::from(1 << 20);
        println!("resident_mib      {mib:.1}");
    }
    Ok(())
}

/// The proxy under test.
struct Target {
    /// The process, if it was started here, with the directory of its socket.
    started: Option<(Proxy, TempDir)>,
    /// Address of scrapes.
    http: String,
    /// Address of operations.
    to: String,
}

impl Target {
    /// Processor time of the proxy so far, if it was started here.
    fn cpu_seconds(&self) -> Option<f64> {
        let (proxy, _) = self.started.as_ref()?;
        Some(process_time(proxy.pid()).ok()?.total())
    }
}

fn start(arguments: &Arguments) -> Result<Target> {
    if let (Some(http), Some(to)) = (&arguments.http, &arguments.to) {
        return Ok(Target {
            started: None,
            http: http.clone(),
            to: to.clone(),
        });
    }
    let program = match &arguments.proxy {
        Some(path) => path.clone(),
        None => proxy::beside_this_program()?,
    };
    let dir = tempfile::tempdir()?;
    let unix = dir.path().join("operations.sock");
    let udp = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let more = format!("[operations]\nudp = \"{udp}\"\nunix_sockets = [{unix:?}]\n");
    let proxy = Proxy::start(&program, arguments.worker_threads, &more)?;
    let http = proxy.addresses.http.clone();
    let to = match arguments.mode {
        Mode::Udp => udp.to_string(),
        Mode::Stream | Mode::Scrape => format!("unix:{}", unix.display()),
    };
    Ok(Target {
        started: Some((proxy, dir)),
        http,
        to,
    })
}

/// An operation on one series, with the end of its line.
fn message(series: usize, json: bool) -> Vec<u8> {
    let (family, host, path) = (series / FAMILY, series / 100, series % 100);
    if json {
        format!(
            "{{\"name\":\"requests_{family}_total\",\"op\":\"inc\",\"value\":1,\
             \"labels\":{{\"host\":\"host-{host}\",\"path\":\"/p/{path}\"}}}}\n"
        )
    } else {
        format!("requests.{family}.total:1|c|#host:host-{host},path:/p/{path}\n")
    }
    .into_bytes()
}

/// A stream of operations that can wait until all are applied.
struct Stream {
    write: Box<dyn Write>,
    answers: BufReader<Box<dyn Read>>,
}

impl Stream {
    fn connect(address: &str) -> Result<Stream> {
        let (kind, place) = address.split_once(':').unwrap_or(("unix", address));
        let (write, read): (Box<dyn Write>, Box<dyn Read>) = match kind {
            "tcp" => {
                let stream = TcpStream::connect(place)?;
                stream.set_nodelay(true)?;
                (Box::new(stream.try_clone()?), Box::new(stream))
            }
            _ => {
                let stream = UnixStream::connect(place)?;
                (Box::new(stream.try_clone()?), Box::new(stream))
            }
        };
        Ok(Stream {
            write,
            answers: BufReader::new(read),
        })
    }

    /// Writes `count` messages, repeating the given ones.
    fn send(&mut self, messages: &[Vec<u8>], count: usize) -> Result<()> {
        let mut buffer = Vec::new();
        let mut sent = 0;
        while sent < count {
            buffer.clear();
            let now = AT_ONCE.min(count - sent);
            for i in sent..sent + now {
                buffer.extend_from_slice(&messages[i % messages.len()]);
            }
            self.write.write_all(&buffer)?;
            sent += now;
        }
        Ok(())
    }

    /// Waits until everything written is applied: sends an invalid line, which the proxy answers
    /// after all lines before it.
    fn wait(&mut self) -> Result<()> {
        self.write.write_all(b"done?\n")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        if !answer.contains("done?") {
            bail!("refused: {answer}");
        }
        Ok(())
    }
}

fn stream(measured: &Target, count: usize, messages: &[Vec<u8>]) -> Result<()> {
    let http = &measured.http;
    let mut stream = Stream::connect(&measured.to)?;
    // The first operation of each series creates it, which takes longer.
    stream.send(messages, messages.len())?;
    stream.wait()?;
    let before = Counts::read(http)?;
    let busy = measured.cpu_seconds();
    let begun = Instant::now();
    stream.send(messages, count)?;
    stream.wait()?;
    let took = begun.elapsed();
    let spent = measured.cpu_seconds();
    let applied = Counts::read(http)?.applied - before.applied;
    println!("operations        {count}");
    println!("applied           {applied}");
    println!("seconds           {:.3}", took.as_secs_f64());
    println!("per_second        {:.0}", count as f64 / took.as_secs_f64());
    tell_cpu(busy, spent, applied);
    if measured.started.is_some() && applied != count as u64 {
        bail!("the proxy applied {applied} of {count} operations");
    }
    Ok(())
}

fn udp(measured: &Target, arguments: &Arguments, messages: &[Vec<u8>]) -> Result<()> {
    let http = &measured.http;
    let (rate, pack) = (arguments.rate, arguments.pack.max(1));
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(&measured.to)?;
    let datagrams: Vec<Vec<u8>> = (0..messages.len())
        .map(|i| {
            let mut datagram = Vec::new();
            for k in 0..pack {
                datagram.extend_from_slice(&messages[(i * pack + k) % messages.len()]);
            }
            datagram
        })
        .collect();
    // The first operation of each series creates it, which takes longer.
    send_until(&socket, &datagrams, datagrams.len(), WARM_UP / pack, None)?;
    settled(http)?;
    let (before, kernel) = (Counts::read(http)?, kernel_errors());
    let busy = measured.cpu_seconds();
    let datagrams_a_second = rate / pack;
    let most = match datagrams_a_second {
        0 => usize::MAX,
        rate => rate * arguments.seconds as usize,
    };
    let begun = Instant::now();
    let end = begun + Duration::from_secs(arguments.seconds);
    let sent = send_until(&socket, &datagrams, most, datagrams_a_second, Some(end))?;
    let took = begun.elapsed();
    let last = settled(http)?;
    let operations = sent * pack;
    let counted = last.all - before.all;
    match rate {
        0 => println!("asked_per_second  as many as go"),
        rate => println!("asked_per_second  {rate}"),
    }
    println!(
        "per_second        {:.0}",
        operations as f64 / took.as_secs_f64()
    );
    println!("datagrams         {sent}");
    println!("operations        {operations}");
    println!("counted           {counted}");
    println!("applied           {}", last.applied - before.applied);
    println!("lost              {}", operations as i64 - counted as i64);
    // Datagrams: lost at the proxy's sockets, and at all sockets of this machine.
    println!("lost_by_the_proxy {}", last.lost - before.lost);
    match (kernel, kernel_errors()) {
        (Some(before), Some(after)) => println!("lost_by_kernel    {}", after - before),
        _ => println!("lost_by_kernel    not told"),
    }
    tell_cpu(busy, measured.cpu_seconds(), counted);
    Ok(())
}

/// Waits until the counts no longer change.
fn settled(http: &str) -> Result<Counts> {
    let (mut last, mut since) = (Counts::read(http)?, Instant::now());
    while since.elapsed() < PATIENCE {
        sleep(Duration::from_millis(100));
        let now = Counts::read(http)?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(last)
}

/// Prints the proxy's processor time per operation, user and kernel. It depends less than the rates
/// on other load.
fn tell_cpu(before: Option<f64>, after: Option<f64>, operations: u64) {
    if let (Some(before), Some(after)) = (before, after) {
        let each = (after - before) * 1e6 / operations.max(1) as f64;
        println!("cpu_us_each       {each:.2}");
    }
}

fn scrape(
    http: &str,
    to: &str,
    messages: &[Vec<u8>],
    changed: usize,
    arguments: &Arguments,
) -> Result<()> {
    let mut stream = Stream::connect(to)?;
    stream.send(messages, messages.len())?;
    stream.wait()?;
    println!("changed           {changed}");
    let rounds = arguments.rounds.max(1);
    // Evenly spread and different each time, or neighbours.
    let (step, shift) = match arguments.together {
        true => (1, changed),
        false => ((messages.len() / changed.max(1)).max(1), 1),
    };
    for coding in &arguments.codings {
        let mut client = Client::connect(http)?;
        client.accept.clone_from(&arguments.accept);
        let mut timed = || -> Result<f64> {
            let begun = Instant::now();
            client.get(coding)?;
            Ok(begun.elapsed().as_secs_f64() * 1000.0)
        };
        let first = timed()?;
        let mut times = Vec::with_capacity(rounds);
        for round in 0..rounds {
            let some: Vec<Vec<u8>> = (0..changed)
                .map(|i| messages[(i * step + round * shift) % messages.len()].clone())
                .collect();
            stream.send(&some, changed)?;
            stream.wait()?;
            times.push(timed()?);
        }
        let bytes = client.body.len();
        let figure = |name: &str, value: f64| {
            println!("{:<17} {value:.3}", format!("{coding}_{name}"));
        };
        println!("{:<17} {bytes}", format!("{coding}_bytes"));
        figure("first_ms", first);
        figure("p10_ms", percentile(times.clone(), 0.1));
        figure("p50_ms", percentile(times.clone(), 0.5));
        figure("p99_ms", percentile(times, 0.99));
    }
    Ok(())
}

/// The proxy's counts, over all its sockets for operations.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Counts {
    /// All messages, rejected ones included.
    all: u64,
    applied: u64,
    /// Datagrams that the kernel dropped at the proxy's sockets.
    lost: u64,
}

impl Counts {
    fn read(http: &str) -> Result<Counts> {
        let mut client = Client::connect(http)?;
        client.get("identity")?;
        let mut counts = Counts::default();
        for line in String::from_utf8_lossy(&client.body).lines() {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let value = value.parse().unwrap_or(0.0) as u64;
            if series.starts_with("exporter_proxy_operations_total{") {
                counts.all += value;
                if series.contains("\"ok\"") {
                    counts.applied += value;
                }
            } else if series.starts_with("exporter_proxy_operations_datagrams_lost_total{") {
                counts.lost += value;
            }
        }
        Ok(counts)
    }
}

/// UDP datagrams that the kernel dropped because buffers were full, on all sockets of this machine.
fn kernel_errors() -> Option<u64> {
    let table = fs::read_to_string("/proc/net/snmp").ok()?;
    let mut lines = table.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split(' ').position(|name| name == "RcvbufErrors")?;
    values.split(' ').nth(place)?.parse().ok()
}

/// A scraper on a kept-alive connection.
struct Client {
    stream: BufReader<TcpStream>,
    host: String,
    accept: String,
    body: Vec<u8>,
}

impl Client {
    fn connect(http: &str) -> Result<Client> {
        let stream = TcpStream::connect(http)?;
        stream.set_nodelay(true)?;
        Ok(Client {
            stream: BufReader::new(stream),
            host: http.to_owned(),
            accept: "*/*".to_owned(),
            body: Vec::new(),
        })
    }

    /// Scrapes and reads to the last byte of the body.
    fn get(&mut self, coding: &str) -> Result<()> {
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: {}\r\nAccept: {}\r\nAccept-Encoding: {coding}\r\n\r\n",
            self.host, self.accept
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let (mut line, mut length) = (String::new(), None);
        self.stream.read_line(&mut line)?;
        if !line.starts_with("HTTP/1.1 200 ") {
            bail!("the scrape failed: {}", line.trim());
        }
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                bail!("the answer ends too early");
            }
            if line == "\r\n" {
                break;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
        }
        self.body.resize(length.context("no Content-Length")?, 0);
        self.stream.read_exact(&mut self.body)?;
        Ok(())
    }
}
