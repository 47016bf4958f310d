//! All polled targets: configured ones, and those that discoveries find.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::DropGuard;

use super::clients::{MAX_CONNECTION_AGE, MAX_KEPT_CONNECTIONS, SharedClient};
use super::config::discovery::Discovery;
use super::config::target::Target;
use super::discovery::found::{Findings, Found};
use super::discovery::names;
use super::fetch::{Fetcher, Purpose};
use super::target::{Begin, PolledTarget, Work};
use super::threads::PollThreads;
use crate::context::Context;
use crate::exposition::counted;
use crate::net::BlockingPool;
use crate::telemetry::{DiscoveryStats, TargetStats};

/// A target to poll.
#[derive(Debug)]
pub struct Wanted {
    pub target: Arc<Target>,
    /// The client for its requests.
    pub client: Arc<SharedClient>,
    /// The setting or list that names it.
    pub found_in: Arc<str>,
}

/// The HTTP clients of a discovery.
#[derive(Debug)]
pub struct DiscoveryClients {
    /// The client for its targets.
    pub targets: Arc<SharedClient>,
    /// The client for its list.
    pub list: Arc<SharedClient>,
}

/// A running discovery.
#[derive(Debug)]
pub struct RunningDiscovery {
    /// The name of its setting.
    pub name: String,
    pub discovery: Discovery,
    pub clients: DiscoveryClients,
    pub stats: Arc<DiscoveryStats>,
    /// The last targets that it found.
    pub findings: Findings,
    /// Dropping this ends its task.
    pub _end: DropGuard,
}

/// All targets, each polled by a task of its own.
#[derive(Debug)]
pub struct TargetSet {
    targets: HashMap<String, PollTask>,
    /// Tasks of removed targets, until they have ended.
    ending: HashMap<String, JoinHandle<()>>,
    configured: Vec<Wanted>,
    /// Each with a number that identifies it.
    pub discoveries: Vec<(u64, RunningDiscovery)>,
    limits: Limits,
    /// Threads for large responses of all targets.
    pool: BlockingPool,
    threads: PollThreads,
    /// The context of the last reload.
    context: Context,
}

/// The limits of all targets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// The limit on bytes of a response, after decompression.
    pub body: usize,
    /// The limit on targets.
    pub targets: usize,
}

/// The task of a target. Dropping it ends the task, which withdraws the target.
#[derive(Debug)]
struct PollTask {
    work: watch::Sender<Arc<Work>>,
    handle: JoinHandle<()>,
    stats: Arc<TargetStats>,
}

impl TargetSet {
    /// Creates an empty set. Large responses are processed on `pool`.
    pub fn new(pool: BlockingPool, context: &Context) -> Self {
        TargetSet {
            targets: HashMap::new(),
            ending: HashMap::new(),
            configured: Vec::new(),
            discoveries: Vec::new(),
            limits: Limits::default(),
            pool,
            threads: PollThreads::new(context.stop.clone(), context.tasks.clone()),
            context: context.clone(),
        }
    }

    /// Polls these targets, and those that discoveries have found.
    pub fn apply(&mut self, configured: Vec<Wanted>, limits: Limits, context: &Context) {
        self.configured = configured;
        self.limits = limits;
        self.context = context.clone();
        self.refresh();
    }

    /// The current limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Takes the findings of a discovery, which may have been removed meanwhile.
    pub fn update(&mut self, id: u64, findings: Findings) {
        let mut running = self.discoveries.iter_mut();
        let Some((_, running)) = running.find(|(other, _)| *other == id) else {
            return;
        };
        let (before, now) = (running.findings.found.len(), findings.found.len());
        if before != now {
            log::info!(
                "{} ({}): {}, {before} before",
                running.name,
                running.stats.source,
                counted(now, "target", "targets")
            );
        }
        running.findings = findings;
        self.refresh();
    }

