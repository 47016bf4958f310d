//! The composition root: makes the parts, binds everything, runs until told.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Now;
use crate::config::Config;
use crate::ingest::Intake;
use crate::ingest::config::Mode;
use crate::ingest::text::{self, Door};
use crate::inputs::operations::{self, Operations};
use crate::inputs::poller::{Poller, SetupError};
use crate::inputs::sockets::{self, Receiver};
use crate::net::accept::{self, ListenerLimits};
use crate::net::bind::{self, BindError};
use crate::net::{BlockingPool, Connection, Listener, MemoryBudget, raise_file_limit};
use crate::settings::listen::{Listen, SocketPath};
use crate::store::{self, Store};
use crate::telemetry::sender_log::{self, LogEvent};
use crate::telemetry::{ConfiguredLimits, ListenerName, MessageStats, Telemetry, clip, counted};
use crate::{http, inspector, registry};

/// How often it is looked for sections whose time is up.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(250);

/// How often in a row that is put off while large writes are made.
const MOST_PUT_OFF: u32 = 20;

/// File descriptors beside those of connections: listeners, the runtime's
/// own, standard streams, and polls under way.
const SPARE_DESCRIPTORS: u64 = 64;

/// Large messages that receivers work on at once, where their texts are read.
const LARGE_MESSAGES: usize = 2;

/// The program with every listener bound and nothing served yet.
#[derive(Debug)]
pub struct App {
    config: Config,
    door: Arc<Door>,
    store: Arc<Store>,
    telemetry: Arc<Telemetry>,
    tcp: Option<Listener>,
    unix: Option<Listener>,
    http: Listener,
    /// `None` where pushes are not taken, or come in at `http`.
    push: Option<Listener>,
    operations: operations::Sockets,
    /// What makes pushes into writes.
    intake: Arc<Intake>,
    poller: Poller,
    /// Told by whoever may stop the program over HTTP or by an operation.
    quit: CancellationToken,
    /// The stop is near: whoever asks is told to go elsewhere.
    leaving: CancellationToken,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Why the program cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Poller(#[from] SetupError),
}

impl App {
    /// Binds every listener, so that a port that is taken is known before
    /// anything is accepted anywhere.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        // Fails only where somebody has chosen a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = Store::new(
            store::StoreLimits {
                apps: config.receiver.max_apps,
                groups: config.push.max_groups,
                bytes: config.exposition.max_total,
                registry: registry::RegistryLimits {
                    families: config.push.max_families,
                    series: config.push.max_series,
                    series_per_family: config.push.max_series_per_family,
                    ..registry::RegistryLimits::default()
                },
            },
            config.exporter.own_metrics && config.exporter.app_metrics,
        );
        let rules = text::rules(&config.exposition, config.exporter.own_metrics);
        let store = Arc::new(store.with_rules(rules));
        let telemetry = Arc::new(Telemetry::new(Now::read(), bounds(&config)));
        let own_metrics = config.exporter.own_metrics;
        let hash = store.hasher().clone();
        let door = Door::new(config.exposition.clone(), own_metrics, hash.clone());
        let door = Arc::new(door);
        let (push, exposition) = (config.push.clone(), config.exposition.clone());
        let intake = Arc::new(Intake::new(push, exposition, own_metrics, hash));
        let poller = Poller::new(&config.poll_external, &door, &store, &telemetry)?;

