//! Pushes over HTTP: replaced groups and aggregated families, beside
//! Pushgateway with and without its checks. `--only gateway`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::cases::Setup;
use crate::measure::{Coding, Effort};
use crate::servers::{PUSHGATEWAY, Server};
use bench::client::{Body, Client};
use bench::figures::{median, percentile, resident_bytes, wait_for_quiet};
use bench::payload::app_text;
use bench::proxy::Proxy;

/// Groups that are pushed, and series per group.
const GROUPS: usize = 1_000;
const SERIES: usize = 100;

/// Jobs whose pushes add up to 1,000 and to 100,000 aggregated series.
const FEW_JOBS: usize = 10;
const MANY_JOBS: usize = 1_000;

/// Series held when memory is measured.
const HELD: usize = 1_000_000;

/// Query of an aggregating push.
const AGGREGATE: &str = "?mode=aggregate";

/// Threads that push while scrapes are timed.
const PUSHERS: usize = 2;

/// Number of concurrent senders.
const SENDERS: usize = 4;

/// Configuration for a million series; the default limits are lower.
const LARGE: &str = "[exposition]\nmax_total = \"4GiB\"\n\
                     [push]\nmax_series = 2000000\nmax_series_per_family = 2000000\n";

/// Pushes per second of one shape to one server, in each round.
#[derive(Debug)]
pub struct Rate {
    pub what: &'static str,
    pub who: &'static str,
    pub rounds: Vec<f64>,
    /// The same with [`SENDERS`] concurrent senders.
    pub crowd: Vec<f64>,
}

impl Gateway {
    /// Rate of one shape to one server.
    pub fn rate(&self, what: &str, who: &str) -> Option<&Rate> {
        self.rates
            .iter()
            .find(|it| (it.what, it.who) == (what, who))
    }
}

impl Rate {
    pub fn median(&self) -> f64 {
        median(self.rounds.clone())
    }

    pub fn crowd_median(&self) -> f64 {
        median(self.crowd.clone())
    }
}

/// Times of scrapes in seconds, alone and during pushes.
#[derive(Debug)]
pub struct Scraped {
    pub what: &'static str,
    pub coding: Coding,
    pub alone: Vec<f64>,
    pub pushed: Vec<f64>,
}

/// Resident memory per series, in bytes.
#[derive(Debug)]
pub struct Held {
    pub what: &'static str,
    pub after_pushes: f64,
    pub after_scrapes: f64,
}

#[derive(Debug, Default)]
pub struct Gateway {
    pub rates: Vec<Rate>,
    pub scrapes: Vec<Scraped>,
    pub memory: Vec<Held>,
    /// Missing figures, and why.
    pub notes: Vec<String>,
}

/// The two shapes of a body: one series in each of a hundred families, and all series in one
/// family.
#[derive(Clone, Copy, Debug)]
enum Shape {
    OneFamily,
    ManyFamilies,
}

impl Shape {
    fn text(self, job: usize, version: u64) -> String {
        match self {
            Shape::OneFamily => app_text(&format!("load_{job:05}"), SERIES, version),
            Shape::ManyFamilies => (0..SERIES)
                .map(|family| {
                    let name = format!("load_{family:03}_total");
                    let value = 1_234_567 + version + family as u64;
                    format!(
                        "# HELP {name} Requests handled.\n# TYPE {name} counter\n\
                         {name}{{code=\"200\",handler=\"/api/v1/items\",zone=\"z1\"}} {value}\n"
                    )
                })
                .collect(),
        }
    }
}

/// Bodies of all jobs in two versions, so that every push is a change.
struct Bodies {
    paths: Vec<String>,
    bodies: [Vec<String>; 2],
}

impl Bodies {
    fn new(jobs: usize, shape: Shape, query: &str) -> Self {
        Bodies {
            paths: (0..jobs)
                .map(|job| format!("/metrics/job/load_{job:05}{query}"))
                .collect(),
            bodies: [1_000, 2_000]
                .map(|version| (0..jobs).map(|job| shape.text(job, version)).collect()),
        }
    }

