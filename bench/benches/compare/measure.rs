//! Turns: in each round every server is changed and scraped in the same way, so that other load on
//! the machine affects all of them.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::data::{Expected, Given};
use crate::servers::Server;
use bench::client::{Body, Client};
use bench::figures::{percentile, wait_for_quiet};

/// Number of concurrent scrapers.
pub const MANY: usize = 8;

/// A server with longer scrapes has two rounds, with nothing and everything changed.
const SLOW: Duration = Duration::from_secs(3);

/// A server with shorter scrapes has all rounds, and warms up each new connection with a scrape
/// that does not count. Others have three rounds, without warming up.
const FAST: Duration = Duration::from_millis(150);

/// How often and how long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub rounds: usize,
    /// Most scrapes of one turn, and the time after which no scrape of it starts.
    pub scrapes: usize,
    pub turn: Duration,
    /// When to start nothing more.
    pub until: Instant,
}

impl Effort {
    pub fn is_over(&self) -> bool {
        Instant::now() > self.until
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    Proxy,
    Merged,
    Nginx,
    Pushgateway,
    PushgatewayChecked,
    Prometheus,
}

impl Who {
    pub fn name(self) -> &'static str {
        match self {
            Who::Proxy => "exporter-proxy",
            Who::Merged => "exporter-proxy, merged",
            Who::Nginx => "nginx",
            Who::Pushgateway => "Pushgateway, no checks",
            Who::PushgatewayChecked => "Pushgateway, checks",
            Who::Prometheus => "Prometheus",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coding {
    Identity,
    Gzip,
}

impl Coding {
    pub const BOTH: [Coding; 2] = [Coding::Identity, Coding::Gzip];

    pub fn name(self) -> &'static str {
        match self {
            Coding::Identity => "identity",
            Coding::Gzip => "gzip",
        }
    }
}

/// Share of the apps that change before each scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    Nothing,
    One,
    Ten,
    All,
}

impl Change {
    pub const EACH: [Change; 4] = [Change::Nothing, Change::One, Change::Ten, Change::All];

    pub fn name(self) -> &'static str {
        match self {
            Change::Nothing => "nothing",
            Change::One => "1 %",
            Change::Ten => "10 %",
            Change::All => "everything",
        }
    }

    fn part(self) -> f64 {
        match self {
            Change::Nothing => 0.0,
            Change::One => 0.01,
            Change::Ten => 0.1,
            Change::All => 1.0,
        }
    }
}

/// Key of a measurement.
pub type Cell = (Who, Change, Coding, usize);

/// All measurements of one case.
#[derive(Debug, Default)]
pub struct Measured {
    times: BTreeMap<Cell, Vec<f64>>,
    /// Length of an answer as sent.
    sizes: BTreeMap<(Who, Coding), usize>,
}

impl Measured {
    pub fn add(&mut self, cell: Cell, times: Vec<f64>) {
        self.times.entry(cell).or_default().extend(times);
    }

    /// Percentile of the scrape times in seconds; `None` if nothing was measured.
    pub fn time(&self, cell: Cell, part: f64) -> Option<f64> {
        let times = self.times.get(&cell)?;
        (!times.is_empty()).then(|| percentile(times.clone(), part))
    }

    pub fn size(&self, who: Who, coding: Coding) -> Option<usize> {
        self.sizes.get(&(who, coding)).copied()
    }

    /// Drops all measurements of a server that answered wrongly.
    fn forget(&mut self, who: Who) {
        self.times.retain(|cell, _| cell.0 != who);
    }
}

/// Resident memory of a server at three times.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub loaded: f64,
    /// After one scrape of each coding.
    pub scraped: f64,
    /// At the end of the case.
    pub end: f64,
}

/// A server in the comparison.
#[derive(Debug)]
pub struct Contestant {
    pub who: Who,
    pub server: Server,
    pub given: Given,
    pub memory: Memory,
    /// What its answer must contain.
    expected: Expected,
    client: Client,
    first_scrapes: BTreeMap<Coding, Duration>,
    pub failure: Option<String>,
}

