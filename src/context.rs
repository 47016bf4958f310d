//! What every input and output is given.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ingest::Admission;
use crate::store::Store;
use crate::telemetry::Telemetry;

/// The core that inputs write to and outputs read from, and the life cycle of the
/// program.
#[derive(Debug, Clone)]
pub struct Context {
    /// What every producer exposes now.
    pub store: Arc<Store>,
    /// The one way into the store.
    pub admission: Arc<Admission>,
    /// Counters.
    pub telemetry: Arc<Telemetry>,
    /// Tasks that finish before the program ends.
    pub tasks: TaskTracker,
    /// Cancelled to request shutdown, by a request or an operation.
    pub quit: CancellationToken,
    /// Cancelled when shutdown is near: readiness fails, everything is still served.
    pub leaving: CancellationToken,
    /// Cancelled to stop: begun work finishes, nothing new begins.
    pub stop: CancellationToken,
}
