//! A sink with its collector: how both start, change and end.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::batches::BatchLimits;
use super::collector::Collector;
use super::item::WriteItem;
use super::{RemoteWriteSink, Settings, Source};
use crate::outputs::sinks::{QueueConfig, QueueHandle, QueueLimits, Running, Setup, Store};
use crate::telemetry::SinkStats;

/// A sink and its collector, both built and not started.
#[derive(Debug)]
pub struct NewRemoteWrite {
    sink: RemoteWriteSink,
    collector: Collector,
    /// The queue for the collector's requests, once it exists.
    queue: Arc<OnceLock<QueueHandle<WriteItem>>>,
}

/// A sink that runs, with its collector.
#[derive(Debug)]
pub struct RunningRemoteWrite {
    sink: Running<RemoteWriteSink>,
    /// Cancelled to end the collector.
    stop: CancellationToken,
    /// Cancelled once the collector has ended.
    ended: CancellationToken,
    /// Cancelled when the program stops.
    program_stop: CancellationToken,
    tasks: TaskTracker,
}

impl NewRemoteWrite {
    /// A sink with these settings, and a collector that has sent nothing yet.
    ///
    /// # Errors
    ///
    /// The client cannot be created from the settings, or a selector is not valid.
    pub fn new(
        settings: Settings,
        queue: &QueueConfig,
        source: Source,
        stats: Arc<SinkStats>,
    ) -> Result<Self, String> {
        let fallen_back = Arc::new(AtomicBool::new(false));
        let sink = RemoteWriteSink::new(
            settings.clone(),
            Arc::clone(&stats),
            Arc::clone(&fallen_back),
        )?;
        let limits = BatchLimits {
            samples: queue.batch_items,
            bytes: queue.batch_bytes,
        };
        let slot = Arc::new(OnceLock::<QueueHandle<WriteItem>>::new());
        let handle = Arc::clone(&slot);
        let push = move |item| {
            let handle = handle.get();
            handle.is_some_and(|handle| handle.push(vec![item]).is_ok())
        };
        let collector =
            Collector::new(settings, limits, source, stats, fallen_back, Box::new(push))?;
        Ok(NewRemoteWrite {
            sink,
            collector,
            queue: slot,
        })
    }

    /// Starts both.
    pub fn start(self, setup: Setup, store: Option<Store<'_>>) -> RunningRemoteWrite {
        let NewRemoteWrite {
            sink,
            collector,
            queue,
        } = self;
        let (program_stop, tasks) = (setup.stop.clone(), setup.tasks.clone());
        let limits = queue_limits(setup.limits);
        let sink = Running::start(sink, Setup { limits, ..setup }, store);
        let mut running = RunningRemoteWrite {
            sink,
            stop: CancellationToken::new(),
            ended: CancellationToken::new(),
            program_stop,
            tasks,
        };
        // No collector runs yet.
        running.ended.cancel();
        running.collect(collector, &queue);
        running
    }
}

impl RunningRemoteWrite {
    /// Continues with another sink and another collector. The previous one first ends its series.
    pub fn replace(&mut self, new: NewRemoteWrite) {
        self.stop.cancel();
        self.sink.replace(new.sink);
        self.collect(new.collector, &new.queue);
    }

    /// Changes the bounds of the queue, and the time for sending what waits at shutdown.
    pub fn set_limits(&self, limits: QueueLimits, drain: Duration) {
        self.sink.set_limits(queue_limits(limits), drain);
    }

    /// Ends the collector, and the sink once waiting requests are sent. The result is cancelled
    /// then. The queue closes when this is dropped and the collector has ended.
    pub fn end(&self) -> CancellationToken {
        self.stop.cancel();
        self.sink.drain()
    }

    /// Starts a collector, once the previous one has ended.
    fn collect(&mut self, collector: Collector, queue: &OnceLock<QueueHandle<WriteItem>>) {
        // It is set only once, here.
        let _ = queue.set(self.sink.handle().clone());
        let (stop, ended) = (self.program_stop.child_token(), CancellationToken::new());
        let before = std::mem::replace(&mut self.ended, ended.clone());
        self.stop = stop.clone();
        self.tasks.spawn(async move {
            let _ended = ended.drop_guard();
            before.cancelled().await;
            collector.run(stop).await;
        });
    }
}

/// Each request is an item of the queue, and is sent as it is.
fn queue_limits(limits: QueueLimits) -> QueueLimits {
    QueueLimits {
        batch_items: 1,
        batch_wait: Duration::ZERO,
        ..limits
    }
}
