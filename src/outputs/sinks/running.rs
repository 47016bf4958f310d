//! A running sink: its queue, and how its owner changes and ends it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::control::Control;
use super::queue::{self, QueueHandle, QueueLimits};
use super::stored::{QueueName, StoredChunk, StoredQueues};
use super::{Sink, worker};
use crate::clock::Now;
use crate::telemetry::SinkStats;

/// Everything that a sink needs to start.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Bounds of its queue.
    pub limits: QueueLimits,
    /// Time for sending what waits at shutdown.
    pub drain: Duration,
    /// Its statistics.
    pub stats: Arc<SinkStats>,
    /// Cancelled to stop it.
    pub stop: CancellationToken,
    /// The tasks of the program.
    pub tasks: TaskTracker,
}

/// The storage of a sink's items, and the items found there.
#[derive(Debug)]
pub struct Store<'q> {
    /// The queues of all sinks.
    pub queues: &'q StoredQueues,
    /// The name of this queue.
    pub name: QueueName,
    /// The stored items.
    pub chunks: Vec<StoredChunk>,
}

/// A running sink.
#[derive(Debug)]
pub struct Running<S: Sink> {
    handle: QueueHandle<S::Item>,
    control: Arc<Control<S>>,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl<S: Sink> Running<S> {
    /// Starts the task of a sink. Its items are kept in `store`, if they can be stored.
    pub fn start(sink: S, setup: Setup, store: Option<Store<'_>>) -> Self {
        let Setup {
            limits,
            drain,
            stats,
            stop,
            tasks,
        } = setup;
        let (handle, queue) = queue::queue(limits, S::size, Arc::clone(&stats));
        if let (Some(store), Some(form)) = (store, S::STORED) {
            let name = store.name.clone();
            let stored = queue.store(store.name, form, store.chunks, Now::read());
            store.queues.open(name, stored);
        }
        let control = Arc::new(Control::new(drain));
        let (stop, ended) = (stop.child_token(), CancellationToken::new());
        let worker = worker::run(sink, queue, stats, Arc::clone(&control), stop.clone());
        let end = ended.clone().drop_guard();
        tasks.spawn(async move {
            worker.await;
            drop(end);
        });
        Running {
            handle,
            control,
            stop,
            ended,
        }
    }

    /// The producers' end of its queue.
    pub fn handle(&self) -> &QueueHandle<S::Item> {
        &self.handle
    }

    /// Continues with another sink after the request in progress. It sends the waiting items.
    pub fn replace(&self, sink: S) {
        self.control.replace(sink);
    }

    /// Changes the bounds of the queue, and the time for sending what waits at shutdown.
    pub fn set_limits(&self, limits: QueueLimits, drain: Duration) {
        self.handle.set_limits(limits);
        self.control.drain.set(drain);
    }

    /// Ends the sink: it takes no more items, and sends what waits within the time to drain. The
    /// result is cancelled once it has ended.
    pub fn end(&self) -> CancellationToken {
        self.handle.close();
        self.drain()
    }

    /// Like [`Running::end`], for a sink whose producers end by themselves and drop their handles.
    /// Until then it takes items.
    pub fn drain(&self) -> CancellationToken {
        self.stop.cancel();
        self.ended.clone()
    }
}
