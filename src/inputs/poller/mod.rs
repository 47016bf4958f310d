//! The poller: scrapes configured exporters, each on its own interval.
//!
//! Every target has a task of its own, so a slow one delays nobody, and a poll
//! ends before the next one of its target begins.

mod fetch;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{PollExternal, Target};
use crate::exposition::Text;
use crate::inputs::door::{Door, Rejection};
use crate::store::{Change, Now, Origin, Peer, Producer, SectionId, Store, Write};
use crate::telemetry::{Reason, TargetStats, Telemetry};

pub use fetch::SetupError;
use fetch::{Failure, Fetched, Fetcher};

/// After this past its timeout a poll is given up from outside.
const GRACE: Duration = Duration::from_millis(250);

/// All targets, ready to be polled.
#[derive(Debug)]
pub struct Poller {
    targets: Vec<PolledTarget>,
}

#[derive(Debug)]
struct PolledTarget {
    config: Target,
    fetcher: Fetcher,
    stats: Arc<TargetStats>,
    door: Arc<Door>,
    store: Arc<Store>,
    id: SectionId,
    source: Arc<str>,
    /// How the last poll went, so that only changes are logged.
    last: Option<Result<(), Reason>>,
}

impl Poller {
    /// Prepares every target. Nothing is sent yet.
    pub fn new(
        config: &PollExternal,
        door: &Arc<Door>,
        store: &Arc<Store>,
        telemetry: &Telemetry,
    ) -> Result<Self, SetupError> {
        if !config.poll_other_scrape_endpoints {
            return Ok(Poller {
                targets: Vec::new(),
            });
        }
        let targets = config
            .targets
            .iter()
            .map(|target| {
                Ok(PolledTarget {
                    config: target.clone(),
                    fetcher: Fetcher::new(target, config.max_body)?,
                    stats: telemetry.add_target(&target.name),
                    door: Arc::clone(door),
                    store: Arc::clone(store),
                    id: SectionId::new(&target.name, Producer::Target),
                    source: Arc::from(target.url.to_string()),
                    last: None,
                })
            })
            .collect::<Result<_, SetupError>>()?;
        Ok(Poller { targets })
    }

    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Starts polling. First polls are spread over the interval, the first
    /// target's at once, so that targets are not all asked in one moment.
    pub fn start(self, stop: &CancellationToken, tasks: &TaskTracker) {
        let count = self.targets.len().max(1);
        for (index, target) in self.targets.into_iter().enumerate() {
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

impl PolledTarget {
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
        // The client has this limit too; here it covers files that are read.
        let limit = self.config.timeout + GRACE;
        let fetched = timeout(limit, self.fetcher.fetch())
            .await
            .unwrap_or_else(|_| Err(Failure::timed_out(limit)));
        let now = Now::read();
        let stored = fetched.and_then(|Fetched { text, peer }| self.store(text, peer, now));
        let result = stored.as_ref().map_err(|failure| failure.reason).copied();
        self.stats.note(result, started.elapsed(), now);
        self.log(&stored);
        self.last = Some(result);
        if let Err(failure) = stored {
            let fail = Change::Fail {
                id: self.id.clone(),
                origin: self.origin(Peer::Unknown),
                problem: failure.to_string(),
                keep: Some(self.config.stale_after),
            };
            // Nothing that only fails is refused.
            let _ = self.store.apply(Write::one(fail), now);
        }
    }

    /// Stores a text, if it is one that can be shown.
    fn store(&self, text: Text, peer: Peer, now: Now) -> Result<(), Failure> {
        let content = self.door.admit(&self.config.name, text)?;
        let replace = Change::Replace {
            id: self.id.clone(),
            content,
            origin: self.origin(peer),
            lifetime: None,
        };
        self.store
            .apply(Write::one(replace), now)
            .map_err(|refused| Failure::from(Rejection::from(refused)))
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
            Err(failure) => log::warn!("target {name} ({}): {failure}", self.config.url),
            Ok(()) if matches!(self.last, Some(Err(_))) => {
                log::info!("target {name} answers again");
            }
            Ok(()) => log::debug!("target {name} answered"),
        }
    }
}
