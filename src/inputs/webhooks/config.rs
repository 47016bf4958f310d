//! The settings of `[push]` for webhooks.

use serde::Serialize;

use crate::settings::Table;
use crate::settings::value::{integer, size, write_size};

/// Settings for webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// The limit on webhooks that `/webhooks` lists; 0 keeps none.
    pub max_webhooks: usize,
    /// The limit on bytes of all kept webhooks.
    #[serde(serialize_with = "write_size")]
    pub max_webhook_bytes: usize,
}

/// The limit on `max_webhooks`: one page lists all webhooks.
const MOST_WEBHOOKS: usize = 10_000;

/// Takes the settings of webhooks out of `[push]`.
pub fn read(table: &mut Table<'_>) -> Config {
    Config {
        max_webhooks: table.take("max_webhooks", 100, integer(0, MOST_WEBHOOKS)),
        max_webhook_bytes: table.take("max_webhook_bytes", 8 << 20, size),
    }
}
