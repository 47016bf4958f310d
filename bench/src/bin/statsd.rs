//! StatsD lines a second over UDP with rules for names: the proxy beside `statsd_exporter`.
//!
//! ```text
//! cargo build --release -p exporter-proxy -p bench
//! target/release/statsd --exporter PATH
//! ```
//!
//! Both have the same mapping file: 50 globs and 50 regular expressions. Both get the same
//! datagrams, made beforehand, at rising rates for a few seconds each. The maximum is the highest
//! rate at which the server counts every line that was sent. Turns of the two alternate. It prints
//! Markdown. `go install github.com/prometheus/statsd_exporter@v0.31.0` gets `statsd_exporter`.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use tempfile::TempDir;

use bench::client::{Body, Client};
use bench::datagrams::send_until;
use bench::figures::{cpu_time, median, process_time};
use bench::proxy;

#[derive(Parser)]
#[command(about = "Sends StatsD lines to the proxy and to statsd_exporter, faster and faster.")]
struct Arguments {
    /// The program statsd_exporter
    #[arg(long)]
    exporter: PathBuf,
    /// The proxy [default: the one in this program's directory]
    #[arg(long)]
    proxy: Option<PathBuf>,
    /// Lines in a datagram
    #[arg(long, default_value_t = 25)]
    lines: usize,
    /// Names that lines have, of all rules
    #[arg(long, default_value_t = 2000)]
    names: usize,
    /// How long each rate is sent, in seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Turns of each server
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only this server: `proxy` or `exporter`
    #[arg(long)]
    only: Option<String>,
    /// Send at this rate in lines a second instead of searching
    #[arg(long)]
    rate: Option<f64>,
}

/// Datagrams made beforehand, sent in turn.
const DATAGRAMS: usize = 4000;

/// Rate of the first trial, in lines a second.
const FIRST_RATE: f64 = 100_000.0;

/// Steps between the highest rate without a loss and the lowest with one.
const HALVINGS: usize = 4;

/// If the sender sends less than this part of the rate, it is at its own limit.
const SENDER_LIMIT: f64 = 0.95;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let program = match &arguments.proxy {
        Some(path) => path.clone(),
        None => proxy::beside_this_program()?,
    };
    let datagrams = datagrams(arguments.names, arguments.lines.max(1));
    let load = fs::read_to_string("/proc/loadavg")?;
    let mut found = [Vec::new(), Vec::new()];
    for _ in 0..arguments.rounds.max(1) {
        for (number, name) in ["exporter", "proxy"].into_iter().enumerate() {
            if arguments.only.as_deref().is_some_and(|only| only != name) {
                continue;
            }
            let server = match name {
                "exporter" => Server::exporter(&arguments.exporter)?,
                _ => Server::proxy(&program)?,
            };
            // By now every series exists, and every name has been seen.
            server.send(&datagrams, &arguments, FIRST_RATE / 2.0)?;
            let trial = match arguments.rate {
                Some(rate) => server.send(&datagrams, &arguments, rate)?,
                None => server.maximum(&datagrams, &arguments)?,
            };
            found[number].push(trial);
        }
    }
    println!(
        "{} lines in a datagram, {} names, {} s for each rate, medians of {}; load before: {}\n",
        arguments.lines,
        arguments.names,
        arguments.seconds,
        arguments.rounds,
        load.trim()
    );
    println!(
        "| | lines a second, none lost | in each turn | lines per second of its processor time | \
         of it in the kernel | sender's processor time |\n| --- | --- | --- | --- | --- | --- |"
    );
    let mut rates = Vec::new();
    for (name, trials) in ["statsd_exporter", "exporter-proxy"]
        .into_iter()
        .zip(&found)
    {
        if trials.is_empty() {
            continue;
        }
        let of = |figure: fn(&Trial) -> f64| median(trials.iter().map(figure).collect());
        let turns = trials.iter().map(|trial| {
            let limit = if trial.is_senders_limit {
                " (sender)"
            } else {
                ""
            };
            let lost = match trial.lost() {
                0 => String::new(),
                lost => format!(" ({lost} lost)"),
            };
            format!("{:.0}{limit}{lost}", trial.rate)
        });
        let turns: Vec<String> = turns.collect();
        let (rate, per_cpu) = (of(|trial| trial.rate), of(Trial::lines_per_cpu_second));
        println!(
            "| {name} | {rate:.0} | {} | {per_cpu:.0} | {:.0} % | {:.0} % |",
            turns.join(", "),
            100.0 * of(|trial| trial.system / (trial.user + trial.system)),
            100.0 * of(|trial| trial.sender / trial.seconds)
        );
        rates.push((rate, per_cpu));
    }
    if let [(theirs, their_cpu), (ours, our_cpu)] = rates[..] {
        println!(
            "\nratio {:.1}, per processor time {:.1}",
            ours / theirs,
            our_cpu / their_cpu
        );
    }
    Ok(())
}

