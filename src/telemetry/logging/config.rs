//! `[log]`: the level and the format of the log.

use log::LevelFilter;
use serde::Serialize;

use crate::settings::Table;
use crate::settings::document::Node;
use crate::settings::value::{choice, text};

/// The settings of `[log]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// The format of a line.
    pub format: Format,
    /// The level, in the syntax of `RUST_LOG`, which overrides it. Valid.
    pub level: String,
}

/// The format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// For people: `[time level target] message`.
    Text,
    /// For programs: a JSON object on each line.
    Json,
}

/// The default level.
const DEFAULT_LEVEL: &str = "info";

impl Default for Config {
    fn default() -> Self {
        Config {
            format: Format::Text,
            level: DEFAULT_LEVEL.to_owned(),
        }
    }
}

/// Reads the table.
pub fn read(mut table: Table<'_>) -> Config {
    let default = Config::default();
    let formats = choice(&[("text", Format::Text), ("json", Format::Json)]);
    let config = Config {
        format: table.take("format", default.format, formats),
        level: table.take("level", default.level, level),
    };
    table.finish();
    config
}

/// Reads levels by log target, in the syntax of `RUST_LOG`, but reports errors: `RUST_LOG` takes
/// a misspelt level for a target of that name.
fn level(node: &Node) -> Result<String, String> {
    let written = text(node)?;
    for item in written.split(',') {
        let (target, level) = match item.split_once('=') {
            Some((target, level)) => (Some(target.trim()), level.trim()),
            None => (None, item.trim()),
        };
        if target == Some("") || level.parse::<LevelFilter>().is_err() {
            return Err(format!(
                "must be off, error, warn, info, debug or trace, or levels of log targets such as \
                 \"info,exporter_proxy::webhooks=debug\", not {written:?}"
            ));
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::reader::defaults;

    #[test]
    fn levels_are_checked() {
        for (written, valid) in [
            ("warn", true),
            ("INFO", true),
            ("off", true),
            ("info, exporter_proxy::webhooks = debug", true),
            ("exporter_proxy::http=off", true),
            ("inof", false),
            ("", false),
            ("info,", false),
            ("=debug", false),
            ("exporter_proxy", false),
            ("exporter_proxy=verbose", false),
        ] {
            let read = crate::config::settle("t", &format!("[log]\nlevel = {written:?}\n"), []);
            match read {
                Ok((config, _)) => assert_eq!((config.log.level.as_str(), true), (written, valid)),
                Err(error) => {
                    assert!(!valid, "{error}");
                    let error = error.to_string();
                    assert!(
                        error.starts_with("t:2:9: `log.level` must be off,"),
                        "{error}"
                    );
                }
            }
        }
    }

    #[test]
    fn people_read_the_log_by_default() {
        let Config { format, level } = defaults(read);
        assert_eq!((format, level.as_str()), (Format::Text, "info"));
        assert_eq!(defaults(read), Config::default());
    }
}
