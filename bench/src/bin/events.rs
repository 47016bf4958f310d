//! Load generator for events: sends them to a proxy at a rate, which forwards them to a log store,
//! and prints how many arrived, how many were lost, and the memory. One figure per line. Fails if
//! events are lost, or if the memory grows.
//!
//! ```text
//! cargo build --release -p exporter-proxy -p bench
//! target/release/events --rate 50000 --seconds 600
//! target/release/events --rate 100000 --seconds 10
//! target/release/events --store PATH/OF/victoria-logs
//! ```
//!
//! It starts the proxy from its own directory on free ports of the loopback. Without
//! `--store`, the log store is a thread of this program that takes everything.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tempfile::TempDir;

use bench::client::{Body, Client};
use bench::figures::{median, resident_bytes};
use bench::proxy::{self, Proxy};

#[derive(Parser)]
#[command(about = "Sends events through a proxy to a log store, and prints the figures.")]
struct Arguments {
    /// Events per second
    #[arg(long, default_value_t = 50_000)]
    rate: usize,
    /// Seconds to send
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// The program of VictoriaLogs [default: a thread that takes everything]
    #[arg(long)]
    store: Option<PathBuf>,
    /// Keep the queue on the disk, too
    #[arg(long)]
    storage: bool,
    /// Limit on the memory of the last third, as a factor of that of the second third
    #[arg(long, default_value_t = 1.1)]
    growth: f64,
    /// The proxy to start [default: the one in this program's directory]
    #[arg(long)]
    proxy: Option<PathBuf>,
}

/// Interval at which due events are sent.
const PACE: Duration = Duration::from_millis(5);

/// Interval between two looks at the memory.
const LOOK: Duration = Duration::from_secs(1);

/// Runs shorter than this are too short to judge the memory.
const SHORTEST_JUDGED: u64 = 60;

/// Time for the last events to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let program = match &arguments.proxy {
        Some(path) => path.clone(),
        None => proxy::beside_this_program()?,
    };
    // Not in the machine's temporary directory, which may be in memory.
    let here = program.parent().context("the proxy is in a directory")?;
    let dir = tempfile::tempdir_in(here)?;
    let store = Store::start(arguments.store.as_deref(), &dir)?;
    let socket = dir.path().join("operations.sock");
    let storage = match arguments.storage {
        true => format!("[storage]\npath = {:?}\n", dir.path().join("state")),
        false => String::new(),
    };
    let more = format!(
        "[operations]\nunix_sockets = [{socket:?}]\n{storage}\
         [sinks.log]\ntype = \"loki\"\nurl = \"{}\"\nlabels = [\"app\"]\n",
        store.url
    );
    let proxy = Proxy::start(&program, 2, &more)?;

    let begun = Instant::now();
    let (sender, memory) = thread::scope(|scope| {
        let sender = scope.spawn(|| send(&socket, &arguments));
        let mut memory = Vec::new();
        while !sender.is_finished() {
            sleep(LOOK);
            memory.push(resident_bytes(proxy.pid()));
        }
        (sender.join().expect("the sender does not panic"), memory)
    });
    let sent = sender?;
    let sending = begun.elapsed();
    let memory: Vec<f64> = memory.into_iter().collect::<Result<_>>()?;

    let mut client = Client::connect(&proxy.addresses.http)?;
    let waited = Instant::now();
    let (ok, others) = loop {
        let (ok, others) = results(&mut client)?;
        if ok + others >= sent as f64 || waited.elapsed() > PATIENCE {
            break (ok, others);
        }
        sleep(LOOK);
    };
    let stored = store.count(ok)?;
    println!("events_sent       {sent}");
    println!(
        "per_second        {:.0}",
        sent as f64 / sending.as_secs_f64()
    );
    println!("arrived           {ok:.0}");
    println!("rejected          {others:.0}");
    println!("stored            {stored:.0}");
    let third = memory.len() / 3;
    let mib = |values: &[f64]| median(values.to_vec()) / f64::from(1 << 20);
    let parts = [0, 1, 2].map(|part| mib(&memory[part * third..(part + 1) * third]));
    for (name, value) in ["first", "second", "last"].iter().zip(parts) {
        println!("resident_mib      {value:.1} in the {name} third");
    }
    println!(
        "resident_mib      {:.1} at most",
        memory.iter().copied().fold(0.0, f64::max) / f64::from(1 << 20)
    );
    drop(proxy);
    ensure!(ok == sent as f64 && stored == ok, "events are lost");
    let growth = parts[2] / parts[1];
    ensure!(
        arguments.seconds < SHORTEST_JUDGED || growth <= arguments.growth,
        "the memory grows: {growth:.2} times from the second third to the last"
    );
    Ok(())
}