/// The rules: 50 globs and 50 regular expressions.
fn mapping() -> String {
    let mut rules = "defaults: {observer_type: histogram}\nmappings:\n".to_owned();
    let labels = "labels: {server: $1, code: $2}";
    for n in 0..50 {
        rules +=
            &format!("- {{match: 'glob{n}.*.requests.*', name: glob{n}_requests, {labels}}}\n");
    }
    for n in 0..50 {
        rules += &format!(
            "- {{match: 'regex{n}\\.(\\w+)\\.requests\\.(\\d+)', match_type: regex, \
             name: regex{n}_requests, {labels}}}\n"
        );
    }
    rules
}

/// Datagrams of `size` lines, whose names and values are spread by fixed steps.
fn datagrams(names: usize, size: usize) -> Vec<Vec<u8>> {
    const CODES: [u32; 5] = [200, 204, 301, 404, 500];
    // Of five rules, three are for counters, one is for a gauge and one for a timer.
    const TYPES: [&str; 5] = ["c", "c", "c", "g", "ms"];
    let name = |number: usize| {
        let (rule, rest) = (number % 100, number / 100);
        let kind = ["glob", "regex"][rule % 2];
        let (rule, code) = (rule / 2, CODES[rest % CODES.len()]);
        let line = format!("{kind}{rule}.web{}.requests.{code}", rest / CODES.len());
        (line, TYPES[rule % TYPES.len()])
    };
    let names: Vec<(String, &str)> = (0..names.max(1)).map(name).collect();
    let mut number: usize = 1;
    let datagram = |_| {
        let mut lines = Vec::new();
        for _ in 0..size {
            // The constants of Knuth's generator.
            number = number
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let (name, sort) = &names[(number >> 33) % names.len()];
            let value = (number >> 20) % 500 + 1;
            lines.push(format!("{name}:{value}|{sort}"));
        }
        lines.join("\n").into_bytes()
    };
    (0..DATAGRAMS).map(datagram).collect()
}

/// A running server, which is killed when this is dropped.
struct Server {
    child: Child,
    /// Address of scrapes.
    http: String,
    /// A socket connected to the server's address for lines.
    socket: UdpSocket,
    /// The beginning of the samples that count lines, in its metrics.
    counted: &'static str,
    _dir: TempDir,
}

/// The results of a server at one rate.
#[derive(Debug, Clone, Copy)]
struct Trial {
    sent: u64,
    counted: u64,
    /// The actual rate, in lines a second.
    rate: f64,
    seconds: f64,
    is_senders_limit: bool,
    /// Processor time of the server, and of the sender.
    user: f64,
    system: f64,
    sender: f64,
}

impl Trial {
    fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.counted)
    }

    fn lines_per_cpu_second(&self) -> f64 {
        self.counted as f64 / (self.user + self.system).max(0.01)
    }
}

impl Server {
    fn proxy(program: &Path) -> Result<Self> {
        let (dir, http, udp) = Self::places()?;
        let config = dir.path().join("config.toml");
        let mapping = dir.path().join("mapping.yml");
        fs::write(
            &config,
            format!(
                "[exporter]\nscrape_expose_endpoint = \"{http}\"\n[push]\nlisten = \"\"\n\
                 [receiver]\nreceive_on_tcp_socket = false\nreceive_on_unix_socket = false\n\
                 [storage]\npath = \"\"\n\
                 [operations]\nudp = \"{udp}\"\nstatsd_mapping = {mapping:?}\n"
            ),
        )?;
        let mut command = Command::new(program);
        command.arg("--config").arg(config);
        let counted = "exporter_proxy_operations_total{";
        Self::start(command, dir, (http, udp), counted)
    }

