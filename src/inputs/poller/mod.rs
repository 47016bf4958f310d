//! The poller: scrapes configured exporters, each on its own interval.
//!
//! Every target has a task of its own, so a slow one delays nobody, and a poll
//! ends before the next one of its target begins.
//!
//! - `clients`: connections, kept and renewed; `tls`: whom they trust.
//! - `fetch`: one poll.
//! - `failure`: why it failed.

mod clients;
pub mod config;
mod failure;
mod fetch;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Now;
use crate::exposition::{InputFormat, sample_lines};
use crate::ingest::{Admission, Rejection};
use crate::net::BlockingPool;
use crate::peer::{Origin, Peer};
use crate::reason::Reason;
use crate::store::{Change, Producer, SectionId, Store, Write};
use crate::telemetry::{TargetStats, Telemetry, sender_log};
use clients::{Clients, LONGEST_KEPT, MOST_KEPT, SharedClient};
use config::{Config as PollExternal, Target};
use failure::Failure;
use fetch::{Fetched, Fetcher};

/// Where texts are read, one of more bytes is read away from the threads that
/// serve: one of 15 MB takes a second.
const READ_AT_ONCE: usize = 64 << 10;

/// Large answers that are unpacked or read at once.
const LARGE_ANSWERS: usize = 2;

/// All targets, ready to be polled.
#[derive(Debug)]
pub struct Poller {
    targets: Vec<PolledTarget>,
    clients: Vec<Arc<SharedClient>>,
}

#[derive(Debug)]
struct PolledTarget {
    config: Arc<Target>,
    fetcher: Fetcher,
    stats: Arc<TargetStats>,
    admission: Arc<Admission>,
    store: Arc<Store>,
    turns: BlockingPool,
    id: SectionId,
    source: Arc<str>,
    /// How the last poll went, so that only changes are logged.
    last: Option<Result<(), Reason>>,
}

/// A target that cannot even be asked.
#[derive(Debug, thiserror::Error)]
#[error("target {name}: no HTTP client can be made for it: {problem}")]
pub struct SetupError {
    name: String,
    problem: String,
}

impl Poller {
    /// Prepares every target. Nothing is sent yet.
    pub fn new(
        config: &PollExternal,
        admission: &Arc<Admission>,
        store: &Arc<Store>,
        telemetry: &Telemetry,
    ) -> Result<Self, SetupError> {
        let mut poller = Poller {
            targets: Vec::new(),
            clients: Vec::new(),
        };
        if !config.poll_other_scrape_endpoints {
            return Ok(poller);
        }
        let mut clients = Clients::new(config);
        let turns = BlockingPool::new(LARGE_ANSWERS);
        let kept = kept(&config.targets);
        for (target, keep) in config.targets.iter().zip(kept) {
            let client = clients.of(target).map_err(|problem| SetupError {
                name: target.name.clone(),
                problem,
            })?;
            let config_of = Arc::new(target.clone());
            poller.targets.push(PolledTarget {
                fetcher: Fetcher {
                    target: Arc::clone(&config_of),
                    client,
                    keep,
                    max_body: config.max_body,
                    turns: turns.clone(),
                },
                stats: telemetry.add_target(&target.name),
                admission: Arc::clone(admission),
                store: Arc::clone(store),
                turns: turns.clone(),
                id: SectionId::new(&target.name, Producer::Target),
                source: Arc::from(format!("external_poll: {}", target.url.authority())),
                config: config_of,
                last: None,
            });
        }
        poller.clients = clients.into_shared();
        Ok(poller)
    }

    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Lists all targets and starts polling. First polls are spread over the
    /// interval, the first target's at once, so that targets are not all asked
    /// in one moment.
    pub fn start(self, stop: &CancellationToken, tasks: &TaskTracker) {
        if self.is_empty() {
            return;
        }
        let (clients, until) = (self.clients, stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = until.cancelled() => {}
                () = renew(clients) => {}
            }
        });
        let count = self.targets.len();
        for (index, target) in self.targets.into_iter().enumerate() {
            target.expect();
            let offset = target.config.interval.mul_f64(index as f64 / count as f64);
            let stop = stop.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = target.run(offset) => {}
                }
            });
        }
    }
}

/// For each target, whether its connection is kept from poll to poll: for
/// those polled most often, and where it would be used again before it is old.
fn kept(targets: &[Target]) -> Vec<bool> {
    let mut often: Vec<usize> = (0..targets.len())
        .filter(|at| targets[*at].interval < LONGEST_KEPT)
        .collect();
    often.sort_by_key(|at| targets[*at].interval);
    let mut kept = vec![false; targets.len()];
    for at in often.into_iter().take(MOST_KEPT) {
        kept[at] = true;
    }
    kept
}

/// Closes kept connections before they are too old.
async fn renew(clients: Vec<Arc<SharedClient>>) {
    let mut ticks = interval_at(Instant::now() + LONGEST_KEPT, LONGEST_KEPT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        clients.iter().for_each(|client| client.renew());
    }
}

