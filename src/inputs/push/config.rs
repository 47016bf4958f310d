//! The settings of `[push]` for groups.

use std::time::Duration;

use serde::Serialize;

use crate::ingest::config::PushMode;
use crate::settings::Table;
use crate::settings::value::{boolean, choice, duration, integer, write_duration};

/// Settings for pushed groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// The limit on groups.
    pub max_groups: usize,
    /// How long a group is kept without a push; zero keeps it forever.
    #[serde(serialize_with = "write_duration")]
    pub group_ttl: Duration,
    /// Whether to serve `/api/v1/admin/wipe`.
    pub enable_admin_api: bool,
    /// Whether `/-/quit` can stop the program.
    pub enable_lifecycle: bool,
    /// Whether `U__` escapes label names in paths.
    pub enable_utf8_names: bool,
    /// The mode of a push without a `mode` parameter.
    pub mode: PushMode,
}

/// Reads the settings of groups from `[push]`.
pub fn read(table: &mut Table<'_>) -> Config {
    Config {
        max_groups: table.take("max_groups", 100_000, integer(1, 100_000_000)),
        group_ttl: table.take("group_ttl", Duration::ZERO, duration),
        enable_admin_api: table.take("enable_admin_api", false, boolean),
        enable_lifecycle: table.take("enable_lifecycle", false, boolean),
        enable_utf8_names: table.take("enable_utf8_names", false, boolean),
        mode: table.take(
            "mode",
            PushMode::Replace,
            choice(&[
                ("replace", PushMode::Replace),
                ("aggregate", PushMode::Aggregate),
            ]),
        ),
    }
}