impl Contestant {
    /// From a server that has all data.
    pub fn new(who: Who, server: Server, given: Given, expected: Expected) -> Result<Self> {
        Ok(Contestant {
            who,
            memory: Memory {
                loaded: server.resident()?,
                ..Memory::default()
            },
            client: Client::connect(&server.address)?,
            server,
            given,
            expected,
            first_scrapes: BTreeMap::new(),
            failure: None,
        })
    }

    /// Scrapes once in each coding and checks the answers. Returns the text.
    pub fn first_scrapes(&mut self, measured: &mut Measured) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        for coding in Coding::BOTH {
            let start = Instant::now();
            let length = self.scrape(coding)?;
            self.first_scrapes.insert(coding, start.elapsed());
            self.check(coding)?;
            measured.sizes.insert((self.who, coding), length);
            if coding == Coding::Identity {
                text = self.client.body().to_vec();
            }
        }
        self.memory.scraped = self.server.resident()?;
        Ok(text)
    }

    fn scrape(&mut self, coding: Coding) -> Result<usize> {
        let gzip = coding == Coding::Gzip;
        let answer = self.client.get(self.server.path, gzip, Body::Keep)?;
        Ok(answer.length)
    }

    fn check(&self, coding: Coding) -> Result<()> {
        let gzip = coding == Coding::Gzip;
        self.given
            .check(self.client.body(), gzip, self.expected)
            .with_context(|| format!("{}, {}", self.who.name(), coding.name()))
    }

    pub fn is_slow(&self) -> bool {
        self.slowest() > SLOW
    }

    fn slowest(&self) -> Duration {
        self.first_scrapes
            .values()
            .max()
            .copied()
            .unwrap_or_default()
    }

    fn is_fast(&self, coding: Coding) -> bool {
        self.first_scrapes[&coding] < FAST
    }

    /// Whether it has a turn in this round. nginx and Prometheus have none with changes, since
    /// changes cost them nothing: nginx reads a file, and Prometheus keeps nothing of an answer.
    /// Pushgateway with checks would take minutes.
    fn takes_part(&self, round: usize, change: Change) -> bool {
        let changes = matches!(self.who, Who::Proxy | Who::Merged | Who::Pushgateway);
        let (rounds, changed) = match self.slowest() {
            time if time > SLOW => (2, changes && change == Change::All),
            time if time > FAST => (3, changes),
            _ => (usize::MAX, changes),
        };
        let takes_part = round < rounds && (changed || change == Change::Nothing);
        takes_part && self.failure.is_none()
    }

    /// One turn: change and scrape, repeatedly.
    fn turn(&mut self, change: Change, coding: Coding, effort: &Effort) -> Result<Vec<f64>> {
        self.client.reconnect()?;
        if self.is_fast(coding) {
            self.scrape(coding)?;
        }
        let mut times = Vec::new();
        let start = Instant::now();
        while times.is_empty() || (times.len() < effort.scrapes && start.elapsed() < effort.turn) {
            let changed = self.given.change(change.part());
            self.server.push(&self.given, &changed)?;
            let start = Instant::now();
            self.scrape(coding)?;
            times.push(start.elapsed().as_secs_f64());
        }
        self.check(coding)?;
        Ok(times)
    }

    /// Pushes everything with new values and checks the answer, after pushes whose values were not
    /// recorded.
    pub fn check_again(&mut self) -> Result<()> {
        self.client.reconnect()?;
        let changed = self.given.change(1.0);
        self.server.push(&self.given, &changed)?;
        for coding in Coding::BOTH {
            self.scrape(coding)?;
            self.check(coding)?;
        }
        Ok(())
    }

    /// Whether it has a turn with many scrapers in this round. Servers that take seconds have one,
    /// and none if a single scrape takes seconds: many could exhaust the memory.
    fn joins_crowd(&self, round: usize, coding: Coding) -> bool {
        let each = self.first_scrapes.get(&coding);
        let slow = each.is_some_and(|time| *time * MANY as u32 > SLOW / 2);
        self.failure.is_none() && !self.is_slow() && (!slow || round == 0)
    }

    /// One turn with many scrapers at once; returns the times of all scrapes.
    fn crowd(&self, coding: Coding, effort: &Effort) -> Result<Vec<f64>> {
        scrape_together(&self.server, coding, MANY, |times, start| {
            times.is_empty() || (times.len() < effort.scrapes && start.elapsed() < effort.turn)
        })
    }
}

