//! The composition root: builds the core, binds every listener, runs until a request to
//! stop, and drains.
//!
//! - [`inputs`], [`sinks`] and [`routes`] are the lists of the program's parts.
//! - [`servers`]: the HTTP listeners.
//! - [`expiry`]: withdraws what has expired.
//! - [`inspector`]: reads verbatim texts in the background.

mod expiry;
mod inputs;
mod inspector;
mod limits;
mod servers;
mod sinks;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{self, Now};
use crate::config::Config;
use crate::context::Context;
use crate::exposition::counted;
use crate::fairness::Fairness;
use crate::http::router::Route;
use crate::ingest::config::Mode;
use crate::ingest::{Admission, IdempotencyKeys, READABLE_KEYS, text};
use crate::inputs::Input;
use crate::inputs::operations::READABLE_SETS;
use crate::inputs::poller::ClientError;
use crate::inputs::webhooks::READABLE_WEBHOOKS;
use crate::net::bind::BindError;
use crate::net::raise_file_limit;
use crate::routes;
use crate::security::{Access, AccessError};
use crate::storage::{Journal, OpenError, ReadableForm, StoredCore};
use crate::store::Store;
use crate::telemetry::{Telemetry, sender_log};
use servers::Servers;

/// File descriptors besides those of connections: listeners, the runtime's own,
/// standard streams, and polls.
const SPARE_DESCRIPTORS: u64 = 64;

/// The time for the last flush of storage, if connections used up the grace period.
const LEAST_FLUSH_TIME: Duration = Duration::from_secs(1);

/// The program with every listener bound and nothing served yet.
#[derive(Debug)]
pub struct App {
    config: Config,
    context: Context,
    servers: Servers,
    inputs: Vec<Box<dyn Input>>,
    routes: Vec<Route>,
}

/// Parts of another crate, beside the program's own.
#[derive(Debug, Default)]
pub struct Extensions {
    /// Inputs with listeners of their own.
    pub inputs: Vec<Box<dyn Input>>,
    /// Routes of inputs and outputs over HTTP. They come before the program's own.
    pub routes: Vec<Route>,
}