    /// The `number`th push.
    fn at(&self, number: usize) -> (&str, &[u8]) {
        let jobs = self.paths.len();
        let job = number % jobs;
        let body = &self.bodies[number / jobs % 2][job];
        (&self.paths[job], body.as_bytes())
    }

    /// Every job once.
    fn load(&self, address: &str, method: &str) -> Result<()> {
        let mut client = Client::connect(address)?;
        (0..self.paths.len()).try_for_each(|number| push(&mut client, method, self.at(number)))
    }
}

fn push(client: &mut Client, method: &str, (path, body): (&str, &[u8])) -> Result<()> {
    let status = client.send(method, path, body)?;
    ensure!(
        matches!(status, 200 | 202),
        "{method} {path} was answered {status}"
    );
    Ok(())
}

pub fn run(setup: &Setup) -> Result<Gateway> {
    let mut outcome = Gateway::default();
    rates(setup, &mut outcome)?;
    for (what, shape, query) in [
        ("`PUT`, one family", Shape::OneFamily, ""),
        ("`PUT`, 100 families", Shape::ManyFamilies, ""),
        ("aggregated `POST`", Shape::ManyFamilies, AGGREGATE),
    ] {
        let proxy = Proxy::start(&setup.program, setup.worker_threads, "")?;
        let bodies = Bodies::new(GROUPS, shape, query);
        for coding in Coding::BOTH {
            let way = (what, method_of(query), coding);
            let scraped = scrape_times(&proxy, &bodies, way, &setup.effort)?;
            outcome.scrapes.push(scraped);
        }
    }
    for (what, shape, query) in [
        (
            "groups, 100 series of one family each",
            Shape::OneFamily,
            "",
        ),
        (
            "groups, a series each of 100 families",
            Shape::ManyFamilies,
            "",
        ),
        ("aggregated, one family", Shape::OneFamily, AGGREGATE),
        ("aggregated, 100 families", Shape::ManyFamilies, AGGREGATE),
    ] {
        if setup.effort.is_over() {
            outcome
                .notes
                .push(format!("Memory, {what}: the time is up."));
            continue;
        }
        let held = memory(setup, what, shape, query).with_context(|| what)?;
        outcome.memory.push(held);
    }
    Ok(outcome)
}

/// Rates of all shapes on all servers, in turns.
struct Contestant {
    what: &'static str,
    who: &'static str,
    method: &'static str,
    address: String,
    bodies: Bodies,
}

fn rates(setup: &Setup, outcome: &mut Gateway) -> Result<()> {
    let start = |more| Proxy::start(&setup.program, setup.worker_threads, more);
    let replacing = [start("")?, start("")?];
    let aggregating = [start("")?, start("")?];
    let put = [
        ("`PUT`, 100 series of one family", Shape::OneFamily),
        ("`PUT`, a series each of 100 families", Shape::ManyFamilies),
    ];
    let mut contestants = Vec::new();
    let mut peers = Vec::new();
    for ((what, shape), proxy) in put.into_iter().zip(&replacing) {
        let bodies = || Bodies::new(GROUPS, shape, "");
        let mut add = |who, address: &str| {
            contestants.push(Contestant {
                what,
                who,
                method: "PUT",
                address: address.to_owned(),
                bodies: bodies(),
            });
        };
        add("exporter-proxy", &proxy.addresses.push);
        if PUSHGATEWAY.find().is_some() {
            let (unchecked, checked) = pushgateways(&bodies())?;
            add("Pushgateway, no checks", &unchecked.address);
            add("Pushgateway, checks", &checked.address);
            peers.extend([unchecked, checked]);
        } else {
            outcome.notes.push("Pushgateway is not here.".to_owned());
        }
    }
    for (what, jobs, proxy) in [
        (
            "aggregated `POST`, 1,000 aggregated series",
            FEW_JOBS,
            &aggregating[0],
        ),
        (
            "aggregated `POST`, 100,000 aggregated series",
            MANY_JOBS,
            &aggregating[1],
        ),
    ] {
        contestants.push(Contestant {
            what,
            who: "exporter-proxy",
            method: "POST",
            address: proxy.addresses.push.clone(),
            bodies: Bodies::new(jobs, Shape::ManyFamilies, AGGREGATE),
        });
    }
    for contestant in &contestants {
        // Servers with checks start from the file of those without.
        if contestant.who != "Pushgateway, checks" {
            contestant
                .bodies
                .load(&contestant.address, contestant.method)
                .with_context(|| format!("{}, {}", contestant.who, contestant.what))?;
        }
    }
    let mut all: Vec<Rate> = contestants
        .iter()
        .map(|it| Rate {
            what: it.what,
            who: it.who,
            rounds: Vec::new(),
            crowd: Vec::new(),
        })
        .collect();
    for round in 0..setup.effort.rounds {
        for turn in 0..contestants.len() {
            if setup.effort.is_over() {
                break;
            }
            // Rotate who is first.
            let who = (round + turn) % contestants.len();
            let (contestant, rate) = (&contestants[who], &mut all[who]);
            for (senders, rounds) in [(1, &mut rate.rounds), (SENDERS, &mut rate.crowd)] {
                wait_for_quiet()?;
                rounds.push(rate_for(contestant, senders, setup.effort.turn)?);
            }
        }
    }
    outcome.rates = all;
    Ok(())
}

