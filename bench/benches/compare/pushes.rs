//! Pushes during scrapes, and scrapes during pushes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::data::Given;
use crate::measure::{Coding, Contestant, Effort, MANY, Who, scrape_together};
use crate::servers::{Server, push_alone_tcp, push_alone_unix, put};
use bench::client::{Body, Client};
use bench::payload::json_document;

/// Interval of each scraper.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);

/// 1,000 apps that push every five seconds.
const PACE: Duration = Duration::from_millis(5);

/// Threads that push while scrapes are timed.
const PUSHERS: usize = 2;

/// Transport of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// One connection per push, as short-lived senders do.
    Unix,
    Tcp,
    /// `PUT` on a kept-alive connection.
    Put,
}

impl Way {
    pub fn name(self) -> &'static str {
        match self {
            Way::Unix => "JSON over Unix, a connection each",
            Way::Tcp => "JSON over TCP, a connection each",
            Way::Put => "`PUT`, one connection",
        }
    }
}

/// Rate of one sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    Steady,
    Full,
}

/// Times of pushes, alone and during scrapes.
#[derive(Debug)]
pub struct PushTimes {
    pub who: Who,
    pub way: Way,
    pub pace: Pace,
    pub alone: Vec<f64>,
    pub scraped: Vec<f64>,
}

/// Times of scrapes, alone and during pushes.
#[derive(Debug)]
pub struct ScrapeTimes {
    pub who: Who,
    pub coding: Coding,
    pub alone: Vec<f64>,
    pub pushed: Vec<f64>,
    /// Pushes per second during the scrapes.
    pub rate: f64,
}

#[derive(Debug, Default)]
pub struct Pushes {
    pub pushes: Vec<PushTimes>,
    pub scrapes: Vec<ScrapeTimes>,
}

pub fn run(contestants: &mut [Contestant], effort: &Effort) -> Result<Pushes> {
    let mut outcome = Pushes::default();
    for contestant in contestants.iter_mut().filter(|it| it.failure.is_none()) {
        match contestant.who {
            Who::Proxy => {
                let documents = Documents::new(&contestant.given, json_document);
                for (way, pace) in [
                    (Way::Unix, Pace::Steady),
                    (Way::Unix, Pace::Full),
                    (Way::Tcp, Pace::Full),
                ] {
                    let times = push_times(contestant, &documents, way, pace, effort, true)?;
                    outcome.pushes.push(times);
                }
                outcome
                    .scrapes
                    .extend(scrape_times(contestant, &documents, Way::Unix, effort)?);
                contestant.check_again()?;
            }
            Who::Pushgateway => {
                let documents = Documents::new(&contestant.given, |_, text| text.into());
                let (way, pace) = (Way::Put, Pace::Full);
                let times = push_times(contestant, &documents, way, pace, effort, true)?;
                outcome.pushes.push(times);
                outcome
                    .scrapes
                    .extend(scrape_times(contestant, &documents, Way::Put, effort)?);
                contestant.check_again()?;
            }
            Who::PushgatewayChecked => {
                let documents = Documents::new(&contestant.given, |_, text| text.into());
                let (way, pace) = (Way::Put, Pace::Full);
                outcome.pushes.push(push_times(
                    contestant, &documents, way, pace, effort, false,
                )?);
            }
            Who::Merged | Who::Nginx | Who::Prometheus => {}
        }
    }
    Ok(outcome)
}

/// Two bodies per app with different values, pushed in turn, so that every push is a change.
struct Documents {
    names: Vec<String>,
    bodies: [Vec<Vec<u8>>; 2],
}

impl Documents {
    fn new(given: &Given, encode: impl Fn(&str, &str) -> Vec<u8>) -> Self {
        let bodies = [1_000, 2_000].map(|version| {
            let apps = given.all().into_iter();
            apps.map(|app| encode(&given.data.app(app), &given.data.text(app, version)))
                .collect()
        });
        Documents {
            names: given
                .all()
                .into_iter()
                .map(|it| given.data.app(it))
                .collect(),
            bodies,
        }
    }

    /// The `number`th push: an app's name and body.
    fn at(&self, number: usize) -> (&str, &[u8]) {
        let apps = self.names.len();
        let app = number % apps;
        (&self.names[app], &self.bodies[number / apps % 2][app])
    }
}

/// One sender.
enum Sender<'s> {
    Alone(&'s Server, Way),
    Kept(Client),
}

impl<'s> Sender<'s> {
    fn new(server: &'s Server, way: Way) -> Result<Self> {
        Ok(match way {
            Way::Put => Sender::Kept(Client::connect(&server.address)?),
            _ => Sender::Alone(server, way),
        })
    }

    fn push(&mut self, (app, body): (&str, &[u8])) -> Result<()> {
        match self {
            Sender::Kept(client) => put(client, app, std::str::from_utf8(body)?),
            Sender::Alone(server, Way::Tcp) => {
                push_alone_tcp(server.tcp_receiver().context("no TCP receiver")?, body)
            }
            Sender::Alone(server, _) => {
                push_alone_unix(server.unix_socket().context("no Unix receiver")?, body)
            }
        }
    }
}