/// Why the program cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A file of `[web]` is missing or wrong.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A target's HTTP client cannot be built.
    #[error(transparent)]
    Poller(#[from] ClientError),
    /// A sink cannot be used as it is configured.
    #[error("sinks.{name}: {problem}")]
    Sink {
        /// The name of the sink.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Stored state cannot be used.
    #[error(transparent)]
    Storage(#[from] OpenError),
}

impl App {
    /// Binds every listener, so that a port in use is known before anything is
    /// accepted anywhere.
    ///
    /// # Errors
    ///
    /// The first part that cannot start.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        App::bind_with(config, |_| Extensions::default()).await
    }

    /// Like [`App::bind`], with parts of another crate.
    ///
    /// # Errors
    ///
    /// The first part that cannot start.
    pub async fn bind_with(
        config: Config,
        extend: impl FnOnce(&Context) -> Extensions,
    ) -> Result<Self, StartError> {
        // Fails only if the embedding program has chosen a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let context = core(&config)?;
        // What was stored is back before anything is bound.
        context.journal.check()?;
        let servers = Servers::bind(&config, &context.access).await?;
        let sinks = sinks::start(&config, &context)?;
        let mut inputs = inputs::bind(&config, &context, sinks).await?;
        let extensions = extend(&context);
        inputs.extend(extensions.inputs);
        let mut routes = extensions.routes;
        routes.extend(routes::all(&config, &context));
        context.journal.check()?;
        Ok(App {
            config,
            context,
            servers,
            inputs,
            routes,
        })
    }

    /// Bound address of `/metrics`, as `host:port`.
    pub fn scrape_address(&self) -> String {
        self.servers.scrape_address()
    }

    /// Bound address for pushes over HTTP, as `host:port` or as the path of a Unix
    /// socket. `None` if pushes are off.
    pub fn push_address(&self) -> Option<String> {
        self.servers.push_address()
    }

    /// Bound URL of `/metrics`, for people.
    pub fn metrics_url(&self) -> String {
        let prefix = &self.config.web.front.route_prefix;
        format!("{}{prefix}/metrics", self.servers.scrape_url())
    }

    /// Cancelled when shutdown begins.
    pub fn leaving(&self) -> CancellationToken {
        self.context.leaving.clone()
    }

    /// A check that returns if the program works, and blocks while its store is stuck.
    pub fn probe(&self) -> impl Fn() + Send + use<> {
        let store = Arc::clone(&self.context.store);
        move || {
            let _ = store.totals();
        }
    }

    /// Serves until `stop` is ready, then lets what has begun finish.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        self.announce();
        self.raise_file_limit();
        log::info!("ready");
        let context = self.context.clone();
        let grace = self.config.exporter.shutdown_timeout;
        let delay = self.config.operations.shutdown_delay;
        self.start();
        if let Err(problem) = context.journal.start() {
            sender_log::internal_error(format_args!("storage cannot start: {problem}"));
        }

        let mut stop = std::pin::pin!(stop);
        let by_signal = tokio::select! {
            () = &mut stop => true,
            () = context.quit.cancelled() => {
                log::info!("stopping");
                false
            }
        };
        context.leaving.cancel();
        if !delay.is_zero() {
            log::info!("stopping in {delay:?} (operations.shutdown_delay)");
            tokio::select! {
                () = sleep(delay) => {}
                // A signal after a request to stop ends the delay.
                () = &mut stop, if !by_signal => {}
            }
        }
        context.stop.cancel();
        context.tasks.close();
        let stopping = clock::tick();
        let finished = timeout(grace, context.tasks.wait()).await;
        // What the last connections changed is stored too, with at least some time for it.
        let left = grace
            .saturating_sub(stopping.elapsed())
            .max(LEAST_FLUSH_TIME);
        if !context.journal.close(left).await {
            log::error!("the last changes could not be stored within {left:?}");
        }
        sender_log::report_suppressed(true);
        if finished.is_err() {
            log::warn!(
                "{} did not finish within {grace:?} (exporter.shutdown_timeout): cut off",
                counted(
                    context.tasks.len(),
                    "connection or poll",
                    "connections or polls"
                )
            );
        }
    }

    /// Logs where the program listens; ports may have been chosen just now.
    fn announce(&self) {
        self.servers.announce(&self.config.web.front.route_prefix);
        for input in &self.inputs {
            input.announce();
        }
    }

    /// Raises the limit of file descriptors to what the settings need.
    fn raise_file_limit(&self) {
        let inputs = self.inputs.iter().map(|input| input.connections());
        let connections = self.servers.connections(&self.config) + inputs.sum::<usize>();
        let wanted = connections as u64 + SPARE_DESCRIPTORS;
        if let Some(limit) = raise_file_limit()
            && limit < wanted
        {
            log::warn!(
                "this process may open {limit} files, and its settings allow for {wanted} \
                 (exporter.concurrent_requests, exporter.max_connections, \
                 operations.concurrent_connections): raise the limit or lower them"
            );
        }
    }

    /// Starts everything that runs until the stop.
    fn start(self) {
        let context = &self.context;
        context.tasks.spawn(expiry::run(context.clone()));
        let access = Arc::clone(&context.access);
        context.tasks.spawn(access.watch(context.stop.clone()));
        if self.config.exposition.mode == Mode::Verbatim {
            let (store, telemetry) = (Arc::clone(&context.store), Arc::clone(&context.telemetry));
            let inspection = inspector::run(store, telemetry, context.stop.clone());
            context.tasks.spawn(inspection);
        }
        for input in self.inputs {
            input.start(context);
        }
        let lifecycle = routes::lifecycle(&self.config, context);
        self.servers
            .start(&self.config, context, &self.routes, &lifecycle);
    }
}

/// How `exporter-proxy storage export` shows what the store does not hold.
pub const READABLE_FORMS: [ReadableForm; 3] = [READABLE_KEYS, READABLE_SETS, READABLE_WEBHOOKS];

/// Builds the core: the store, admission and counters.
fn core(config: &Config) -> Result<Context, StartError> {
    let own_metrics = config.exporter.own_metrics;
    let rules = text::inspection_rules(&config.exposition, own_metrics);
    let app_times = own_metrics && config.exporter.app_metrics;
    let store = Store::new(limits::of_store(config), app_times).with_rules(rules);
    let admission = Admission::new(
        config.exposition.clone(),
        config.push.aggregation.clone(),
        own_metrics,
        store.hasher().clone(),
    );
    let now = Now::read();
    let telemetry = Arc::new(Telemetry::new(now, limits::shown(config)));
    let access = Access::new(&config.web.security, &telemetry.security)?;
    let journal = Journal::open(&config.storage, &telemetry.storage)?;
    let fairness = Fairness::new(config.limits.clone(), &telemetry.fairness, now.tick);
    store.set_shares(limits::of_senders(config));
    let store = Arc::new(store);
    journal.attach(Arc::new(StoredCore::new(&store)), now);
    journal.attach(Arc::<IdempotencyKeys>::clone(admission.keys()), now);
    Ok(Context {
        store,
        admission: Arc::new(admission),
        journal,
        access: Arc::new(access),
        fairness: Arc::new(fairness),
        telemetry,
        tasks: TaskTracker::new(),
        quit: CancellationToken::new(),
        leaving: CancellationToken::new(),
        stop: CancellationToken::new(),
    })
}