/// Pushes per second by `senders`, each on its own connection.
fn rate_for(contestant: &Contestant, senders: usize, time: Duration) -> Result<f64> {
    let next = AtomicUsize::new(0);
    let begin = Instant::now();
    thread::scope(|scope| -> Result<()> {
        let senders: Vec<_> = (0..senders)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    let mut client = Client::connect(&contestant.address)?;
                    let mut first = true;
                    while first || begin.elapsed() < time {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        push(&mut client, contestant.method, contestant.bodies.at(number))?;
                        first = false;
                    }
                    Ok(())
                })
            })
            .collect();
        for sender in senders {
            sender.join().expect("a sender does not panic")?;
        }
        Ok(())
    })?;
    Ok(next.into_inner() as f64 / begin.elapsed().as_secs_f64())
}

/// Starts a Pushgateway without checks and loads all groups, and one with checks from the file of
/// the first. Loading the second by pushes would take minutes.
fn pushgateways(bodies: &Bodies) -> Result<(Server, Server)> {
    let dir = TempDir::new()?;
    let file = dir.path().join("groups");
    let loader = Server::pushgateway(false, Some(&file))?;
    bodies.load(&loader.address, "PUT")?;
    settle(&loader.address)?;
    drop(loader);
    let checked = Server::pushgateway(true, Some(Path::new(&file)))?;
    let unchecked = Server::pushgateway(false, None)?;
    Ok((unchecked, checked))
}

/// Waits until all groups are visible: without checks, Pushgateway answers before it stores a push.
fn settle(address: &str) -> Result<()> {
    let start = Instant::now();
    let mut client = Client::connect(address)?;
    loop {
        client.get("/metrics", false, Body::Keep)?;
        let last = format!("load_{:05}", GROUPS - 1);
        if memchr::memmem::find(client.body(), last.as_bytes()).is_some() {
            return Ok(());
        }
        ensure!(
            start.elapsed() < Duration::from_secs(60),
            "the groups do not show"
        );
        thread::sleep(Duration::from_millis(100));
    }
}

/// Scrapes by one scraper, alone and while senders push at full speed.
fn scrape_times(
    proxy: &Proxy,
    bodies: &Bodies,
    (what, method, coding): (&'static str, &'static str, Coding),
    effort: &Effort,
) -> Result<Scraped> {
    bodies.load(&proxy.addresses.push, method)?;
    let mut times = Scraped {
        what,
        coding,
        alone: Vec::new(),
        pushed: Vec::new(),
    };
    let scrape = |out: &mut Vec<f64>| -> Result<()> {
        let mut client = Client::connect(&proxy.addresses.http)?;
        let gzip = coding == Coding::Gzip;
        client.get("/metrics", gzip, Body::Keep)?;
        let begin = Instant::now();
        while begin.elapsed() < 4 * effort.turn {
            let start = Instant::now();
            client.get("/metrics", gzip, Body::Keep)?;
            out.push(start.elapsed().as_secs_f64());
        }
        Ok(())
    };
    for _ in 0..effort.rounds.min(3) {
        wait_for_quiet()?;
        scrape(&mut times.alone)?;
        let over = AtomicBool::new(false);
        let number = AtomicUsize::new(0);
        thread::scope(|scope| -> Result<()> {
            let senders: Vec<_> = (0..PUSHERS)
                .map(|_| {
                    scope.spawn(|| -> Result<()> {
                        let mut client = Client::connect(&proxy.addresses.push)?;
                        while !over.load(Ordering::Relaxed) {
                            let number = number.fetch_add(1, Ordering::Relaxed);
                            push(&mut client, method, bodies.at(number))?;
                        }
                        Ok(())
                    })
                })
                .collect();
            let scraped = scrape(&mut times.pushed);
            over.store(true, Ordering::Relaxed);
            for sender in senders {
                sender.join().expect("a sender does not panic")?;
            }
            scraped
        })?;
    }
    Ok(times)
}