    fn exporter(program: &Path) -> Result<Self> {
        let (dir, http, udp) = Self::places()?;
        let mapping = dir.path().join("mapping.yml");
        let mut command = Command::new(program);
        command
            .arg(format!("--web.listen-address={http}"))
            .arg(format!("--statsd.listen-udp={udp}"))
            .arg("--statsd.listen-tcp=")
            .arg(format!("--statsd.mapping-config={}", mapping.display()))
            .args([
                "--statsd.cache-size=10000",
                "--statsd.read-buffer=8388608",
                "--log.level=error",
            ]);
        let counted = "statsd_exporter_lines_total";
        Self::start(command, dir, (http, udp), counted)
    }

    /// A directory with the mapping, and free addresses of HTTP and UDP.
    fn places() -> Result<(TempDir, String, String)> {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("mapping.yml"), mapping())?;
        let http = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let udp = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        Ok((dir, http.to_string(), udp.to_string()))
    }

    fn start(
        mut command: Command,
        dir: TempDir,
        (http, udp): (String, String),
        counted: &'static str,
    ) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(&udp)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let mut server = Server {
            child,
            http,
            socket,
            counted,
            _dir: dir,
        };
        let end = Instant::now() + Duration::from_secs(10);
        while server.lines().is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("{command:?} ended: {status}");
            }
            ensure!(Instant::now() < end, "{command:?} does not answer");
            sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Lines that were counted so far.
    fn lines(&self) -> Result<u64> {
        let mut client = Client::connect(&self.http)?;
        client.get("/metrics", false, Body::Keep)?;
        let text = String::from_utf8_lossy(client.body());
        let lines = text.lines().filter(|line| line.starts_with(self.counted));
        let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        Ok(values.sum::<f64>() as u64)
    }

    /// Sends lines at a rate, and waits until all that arrived have been counted.
    fn send(&self, datagrams: &[Vec<u8>], arguments: &Arguments, rate: f64) -> Result<Trial> {
        let size = arguments.lines.max(1);
        let datagram_rate = ((rate / size as f64) as usize).max(1);
        let most = (datagram_rate as f64 * arguments.seconds) as usize;
        let (before, cpu) = (self.lines()?, process_time(self.child.id())?);
        let (begun, sender) = (Instant::now(), cpu_time()?);
        let end = begun + Duration::from_secs_f64(arguments.seconds);
        let sent = send_until(&self.socket, datagrams, most, datagram_rate, Some(end))?;
        let (seconds, sender) = (begun.elapsed().as_secs_f64(), cpu_time()? - sender);
        let sent = (sent * size) as u64;
        // Until all lines are counted, or no more.
        let (mut counted, mut since) = (0, Instant::now());
        while counted < sent && since.elapsed() < Duration::from_secs(1) {
            sleep(Duration::from_millis(50));
            let now = self.lines()? - before;
            if now != counted {
                (counted, since) = (now, Instant::now());
            }
        }
        let after = process_time(self.child.id())?;
        let real = sent as f64 / seconds;
        Ok(Trial {
            sent,
            counted,
            rate: real,
            seconds,
            is_senders_limit: real < SENDER_LIMIT * rate,
            user: after.user - cpu.user,
            system: after.system - cpu.system,
            sender,
        })
    }

    /// The trial at the highest rate without a loss.
    fn maximum(&self, datagrams: &[Vec<u8>], arguments: &Arguments) -> Result<Trial> {
        let holds = |rate: f64| -> Result<(bool, Trial)> {
            let mut trial = self.send(datagrams, arguments, rate)?;
            if trial.lost() > 0 {
                // Other work on the machine may have been the cause.
                trial = self.send(datagrams, arguments, rate)?;
            }
            Ok((trial.lost() == 0, trial))
        };
        let (mut best, mut rate) = (None, FIRST_RATE);
        let mut too_much = loop {
            match holds(rate)? {
                (true, trial) if trial.is_senders_limit => return Ok(trial),
                (true, trial) => best = Some(trial),
                (false, _) => break rate,
            }
            rate *= 1.5;
        };
        let mut good = best.map_or(0.0, |trial| trial.rate);
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(good, too_much);
            match holds(middle)? {
                (true, trial) => (good, best) = (middle, Some(trial)),
                (false, _) => too_much = middle,
            }
        }
        best.context("lines are lost at every rate")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
