//! Sinks: outputs to other systems.
//!
//! A producer pushes items into the queue of a sink and goes on. The sink's own
//! task takes them in batches and sends them. A sink turns a batch into a
//! request, and the response into a [`Verdict`] for each item. It takes no lock
//! of the core and never makes an input wait.
//!
//! ```text
//! producer ─ push ─▶ queue ─ batch ─▶ worker ─ send ─▶ the other system
//!          ◀ Full ─┘   ▲                 │
//!                      └── Again ────────┘   after a back-off
//! ```
//!
//! - [`queue`]: the one queue, bounded by bytes and by the age of its items;
//! - [`worker`]: the task: batches, retries, draining at shutdown;
//! - [`running`], [`control`]: a sink that runs, and how a reload changes it;
//! - [`stored`]: queues in storage, so that waiting items survive a restart;
//! - [`backoff`]: the wait between two tries;
//! - [`config`]: `[sinks.NAME]`, and the list of types;
//! - [`http`]: settings of a server, requests, and the meaning of a status;
//! - [`operations`]: forwards operations to another proxy or metrics-server;
//! - [`loki`], [`opensearch`], [`cql`]: send events as log entries, as documents, and as rows;
//! - [`remote_write`]: sends all series to Prometheus, on an interval;
//! - [`pyroscope`]: sends CPU profiles of the proxy.
//!
//! # Adding a sink
//!
//! 1. Make a folder here with
//!    - `config.rs`: `Settings`, and a `read` that takes them and a [`QueueConfig`] out of
//!      its table. A sink over HTTP takes [`http::HttpSettings`] for URL, TLS and secrets;
//!    - a type that implements [`Sink`], with a `new` that builds it. Over HTTP, [`http::HttpClient::post_batch`] sends
//!      a batch and judges the answer;
//! 2. Add the type to [`config::SinkSettings`] and to the list of types beside it.
//! 3. Add its arm to `app/sinks.rs`: build the sink, [`start`](fn@start) it, and hand the
//!    handle that this returns to the producer.
//! 4. Describe its settings in `config.toml` and `docs/sinks.md`.
//!
//! Counting, health, `GET /api/v1/sinks`, retries, expiry, draining and storage come from
//! the worker and the queue. [`Sink::STORED`] says how items are stored. A sink returns a
//! [`Report`]: verdicts for its items, and what failed. If a request is refused as a whole, it
//! says so in a [`Refusal`], and the worker finds the items to blame.
//!
//! An item is one block of bytes where it can be: see [`StoredEvent`].
//!
//! Inputs and outputs do not import one another: an input takes a closure or a
//! small type of its own around the handle.

mod backoff;
pub mod config;
mod control;
pub mod cql;
pub mod http;
pub mod loki;
pub mod opensearch;
pub mod operations;
pub mod pyroscope;
mod queue;
pub mod remote_write;
mod running;
pub mod stored;
mod worker;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::{self, Future};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use queue::{PushError, QueueConfig, QueueHandle, QueueLimits};
pub use running::{Running, Setup, Store};

use crate::event::{Event, StoredEvent};
use crate::reason::Reason;
use crate::telemetry::SinkStats;
use crate::telemetry::sender_log::LogEvent;
use stored::StoredForm;

/// Sends batches of items to another system.
pub trait Sink: Send + 'static {
    /// An item, which the other system judges by itself.
    type Item: Send + Sync + 'static;

    /// How items are stored; `None` keeps them in memory only.
    const STORED: Option<StoredForm<Self::Item>> = None;

    /// The kind of log line that reports failures.
    const LOG_EVENT: LogEvent;

    /// Bytes that an item takes up in the queue.
    fn size(item: &Self::Item) -> usize;

    /// The items and the destination, for the log: `operations to example:9999`.
    fn name(&self) -> String;

    /// Sends a batch, and reports the result for each item.
    ///
    /// The batch has at least one item, the oldest first. Items that were not taken come again
    /// in the next batch, in the same order and before newer ones. At shutdown the future is
    /// dropped when the time to drain is over.
    ///
    /// A report with a [`rest`](Report::rest) says that all requests have been started and some
    /// are under way. The next batch is sent meanwhile, so requests of at most two batches overlap.
    fn send(&mut self, batch: &[Self::Item]) -> impl Future<Output = Report> + Send;

    /// Runs while nothing waits to be sent, and is dropped as soon as
    /// something does. Returns a failure, such as a connection that broke.
    fn idle(&mut self) -> impl Future<Output = String> + Send {
        future::pending()
    }

    /// Ends the sink after its last item has been sent.
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        future::ready(())
    }
}

