//! The composition root: builds the core, binds every listener, runs until asked to stop, and
//! drains.
//!
//! - [`core`] is what all parts share. [`parts`], [`sinks`] and [`routes`](crate::routes) are
//!   the lists of the program's parts.
//! - [`servers`]: the HTTP listeners.
//! - [`reload`]: changes the parts while they run.
//! - [`expiry`]: withdraws what has expired, and reports suppressed log lines.
//! - [`inspector`]: reads verbatim texts in the background.
//! - [`limits`]: the limits of the store, and those that metrics show.
//! - `profiling`: records and sends CPU profiles, with the feature `profiling`.

mod core;
mod expiry;
mod inspector;
mod limits;
mod parts;
#[cfg(feature = "profiling")]
mod profiling;
pub mod reload;
mod servers;
mod sinks;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::config::Config;
use crate::context::{Context, Reloads};
use crate::exposition::counted;
use crate::http::router::Route;
use crate::ingest::READABLE_KEYS;
use crate::ingest::config::Mode;
use crate::inputs::Input;
use crate::inputs::operations::READABLE_SETS;
use crate::inputs::poller::ClientError;
use crate::inputs::webhooks::READABLE_WEBHOOKS;
use crate::net;
use crate::net::bind::BindError;
use crate::security::AccessError;
use crate::storage::{OpenError, ReadableForm};
use crate::telemetry::sender_log;
use parts::{Parts, ReadyParts};
use reload::{Reloader, Source};

/// File descriptors besides those of connections: listeners, the runtime's own,
/// standard streams, and polls.
const SPARE_DESCRIPTORS: u64 = 64;

/// Minimum time for the last flush of storage, in case connections used up the grace period.
const LEAST_FLUSH_TIME: Duration = Duration::from_secs(1);

/// The program with every listener bound and nothing served yet.
#[derive(Debug)]
pub struct App {
    context: Context,
    ready: ReadyParts,
    reloader: Reloader,
    /// Inputs from another crate.
    inputs: Vec<Box<dyn Input>>,
}

/// Parts from another crate, beside the program's own.
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
    /// A sink cannot be used as configured.
    #[error("sinks.{name}: {problem}")]
    Sink {
        /// The name of the sink.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Profiles cannot be sent as configured.
    #[error("profiling: {0}")]
    Profiling(String),
    /// Stored state cannot be used.
    #[error(transparent)]
    Storage(#[from] OpenError),
}

impl App {
    /// Binds every listener, so that a port in use is found before anything is accepted anywhere.
    ///
    /// # Errors
    ///
    /// The first part that cannot start.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        App::bind_with(config, |_| Extensions::default()).await
    }

    /// Like [`App::bind`], with parts from another crate.
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
        let (context, requests) = core::build(&config)?;
        // Stored state is restored before anything is bound.
        context.journal.check()?;
        let mut parts = Parts::new(&config, &context);
        let rules = context.access.rules();
        let ready = parts.prepare(&config, &rules).await;
        let ready = ready.map_err(|mut errors| errors.swap_remove(0))?;
        #[cfg(feature = "profiling")]
        profiling::start(&config, &context)?;
        let extensions = extend(&context);
        parts.add_routes(extensions.routes);
        context.journal.check()?;
        Ok(App {
            ready,
            reloader: Reloader::new(config, context.clone(), parts, requests),
            context,
            inputs: extensions.inputs,
        })
    }

    /// Sets where a reload takes the configuration from. Without a source, reloads are
    /// refused.
    #[must_use]
    pub fn reloading_from(mut self, source: Source) -> Self {
        self.reloader.set_source(source);
        self
    }

    /// Requests reloads, as `/-/reload` does.
    pub fn reloads(&self) -> Reloads {
        self.context.reloads.clone()
    }

    /// Bound address of `/metrics`, as `host:port`.
    pub fn scrape_address(&self) -> String {
        self.ready.servers.scrape_address()
    }

    /// Bound address for pushes over HTTP, as `host:port` or as the path of a Unix
    /// socket. `None` if pushes are off.
    pub fn push_address(&self) -> Option<String> {
        self.ready.servers.push_address()
    }

    /// Bound URL of `/metrics`, for people.
    pub fn metrics_url(&self) -> String {
        let config = self.reloader.config().load();
        let prefix = &config.web.front.route_prefix;
        format!("{}{prefix}/metrics", self.ready.servers.scrape_url())
    }

    /// Cancelled when shutdown begins.
    pub fn leaving(&self) -> CancellationToken {
        self.context.leaving.clone()
    }

    /// Returns a check for a watchdog. It returns at once, or blocks while the store is stuck.
    pub fn probe(&self) -> impl Fn() + Send + use<> {
        let store = Arc::clone(&self.context.store);
        move || {
            let _ = store.totals();
        }
    }

    /// Serves until `stop` completes, then lets work in progress finish.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let live = self.reloader.config();
        self.ready.announce(&live.load());
        for input in &self.inputs {
            input.announce();
        }
        let more = self.inputs.iter().map(|input| input.connections()).sum();
        raise_file_limit(&self.ready, more);
        self.reloader.set_more_connections(more);
        log::info!("ready");
        let context = self.context.clone();
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
        let delay = live.load().operations.shutdown_delay;
        if !delay.is_zero() {
            log::info!("stopping in {delay:?} (operations.shutdown_delay)");
            tokio::select! {
                () = sleep(delay) => {}
                // After a request to stop, a signal ends the delay early.
                () = &mut stop, if !by_signal => {}
            }
        }
        let grace = live.load().exporter.shutdown_timeout;
        context.stop.cancel();
        context.tasks.close();
        let stopping = clock::tick();
        let finished = timeout(grace, context.tasks.wait()).await;
        // Changes by the last connections are stored too, so the flush gets a minimum of time.
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

    /// Starts everything that runs until shutdown.
    fn start(mut self) {
        let context = &self.context;
        context.tasks.spawn(expiry::run(context.clone()));
        if self.reloader.config().load().exposition.mode == Mode::Verbatim {
            let (store, telemetry) = (Arc::clone(&context.store), Arc::clone(&context.telemetry));
            let inspection = inspector::run(store, telemetry, context.stop.clone());
            context.tasks.spawn(inspection);
        }
        for input in self.inputs {
            input.start(context);
        }
        self.reloader.start(self.ready);
        context.tasks.spawn(self.reloader.run());
    }
}

/// How `exporter-proxy storage export` prints the records that are not the store's.
pub const READABLE_FORMS: [ReadableForm; 3] = [READABLE_KEYS, READABLE_SETS, READABLE_WEBHOOKS];

/// Raises the limit on file descriptors as far as possible, and warns if it is below what the
/// settings need. `more` are connections beside those of the parts.
fn raise_file_limit(ready: &ReadyParts, more: usize) {
    let wanted = (ready.connections() + more) as u64 + SPARE_DESCRIPTORS;
    if let Some(limit) = net::raise_file_limit()
        && limit < wanted
    {
        log::warn!(
            "this process may open {limit} files, and its settings allow for {wanted} \
             (exporter.concurrent_requests, exporter.max_connections, \
             operations.concurrent_connections): raise the limit or lower them"
        );
    }
}
