//! The context that every input and output shares.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::fairness::Fairness;
use crate::ingest::Admission;
use crate::security::Access;
use crate::storage::Journal;
use crate::store::Store;
use crate::telemetry::Telemetry;

/// The core that inputs write to and outputs read from, and the lifecycle of the program.
#[derive(Debug, Clone)]
pub struct Context {
    /// The current metrics of every producer.
    pub store: Arc<Store>,
    /// Checks what inputs receive, before it is stored.
    pub admission: Arc<Admission>,
    /// Decides who may read, write and administer.
    pub access: Arc<Access>,
    /// Decides how much each sender may send.
    pub fairness: Arc<Fairness>,
    /// Waits until changes are stored.
    pub journal: Journal,
    /// Counters of the program.
    pub telemetry: Arc<Telemetry>,
    /// Tasks that finish before the program ends.
    pub tasks: TaskTracker,
    /// Cancelled by a request or an operation to request shutdown.
    pub quit: CancellationToken,
    /// Cancelled when shutdown begins: readiness checks fail, and requests are still served.
    pub leaving: CancellationToken,
    /// Cancelled to stop: work in progress is completed, and no new work is accepted.
    pub stop: CancellationToken,
}