/// The other system's decision about an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It took the item.
    Taken,
    /// It did not take the item now; try again later.
    Again,
    /// It will never take the item; drop it.
    Refused(Reason),
}

/// The result of sending a batch.
#[derive(Debug, Default)]
pub struct Report {
    /// One verdict for each item, in the order of the batch. Items at the end
    /// without one are sent again.
    pub verdicts: Vec<Verdict>,
    /// What failed, in words. It is logged, and the next try waits.
    pub failure: Option<String>,
    /// The minimum wait until the next try, if the other system asked for one.
    pub retry_after: Option<Duration>,
    /// Why items were refused, if any were.
    pub refusal: Option<Refusal>,
    /// Resolves to the report of the batch, which replaces this one.
    pub rest: Option<Rest>,
}

/// The end of a batch whose requests have all been started.
pub struct Rest(Pin<Box<dyn Future<Output = Report> + Send>>);

impl Future for Rest {
    type Output = Report;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Report> {
        self.0.as_mut().poll(context)
    }
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").finish_non_exhaustive()
    }
}

/// Items that the other system will never take, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The word for metrics.
    pub reason: Reason,
    /// The problem in words, for the log. Quotes nothing that was sent.
    pub message: String,
    /// The answer of the other system, which may quote what was sent; can be empty. Shown to
    /// people who may see the metrics, and logged at `debug`.
    pub answer: String,
    /// Whether the request was refused as a whole. The worker then sends smaller batches to find
    /// the items to blame.
    pub whole: bool,
}

impl Report {
    /// The other system took the first `items` of the batch; the rest is sent
    /// again.
    pub fn taken(items: usize) -> Self {
        Report {
            verdicts: vec![Verdict::Taken; items],
            ..Report::default()
        }
    }

    /// Some requests are under way; `rest` waits for them.
    pub fn under_way(rest: impl Future<Output = Report> + Send + 'static) -> Self {
        Report {
            rest: Some(Rest(Box::pin(rest))),
            ..Report::default()
        }
    }

    /// Like [`Report::taken`], with the failure that stopped the rest.
    pub fn failed(taken: usize, failure: impl Into<String>) -> Self {
        Report {
            failure: Some(failure.into()),
            ..Report::taken(taken)
        }
    }
}

/// Decodes the events of a batch.
///
/// # Errors
///
/// Some are damaged, or were stored by a version with another format. The report refuses these;
/// the next request has the others.
fn read_events(batch: &[StoredEvent]) -> Result<Vec<Event<'_>>, Box<Report>> {
    let events: Vec<Option<Event<'_>>> = batch.iter().map(StoredEvent::decode).collect();
    if events.iter().all(Option::is_some) {
        return Ok(events.into_iter().flatten().collect());
    }
    let verdict = |event: &Option<Event<'_>>| match event {
        Some(_) => Verdict::Again,
        None => Verdict::Refused(Reason::Malformed),
    };
    Err(Box::new(Report {
        verdicts: events.iter().map(verdict).collect(),
        refusal: Some(Refusal {
            reason: Reason::Malformed,
            message: "an item is damaged".to_owned(),
            answer: String::new(),
            whole: false,
        }),
        ..Report::default()
    }))
}

/// Starts the task of a sink whose items are in memory only, and returns the handle that
/// producers push to. [`Running::start`] does the same for a sink that a reload can change.
///
/// The task ends when every handle is dropped and the queue is empty. Once `stop` is cancelled,
/// it has the time `drain` to get there.
pub fn start<S: Sink>(
    sink: S,
    limits: QueueLimits,
    drain: Duration,
    stats: Arc<SinkStats>,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> QueueHandle<S::Item> {
    let setup = Setup {
        limits,
        drain,
        stats,
        stop: stop.clone(),
        tasks: tasks.clone(),
    };
    Running::start(sink, setup, None).handle().clone()
}
