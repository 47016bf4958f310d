//! Configuration: what was written becomes what the program needs.
//!
//! [`load`] reads a TOML file and the environment into one
//! [document], takes every setting out of it by key and
//! type, and returns either a settled [`Config`] or all that is wrong, each
//! with `file:line:column`. Every setting has a default. Nothing else in the
//! program reads the environment or the file.

mod check;
mod exporter;
mod push;

use std::path::Path;

use serde::Serialize;

pub use self::exporter::Exporter;
use crate::ingest::config as exposition;
use crate::ingest::config::Exposition;
use crate::inputs::{operations, poller, sockets};
use crate::settings::reader::{Faults, Table};
use crate::settings::{ConfigError, Diagnostic, Place, Warning, document, environment};
use push::Push;

/// Everything the program is told. Each part belongs to one subsystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    pub exporter: Exporter,
    pub receiver: sockets::config::Config,
    pub exposition: Exposition,
    pub push: Push,
    pub operations: operations::config::Config,
    pub poll_external: poller::config::Config,
}

/// The file used where none is named, if it is there.
pub const DEFAULT_FILE: &str = "config.toml";

/// A configuration, and what was noticed that does not stop the program.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// What the values come from, for people: a file name or `built-in defaults`.
    pub origin: String,
    pub warnings: Vec<Warning>,
}

/// Reads `file`, or `./config.toml`, or neither, with `environment` over it.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let (name, required) = match file {
        Some(path) => (path.display().to_string(), true),
        None => (DEFAULT_FILE.to_owned(), false),
    };
    let (origin, text) = match std::fs::read_to_string(&name) {
        Ok(text) => (name.clone(), text),
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
        warnings,
    })
}

/// Reads `text`, calling it `name` in messages, with `environment` over it.
pub fn settle(
    name: &str,
    text: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<(Config, Vec<Warning>), ConfigError> {
    let mut syntax_errors = Vec::new();
    let mut entries = document::parse_toml(name, text, &mut syntax_errors);
    let mut warnings = environment::overlay(&mut entries, environment);

    let faults = Faults::default();
    let mut root = Table::root(entries, &faults);
    let config = Config {
        exporter: exporter::read(root.table("exporter")),
        receiver: sockets::config::read(root.table("receiver")),
        exposition: exposition::read(root.table("exposition")),
        push: push::read(root.table("push")),
        operations: operations::config::read(root.table("operations")),
        poll_external: poller::config::read(root.table("poll_external")),
    };
    root.finish();
    check::check(&config, &faults);

    // Where the syntax is wrong, the first thing said of the line is news, and
    // what was guessed of it is not.
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

fn line(place: &Place) -> Option<usize> {
    match place {
        Place::File { line, .. } => Some(*line),
        Place::Variable(_) => None,
    }
}

impl Config {
    /// The settled values as TOML, which reads back as the same configuration,
    /// secrets aside: they are masked.
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
mod tests;