/// Duration of one stretch of pushes or scrapes.
fn stretch(effort: &Effort) -> Duration {
    4 * effort.turn
}

/// Stretches of pushes by one sender, alone and with scrapers in turn.
fn push_times(
    contestant: &Contestant,
    documents: &Documents,
    way: Way,
    pace: Pace,
    effort: &Effort,
    with_scrapers: bool,
) -> Result<PushTimes> {
    let server = &contestant.server;
    let mut times = PushTimes {
        who: contestant.who,
        way,
        pace,
        alone: Vec::new(),
        scraped: Vec::new(),
    };
    let mut number = 0;
    for _ in 0..effort.rounds.min(3) {
        let mut push = || push_for(server, documents, way, pace, stretch(effort), &mut number);
        times.alone.extend(push()?);
        if with_scrapers {
            times.scraped.extend(while_scraped(server, push)?);
        }
    }
    Ok(times)
}

/// The time of each push, from its beginning to its end.
fn push_for(
    server: &Server,
    documents: &Documents,
    way: Way,
    pace: Pace,
    time: Duration,
    number: &mut usize,
) -> Result<Vec<f64>> {
    let mut sender = Sender::new(server, way)?;
    let mut times = Vec::new();
    let begin = Instant::now();
    let mut next = begin;
    while begin.elapsed() < time {
        if pace == Pace::Steady {
            next += PACE;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        let start = Instant::now();
        sender.push(documents.at(*number))?;
        times.push(start.elapsed().as_secs_f64());
        *number += 1;
    }
    Ok(times)
}

/// Runs `work` during scrapes. The scrapers are spread over the second and alternate between
/// codings.
fn while_scraped<T>(server: &Server, something: impl FnOnce() -> Result<T>) -> Result<T> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut scrapers = Vec::new();
        for scraper in 0..MANY {
            let over = &over;
            scrapers.push(scope.spawn(move || -> Result<()> {
                let mut client = Client::connect(&server.address)?;
                let mut next = Instant::now() + SCRAPE_INTERVAL * scraper as u32 / MANY as u32;
                while !over.load(Ordering::Relaxed) {
                    let now = Instant::now();
                    if now < next {
                        thread::sleep((next - now).min(Duration::from_millis(20)));
                        continue;
                    }
                    client.get(server.path, scraper % 2 == 0, Body::Count)?;
                    // A late scraper skips what it has missed.
                    while next <= Instant::now() {
                        next += SCRAPE_INTERVAL;
                    }
                }
                Ok(())
            }));
        }
        let done = something();
        over.store(true, Ordering::Relaxed);
        for scraper in scrapers {
            scraper.join().expect("a scraper does not panic")?;
        }
        done
    })
}

/// Stretches of scrapes by one scraper, alone and with senders in turn.
fn scrape_times(
    contestant: &Contestant,
    documents: &Documents,
    way: Way,
    effort: &Effort,
) -> Result<Vec<ScrapeTimes>> {
    let server = &contestant.server;
    let mut all = Vec::new();
    for coding in Coding::BOTH {
        let mut times = ScrapeTimes {
            who: contestant.who,
            coding,
            alone: Vec::new(),
            pushed: Vec::new(),
            rate: 0.0,
        };
        let scrape = || {
            let time = stretch(effort);
            scrape_together(server, coding, 1, |_, start| start.elapsed() < time)
        };
        let mut rates = Vec::new();
        for _ in 0..effort.rounds.min(2) {
            times.alone.extend(scrape()?);
            let (scraped, rate) = while_pushed(server, documents, way, scrape)?;
            times.pushed.extend(scraped);
            rates.push(rate);
        }
        times.rate = rates.iter().sum::<f64>() / rates.len() as f64;
        all.push(times);
    }
    Ok(all)
}

/// Runs `work` while senders push at full speed; returns their pushes per second.
fn while_pushed<T>(
    server: &Server,
    documents: &Documents,
    way: Way,
    something: impl FnOnce() -> Result<T>,
) -> Result<(T, f64)> {
    let over = AtomicBool::new(false);
    let count = AtomicUsize::new(0);
    let start = Instant::now();
    let done = thread::scope(|scope| {
        let mut senders = Vec::new();
        for _ in 0..PUSHERS {
            let (over, count) = (&over, &count);
            senders.push(scope.spawn(move || -> Result<()> {
                let mut sender = Sender::new(server, way)?;
                while !over.load(Ordering::Relaxed) {
                    sender.push(documents.at(count.fetch_add(1, Ordering::Relaxed)))?;
                }
                Ok(())
            }));
        }
        let done = something();
        over.store(true, Ordering::Relaxed);
        for sender in senders {
            sender.join().expect("a sender does not panic")?;
        }
        done
    })?;
    let rate = count.into_inner() as f64 / start.elapsed().as_secs_f64();
    Ok((done, rate))
}
