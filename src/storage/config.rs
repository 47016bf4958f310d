//! The settings of `[storage]`.

use std::path::PathBuf;

use serde::Serialize;

use crate::settings::Table;
use crate::settings::value::{choice, text};

/// The value of `storage.path` for the directory that systemd provides.
const AUTO: &str = "auto";

/// The settings of `[storage]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// The directory. If empty, everything is kept in memory; `auto` stands for the
    /// directory that systemd provides, if it provides one.
    pub path: String,
    /// When a push over HTTP is acknowledged.
    pub sync: Sync,
    /// The directory that systemd provides (`StateDirectory=`).
    #[serde(skip)]
    pub state_directory: Option<PathBuf>,
}

/// When a push over HTTP is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Sync {
    /// Once its records have been handed to the operating system, which writes them to
    /// the disk within a second.
    #[serde(rename = "write")]
    Write,
    /// Once its records are on the disk.
    #[serde(rename = "always")]
    Always,
}

/// Reads the table. `state_directory` is the value of `$STATE_DIRECTORY`, a list of
/// directories that systemd separates by colons.
pub fn read(mut table: Table<'_>, state_directory: Option<&str>) -> Config {
    let first = state_directory.and_then(|all| all.split(':').next());
    let config = Config {
        path: table.take("path", AUTO.to_owned(), text),
        sync: table.take(
            "sync",
            Sync::Write,
            choice(&[("write", Sync::Write), ("always", Sync::Always)]),
        ),
        state_directory: first.filter(|it| !it.is_empty()).map(PathBuf::from),
    };
    table.finish();
    config
}

impl Config {
    /// The directory; `None` keeps everything in memory.
    pub fn directory(&self) -> Option<PathBuf> {
        match &*self.path {
            "" => None,
            AUTO => self.state_directory.clone(),
            path => Some(PathBuf::from(path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::reader::defaults;

    #[test]
    fn auto_is_the_first_directory_of_systemd() {
        let directory = |state| defaults(|table| read(table, state)).directory();
        assert_eq!(directory(None), None);
        assert_eq!(directory(Some("")), None);
        let first = Some(PathBuf::from("/var/lib/a"));
        assert_eq!(directory(Some("/var/lib/a")), first);
        assert_eq!(directory(Some("/var/lib/a:/var/lib/b")), first);
    }

    #[test]
    fn a_path_is_taken_as_it_is_written_and_an_empty_one_is_off() {
        let directory = |path: &str| {
            let config = defaults(|table| read(table, Some("/var/lib/a")));
            let path = path.to_owned();
            Config { path, ..config }.directory()
        };
        assert_eq!(directory(""), None);
        assert_eq!(directory("state"), Some(PathBuf::from("state")));
    }
}
