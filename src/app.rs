//! The composition root: makes the parts, binds everything, runs until told.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Now;
use crate::config::Config;
use crate::context::Context;
use crate::exposition::counted;
use crate::http::router::{Route, Table};
use crate::ingest::Admission;
use crate::ingest::config::Mode;
use crate::ingest::text;
use crate::inputs::operations::sink::{LineSink, SinkFull};
use crate::inputs::operations::{Operations, SocketOptions};
use crate::inputs::poller::{ClientError, Poller};
use crate::inputs::sockets::Sockets;
use crate::net::accept::{self, ListenerLimits};
use crate::net::bind::{self, BindError};
use crate::net::{Connection, Listener, MemoryBudget, raise_file_limit};
use crate::outputs::sinks;
use crate::settings::listen::Listen;
use crate::store::{self, Store};
use crate::telemetry::sender_log::{self, LogEvent};
use crate::telemetry::{ConfiguredLimits, ListenerName, Telemetry, clip};
use crate::{http, inspector, registry, routes};

/// How often it is looked for sections whose time is up.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(250);

/// How often in a row that is put off while large writes are made.
const MOST_PUT_OFF: u32 = 20;

/// File descriptors beside those of connections: listeners, the runtime's
/// own, standard streams, and polls under way.
const SPARE_DESCRIPTORS: u64 = 64;

/// How long before the grace period ends a sink stops sending, so that it can
/// still log what is left.
const DRAIN_MARGIN: Duration = Duration::from_millis(100);

/// The program with every listener bound and nothing served yet.
#[derive(Debug)]
pub struct App {
    config: Config,
    context: Context,
    sockets: Sockets,
    http: Listener,
    /// `None` where pushes are not taken, or come in at `http`.
    push: Option<Listener>,
    operations: Operations,
    poller: Poller,
}