/// Scrapes over several connections at once, until `go_on` says no.
pub fn scrape_together(
    server: &Server,
    coding: Coding,
    scrapers: usize,
    go_on: impl Fn(&[f64], Instant) -> bool + Sync,
) -> Result<Vec<f64>> {
    let barrier = Barrier::new(scrapers);
    let mut clients = Vec::new();
    for _ in 0..scrapers {
        clients.push(Client::connect(&server.address)?);
    }
    thread::scope(|scope| {
        let threads: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                let (barrier, go_on) = (&barrier, &go_on);
                scope.spawn(move || -> Result<Vec<f64>> {
                    let mut times = Vec::new();
                    barrier.wait();
                    let begin = Instant::now();
                    while go_on(&times, begin) {
                        let start = Instant::now();
                        let gzip = coding == Coding::Gzip;
                        let answer = client.get(server.path, gzip, Body::Count)?;
                        ensure!(answer.length > 0, "an answer is empty");
                        times.push(start.elapsed().as_secs_f64());
                    }
                    Ok(times)
                })
            })
            .collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().expect("a scraper does not panic")?);
        }
        Ok(all)
    })
}

/// All rounds with one scraper, then with many. `between` runs once per round, for other
/// measurements.
pub fn rounds(
    contestants: &mut [Contestant],
    measured: &mut Measured,
    effort: &Effort,
    mut between: impl FnMut() -> Result<()>,
) -> Result<()> {
    for round in 0..effort.rounds {
        for change in Change::EACH {
            for coding in Coding::BOTH {
                for contestant in in_turn(contestants, round) {
                    if contestant.takes_part(round, change) && !(effort.is_over() && round > 0) {
                        let cell = (contestant.who, change, coding, 1);
                        wait_for_quiet()?;
                        let times = contestant.turn(change, coding, effort);
                        settle(contestant, measured, cell, times);
                    }
                }
            }
        }
        between()?;
    }
    for round in 0..effort.rounds.min(3) {
        for coding in Coding::BOTH {
            for contestant in in_turn(contestants, round) {
                let over = effort.is_over() && round > 0;
                if contestant.joins_crowd(round, coding) && !over {
                    let cell = (contestant.who, Change::Nothing, coding, MANY);
                    wait_for_quiet()?;
                    let times = contestant.crowd(coding, effort);
                    settle(contestant, measured, cell, times);
                }
            }
        }
    }
    for contestant in contestants.iter_mut() {
        match contestant.server.resident() {
            Ok(resident) => contestant.memory.end = resident,
            Err(_) => contestant.failure = Some("it has ended".to_owned()),
        }
    }
    Ok(())
}

/// Rotates the order: the effects of a server on caches, and its deferred work, must affect all
/// others alike.
fn in_turn(contestants: &mut [Contestant], round: usize) -> impl Iterator<Item = &mut Contestant> {
    let first = round % contestants.len().max(1);
    let (last, first) = contestants.split_at_mut(first);
    first.iter_mut().chain(last)
}

fn settle(
    contestant: &mut Contestant,
    measured: &mut Measured,
    cell: Cell,
    times: Result<Vec<f64>>,
) {
    match times {
        Ok(times) => measured.add(cell, times),
        Err(error) => {
            measured.forget(contestant.who);
            contestant.failure = Some(format!("{error:#}"));
        }
    }
}
