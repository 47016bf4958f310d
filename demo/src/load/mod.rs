//! Load for the service: the scenarios of `load.js`, without k6.
//!
//! - [`scenario`]: what is requested, how often and when.
//! - [`outcome`]: results, and the summary.

mod outcome;
mod scenario;

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use fastrand::Rng;
use hyper::Method;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::client::Client;
use outcome::{Outcome, Summary};
use scenario::{PAUSE, Pace, Request, SCENARIOS, Scenario};

/// The time for a reply, and for the last requests after the end of a scenario.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// The address of the service, also if an empty one is given, as in `load.js`.
const BASE_URL: &str = "http://localhost:7080";

/// The options of `demo load`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Address of the service
    #[arg(long, env = "BASE_URL", default_value = BASE_URL)]
    base_url: String,
    /// Seed of ids and persons, for repeatable runs
    #[arg(long)]
    seed: Option<u64>,
    /// Fraction of the load: of iterations, durations and times of start
    #[arg(long, default_value_t = 1.0, value_parser = fraction)]
    fraction: f64,
}

/// Parses a fraction of the load.
fn fraction(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(fraction) if fraction > 0.0 && fraction <= 1.0 => Ok(fraction),
        _ => Err("it must be a number above 0, at most 1".to_owned()),
    }
}

/// Runs all scenarios, or until the program is asked to stop, and prints a summary.
///
/// # Errors
///
/// The service does not answer.
pub async fn main(arguments: Arguments) -> Result<()> {
    let base_url = base_url(&arguments.base_url)?;
    let client = Client::new(REPLY_TIMEOUT);
    let health = format!("{base_url}/health");
    let health = client.send(Method::GET, &health, None).await;
    health.map_err(|problem| {
        let cause = cause(&problem);
        anyhow!("there is no service at {base_url} ({cause}); `demo serve` starts one")
    })?;

    let start = Instant::now();
    let bars = MultiProgress::new();
    let mut rng = arguments.seed.map_or_else(Rng::new, Rng::with_seed);
    let runs = SCENARIOS.map(|scenario| {
        let scenario = scenario.shortened(arguments.fraction);
        Arc::new(Run {
            client: client.clone(),
            base_url: base_url.clone(),
            scenario,
            rng: Mutex::new(rng.fork()),
            outcome: Mutex::default(),
            bar: bars.add(bar(&scenario)),
        })
    });
    let mut tasks = JoinSet::new();
    for run in &runs {
        tasks.spawn(Arc::clone(run).run());
    }
    tokio::select! {
        _ = tasks.join_all() => {}
        // Dropping the tasks ends them.
        () = crate::stop_requested() => {}
    }
    let scenarios = runs.iter().map(|run| {
        run.bar.abandon();
        let name = run.scenario.name;
        (name, std::mem::take(&mut *locked(&run.outcome)))
    });
    let summary = Summary {
        scenarios: scenarios.collect(),
        took: start.elapsed(),
    };
    print!("{summary}");
    let replies: usize = summary.scenarios.iter().map(|(_, it)| it.replies()).sum();
    ensure!(replies > 0, "no request was answered");
    Ok(())
}

/// The address without slashes at its end; the default for an empty one.
fn base_url(written: &str) -> Result<String> {
    let url = match written {
        "" => BASE_URL,
        url => url.trim_end_matches('/'),
    };
    ensure!(
        url.starts_with("http://"),
        "the address of the service must begin with http://, not {url:?}"
    );
    Ok(url.to_owned())
}

/// The innermost cause in plain words: "connection refused".
fn cause(problem: &anyhow::Error) -> String {
    let cause = problem.root_cause();
    match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(kind @ (ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset)) => {
            kind.to_string()
        }
        _ => cause.to_string(),
    }
}

/// The progress bar of a scenario. It is shown on terminals only.
fn bar(scenario: &Scenario) -> ProgressBar {
    const STYLE: &str = "{msg:14} {bar:40} {pos:>6}/{len:6} {elapsed}";
    let style = ProgressStyle::with_template(STYLE).expect("the template is valid");
    ProgressBar::new(scenario.iterations())
        .with_style(style)
        .with_message(scenario.name)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running scenario.
#[derive(Debug)]
struct Run {
    client: Client,
    base_url: String,
    scenario: Scenario,
    rng: Mutex<Rng>,
    outcome: Mutex<Outcome>,
    bar: ProgressBar,
}

impl Run {
    async fn run(self: Arc<Self>) {
        sleep(self.scenario.start).await;
        match self.scenario.pace {
            Pace::Shared {
                iterations,
                max_duration,
            } => self.shared(iterations, max_duration).await,
            Pace::Constant { per_second, .. } => self.constant(per_second).await,
        }
    }

    /// The users share the iterations.
    async fn shared(self: Arc<Self>, iterations: u64, max_duration: Duration) {
        let begun = Arc::new(AtomicU64::new(0));
        let end = Instant::now() + max_duration;
        let mut users = JoinSet::new();
        for _ in 0..self.scenario.users {
            let (run, begun) = (Arc::clone(&self), Arc::clone(&begun));
            users.spawn(async move {
                while Instant::now() < end && begun.fetch_add(1, Ordering::Relaxed) < iterations {
                    run.iterate().await;
                }
            });
        }
        // When time is over, a user may be in its last request.
        let _ = timeout(max_duration + REPLY_TIMEOUT + PAUSE, users.join_all()).await;
    }

    /// Iterations begin at a constant rate.
    async fn constant(self: Arc<Self>, per_second: u32) {
        let free = Arc::new(Semaphore::new(self.scenario.users));
        let mut ticks = interval(Duration::from_secs(1) / per_second);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut iterations = JoinSet::new();
        for _ in 0..self.scenario.iterations() {
            ticks.tick().await;
            while iterations.try_join_next().is_some() {}
            let Ok(user) = Arc::clone(&free).try_acquire_owned() else {
                locked(&self.outcome).dropped += 1;
                self.bar.inc(1);
                continue;
            };
            let run = Arc::clone(&self);
            iterations.spawn(async move {
                run.iterate().await;
                drop(user);
            });
        }
        iterations.join_all().await;
    }

    /// One request and the pause after it.
    async fn iterate(&self) {
        let request = Request::random(self.scenario.kind, &mut locked(&self.rng));
        let start = Instant::now();
        let reply = self.send(&request).await;
        let took = start.elapsed();
        {
            let mut outcome = locked(&self.outcome);
            match reply {
                Ok(status) => outcome.reply(status, took),
                Err(_) => outcome.failed += 1,
            }
        }
        self.bar.inc(1);
        sleep(PAUSE).await;
    }

    /// Sends a request, reads the whole reply, and returns its status.
    async fn send(&self, request: &Request) -> Result<u16> {
        let url = format!("{}{}", self.base_url, request.path);
        let body = match &request.body {
            Some(body) => Some(("application/json", serde_json::to_vec(body)?)),
            None => None,
        };
        let (status, _) = self
            .client
            .send(request.method.parse()?, &url, body)
            .await?;
        Ok(status.as_u16())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_address_is_the_default() {
        assert_eq!(base_url("").unwrap(), "http://localhost:7080");
        assert_eq!(base_url("http://host:1//").unwrap(), "http://host:1");
        let problem = base_url("host:1").unwrap_err().to_string();
        assert!(problem.contains("not \"host:1\""), "{problem}");
    }
}