/// Sends events at the rate. Returns how many.
fn send(socket: &Path, arguments: &Arguments) -> Result<usize> {
    let mut stream = UnixStream::connect(socket)?;
    let answers = BufReader::new(stream.try_clone()?);
    // The proxy answers rejected events; its metrics count them.
    let answers = thread::spawn(move || answers.lines().next());
    let begun = Instant::now();
    let time = Duration::from_secs(arguments.seconds);
    let mut sent = 0;
    let mut buffer = Vec::new();
    while begun.elapsed() < time {
        let due = (begun.elapsed().as_secs_f64() * arguments.rate as f64) as usize;
        buffer.clear();
        for number in sent..due {
            writeln!(
                buffer,
                "{{\"name\":\"page_view\",\"op\":\"event\",\"value\":{number},\
                 \"labels\":{{\"app\":\"shop-{}\",\"path\":\"/p/{}\",\"session\":\"{number:016x}\"}}}}",
                number % 20,
                number % 1000
            )?;
        }
        sent = due;
        stream.write_all(&buffer)?;
        sleep(PACE);
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    if let Ok(Some(answer)) = answers.join() {
        println!("first_answer      {}", answer?);
    }
    Ok(sent)
}

/// Items of the sink that arrived, and all others.
fn results(client: &mut Client) -> Result<(f64, f64)> {
    client.get("/metrics", false, Body::Keep)?;
    let text = String::from_utf8_lossy(client.body()).into_owned();
    let (mut ok, mut others) = (0.0, 0.0);
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("exporter_proxy_sink_items_total{result=\"") {
            let value: f64 = rest.rsplit(' ').next().unwrap_or_default().parse()?;
            match rest.starts_with("ok\"") {
                true => ok += value,
                false => others += value,
            }
        }
    }
    Ok((ok, others))
}

/// The receiver of the events.
struct Store {
    /// The URL of its push API.
    url: String,
    /// VictoriaLogs with its address.
    process: Option<(Child, String)>,
}

impl Store {
    fn start(program: Option<&Path>, dir: &TempDir) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let Some(program) = program else {
            thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    // The connection ends with the proxy.
                    thread::spawn(move || take(&stream));
                }
            });
            return Ok(Store {
                url: format!("http://{address}/loki/api/v1/push"),
                process: None,
            });
        };
        drop(listener);
        let data = dir.path().join("logs");
        fs::create_dir(&data)?;
        let child = Command::new(program)
            .arg(format!("-httpListenAddr={address}"))
            .arg(format!("-storageDataPath={}", data.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let mut store = Store {
            url: format!("http://{address}/insert/loki/api/v1/push"),
            process: Some((child, address.clone())),
        };
        let begun = Instant::now();
        while TcpStream::connect(&address).is_err() {
            if let Some((child, _)) = &mut store.process {
                ensure!(child.try_wait()?.is_none(), "VictoriaLogs ended");
            }
            ensure!(begun.elapsed() < PATIENCE, "VictoriaLogs does not answer");
            sleep(PACE);
        }
        Ok(store)
    }

    /// The number of events that it has; `arrived` if it cannot tell.
    fn count(&self, arrived: f64) -> Result<f64> {
        let Some((_, address)) = &self.process else {
            return Ok(arrived);
        };
        let begun = Instant::now();
        loop {
            let mut client = Client::connect(address)?;
            client.get(
                "/select/logsql/query?query=*%20%7C%20stats%20count()%20n",
                false,
                Body::Keep,
            )?;
            let answer: serde_json::Value = serde_json::from_slice(client.body())?;
            let count = answer["n"]
                .as_str()
                .context("VictoriaLogs counts")?
                .parse()?;
            // The last events become visible a little later.
            if count >= arrived || begun.elapsed() > PATIENCE {
                return Ok(count);
            }
            sleep(LOOK);
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.process {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Reads requests, and answers each with success.
fn take(stream: &TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line.is_empty() {
                break;
            }
        }
        std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink())?;
        (&*stream).write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
    }
}