/// Why the program cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Poller(#[from] ClientError),
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
                groups: config.push.groups.max_groups,
                bytes: config.exposition.max_total,
                registry: registry::RegistryLimits {
                    families: config.push.aggregation.max_families,
                    series: config.push.aggregation.max_series,
                    series_per_family: config.push.aggregation.max_series_per_family,
                    ..registry::RegistryLimits::default()
                },
            },
            config.exporter.own_metrics && config.exporter.app_metrics,
        );
        let rules = text::rules(&config.exposition, config.exporter.own_metrics);
        let store = Arc::new(store.with_rules(rules));
        let telemetry = Arc::new(Telemetry::new(Now::read(), bounds(&config)));
        let admission = Admission::new(
            config.exposition.clone(),
            config.push.aggregation.clone(),
            config.exporter.own_metrics,
            store.hasher().clone(),
        );
        let context = Context {
            store,
            admission: Arc::new(admission),
            telemetry,
            tasks: TaskTracker::new(),
            quit: CancellationToken::new(),
            leaving: CancellationToken::new(),
            stop: CancellationToken::new(),
        };
        let poller = Poller::new(&config.poll_external)?;

        let http = bind::tcp(
            &config.exporter.scrape_expose_endpoint,
            "exporter.scrape_expose_endpoint",
        )
        .await?;
        let push = bind_push(&config).await?;
        let operations = bind_operations(&config).await?;
        let limits = ListenerLimits {
            connections: config.exporter.concurrent_requests,
            write_timeout: config.exporter.write_timeout,
        };
        let sockets = Sockets::bind(&config.receiver, limits).await?;
        Ok(App {
            config,
            context,
            sockets,
            http,
            push,
            operations,
            poller,
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
            None => pushes_share_scrape_port(&self.config).then(|| self.scrape_address()),
        }
    }

    /// Serves until `told`, then lets what has begun finish.
    pub async fn run(self, told: impl Future<Output = ()>) {
        self.announce();
        self.raise_file_limit();
        log::info!("ready");
        let grace = self.config.exporter.shutdown_timeout;
        let Context {
            stop,
            quit,
            tasks,
            leaving,
            ..
        } = self.context.clone();
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
        self.sockets.announce();
        match &self.push {
            Some(listener @ Listener::Tcp(_)) => {
                log::info!("accepting pushes on http://{}", listener.address());
            }
            Some(listener @ Listener::Unix(..)) => {
                log::info!("accepting pushes on Unix socket {}", listener.address());
            }
            None if pushes_share_scrape_port(&self.config) => {
                log::info!("accepting pushes on http://{}", self.http.address());
            }
            None => {}
        }
        self.operations.announce();
        self.poller.announce();
    }

    /// Makes room for as many connections as the settings allow for.
    fn raise_file_limit(&self) {
        let servers = 1 + usize::from(self.push.is_some());
        let connections = self.sockets.connections()
            + servers * (self.config.exporter.max_connections + accept::MAX_WAITING)
            + self.operations.connections();
        let wanted = connections as u64 + SPARE_DESCRIPTORS;
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
        self.start_expiry();
        if self.config.exposition.mode == Mode::Verbatim {
            let (store, telemetry) = (
                Arc::clone(&self.context.store),
                Arc::clone(&self.context.telemetry),
            );
            let run = inspector::run(store, telemetry, self.context.stop.clone());
            self.context.tasks.spawn(run);
        }

        let servers = Servers::new(&self.config, &self.context, &self.http, self.push.as_ref());
        if let Some(push) = self.push.take() {
            servers.start(push, ListenerName::Push, &self.context);
        }
        let operations = match self.start_forwarding() {
            Some(sink) => self.operations.forward_to(sink),
            None => self.operations,
        };
        self.sockets.start(&self.context);
        operations.start(&self.context);
        self.poller.start(&self.context);
        servers.start(self.http, ListenerName::Http, &self.context);
    }

    /// Starts the sink that operations are forwarded to, if one is configured.
    fn start_forwarding(&self) -> Option<LineSink> {
        let destination = self.config.operations.forward_to.clone()?;
        let grace = self.config.exporter.shutdown_timeout;
        let config = sinks::operations::Config {
            destination,
            queue: self.config.operations.forward_queue,
            drain: grace.saturating_sub(DRAIN_MARGIN),
        };
        let (stop, tasks) = (&self.context.stop, &self.context.tasks);
        let stats = Arc::clone(&self.context.telemetry.operations.forwarded);
        let lines = sinks::operations::start(config, stats, stop, tasks);
        Some(LineSink::new(Box::new(move |chunk| {
            lines.push(&chunk).map_err(|_| SinkFull)
        })))
    }

    /// Withdraws sections whose time is up, whether anybody scrapes or not.
    fn start_expiry(&self) {
        let store = Arc::clone(&self.context.store);
        let telemetry = Arc::clone(&self.context.telemetry);
        let stop = self.context.stop.clone();
        self.context.tasks.spawn(async move {
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
        groups: config.push.groups.max_groups,
        aggregated_families: config.push.aggregation.max_families,
        aggregated_series: config.push.aggregation.max_series,
        held: config.exposition.max_total,
        received: config.receiver.max_buffered,
        pushed: config.push.requests.max_buffered,
        copied: http::MAX_COPIES,
        forwarded: config.operations.forward_queue,
        keys: config.push.aggregation.idempotency_keys,
        webhooks: config.push.webhooks.max_webhooks,
        webhook_bytes: config.push.webhooks.max_webhook_bytes,
    }
}

/// Binds the sockets for operations.
async fn bind_operations(config: &Config) -> Result<Operations, BindError> {
    let options = SocketOptions {
        user: config.receiver.unix_socket_user.clone(),
        group: config.receiver.unix_socket_group.clone(),
        mode: config.receiver.unix_socket_mode,
        write_timeout: config.exporter.write_timeout,
        own_metrics: config.exporter.own_metrics,
    };
    Operations::bind(&config.operations, options).await
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

/// What the HTTP listeners are served with.
struct Servers<'a> {
    config: &'a Config,
    routes: Vec<Route>,
    budget: Arc<MemoryBudget>,
    pools: Arc<http::WorkPools>,
    /// The address and the URL of the listener that accepts pushes.
    pushed_to: Option<(String, String)>,
}

impl<'a> Servers<'a> {
    fn new(
        config: &'a Config,
        context: &Context,
        http: &Listener,
        push: Option<&Listener>,
    ) -> Self {
        let accepts_pushes = pushes_share_scrape_port(config).then_some(http);
        let telemetry = &context.telemetry;
        Servers {
            config,
            routes: routes::all(config, context),
            budget: Arc::new(MemoryBudget::new(
                config.push.requests.max_buffered,
                Arc::clone(&telemetry.pushes.buffered),
            )),
            pools: Arc::new(http::WorkPools::new(&telemetry.copied)),
            pushed_to: push
                .or(accepts_pushes)
                .map(|listener| (listener.address(), listener.url())),
        }
    }

    /// Serves a listener until the program stops.
    fn start(&self, listener: Listener, name: ListenerName, context: &Context) {
        let exporter = &self.config.exporter;
        let accepts_pushes = name == ListenerName::Push || pushes_share_scrape_port(self.config);
        let push_location = match &self.pushed_to {
            _ if accepts_pushes => None,
            Some((_, url)) => Some(format!("pushes are taken at {url} (push.listen)")),
            None => Some("pushes are not taken (push.listen = \"\")".to_owned()),
        };
        let server = Arc::new(http::Server {
            table: Table::new(&self.routes, accepts_pushes),
            telemetry: Arc::clone(&context.telemetry),
            header_timeout: exporter.header_timeout,
            requests: self.config.push.requests.clone(),
            accepts_pushes,
            budget: Arc::clone(&self.budget),
            pools: Arc::clone(&self.pools),
            source: Arc::from(listener.address()),
            push_location,
            hosts: http::Hosts::of(listener.ip(), &self.config.push.requests.allowed_hosts),
            stop: context.stop.clone(),
        });
        let limits = ListenerLimits {
            connections: exporter.max_connections,
            write_timeout: exporter.write_timeout,
        };
        let handle = move |connection: Connection| http::serve(Arc::clone(&server), connection);
        context.tasks.spawn(accept::serve(
            listener,
            name,
            limits,
            Arc::clone(context.telemetry.listener(name)),
            context.stop.clone(),
            context.tasks.clone(),
            handle,
        ));
    }
}

/// Whether one port serves scrapes and pushes.
fn pushes_share_scrape_port(config: &Config) -> bool {
    config
        .push
        .listen
        .is(&config.exporter.scrape_expose_endpoint)
}