        let http = bind::tcp(
            &config.exporter.scrape_expose_endpoint,
            "exporter.scrape_expose_endpoint",
        )
        .await?;
        let push = bind_push(&config).await?;
        let operations = operations::Sockets::bind(&config).await?;
        let mut tcp = None;
        if config.receiver.receive_on_tcp_socket {
            let address = &config.receiver.receiver_tcp_socket;
            tcp = Some(bind::tcp(address, "receiver.receiver_tcp_socket").await?);
        }
        let mut unix = None;
        if config.receiver.receive_on_unix_socket {
            unix = Some(bind::unix(
                &config.receiver.receiver_unix_socket,
                &config.receiver.unix_socket_user,
                &config.receiver.unix_socket_group,
                config.receiver.unix_socket_mode,
                "receiver.receiver_unix_socket",
            )?);
        }
        Ok(App {
            config,
            door,
            store,
            telemetry,
            tcp,
            unix,
            http,
            push,
            operations,
            intake,
            poller,
            quit: CancellationToken::new(),
            leaving: CancellationToken::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// Bound address of `/metrics`, as `host:port`.
    pub fn scrape_address(&self) -> String {
        self.http.address()
    }

    /// Bound address for pushes over HTTP, as `host:port` or as the path of a Unix socket. `None` if
    /// pushes are off.
    pub fn push_address(&self) -> Option<String> {
        match &self.push {
            Some(listener) => Some(listener.address()),
            None => self
                .takes_pushes_where_scraped()
                .then(|| self.scrape_address()),
        }
    }

    /// Serves until `told`, then lets what has begun finish.
    pub async fn run(self, told: impl Future<Output = ()>) {
        self.announce();
        self.raise_file_limit();
        log::info!("ready");
        let grace = self.config.exporter.shutdown_timeout;
        let (stop, quit) = (self.stop.clone(), self.quit.clone());
        let tasks = self.tasks.clone();
        let leaving = self.leaving.clone();
        let delay = self.config.operations.shutdown_delay;
        self.start();

        let mut told = std::pin::pin!(told);
        let by_signal = tokio::select! {
            () = &mut told => true,
            () = quit.cancelled() => {
                log::info!("stopping");
                false
            }
        };
        leaving.cancel();
        if !delay.is_zero() {
            log::info!("stopping in {delay:?} (operations.shutdown_delay)");
            tokio::select! {
                () = sleep(delay) => {}
                // Whoever was told by a sender can still be told to be quick.
                () = &mut told, if !by_signal => {}
            }
        }
        stop.cancel();
        tasks.close();
        let finished = timeout(grace, tasks.wait()).await;
        sender_log::report_suppressed(true);
        if finished.is_err() {
            log::warn!(
                "{} did not finish within {grace:?} (exporter.shutdown_timeout): cut off",
                counted(tasks.len(), "connection or poll", "connections or polls")
            );
        }
    }

    /// Tells where the program listens. Ports may have been chosen just now.
    fn announce(&self) {
        log::info!("serving http://{}/metrics", self.http.address());
        if let Some(listener) = &self.tcp {
            log::info!("receiving on TCP socket {}", listener.address());
        }
        if let Some(listener) = &self.unix {
            let chosen = match self.config.receiver.receiver_unix_socket {
                SocketPath::Auto => " (chosen by receiver_unix_socket = \"auto\")",
                SocketPath::Path(_) => "",
            };
            log::info!("receiving on Unix socket {}{chosen}", listener.address());
        }
        match &self.push {
            Some(listener @ Listener::Tcp(_)) => {
                log::info!("accepting pushes on http://{}", listener.address());
            }
            Some(listener @ Listener::Unix(..)) => {
                log::info!("accepting pushes on Unix socket {}", listener.address());
            }
            None if self.takes_pushes_where_scraped() => {
                log::info!("accepting pushes on http://{}", self.http.address());
            }
            None => {}
        }
        self.operations.announce();
        let targets = self.config.poll_external.targets.len();
        if !self.poller.is_empty() {
            log::info!("polling {}", counted(targets, "target", "targets"));
        } else if targets > 0 {
            log::info!(
                "{} configured, not polled: poll_external.poll_other_scrape_endpoints is false",
                counted(targets, "target is", "targets are")
            );
        }
    }

    /// Whether one port serves scrapes and pushes.
    fn takes_pushes_where_scraped(&self) -> bool {
        let scraped = &self.config.exporter.scrape_expose_endpoint;
        self.config.push.listen.is(scraped)
    }

    /// Makes room for as many connections as the settings allow for.
    fn raise_file_limit(&self) {
        let receivers = usize::from(self.tcp.is_some()) + usize::from(self.unix.is_some());
        let servers = 1 + usize::from(self.push.is_some());
        let connections = receivers * self.config.exporter.concurrent_requests
            + servers * self.config.exporter.max_connections
            + self.operations.connections(&self.config.operations);
        let waiting = (receivers + servers) * accept::MAX_WAITING;
        let wanted = (connections + waiting) as u64 + SPARE_DESCRIPTORS;
        if let Some(limit) = raise_file_limit()
            && limit < wanted
        {
            log::warn!(
                "this process may open {limit} files, and its settings allow for {wanted} \
                 (exporter.concurrent_requests, exporter.max_connections, operations.concurrent_connections): raise the limit or lower them"
            );
        }
    }

    /// Spawns everything that runs until the stop.
    fn start(mut self) {
        let tcp = self.tcp.take();
        let unix = self.unix.take();
        let budget = Arc::new(MemoryBudget::new(
            self.config.receiver.max_buffered,
            Arc::clone(&self.telemetry.buffered),
        ));
        let received_tcp = Arc::clone(&self.telemetry.received_tcp);
        let received_unix = Arc::clone(&self.telemetry.received_unix);
        let turns = BlockingPool::new(LARGE_MESSAGES);
        let shared = (&budget, &turns);
        self.start_receiver(tcp, ListenerName::Tcp, received_tcp, shared);
        self.start_receiver(unix, ListenerName::Unix, received_unix, shared);
        self.start_operations();
        self.start_expiry();
        if self.config.exposition.mode == Mode::Verbatim {
            let (store, telemetry) = (Arc::clone(&self.store), Arc::clone(&self.telemetry));
            let run = inspector::run(store, telemetry, self.stop.clone());
            self.tasks.spawn(run);
        }

        let places = Arc::new(http::Places::new(&self.telemetry.copied));
        let (pushed, scraped) = (
            self.server(ListenerName::Push, &places),
            self.server(ListenerName::Http, &places),
        );
        if let Some(push) = self.push.take() {
            start_server(push, ListenerName::Push, pushed, &self.tasks);
        }
        self.poller.start(&self.stop, &self.tasks);
        start_server(self.http, ListenerName::Http, scraped, &self.tasks);
    }

    /// What the connections of a listener are served with.
    fn server(&self, name: ListenerName, places: &Arc<http::Places>) -> Arc<http::Server> {
        let pushes = name == ListenerName::Push || self.takes_pushes_where_scraped();
        let taken_at = match &self.push {
            None if self.takes_pushes_where_scraped() => Some(&self.http),
            push => push.as_ref(),
        };
        let source = taken_at.unwrap_or(&self.http).address();
        let listener = match name {
            ListenerName::Push => taken_at.unwrap_or(&self.http),
            _ => &self.http,
        };
        Arc::new(http::Server {
            config: self.config.exporter.clone(),
            mode: self.config.exposition.mode,
            store: Arc::clone(&self.store),
            telemetry: Arc::clone(&self.telemetry),
            places: Arc::clone(places),
            pushes: pushes.then(|| http::Pushes {
                intake: Arc::clone(&self.intake),
                budget: Arc::new(MemoryBudget::new(
                    self.config.push.max_buffered,
                    Arc::clone(&self.telemetry.pushes.buffered),
                )),
                source: Arc::from(source),
                quit: self.quit.clone(),
                webhooks: Arc::new(http::Kept::new(&self.config.push)),
            }),
            pushed_to: taken_at.map(Listener::url),
            hosts: http::Hosts::of(listener.ip(), &self.config.push.allowed_hosts),
            leaving: self.leaving.clone(),
            stop: self.stop.clone(),
        })
    }

    fn start_receiver(
        &self,
        listener: Option<Listener>,
        name: ListenerName,
        received: Arc<MessageStats>,
        (budget, turns): (&Arc<MemoryBudget>, &BlockingPool),
    ) {
        let Some(listener) = listener else { return };
        let receiver = Arc::new(Receiver {
            config: self.config.receiver.clone(),
            door: Arc::clone(&self.door),
            store: Arc::clone(&self.store),
            received,
            budget: Arc::clone(budget),
            turns: turns.clone(),
            source: Arc::from(listener.address()),
            stop: self.stop.clone(),
        });
        let limits = ListenerLimits {
            connections: self.config.exporter.concurrent_requests,
            write_timeout: self.config.exporter.write_timeout,
        };
        self.tasks.spawn(accept::serve(
            listener,
            name,
            limits,
            Arc::clone(self.telemetry.listener(name)),
            self.stop.clone(),
            self.tasks.clone(),
            move |connection: Connection| sockets::serve(Arc::clone(&receiver), connection),
        ));
    }

    fn start_operations(&mut self) {
        let operations = Operations::new(
            &self.config.operations,
            self.config.exporter.own_metrics,
            &self.store,
            &self.telemetry.operations,
            self.quit.clone(),
        );
        let limits = ListenerLimits {
            connections: self.config.operations.concurrent_connections,
            write_timeout: self.config.exporter.write_timeout,
        };
        let sockets = std::mem::take(&mut self.operations);
        sockets.start(operations, &self.telemetry, limits, &self.stop, &self.tasks);
    }

    /// Withdraws sections whose time is up, whether anybody scrapes or not.
    fn start_expiry(&self) {
        let store = Arc::clone(&self.store);
        let telemetry = Arc::clone(&self.telemetry);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let mut ticks = interval(EXPIRY_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut put_off = 0;
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    _ = ticks.tick() => {}
                }
                sender_log::report_suppressed(false);
                // Withdrawals wait for a large write, and this thread serves
                // others meanwhile; but not for one after the other.
                if store.is_busy() && put_off < MOST_PUT_OFF {
                    put_off += 1;
                    continue;
                }
                put_off = 0;
                let now = Now::read();
                loop {
                    let series = store.expire_series(now);
                    if series == 0 {
                        break;
                    }
                    telemetry.expired_series.add(series as u64);
                    tokio::task::yield_now().await;
                }
                for id in store.expire(now) {
                    telemetry.expired.add(1);
                    let (producer, name) = (id.producer.as_str(), clip(&id.name));
                    sender_log::write(
                        LogEvent::Withdrawal,
                        format_args!("{producer} {name} withdrawn: not heard from in time"),
                    );
                }
            }
        });
    }
}

