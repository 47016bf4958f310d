//! `[lifecycle]`: the listener for health checks and the proxy's own metrics.

use serde::Serialize;

use crate::http::listen::{self, HttpListeners};
use crate::settings::Table;
use crate::settings::listen::{Listen, listen as listen_at};

/// The settings of `[lifecycle]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lifecycle {
    /// The listeners; none by default.
    pub listen: HttpListeners,
}

/// Reads the table.
pub fn read(mut table: Table<'_>) -> Lifecycle {
    let lifecycle = Lifecycle {
        listen: listen::take(&mut table, "listen", Listen::Off, listen_at),
    };
    table.finish();
    lifecycle
}
