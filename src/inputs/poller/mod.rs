//! Polls the configured exporters, each at its own interval.
//!
//! Every target has a task of its own, so a slow one does not delay others. A poll
//! ends before the next one of its target begins.
//!
//! - [`target`]: the task of one target, which stores what it polls.
//! - [`fetch`]: one poll over HTTP.
//! - [`clients`]: HTTP clients with kept connections.
//! - [`error`]: why a poll failed.

mod clients;
pub mod config;
mod error;
mod fetch;
mod target;

use std::sync::Arc;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use self::clients::{Clients, MAX_CONNECTION_AGE, MAX_KEPT_CONNECTIONS, SharedClient};
use self::config::{Config, Target};
use self::fetch::Fetcher;
use self::target::PolledTarget;
use crate::context::Context;
use crate::exposition::counted;
use crate::inputs::Input;
use crate::net::BlockingPool;

pub use clients::ClientError;

/// Large responses that are decompressed or parsed at the same time.
const LARGE_RESPONSES: usize = 2;

/// All targets, ready to be polled.
#[derive(Debug)]
pub struct Poller {
    fetchers: Vec<Fetcher>,
    clients: Vec<Arc<SharedClient>>,
    /// Threads for large responses of all targets.
    pool: BlockingPool,
    /// Targets in the settings, which are not polled if polling is off.
    configured: usize,
}

impl Poller {
    /// Prepares every target. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// The HTTP client of a target cannot be created.
    pub fn new(config: &Config) -> Result<Self, ClientError> {
        let mut poller = Poller {
            fetchers: Vec::new(),
            clients: Vec::new(),
            pool: BlockingPool::new(LARGE_RESPONSES),
            configured: config.targets.len(),
        };
        if !config.poll_other_scrape_endpoints {
            return Ok(poller);
        }
        let mut clients = Clients::new(config);
        for (target, keep) in config.targets.iter().zip(keeps(&config.targets)) {
            poller.fetchers.push(Fetcher {
                target: Arc::clone(target),
                client: clients.get(target)?,
                keep,
                max_body: config.max_body,
                pool: poller.pool.clone(),
            });
        }
        poller.clients = clients.into_shared();
        Ok(poller)
    }
}

impl Input for Poller {
    /// Logs how many targets are polled.
    fn announce(&self) {
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

    /// Lists all targets and polls them until the program stops. First polls are
    /// spread over the interval, and the first target is polled at once.
    fn start(self: Box<Self>, context: &Context) {
        if self.fetchers.is_empty() {
            return;
        }
        let (stop, clients) = (context.stop.clone(), self.clients);
        context.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = renew(clients) => {}
            }
        });
        let count = self.fetchers.len();
        for (index, fetcher) in self.fetchers.into_iter().enumerate() {
            let interval = fetcher.target.interval;
            let offset = interval.mul_f64(index as f64 / count as f64);
            let target = PolledTarget::new(fetcher, self.pool.clone(), context);
            target.list();
            let task = target.run(offset, context.stop.clone());
            context.tasks.spawn(task);
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
async fn renew(clients: Vec<Arc<SharedClient>>) {
    let mut ticks = interval_at(Instant::now() + MAX_CONNECTION_AGE, MAX_CONNECTION_AGE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        clients.iter().for_each(|client| client.renew());
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