/// What the own metrics show beside what is held.
fn bounds(config: &Config) -> ConfiguredLimits {
    ConfiguredLimits {
        apps: config.receiver.max_apps,
        groups: config.push.max_groups,
        aggregated_families: config.push.max_families,
        aggregated_series: config.push.max_series,
        held: config.exposition.max_total,
        received: config.receiver.max_buffered,
        pushed: config.push.max_buffered,
        copied: http::MOST_COPIES,
        forwarded: config.operations.forward_queue,
        keys: config.push.idempotency_keys,
        webhooks: config.push.max_webhooks,
        webhook_bytes: config.push.max_webhook_bytes,
    }
}

/// Binds the listener for pushes, where it is one of its own.
async fn bind_push(config: &Config) -> Result<Option<Listener>, BindError> {
    let listener = match &config.push.listen {
        listen if listen.is(&config.exporter.scrape_expose_endpoint) => return Ok(None),
        Listen::Tcp(address) => bind::tcp(address, "push.listen").await?,
        Listen::Unix(path) => bind::unix_at(
            path,
            &config.receiver.unix_socket_user,
            &config.receiver.unix_socket_group,
            config.receiver.unix_socket_mode,
            "push.listen",
        )?,
        Listen::Off => return Ok(None),
    };
    Ok(Some(listener))
}

/// Serves HTTP at a listener.
fn start_server(
    listener: Listener,
    name: ListenerName,
    server: Arc<http::Server>,
    tasks: &TaskTracker,
) {
    let limits = ListenerLimits {
        connections: server.config.max_connections,
        write_timeout: server.config.write_timeout,
    };
    let stats = Arc::clone(server.telemetry.listener(name));
    let stop = server.stop.clone();
    let handle = move |connection: Connection| http::serve(Arc::clone(&server), connection);
    tasks.spawn(accept::serve(
        listener,
        name,
        limits,
        stats,
        stop,
        tasks.clone(),
        handle,
    ));
}
