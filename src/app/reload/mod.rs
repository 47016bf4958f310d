//! Reloads the configuration while the program runs.
//!
//! One task does this, so reloads never overlap. It waits for requests (`SIGHUP` and `/-/reload`)
//! and checks files for changes. A reload has these steps, of which only the last changes anything:
//!
//! 1. the [`source`] reads and settles the new configuration, as at the start;
//! 2. [`plan`] finds what changes now, and what needs a restart;
//! 3. the files of `[web]` are read, new listeners are bound, and clients are built;
//! 4. everything is put into use, which cannot fail.

mod plan;
mod source;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

use super::parts::{Parts, ReadyParts};
use super::{StartError, core, raise_file_limit};
use crate::clock::{self, Now};
use crate::config::{Config, Loaded};
use crate::context::{Context, ReloadOutcome, ReloadRequest};
use crate::live::Live;
use crate::security::{AccessError, Rules, named_files};
use crate::settings::ConfigError;
use crate::watched::{FileState, Watched};
use plan::Plan;

pub use plan::restart_settings;
pub use source::Source;

/// How often files are checked for changes.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Runs the parts, and changes them.
#[derive(Debug)]
pub(super) struct Reloader {
    /// The configuration in use.
    config: Live<Config>,
    context: Context,
    parts: Parts,
    requests: mpsc::Receiver<ReloadRequest>,
    source: Option<Source>,
    /// Connections of inputs from another crate.
    more_connections: usize,
}

/// Why a reload is refused.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error("this program does not read its configuration from a file")]
    NoSource,
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Start(Vec<StartError>),
    #[error("the configuration cannot be read: {0}")]
    Failed(#[from] JoinError),
}

/// States of the watched files.
#[derive(Debug, Clone, Default, PartialEq)]
struct Files {
    config: Option<FileState>,
    web: Vec<FileState>,
}

impl Reloader {
    /// Runs `parts`, which are built of `config`.
    pub fn new(
        config: Config,
        context: Context,
        parts: Parts,
        requests: mpsc::Receiver<ReloadRequest>,
    ) -> Self {
        Reloader {
            config: Live::new(config),
            context,
            parts,
            requests,
            source: None,
            more_connections: 0,
        }
    }

    /// Sets the number of connections of inputs from another crate.
    pub fn set_more_connections(&mut self, count: usize) {
        self.more_connections = count;
    }

    /// Sets where a reload takes the configuration from.
    pub fn set_source(&mut self, source: Source) {
        self.source = Some(source);
    }

    /// The configuration in use.
    pub fn config(&self) -> Live<Config> {
        self.config.clone()
    }

    /// Starts to serve what is ready.
    pub fn start(&mut self, ready: ReadyParts) {
        self.parts.start(&self.context);
        let config = self.config.load();
        self.parts.apply(ready, &config, &self.context);
    }

