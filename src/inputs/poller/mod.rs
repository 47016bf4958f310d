//! Polls exporters, each at its own interval: configured targets, and those that
//! discoveries find.
//!
//! Every target has a task of its own, so a slow one does not delay others. A poll ends
//! before the next one of the same target begins.
//!
//! - [`target`]: the task of one target, which stores what it polls.
//! - [`threads`]: the threads on which these tasks run.
//! - [`set`]: all targets; [`discovery`]: finds more of them.
//! - [`fetch`]: one poll over HTTP; [`body`]: the response to it; [`kept`]: its memory;
//!   [`file`]: one poll of a file.
//! - [`clients`]: HTTP clients with kept connections.
//! - [`direct`]: polls of servers at an IP address, over plain HTTP.
//! - [`error`]: why a poll failed.
//! - [`tool`]: shows the effect of rules on targets.

mod body;
mod clients;
pub mod config;
mod direct;
mod discovery;
mod error;
mod fetch;
mod file;
mod kept;
mod set;
mod target;
mod threads;
pub mod tool;

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use self::clients::{Clients, MAX_CONNECTION_AGE};
use self::config::Config;
use self::config::discovery::Discovery;
use self::discovery::found::{Findings, Room};
use self::discovery::{ListFetcher, Source};
use self::error::ScrapeError;
use self::set::{DiscoveryClients, Limits, RunningDiscovery, TargetSet, Wanted};
use crate::clock::Now;
use crate::context::Context;
use crate::exposition::counted;
use crate::live::Live;
use crate::net::BlockingPool;
use crate::telemetry::{DiscoveryStats, sender_log};

pub use body::MAX_RECEIVED;
pub use clients::ClientError;

/// The limit on large responses that are decompressed or parsed at the same time.
const LARGE_RESPONSES: usize = 2;

/// The polled targets, and the discoveries that find more.
#[derive(Debug)]
pub struct Poller {
    set: Arc<Mutex<TargetSet>>,
    clients: Live<Clients>,
    /// Threads for large responses of all targets.
    pool: BlockingPool,
    /// The number of the next discovery.
    next: u64,
}

/// The prepared changes for new settings.
#[derive(Debug)]
pub struct ReadyPoller {
    targets: Vec<Wanted>,
    discoveries: Vec<ReadyDiscovery>,
    limits: Limits,
    clients: Clients,
    /// The number of targets and of discoveries in the settings; they are not used if
    /// polling is off.
    configured: (usize, usize),
}

/// A discovery with its clients.
#[derive(Debug)]
struct ReadyDiscovery {
    name: String,
    discovery: Discovery,
    clients: DiscoveryClients,
}

impl Poller {
    /// Creates a poller without targets.
    pub fn new(context: &Context) -> Self {
        let pool = BlockingPool::new(LARGE_RESPONSES);
        Poller {
            set: Arc::new(Mutex::new(TargetSet::new(pool.clone(), context))),
            clients: Live::default(),
            pool,
            next: 0,
        }
    }

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

    /// Prepares every target and discovery. Nothing is sent or changed yet.
    ///
    /// # Errors
    ///
    /// An HTTP client cannot be created.
    pub fn prepare(&self, config: &Config) -> Result<ReadyPoller, ClientError> {
        let before = self.clients.load();
        let mut clients = Clients::new(config, &before);
        let (mut targets, mut discoveries) = (Vec::new(), Vec::new());
        let configured = (config.relabelled.len(), config.discoveries.all().count());
        if config.poll_other_scrape_endpoints {
            let found_in: Arc<str> = Arc::from("poll_external.targets");
            for target in &config.relabelled {
                let (user, requests) = (
                    format!("target {}", target.name),
                    (&target.settings.requests, Some(&target.url)),
                );
                targets.push(Wanted {
                    target: Arc::clone(target),
                    client: clients.get(&user, requests, config, &before)?,
                    found_in: Arc::clone(&found_in),
                });
            }
            for (name, discovery) in config.discoveries.all() {
                let user = format!("poll_external.{name}");
                let mut client = |of| clients.get(&user, of, config, &before);
                let targets = client((&discovery.template().settings.requests, None))?;
                let list = match &discovery {
                    Discovery::Http(it) => client((&it.requests, Some(&it.url)))?,
                    Discovery::File(_) | Discovery::Textfile(_) | Discovery::Dns(_) => {
                        Arc::clone(&targets)
                    }
                };
                discoveries.push(ReadyDiscovery {
                    name,
                    discovery,
                    clients: DiscoveryClients { targets, list },
                });
            }
        }
        Ok(ReadyPoller {
            targets,
            discoveries,
            limits: Limits {
                body: config.max_body,
                targets: config.max_targets,
            },
            clients,
            configured,
        })
    }