    /// Polls the targets that are now wanted.
    ///
    /// A target with unchanged settings keeps its schedule and its text. One whose settings
    /// changed keeps its text until the next poll, which begins at once. A removed one is
    /// withdrawn. New targets are polled within seconds, and then on schedules that are
    /// spread over their interval.
    fn refresh(&mut self) {
        let wanted = self.wanted();
        let keeps = keeps(&wanted);
        let mut before = mem::take(&mut self.targets);
        self.targets.reserve(wanted.len());
        let mut new = Vec::new();
        for (wanted, keep) in wanted.into_iter().zip(keeps) {
            let (fetcher, found_in) = self.fetcher(wanted, keep);
            let Some((name, task)) = before.remove_entry(&fetcher.target.name) else {
                new.push(Work::new(fetcher, found_in, &self.context));
                continue;
            };
            task.change(fetcher, found_in, &self.context);
            self.targets.insert(name, task);
        }
        self.ending.retain(|_, task| !task.is_finished());
        let gone = before.into_iter().map(|(name, task)| (name, task.handle));
        self.ending.extend(gone);
        let count = new.len();
        for (index, work) in new.into_iter().enumerate() {
            let target = &work.fetcher.target;
            let begin = Begin::of(index, count, target.settings.interval.every());
            let name = target.name.clone();
            let before = self.ending.remove(&name);
            let (work, changes) = watch::channel(Arc::new(work));
            let target = PolledTarget::new(changes, self.pool.clone(), &self.context);
            let stats = Arc::clone(target.stats());
            target.list();
            let handle = self.threads.spawn(target.run(before, begin));
            let task = PollTask {
                work,
                handle,
                stats,
            };
            self.targets.insert(name, task);
        }
    }

    /// The fetcher of a target, and the setting or list that names it.
    fn fetcher(&self, wanted: Wanted, keep: bool) -> (Fetcher, Arc<str>) {
        let fetcher = Fetcher {
            client: wanted.client,
            keep,
            max_body: wanted
                .target
                .settings
                .body_size_limit
                .unwrap_or(self.limits.body),
            target: wanted.target,
            pool: self.pool.clone(),
            purpose: Purpose::Scrape,
        };
        (fetcher, wanted.found_in)
    }

    /// All targets to poll: configured ones, then found ones, without duplicates, up to the limit.
    fn wanted(&self) -> Vec<Wanted> {
        let mut wanted: Vec<Wanted> = self.configured.iter().map(Wanted::clone_of).collect();
        let found: Vec<&Found> = self
            .discoveries
            .iter()
            .flat_map(|(_, running)| &running.findings.found)
            .collect();
        let configured = self.configured.iter();
        let taken: HashSet<&str> = configured.map(|it| &*it.target.name).collect();
        let names = names::assign(&found, &taken, |name, found| {
            let task = self.targets.get(name);
            task.is_some_and(|task| is_same(&task.work.borrow().fetcher.target, found))
        });
        let mut names = names.into_iter();
        for (_, running) in &self.discoveries {
            let findings = &running.findings;
            let before = wanted.len();
            let mut rejections = findings.rejections.clone();
            let mut beyond = findings.beyond;
            for (found, name) in findings.found.iter().zip(names.by_ref()) {
                let Some(name) = name else { continue };
                if wanted.len() >= self.limits.targets {
                    beyond += 1;
                    continue;
                }
                wanted.push(Wanted {
                    target: self.target(name, found),
                    client: Arc::clone(&running.clients.targets),
                    found_in: Arc::clone(&found.found_in),
                });
            }
            if beyond > 0 {
                let limit = self.limits.targets;
                rejections.insert(
                    0,
                    format!(
                        "{} beyond the limit of {limit} (poll_external.max_targets)",
                        counted(beyond, "target is", "targets are")
                    ),
                );
            }
            let polled = wanted.len() - before;
            let rejected = findings.rejected + beyond;
            running.report(polled, rejected, rejections);
        }
        wanted
    }