    /// Reloads on request and when files change, until the program stops.
    pub async fn run(mut self) {
        let stop = self.context.stop.clone();
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut files = self.files().await;
        if let Some((_, first)) = self.source.as_ref().and_then(|it| it.watched.as_ref()) {
            files.config = Some(first.clone());
        }
        let mut config_file = Watched::new(files.config);
        let mut web_files = Watched::new(files.web);
        loop {
            let request = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(request) = self.requests.recv() => Some(request),
                _ = ticks.tick(), if self.has_watched_files() => None,
            };
            // Taken before the files are read, so a change during the read is seen later.
            let files = self.files().await;
            if let Some(request) = request {
                self.answer(request).await;
                config_file = Watched::new(files.config);
                web_files = Watched::new(self.files().await.web);
            } else if config_file.look(files.config) {
                // The outcome is logged.
                let _ = self.reload().await;
                web_files = Watched::new(self.files().await.web);
            } else if web_files.look(files.web) {
                self.reload_web_files().await;
            }
        }
    }

    /// Reloads once for all waiting requests: what they changed is on the disk already.
    async fn answer(&mut self, first: ReloadRequest) {
        let mut waiting = vec![first];
        while let Ok(another) = self.requests.try_recv() {
            waiting.push(another);
        }
        let outcome = self.reload().await;
        for request in waiting {
            // Fails if the client has left.
            let _ = request.send(outcome.clone());
        }
    }

    /// Reloads the configuration. Logs the outcome and returns it as text.
    async fn reload(&mut self) -> ReloadOutcome {
        if let Some(source) = &self.source {
            (source.on_begin)();
        }
        let begun = clock::tick();
        let outcome = self.try_reload().await;
        if let Some(source) = &self.source {
            (source.on_end)();
        }
        let stats = &self.context.telemetry.reloads;
        match outcome {
            Ok((report, restart)) => {
                stats.succeeded(restart, Now::read());
                log::info!("{report} ({:?})", begun.elapsed());
                Ok(Arc::from(report))
            }
            Err(error) => {
                let message = format!(
                    "the configuration was not reloaded, and the previous one stays in use:\n{error}"
                );
                for line in message.lines() {
                    log::error!("{line}");
                }
                let message = Arc::from(message);
                stats.failed(&message);
                Err(message)
            }
        }
    }

    /// Reloads the configuration. Returns a report, and the settings that need a restart.
    async fn try_reload(&mut self) -> Result<(String, Vec<&'static str>), ReloadError> {
        let source = self.source.as_ref().ok_or(ReloadError::NoSource)?;
        let load = Arc::clone(&source.load);
        let before = self.config.load();
        let planned = spawn_blocking(move || {
            let Loaded {
                config,
                origin,
                warnings,
                ..
            } = load()?;
            for warning in warnings {
                log::warn!("{warning}");
            }
            let plan = Plan::new(&before, config);
            let rules = Rules::load(&plan.config.web.security);
            Ok::<_, ConfigError>((plan, origin, rules))
        });
        let (plan, origin, rules) = planned.await??;
        let report = report(&plan, &origin);
        let restart = plan.restart;
        self.apply(plan.config, rules.map_err(AccessError::Files))
            .await?;
        Ok((report, restart))
    }

    /// Puts a configuration into use, with the rules from its files.
    async fn apply(
        &mut self,
        config: Config,
        rules: Result<Rules, AccessError>,
    ) -> Result<(), ReloadError> {
        let rules = rules.map_err(|error| ReloadError::Start(vec![error.into()]))?;
        let ready = self.parts.prepare(&config, &rules).await;
        let ready = ready.map_err(ReloadError::Start)?;
        ready.announce(&config);
        raise_file_limit(&ready, self.more_connections);
        // From here on, nothing fails.
        self.context = core::apply(&self.context, &config, &self.config.load(), rules);
        self.parts.apply(ready, &config, &self.context);
        self.config.set(config);
        Ok(())
    }

    /// Applies changed files of `[web]`. Invalid ones change nothing.
    async fn reload_web_files(&mut self) {
        let config = self.config.load();
        let web = config.web.security.clone();
        let Ok(rules) = spawn_blocking(move || Rules::load(&web)).await else {
            return;
        };
        let rules = rules.map_err(AccessError::Files);
        match self.apply(Config::clone(&config), rules).await {
            Ok(()) => log::info!("the files of [web] have changed and are in use"),
            Err(error) => {
                for problem in error.to_string().lines() {
                    log::error!("{problem}; the rules of access stay as they were");
                }
                self.context.access.note_files(false);
            }
        }
    }

    /// The files whose changes cause a reload: the configuration and those of `[web]`.
    fn watched_paths(&self) -> (Option<PathBuf>, Vec<PathBuf>) {
        let source = self.source.as_ref();
        let config = source.and_then(|it| Some(it.watched.as_ref()?.0.clone()));
        (config, named_files(&self.config.load().web.security))
    }

    fn has_watched_files(&self) -> bool {
        self.watched_paths() != (None, Vec::new())
    }

    /// The current states of the watched files.
    async fn files(&self) -> Files {
        let (config, web) = self.watched_paths();
        // Network file systems can be slow.
        let look = spawn_blocking(move || Files {
            config: config.as_deref().map(FileState::of),
            web: web.iter().map(|path| FileState::of(path)).collect(),
        });
        look.await.unwrap_or_default()
    }
}

/// Describes for people what a reload does.
fn report(plan: &Plan, origin: &str) -> String {
    let mut report = format!("{origin} reloaded: ");
    match plan.changed.is_empty() {
        true => report.push_str("nothing changed"),
        false => {
            let changed: Vec<&str> = plan.changed.iter().map(String::as_str).collect();
            let _ = write!(report, "changed {}", changed.join(", "));
        }
    }
    if !plan.restart.is_empty() {
        let _ = write!(report, "; needs a restart: {}", plan.restart.join(", "));
    }
    report
}
