//! Pushes, operations and scrapes, with storage and without.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bench::client::{Body, Client};
use bench::figures::{median, percentile, wait_for_quiet};
use bench::proxy::Proxy;

use crate::{Pair, directory_on_disk, group, put, stored_in};

const GROUPS: usize = 1_000;
const SENDERS: usize = 4;
/// Pushes a second of all senders together.
const RATE: usize = 1_000;
const TURN: Duration = Duration::from_secs(4);
const SCRAPES: usize = 40;
/// Groups that change before each scrape: 1 %.
const CHANGED: usize = GROUPS / 100;

pub fn measure(program: &Path, rounds: usize) -> Result<()> {
    let directory = directory_on_disk()?;
    let sockets = tempfile::tempdir()?;
    let mut subjects = Vec::new();
    for with in [false, true] {
        let socket = sockets.path().join(format!("{with}.sock"));
        let mut more = format!("[operations]\nunix_sockets = [{socket:?}]\n");
        if with {
            more += &stored_in(directory.path());
        }
        let proxy = Proxy::start(program, 2, &more)?;
        let mut client = Client::connect(&proxy.addresses.push)?;
        (0..GROUPS).try_for_each(|number| put(&mut client, &group(number, 0)))?;
        subjects.push((with, proxy, socket));
    }
    let mut paced = [Pair::default(), Pair::default()];
    let (mut full, mut operations) = (Pair::default(), Pair::default());
    let mut scrapes = [Pair::default(), Pair::default()];
    for round in 0..rounds {
        // The order alternates, so that neither is always the first.
        subjects.rotate_left(1);
        for (with, proxy, socket) in &subjects {
            let version = 1 + round as u64 * 1_000_000;
            let address = &proxy.addresses.push;
            wait_for_quiet()?;
            let times = push(address, version, Some(RATE))?;
            paced[0].add(*with, median(times.clone()) * 1e6);
            paced[1].add(*with, percentile(times, 0.99) * 1e6);
            wait_for_quiet()?;
            let pushes = push(address, version + 100_000, None)?.len();
            full.add(*with, pushes as f64 / TURN.as_secs_f64());
            wait_for_quiet()?;
            operations.add(*with, operate(&proxy.addresses.http, socket)?);
            for (pair, gzip) in scrapes.iter_mut().zip([false, true]) {
                wait_for_quiet()?;
                pair.add(*with, scrape(proxy, gzip, version + 200_000)? * 1e3);
            }
        }
    }
    println!(
        "\n| With `sync = \"write\"` | memory only | storage | factor |\n| --- | ---: | ---: | ---: |"
    );
    paced[0].print("push of 100 series, 1,000 a second: p50", "µs");
    paced[1].print("the same: p99", "µs");
    full.print(
        "pushes of 100 series, four senders at full speed",
        "a second",
    );
    operations.print("operations, one Unix stream, 10,000 series", "a second");
    scrapes[0].print("scrape of 100,000 series, 1 % changed: text", "ms");
    scrapes[1].print("the same: gzip", "ms");
    Ok(())
}

/// Pushes for a turn, at a rate or at full speed; the time of each push, in seconds.
fn push(address: &str, version: u64, rate: Option<usize>) -> Result<Vec<f64>> {
    let pause = rate.map(|rate| Duration::from_secs_f64(SENDERS as f64 / rate as f64));
    thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| scope.spawn(move || push_alone(address, sender, version, pause)))
            .collect();
        let mut times = Vec::new();
        for sender in senders {
            times.extend(sender.join().expect("a sender does not panic")?);
        }
        Ok(times)
    })
}

fn push_alone(
    address: &str,
    sender: usize,
    version: u64,
    pause: Option<Duration>,
) -> Result<Vec<f64>> {
    // Two versions of each text, made before the time starts.
    let own = (sender..GROUPS).step_by(SENDERS);
    let texts: Vec<_> = [0, 1]
        .into_iter()
        .flat_map(|odd| own.clone().map(move |number| group(number, version + odd)))
        .collect();
    let mut client = Client::connect(address)?;
    let mut times = Vec::new();
    let begun = Instant::now();
    for (count, pushed) in (0..).zip(texts.iter().cycle()) {
        if let Some(pause) = pause {
            thread::sleep((pause * count).saturating_sub(begun.elapsed()));
        }
        if begun.elapsed() > TURN {
            break;
        }
        let start = Instant::now();
        put(&mut client, pushed)?;
        times.push(start.elapsed().as_secs_f64());
    }
    Ok(times)
}

/// Operations a second over one stream.
fn operate(http: &str, socket: &Path) -> Result<f64> {
    let output = Command::new(env!("CARGO_BIN_EXE_operations"))
        .args(["stream", "--count", "1000000", "--http", http, "--to"])
        .arg(format!("unix:{}", socket.display()))
        .output()?;
    ensure!(
        output.status.success(),
        "operations: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let figures = String::from_utf8(output.stdout)?;
    let rate = figures
        .lines()
        .find_map(|line| line.strip_prefix("per_second"));
    Ok(rate
        .context("operations prints per_second")?
        .trim()
        .parse()?)
}

/// Median time of a scrape, each after some groups changed.
fn scrape(proxy: &Proxy, gzip: bool, version: u64) -> Result<f64> {
    let mut sender = Client::connect(&proxy.addresses.push)?;
    let mut client = Client::connect(&proxy.addresses.http)?;
    let mut times = Vec::new();
    for scrape in 0..SCRAPES {
        for changed in 0..CHANGED {
            let number = (scrape + changed * (GROUPS / CHANGED)) % GROUPS;
            put(&mut sender, &group(number, version + scrape as u64))?;
        }
        let start = Instant::now();
        client.get("/metrics", gzip, Body::Keep)?;
        times.push(start.elapsed().as_secs_f64());
    }
    Ok(median(times))
}
