//! The time of a reload with 10,000 targets, 10 of which are new, and whether the polls of the
//! others keep their schedule meanwhile.
//!
//! Prints the median over several reloads as Markdown. The time includes reading the file.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bench::figures::median;
use exporter_proxy::app::App;
use exporter_proxy::app::reload::Source;
use exporter_proxy::config;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::sleep;

const TARGETS: usize = 10_000;
const NEW: usize = 10;
const RELOADS: usize = 15;
const INTERVAL: Duration = Duration::from_secs(20);

/// When each target was last polled, and the longest time between two polls of one target.
type Polls = Arc<Mutex<(Vec<Option<Instant>>, Duration)>>;

fn main() {
    if !bench::is_measuring() {
        return;
    }
    let polls: Polls = Arc::new(Mutex::new((vec![None; TARGETS], Duration::ZERO)));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    for _ in 0..4 {
        let (listener, polls) = (listener.try_clone().expect("a copy"), Arc::clone(&polls));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // The client may have left.
                let _ = answer(stream, &polls);
            }
        });
    }
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("config.toml");
    write_config(&file, &address, 0);
    let mut runtime = Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let times = runtime.block_on(async {
        let load = move |file: &Path| config::load(Some(file), []);
        let first = load(&file).expect("the settings are right").config;
        let path = file.clone();
        let source = Source::new(move || load(&path));
        let app = App::bind(first).await.expect("it starts");
        let app = app.reloading_from(source);
        let (reloads, (stop, stopped)) = (app.reloads(), oneshot::channel::<()>());
        let running = tokio::spawn(app.run(async move {
            let _ = stopped.await;
        }));
        // Each target is polled once.
        sleep(INTERVAL).await;
        let mut times = Vec::new();
        for round in 1..=RELOADS {
            write_config(&file, &address, round);
            let begun = Instant::now();
            reloads.request().await.expect("it succeeds");
            times.push(begun.elapsed().as_secs_f64());
            sleep(2 * INTERVAL / RELOADS as u32).await;
        }
        drop(stop);
        running.await.expect("it stops");
        times
    });
    let worst = times.iter().copied().fold(0.0, f64::max);
    let longest = polls.lock().expect("the polls").1;
    println!("| What | Figure |\n| --- | --- |");
    println!(
        "| reload with {TARGETS} targets, {NEW} of them new | {:.0} ms (worst {:.0} ms) |",
        median(times) * 1e3,
        worst * 1e3
    );
    println!(
        "| longest time between two polls of a target with an interval of {} s | {:.2} s |",
        INTERVAL.as_secs(),
        longest.as_secs_f64()
    );
}

/// Writes a configuration whose last targets are new in each round.
fn write_config(file: &Path, address: &str, round: usize) {
    let mut text = format!(
        "[exporter]\nscrape_expose_endpoint = \"127.0.0.1:0\"\n[push]\nlisten = \"\"\n\
         [receiver]\nreceive_on_tcp_socket = false\nreceive_on_unix_socket = false\n\
         [poll_external]\npoll_interval = {}\n",
        INTERVAL.as_secs()
    );
    for number in 0..TARGETS {
        let version = if number < TARGETS - NEW { 0 } else { round };
        let target = "[[poll_external.targets]]";
        let _ = write!(
            text,
            "{target}\nurl = \"http://{address}/{number}/{version}\"\nname = \"t{number}-{version}\"\n"
        );
    }
    fs::write(file, text).expect("it is written");
}

/// Answers a poll and notes its time.
fn answer(mut stream: TcpStream, polls: &Polls) -> std::io::Result<()> {
    let mut head = [0; 2048];
    let length = stream.read(&mut head)?;
    let head = String::from_utf8_lossy(&head[..length]);
    let mut parts = head.split('/').skip(1);
    let number = parts.next().and_then(|number| number.parse::<usize>().ok());
    if let Some(number) = number.filter(|number| *number < TARGETS - NEW) {
        let now = Instant::now();
        let (last, longest) = &mut *polls.lock().expect("the polls");
        if let Some(before) = last[number].replace(now) {
            *longest = (*longest).max(now - before);
        }
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nm 1\n")
}
