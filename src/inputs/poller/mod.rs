//! Polls the configured exporters, each at its own interval.
//!
//! Every target has a task of its own, so a slow one does not delay others. A poll
//! ends before the next one of its target begins.
//!
//! - [`target`]: the task of one target, which stores what it polls.
//! - [`fetch`]: one poll over HTTP.
//! - [`clients`]: HTTP clients with kept connections.
//! - [`direct`]: polls of servers on an IP address, over plain HTTP.
//! - [`error`]: why a poll failed.

mod clients;
pub mod config;
mod direct;
mod error;
mod fetch;
mod target;

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use self::clients::{Clients, MAX_CONNECTION_AGE, MAX_KEPT_CONNECTIONS};
use self::config::{Config, Target};
use self::fetch::Fetcher;
use self::target::{PolledTarget, Work};
use crate::context::Context;
use crate::exposition::counted;
use crate::live::Live;
use crate::net::BlockingPool;

pub use clients::ClientError;

/// Large responses that are decompressed or parsed at the same time.
const LARGE_RESPONSES: usize = 2;

/// The targets that are polled, each by a task of its own.
#[derive(Debug)]
pub struct Poller {
    targets: HashMap<String, PollTask>,
    /// Tasks of targets that were removed, until they have ended.
    ending: HashMap<String, JoinHandle<()>>,
    clients: Live<Clients>,
    /// Threads for large responses of all targets.
    pool: BlockingPool,
}

/// The task of a target. Dropping it ends the task, which withdraws the target.
#[derive(Debug)]
struct PollTask {
    work: watch::Sender<Arc<Work>>,
    handle: JoinHandle<()>,
}

/// What new settings ask of the poller.
#[derive(Debug)]
pub struct ReadyPoller {
    /// How each target is fetched.
    fetchers: Vec<Fetcher>,
    clients: Clients,
    /// Targets in the settings, which are not polled if polling is off.
    configured: usize,
}

impl Default for Poller {
    /// No targets yet.
    fn default() -> Self {
        Poller {
            targets: HashMap::new(),
            ending: HashMap::new(),
            clients: Live::default(),
            pool: BlockingPool::new(LARGE_RESPONSES),
        }
    }
}

impl Poller {
    /// Starts the task that closes kept connections before they are too old.
    pub fn start(&self, context: &Context) {
        let (stop, clients) = (context.stop.clone(), self.clients.clone());
        context.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = renew(&clients) => {}
            }
        });
    }

    /// Prepares every target. Nothing is sent or changed yet.
    ///
    /// # Errors
    ///
    /// The HTTP client of a target cannot be created.
    pub fn prepare(&self, config: &Config) -> Result<ReadyPoller, ClientError> {
        let before = self.clients.load();
        let mut ready = ReadyPoller {
            fetchers: Vec::new(),
            clients: Clients::new(config),
            configured: config.targets.len(),
        };
        if !config.poll_other_scrape_endpoints {
            return Ok(ready);
        }
        for (target, keep) in config.targets.iter().zip(keeps(&config.targets)) {
            ready.fetchers.push(Fetcher {
                target: Arc::clone(target),
                client: ready.clients.get(target, config, &before)?,
                keep,
                max_body: config.max_body,
                pool: self.pool.clone(),
            });
        }
        Ok(ready)
    }

    /// Polls the targets from now on.
    ///
    /// A target whose settings are as before keeps its schedule and its text. One whose
    /// settings changed keeps its text until the next poll, which begins at once. One that
    /// is gone is withdrawn. The first polls of new targets are spread over their interval,
    /// and the first of them is polled at once.
    pub fn apply(&mut self, ready: ReadyPoller, context: &Context) {
        let mut before = mem::take(&mut self.targets);
        let mut new = Vec::new();
        for fetcher in ready.fetchers {
            let name = &fetcher.target.name;
            let Some((name, task)) = before.remove_entry(name) else {
                new.push(fetcher);
                continue;
            };
            task.work.send_if_modified(|work| {
                let is_changed = work.fetcher.target != fetcher.target;
                *work = Arc::new(Work::new(fetcher, context));
                is_changed
            });
            self.targets.insert(name, task);
        }
        self.ending.retain(|_, task| !task.is_finished());
        let gone = before.into_iter().map(|(name, task)| (name, task.handle));
        self.ending.extend(gone);
        let count = new.len();
        for (index, fetcher) in new.into_iter().enumerate() {
            let offset = fetcher.target.interval.mul_f64(index as f64 / count as f64);
            let name = fetcher.target.name.clone();
            let before = self.ending.remove(&name);
            let (work, changes) = watch::channel(Arc::new(Work::new(fetcher, context)));
            let target = PolledTarget::new(changes, self.pool.clone(), context);
            target.list();
            let handle = context.tasks.spawn(target.run(before, offset));
            self.targets.insert(name, PollTask { work, handle });
        }
        self.clients.set(ready.clients);
    }
}

impl ReadyPoller {
    /// Logs how many targets are polled.
    pub fn announce(&self) {
        let targets = self.configured;
        if !self.fetchers.is_empty() {
            log::info!("polling {}", counted(targets, "target", "targets"));
        } else if targets > 0 {
            log::info!(
                "{} configured, not polled: poll_external.poll_other_scrape_endpoints is false",
                counted(targets, "target is", "targets are")
            );
        }
    }
}

/// For each target, whether its connection is kept between polls. Connections are kept
/// for the most frequently polled targets, if they are used again before they are too
/// old.
fn keeps(targets: &[Arc<Target>]) -> Vec<bool> {
    let mut frequent: Vec<usize> = (0..targets.len())
        .filter(|index| targets[*index].interval < MAX_CONNECTION_AGE)
        .collect();
    frequent.sort_by_key(|index| targets[*index].interval);
    let mut keeps = vec![false; targets.len()];
    for index in frequent.into_iter().take(MAX_KEPT_CONNECTIONS) {
        keeps[index] = true;
    }
    keeps
}

/// Closes kept connections before they are too old.
async fn renew(clients: &Live<Clients>) {
    let mut ticks = interval_at(Instant::now() + MAX_CONNECTION_AGE, MAX_CONNECTION_AGE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        clients.load().all().for_each(|client| client.renew());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settle;

    #[test]
    fn connections_are_kept_for_the_most_frequently_polled_targets() {
        let target = |number: usize, interval: &str| {
            format!(
                "[[poll_external.targets]]\nurl = \"http://h{number}/\"\ninterval = \"{interval}\"\n"
            )
        };
        let mut config = target(0, "30s") + &target(1, "60s");
        config.extend((2..MAX_KEPT_CONNECTIONS + 1).map(|number| target(number, "15s")));
        let few = settle("test", &config, []).unwrap().0;
        let few = keeps(&few.poll_external.targets);
        assert!(few[0] && !few[1] && few[2..].iter().all(|keep| *keep));
        config.push_str(&target(MAX_KEPT_CONNECTIONS + 1, "5s"));
        let many = settle("test", &config, []).unwrap().0;
        let many = keeps(&many.poll_external.targets);
        assert!(!many[0] && many[MAX_KEPT_CONNECTIONS + 1]);
        assert_eq!(
            many.iter().filter(|keep| **keep).count(),
            MAX_KEPT_CONNECTIONS
        );
    }
}