    /// The target with that name: the one already polled, if it is the same.
    fn target(&self, name: String, found: &Found) -> Arc<Target> {
        if let Some(task) = self.targets.get(&name) {
            let target = &task.work.borrow().fetcher.target;
            if is_same(target, found) && target.settings == found.settings {
                return Arc::clone(target);
            }
        }
        Arc::new(Target {
            name,
            url: found.url.clone(),
            labels: found.labels.clone(),
            settings: Arc::clone(&found.settings),
        })
    }
}

/// Whether a target is the found one, perhaps with other settings.
fn is_same(target: &Target, found: &Found) -> bool {
    target.url == found.url && target.labels == found.labels
}

impl Wanted {
    fn clone_of(other: &Wanted) -> Self {
        Wanted {
            target: Arc::clone(&other.target),
            client: Arc::clone(&other.client),
            found_in: Arc::clone(&other.found_in),
        }
    }
}

impl RunningDiscovery {
    /// Records how many entries are polled and how many are not, and logs the latter when
    /// it changes.
    fn report(&self, polled: usize, rejected: usize, rejections: Vec<String>) {
        let before = self.stats.state().rejected;
        if rejected != before && rejected > 0 {
            log::warn!(
                "{} ({}): {} not polled, such as: {}",
                self.name,
                self.stats.source,
                counted(rejected, "entry is", "entries are"),
                rejections.first().map_or("", String::as_str)
            );
        }
        let counts = (polled, self.findings.dropped);
        self.stats.record_targets(counts, rejected, rejections);
    }
}

impl PollTask {
    /// Replaces the work of the task. Only changed settings of the target interrupt a poll.
    fn change(&self, fetcher: Fetcher, found_in: Arc<str>, context: &Context) {
        if self.work.borrow().is(&fetcher, &found_in, context) {
            return;
        }
        let new = Work::new(fetcher, found_in, context);
        self.stats.set_info(Arc::clone(&new.info));
        self.work.send_if_modified(|work| {
            let is_changed = work.fetcher.target != new.fetcher.target;
            *work = Arc::new(new);
            is_changed
        });
    }
}

/// Decides for each target whether its connection is kept between polls. Connections are kept
/// for the most frequently polled targets, if they are used again before they are too old.
fn keeps(targets: &[Wanted]) -> Vec<bool> {
    let interval = |index: usize| {
        let every = targets[index].target.settings.interval.every();
        every.unwrap_or(Duration::MAX)
    };
    let mut frequent: Vec<usize> = (0..targets.len())
        .filter(|index| interval(*index) < MAX_CONNECTION_AGE)
        .collect();
    frequent.sort_by_key(|index| interval(*index));
    let mut keeps = vec![false; targets.len()];
    for index in frequent.into_iter().take(MAX_KEPT_CONNECTIONS) {
        keeps[index] = true;
    }
    keeps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, settle};
    use crate::inputs::poller::clients::Clients;

    /// The decision for each target.
    fn kept(config: &Config) -> Vec<bool> {
        let config = &config.poll_external;
        let none = Clients::default();
        let mut clients = Clients::new(config, &none);
        let wanted = config.targets.iter().map(|target| {
            let requests = (&target.settings.requests, None);
            Wanted {
                client: clients.get("test", requests, config, &none).unwrap(),
                target: Arc::clone(target),
                found_in: Arc::from("test"),
            }
        });
        keeps(&wanted.collect::<Vec<_>>())
    }

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
        let few = kept(&few);
        assert!(few[0] && !few[1] && few[2..].iter().all(|keep| *keep));
        config.push_str(&target(MAX_KEPT_CONNECTIONS + 1, "5s"));
        let many = settle("test", &config, []).unwrap().0;
        let many = kept(&many);
        assert!(!many[0] && many[MAX_KEPT_CONNECTIONS + 1]);
        assert_eq!(
            many.iter().filter(|keep| **keep).count(),
            MAX_KEPT_CONNECTIONS
        );
    }
}
