//! The configuration.
//!
//! [`load`] reads a TOML file into a [document], overlays the environment variables that the
//! caller passes, reads every setting by key and type, and returns either a [`Config`] or all
//! errors, each with `file:line:column`. Every setting has a default. Other modules read no
//! setting from the environment except `RUST_LOG`; they read variables of the system, such as
//! `NO_PROXY`, `NOTIFY_SOCKET` and `TMPDIR`.

mod check;
mod exporter;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod lifecycle;
mod push;
mod web;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use self::exporter::Exporter;
use crate::fairness;
use crate::ingest::config as exposition;
use crate::ingest::config::Exposition;
use crate::ingest::shaping;
use crate::ingest::shaping::config::Shape;
use crate::inputs::{operations, poller, sockets};
use crate::outputs::sinks;
use crate::settings::reader::{Faults, Table};
use crate::settings::{ConfigError, Diagnostic, Place, Places, Warning, document, environment};
use crate::storage;
use crate::telemetry::logging;
use lifecycle::Lifecycle;
use push::Push;
use web::Web;

/// All settings. Each table belongs to one subsystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// `[exporter]`: the process and the scrape listener.
    pub exporter: Exporter,
    /// `[receiver]`: apps that push over TCP and Unix sockets.
    pub receiver: sockets::config::Config,
    /// `[exposition]`: the mode, and limits on texts.
    pub exposition: Exposition,
    /// `[push]`: pushes over HTTP, and aggregated families.
    pub push: Push,
    /// `[operations]`: operations over UDP, TCP and Unix sockets.
    pub operations: operations::config::Config,
    /// `[poll_external]`: targets that the proxy scrapes.
    pub poll_external: poller::config::Config,
    /// `[lifecycle]`: health checks and own metrics on a listener of their own.
    pub lifecycle: Lifecycle,
    /// `[web]`: users and roles, and what is in front of the HTTP listeners.
    pub web: Web,
    /// `[[shape]]`: changes to metrics before they are stored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shape: Vec<Shape>,
    /// `[limits]`: what one sender may send and hold.
    pub limits: fairness::Limits,
    /// `[sinks.NAME]`: other systems that the proxy sends to.
    pub sinks: sinks::config::Config,
    /// `[profiling]`: CPU profiles of the proxy, for another system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profiling: Option<sinks::pyroscope::Settings>,
    /// `[storage]`: state that survives a restart.
    pub storage: storage::config::Config,
    /// `[log]`: what is logged, and how.
    pub log: logging::config::Config,
    /// Where the settings are written.
    #[serde(skip)]
    pub places: Places,
}

/// The file that is read if none is named and it exists.
pub const DEFAULT_FILE: &str = "config.toml";

/// The variable with the directory that systemd provides (`StateDirectory=`).
const STATE_DIRECTORY: &str = "STATE_DIRECTORY";

/// A configuration with its warnings.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// The origin of the values, for messages: a file name or `built-in defaults`.
    pub origin: String,
    /// The file that was read; `None` if there is none.
    pub file: Option<PathBuf>,
    /// Problems that do not stop the program.
    pub warnings: Vec<Warning>,
}

/// Reads `file`, or [`DEFAULT_FILE`] if it exists. `environment` overrides it.
///
/// # Errors
///
/// The file cannot be read, or settings are wrong.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let (name, required) = match file {
        Some(path) => (path.display().to_string(), true),
        None => (DEFAULT_FILE.to_owned(), false),
    };
    let mut found = None;
    let (origin, text) = match std::fs::read_to_string(&name) {
        Ok(text) => {
            found = Some(PathBuf::from(&name));
            (name.clone(), text)
        }
        Err(problem) if !required && problem.kind() == std::io::ErrorKind::NotFound => {
            ("built-in defaults".to_owned(), String::new())
        }
        Err(problem) => {
            return Err(ConfigError::Unreadable {
                file: name,
                problem,
            });
        }
    };
    let (config, warnings) = settle(&name, &text, environment)?;
    Ok(Loaded {
        config,
        origin,
        file: found,
        warnings,
    })
}

/// Reads the TOML in `text`, which messages call `name`. `environment` overrides it.
///
/// # Errors
///
/// All errors in the settings.
pub fn settle(
    name: &str,
    text: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<(Config, Vec<Warning>), ConfigError> {
    let mut syntax_errors = Vec::new();
    let mut entries = document::parse_toml(name, text, &mut syntax_errors);
    let mut state_directory = None;
    let environment = environment.into_iter().inspect(|(name, value)| {
        if name == STATE_DIRECTORY {
            state_directory = Some(value.clone());
        }
    });
    let mut warnings = environment::overlay(&mut entries, environment);

    let faults = Faults::default();
    let mut root = Table::root(entries, &faults);
    let mut config = Config {
        exporter: exporter::read(root.table("exporter")),
        receiver: sockets::config::read(root.table("receiver")),
        exposition: exposition::read(root.table("exposition")),
        push: push::read(root.table("push")),
        operations: operations::config::read(root.table("operations")),
        poll_external: poller::config::read(root.table("poll_external")),
        lifecycle: lifecycle::read(root.table("lifecycle")),
        web: web::read(root.table("web")),
        shape: shaping::config::take(&mut root),
        limits: fairness::config::read(root.table("limits")),
        sinks: sinks::config::take(&mut root),
        profiling: sinks::pyroscope::config::take(&mut root),
        storage: storage::config::read(root.table("storage"), state_directory.as_deref()),
        log: logging::config::read(root.table("log")),
        places: Places::default(),
    };
    root.finish();
    check::check(&config, &faults);
    config.places = faults.take_places();

    // On a line with a syntax error, only the first syntax error is reported: the others
    // follow from it.
    syntax_errors.dedup_by(|later, first| line(&later.place) == line(&first.place));
    let (mut errors, mut noticed) = faults.into_inner();
    errors.retain(|fault| {
        !syntax_errors
            .iter()
            .any(|syntax| line(&syntax.place) == line(&fault.place))
    });
    errors.append(&mut syntax_errors);
    errors.sort_by(|a, b| a.place.cmp(&b.place));
    noticed.sort_by(|a, b| a.place.cmp(&b.place));
    warnings.extend(noticed.iter().map(Diagnostic::to_string));
    if errors.is_empty() {
        Ok((config, warnings))
    } else {
        Err(ConfigError::Faults { errors, warnings })
    }
}

/// The line in the file.
fn line(place: &Place) -> Option<usize> {
    match place {
        Place::File { line, .. } => Some(*line),
        Place::Variable(_) => None,
    }
}

impl Config {
    /// The settings as TOML, with secrets redacted. Without secrets, the text reads back
    /// as the same configuration.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are plain tables of text, numbers and lists")
    }
}

impl Default for Config {
    fn default() -> Self {
        settle("built-in defaults", "", [])
            .expect("an empty file is a valid configuration")
            .0
    }
}

#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;