impl PolledTarget {
    /// Lists the target before its first answer.
    fn expect(&self) {
        let expect = Change::Expect {
            id: self.id.clone(),
            origin: self.origin(Peer::Unknown),
            url: Arc::from(self.config.url.to_string()),
        };
        // Nothing that brings no text is refused.
        let _ = self.store.apply(Write::one(expect), Now::read());
    }

    async fn run(mut self, offset: Duration) {
        let mut ticks = interval_at(Instant::now() + offset, self.config.interval);
        // After a poll that took longer than the interval, the beat is kept.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.poll().await;
        }
    }

    async fn poll(&mut self) {
        let started = Instant::now();
        let limit = self.config.timeout;
        // Boxed: a target that waits for its next poll takes little memory.
        let fetched = timeout(limit, Box::pin(self.fetcher.fetch()))
            .await
            .unwrap_or_else(|_| Err(Failure::timed_out(limit)));
        let now = Now::read();
        let stored = match fetched {
            Ok(fetched) => self.store(fetched, now).await,
            Err(failure) => Err(failure),
        };
        let result = stored.as_ref().map_err(|failure| failure.reason).copied();
        if let Err(failure) = &stored {
            let fail = Change::Fail {
                id: self.id.clone(),
                origin: self.origin(Peer::Unknown),
                problem: failure.to_string(),
                keep: Some(self.config.stale_after),
            };
            // Nothing that only fails is refused.
            let _ = self.store.apply(Write::one(fail), now);
        }
        self.stats.record(result, started.elapsed(), now);
        self.log(&stored);
        self.last = Some(result);
    }

    /// Stores a text, if it is one that can be shown. A large one that is read
    /// for it is read away from the threads that serve.
    async fn store(&self, fetched: Fetched, now: Now) -> Result<(), Failure> {
        let Fetched { text, format, peer } = fetched;
        let is_read = self.admission.reads_texts() || format == Some(InputFormat::OpenMetrics);
        let is_large = text.len() > READ_AT_ONCE;
        let (admission, store) = (Arc::clone(&self.admission), Arc::clone(&self.store));
        let (id, origin) = (self.id.clone(), self.origin(peer));
        let store = move || {
            let samples = sample_lines(text.as_str().as_bytes());
            let replace = Change::Replace {
                content: admission.admit(&id, text, format)?,
                id,
                origin,
                lifetime: None,
            };
            store.apply(Write::one(replace), now)?;
            Ok(samples)
        };
        let stored: Result<usize, Rejection> = if is_read && is_large {
            self.turns.run(store).await.map_err(|problem| {
                let message = format!("the answer cannot be worked on: {problem}");
                Failure::new(Reason::Closed, &message)
            })?
        } else {
            store()
        };
        self.stats.record_samples(stored?);
        Ok(())
    }

    fn origin(&self, peer: Peer) -> Origin {
        Origin {
            source: Arc::clone(&self.source),
            peer,
        }
    }

    /// One line when a target begins to fail, fails otherwise, or recovers.
    fn log(&self, stored: &Result<(), Failure>) {
        let name = &self.config.name;
        match stored {
            Err(failure) if self.last == Some(Err(failure.reason)) => {
                log::debug!("target {name}: {failure}");
            }
            Err(failure) => {
                // What a target answers is quoted at debug alone. A line comes
                // no more often than a poll.
                let told = match failure.quotes {
                    true => sender_log::without_excerpts(failure.reason, &failure.message),
                    false => failure.message.as_str().into(),
                };
                let reason = failure.reason;
                log::warn!("target {name} ({}): {reason}: {told}", self.config.url);
                if *told != *failure.message {
                    log::debug!("target {name}: {failure}");
                }
            }
            Ok(()) if matches!(self.last, Some(Err(_))) => {
                log::info!("target {name} answers again");
            }
            Ok(()) => log::debug!("target {name} answered"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settle;

    #[test]
    fn connections_are_kept_for_the_targets_that_are_polled_most_often() {
        let target = |at: usize, interval: &str| {
            format!(
                "[[poll_external.targets]]\nurl = \"http://h{at}/\"\ninterval = \"{interval}\"\n"
            )
        };
        let mut config = target(0, "30s") + &target(1, "60s");
        config.extend((2..MOST_KEPT + 1).map(|at| target(at, "15s")));
        let few = settle("test", &config, []).unwrap().0;
        let few = kept(&few.poll_external.targets);
        assert!(few[0] && !few[1] && few[2..].iter().all(|keep| *keep));
        config.push_str(&target(MOST_KEPT + 1, "5s"));
        let many = settle("test", &config, []).unwrap().0;
        let many = kept(&many.poll_external.targets);
        assert!(!many[0] && many[MOST_KEPT + 1]);
        assert_eq!(many.iter().filter(|keep| **keep).count(), MOST_KEPT);
    }
}
