//! The context that every input and output shares.

mod polls;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use polls::{MAX_REQUESTED_POLLS, NotPolled, PollRequests, Polls, TargetSettings};

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
    /// Requests reloads of the configuration.
    pub reloads: Reloads,
    /// Polled targets, and requests for polls.
    pub polls: Polls,
    /// Cancelled when a request or an operation asks for shutdown.
    pub quit: CancellationToken,
    /// Cancelled when shutdown begins. Readiness checks then fail, and requests are still served.
    pub leaving: CancellationToken,
    /// Cancelled to stop: work in progress is finished, and no new work is accepted.
    pub stop: CancellationToken,
}

/// What a reload of the configuration did, or why it is refused, for people.
pub type ReloadOutcome = Result<Arc<str>, Arc<str>>;

/// A caller that waits for a reload.
pub type ReloadRequest = oneshot::Sender<ReloadOutcome>;

/// The limit on queued requests for a reload. Further callers wait for room in the queue.
const MAX_REQUESTS: usize = 64;

/// Requests reloads of the configuration.
#[derive(Debug, Clone)]
pub struct Reloads(mpsc::Sender<ReloadRequest>);

impl Reloads {
    /// A queue of requests, and its receiving end.
    pub fn new() -> (Self, mpsc::Receiver<ReloadRequest>) {
        let (sender, receiver) = mpsc::channel(MAX_REQUESTS);
        (Reloads(sender), receiver)
    }

    /// Requests a reload and waits for it. The configuration is read after this call.
    ///
    /// # Errors
    ///
    /// The configuration was refused, and the previous one stays in use.
    pub async fn request(&self) -> ReloadOutcome {
        let (request, outcome) = oneshot::channel();
        let stopping = || Err(Arc::from("the program is stopping"));
        if self.0.send(request).await.is_err() {
            return stopping();
        }
        outcome.await.unwrap_or_else(|_| stopping())
    }
}