    /// Starts polling the targets.
    ///
    /// Discoveries with unchanged settings continue. One whose settings changed keeps its
    /// targets until it has found them again, if it still finds them in the same place.
    pub fn apply(&mut self, ready: ReadyPoller, context: &Context) {
        let mut set = lock(&self.set);
        let limits = ready.limits;
        let is_same_limit = set.limits() == limits;
        let mut before = mem::take(&mut set.discoveries);
        let mut started = Vec::new();
        for ready_discovery in ready.discoveries {
            let mut running = before.iter();
            let same = running.position(|(_, it)| is_same_limit && ready_discovery.is(it));
            if let Some(same) = same {
                set.discoveries.push(before.swap_remove(same));
                continue;
            }
            let ReadyDiscovery {
                name,
                discovery,
                clients,
            } = ready_discovery;
            let list = ListFetcher {
                client: Arc::clone(&clients.list),
                pool: self.pool.clone(),
            };
            let running = before.iter().map(|(_, running)| running);
            let alike = running.filter(|it| it.discovery.has_source_of(&discovery));
            // Several discoveries can have one place.
            let known = alike.max_by_key(|it| it.name == name);
            let findings = known.map(|it| it.findings.clone()).unwrap_or_default();
            let room = Room::new(limits.targets);
            let source = Source::new(&name, &discovery, list, limits.body, room, &findings);
            let end = CancellationToken::new();
            let stats = DiscoveryStats::new(name.clone(), discovery.source());
            let stats = Arc::new(stats);
            let id = self.next;
            self.next += 1;
            started.push(DiscoveryTask {
                id,
                source,
                stats: Arc::clone(&stats),
                set: Arc::clone(&self.set),
                stop: context.stop.clone(),
                end: end.clone(),
            });
            let running = RunningDiscovery {
                name,
                discovery,
                clients,
                stats,
                findings,
                _end: end.drop_guard(),
            };
            set.discoveries.push((id, running));
        }
        // This ends their tasks.
        drop(before);
        let stats = set.discoveries.iter();
        let stats = stats.map(|(_, running)| Arc::clone(&running.stats));
        context.telemetry.targets.set_discoveries(stats.collect());
        set.apply(ready.targets, limits, context);
        drop(set);
        for task in started {
            context.tasks.spawn(task.run());
        }
        self.clients.set(ready.clients);
    }
}

impl ReadyDiscovery {
    /// Whether a running discovery is this one.
    fn is(&self, running: &RunningDiscovery) -> bool {
        let (one, other) = (&self.clients, &running.clients);
        self.name == running.name
            && self.discovery == running.discovery
            && Arc::ptr_eq(&one.targets, &other.targets)
            && Arc::ptr_eq(&one.list, &other.list)
    }
}

impl ReadyPoller {
    /// Logs how many targets are polled.
    pub fn announce(&self) {
        let (targets, discoveries) = self.configured;
        let more = match discoveries {
            0 => String::new(),
            count => {
                let discoveries = counted(count, "discovery", "discoveries");
                format!(", and those of {discoveries}")
            }
        };
        if !self.targets.is_empty() || !self.discoveries.is_empty() {
            let targets = counted(targets, "target", "targets");
            log::info!("polling {targets}{more}");
        } else if self.configured != (0, 0) {
            log::info!(
                "{} configured{more}, not polled: poll_external.poll_other_scrape_endpoints is \
                 false",
                counted(targets, "target is", "targets are")
            );
        }
    }
}

/// The task of a discovery.
#[derive(Debug)]
struct DiscoveryTask {
    id: u64,
    source: Source,
    stats: Arc<DiscoveryStats>,
    set: Arc<Mutex<TargetSet>>,
    /// Cancelled when the program stops.
    stop: CancellationToken,
    /// Cancelled when the discovery is removed.
    end: CancellationToken,
}

impl DiscoveryTask {
    /// Finds targets until the program stops or the discovery is removed.
    async fn run(mut self) {
        let mut ticks = self.source.ticks();
        loop {
            let source = &mut self.source;
            let look = async {
                ticks.tick().await;
                source.look().await
            };
            let look = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.end.cancelled() => return,
                look = look => look,
            };
            if let Some(findings) = look.findings {
                self.update(findings).await;
            }
            if let Some(result) = look.result {
                self.note(result);
            }
        }
    }

    /// Polls the found targets. Since this looks at each target, it runs off the serving threads.
    async fn update(&self, findings: Findings) {
        let (set, id) = (Arc::clone(&self.set), self.id);
        let update = spawn_blocking(move || lock(&set).update(id, findings));
        if let Err(error) = update.await {
            sender_log::internal_error(format_args!(
                "the targets of {} cannot be polled: {error}",
                self.stats.name
            ));
        }
    }

    /// Counts an update. Logs it if it begins to fail, fails for another reason, or
    /// succeeds again.
    fn note(&self, result: Result<(), ScrapeError>) {
        let (name, source) = (&self.stats.name, &self.stats.source);
        let problem = result.map_err(|error| (error.reason, error.message));
        let now = problem.as_ref().err().cloned();
        let before = self.stats.record(problem, Now::read());
        match (now, before) {
            (Some((reason, message)), before) if before.as_ref() != Some(&message) => {
                log::warn!(
                    "{name} ({source}): {reason}: {message}; the targets that were found last \
                     are polled"
                );
            }
            (None, Some(_)) => log::info!("{name} ({source}) works again"),
            _ => {}
        }
    }
}

fn lock(set: &Mutex<TargetSet>) -> MutexGuard<'_, TargetSet> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Closes kept connections before they are too old.
async fn renew(clients: &Live<Clients>) {
    let mut ticks = interval_at(Instant::now() + MAX_CONNECTION_AGE, MAX_CONNECTION_AGE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        clients.load().renew();
    }
}