/// Memory with a million series, of groups or of aggregated families.
fn memory(setup: &Setup, what: &'static str, shape: Shape, query: &str) -> Result<Held> {
    let proxy = Proxy::start(&setup.program, setup.worker_threads, LARGE)?;
    let empty = resident_bytes(proxy.pid())?;
    let mut client = Client::connect(&proxy.addresses.push)?;
    let method = method_of(query);
    for job in 0..HELD / SERIES {
        let path = format!("/metrics/job/load_{job:05}{query}");
        push(&mut client, method, (&path, shape.text(job, 0).as_bytes()))?;
    }
    let held = || -> Result<f64> { Ok((resident_bytes(proxy.pid())? - empty) / HELD as f64) };
    let after_pushes = held()?;
    let mut scraper = Client::connect(&proxy.addresses.http)?;
    scraper.get("/metrics", false, Body::Count)?;
    scraper.get("/metrics", true, Body::Count)?;
    Ok(Held {
        what,
        after_pushes,
        after_scrapes: held()?,
    })
}

fn method_of(query: &str) -> &'static str {
    if query == AGGREGATE { "POST" } else { "PUT" }
}

/// The tables.
pub fn print(outcome: &Gateway) {
    println!("\n## Pushes over HTTP\n");
    println!(
        "{GROUPS} groups of {SERIES} series, by one sender on one connection, and by {SENDERS} at once. \
         Pushgateway answers a push without checks before it is in.\n"
    );
    println!("| What | Who | Pushes a second, median | each round | by {SENDERS} senders |");
    println!("| --- | --- | ---: | --- | ---: |");
    for rate in &outcome.rates {
        let rounds: Vec<String> = rate.rounds.iter().map(|it| format!("{it:.0}")).collect();
        println!(
            "| {} | {} | {:.0} | {} | {:.0} |",
            rate.what,
            rate.who,
            rate.median(),
            rounds.join(", "),
            rate.crowd_median()
        );
    }
    println!("\nScrapes by one scraper, alone and while {PUSHERS} senders push at full speed:\n");
    println!(
        "| Pushes | Coding | Scrapes timed, alone and pushed | p50 alone | p99 alone | p50 pushed | p99 pushed | p99, pushed to alone |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    let at = |times: &[f64], part| percentile(times.to_vec(), part) * 1e3;
    for times in &outcome.scrapes {
        println!(
            "| {} | {} | {}, {} | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} x |",
            times.what,
            times.coding.name(),
            times.alone.len(),
            times.pushed.len(),
            at(&times.alone, 0.5),
            at(&times.alone, 0.99),
            at(&times.pushed, 0.5),
            at(&times.pushed, 0.99),
            at(&times.pushed, 0.99) / at(&times.alone, 0.99)
        );
    }
    println!(
        "\nResident memory for each series, with {HELD} series held, above that of the empty proxy:\n"
    );
    println!("| What | after the pushes | after a scrape of each coding |\n| --- | ---: | ---: |");
    for held in &outcome.memory {
        println!(
            "| {} | {:.0} bytes | {:.0} bytes |",
            held.what, held.after_pushes, held.after_scrapes
        );
    }
    for note in &outcome.notes {
        println!("\n{note}");
    }
}
