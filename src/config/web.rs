//! `[web]`: who may use the HTTP listeners, and what is in front of them.

use serde::Serialize;

use crate::http::front::{self, Front};
use crate::security;
use crate::settings::Table;

/// The settings of `[web]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Web {
    /// Reverse proxies in front.
    #[serde(flatten)]
    pub front: Front,
    /// Users and roles.
    #[serde(flatten)]
    pub security: security::Web,
}

/// Reads the table.
pub fn read(mut table: Table<'_>) -> Web {
    let web = Web {
        front: front::read(&mut table),
        security: security::config::read(&mut table),
    };
    table.finish();
    web
}
