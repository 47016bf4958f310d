//! The proxy's own metrics in the store. Outputs update them before they read all metrics.

use std::sync::Arc;

use crate::clock::Now;
use crate::store::Store;
use crate::telemetry::own::{self, ProcessNames};
use crate::telemetry::{Telemetry, sender_log};

/// Writes the proxy's own metrics to a store.
#[derive(Debug, Clone)]
pub struct OwnMetrics {
    /// The store that shows them.
    pub store: Arc<Store>,
    /// The store that they describe: the same one, or the store of the program if only its own
    /// metrics are served.
    pub described: Arc<Store>,
    /// The counters.
    pub telemetry: Arc<Telemetry>,
}

impl OwnMetrics {
    /// Updates the metrics.
    pub fn update(&self) {
        let now = Now::read();
        let apply = |names| {
            let write = own::write(&self.telemetry, &self.described, names, now);
            self.store.apply(write, now)
        };
        let names = *self.telemetry.process_names.load();
        // An app may expose a family of the same name and another type.
        let result = match (names, apply(names)) {
            (ProcessNames::Usual, Err(_)) => apply(ProcessNames::Own),
            (_, result) => result,
        };
        if let Err(conflict) = result {
            sender_log::internal_error(format_args!(
                "the proxy's own metrics cannot be stored: {conflict}"
            ));
        }
    }
}
