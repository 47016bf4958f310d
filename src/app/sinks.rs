//! The sinks. Inputs and outputs do not know one another, so an input gets its sink as a closure.
//!
//! As with other parts, new settings are applied in two steps: [`Sinks::prepare`] builds what they
//! require and can fail, and [`Sinks::apply`] cannot. A sink that stays keeps its queue and sends
//! it with the new settings. A removed sink has as long to send its queue as it would at shutdown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::StartError;
use crate::clock::Now;
use crate::config::Config;
use crate::context::Context;
use crate::event::{EventKind, Stamper, StoredEvent};
use crate::inputs::operations::sink::{EventSinks, LineSink, SinkRejection};
use crate::outputs::own_metrics::OwnMetrics;
use crate::outputs::sinks::config::{SinkConfig, SinkSettings};
#[cfg(feature = "cql")]
use crate::outputs::sinks::cql::CqlSink;
use crate::outputs::sinks::loki::LokiSink;
use crate::outputs::sinks::opensearch::OpenSearchSink;
use crate::outputs::sinks::operations::{self, Lines, OperationsSink};
use crate::outputs::sinks::remote_write::{NewRemoteWrite, RunningRemoteWrite, Source};
use crate::outputs::sinks::stored::{self, QueueName, StoredChunk, StoredQueues};
use crate::outputs::sinks::{PushError, QueueHandle, QueueLimits, Running, Setup, Sink, Store};
use crate::storage::Journal;
use crate::store;
use crate::telemetry::{SinkStats, Telemetry};

/// A sink stops sending this long before the grace period ends, or halfway through a
/// shorter one, so that it can still log what is left.
const DRAIN_MARGIN: Duration = Duration::from_millis(100);

/// The name of the sink of `operations.forward_to`.
const FORWARD_NAME: &str = "operations";

/// How often to retry releasing the records of a removed sink while storage fails.
const RELEASE_INTERVAL: Duration = Duration::from_secs(1);

/// The running sinks.
#[derive(Debug)]
pub struct Sinks {
    running: BTreeMap<String, Active>,
    queues: Arc<StoredQueues>,
    journal: Journal,
    store: Arc<store::Store>,
    telemetry: Arc<Telemetry>,
    /// Sinks that were removed; each is cancelled once its last item is sent or stored.
    leaving: BTreeMap<QueueName, CancellationToken>,
    stamper: Arc<Stamper>,
}

/// The sinks that producers push to.
#[derive(Debug, Default)]
pub struct Producers {
    /// The sink that operations are forwarded to. With it, the proxy keeps no values of them.
    pub operations: Option<LineSink>,
    /// The sinks of events.
    pub events: EventSinks,
}

/// Sinks built for new settings.
#[derive(Debug)]
pub struct ReadySinks {
    steps: BTreeMap<String, (Configured, Step)>,
    drain: Duration,
}

/// A configured sink.
#[derive(Debug)]
struct Configured {
    sink: SinkConfig,
    /// The setting that limits its queue.
    limit_setting: String,
}

/// What happens to a sink.
#[derive(Debug)]
enum Step {
    /// It stays as it is.
    Keep,
    /// It stays, with other settings.
    Change(Box<NewSink>),
    /// It starts, with its statistics and its stored items.
    Start(Box<NewSink>, Arc<SinkStats>, Vec<StoredChunk>),
}

/// A sink that is built and not yet running.
#[derive(Debug)]
enum NewSink {
    Operations(OperationsSink),
    Loki(LokiSink),
    OpenSearch(OpenSearchSink),
    RemoteWrite(Box<NewRemoteWrite>),
    #[cfg(feature = "cql")]
    Cql(Box<CqlSink>),
}

/// A running sink and its settings.
#[derive(Debug)]
struct Active {
    config: SinkConfig,
    stats: Arc<SinkStats>,
    sink: RunningSink,
}

#[derive(Debug)]
enum RunningSink {
    Operations(Running<OperationsSink>),
    Loki(Running<LokiSink>),
    OpenSearch(Running<OpenSearchSink>),
    RemoteWrite(RunningRemoteWrite),
    #[cfg(feature = "cql")]
    Cql(Running<CqlSink>),
}

/// What all types of sinks have in common.
trait Lifecycle {
    fn set_limits(&self, limits: QueueLimits, drain: Duration);

    fn end(&self) -> CancellationToken;
}

impl<S: Sink> Lifecycle for Running<S> {
    fn set_limits(&self, limits: QueueLimits, drain: Duration) {
        Running::set_limits(self, limits, drain);
    }

    fn end(&self) -> CancellationToken {
        Running::end(self)
    }
}

impl Lifecycle for RunningRemoteWrite {
    fn set_limits(&self, limits: QueueLimits, drain: Duration) {
        RunningRemoteWrite::set_limits(self, limits, drain);
    }

    fn end(&self) -> CancellationToken {
        RunningRemoteWrite::end(self)
    }
}

/// The sinks by kind of event, each with the setting that limits its queue.
type EventQueues = BTreeMap<EventKind, Vec<(String, QueueHandle<StoredEvent>)>>;

impl Sinks {
    /// No running sinks yet, and the stored items of the configured ones.
    pub fn new(config: &Config, context: &Context) -> Self {
        let names = all(config).map(|(name, configured)| queue_name(&name, &configured.sink));
        let shown = context.telemetry.unconfigured_sinks.clone();
        let queues = Arc::new(StoredQueues::new(names, shown));
        context
            .journal
            .attach(Arc::<StoredQueues>::clone(&queues), Now::read());
        Sinks {
            running: BTreeMap::new(),
            queues,
            journal: context.journal.clone(),
            store: Arc::clone(&context.store),
            telemetry: Arc::clone(&context.telemetry),
            leaving: BTreeMap::new(),
            stamper: Arc::default(),
        }
    }

    /// Builds what new settings require, and changes nothing.
    ///
    /// # Errors
    ///
    /// All sinks that cannot be used as configured.
    pub async fn prepare(&self, config: &Config) -> Result<ReadySinks, Vec<StartError>> {
        let (mut steps, mut errors) = (BTreeMap::new(), Vec::new());
        for (name, configured) in all(config) {
            let own_metrics = config.exporter.own_metrics;
            match self.step(&name, &configured, own_metrics).await {
                Ok(step) => drop(steps.insert(name, (configured, step))),
                Err(problem) => errors.push(StartError::Sink { name, problem }),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(ReadySinks {
            steps,
            drain: drain_time(config),
        })
    }

    /// Puts new settings into use.
    pub fn apply(&mut self, ready: ReadySinks, context: &Context) -> Producers {
        let ReadySinks { steps, drain } = ready;
        self.leaving.retain(|_, left| !left.is_cancelled());
        let mut before = std::mem::take(&mut self.running);
        let mut starts = Vec::new();
        for (name, (configured, step)) in steps {
            let config = configured.sink;
            if let Step::Start(sink, stats, chunks) = step {
                starts.push((name, config, (sink, stats), chunks));
                continue;
            }
            let Some(mut active) = before.remove(&name) else {
                continue;
            };
            if let Step::Change(sink) = step {
                active.sink.replace(*sink);
            }
            active
                .sink
                .lifecycle()
                .set_limits(config.queue.limits(), drain);
            active.stats.set_limit_setting(configured.limit_setting);
            active.config = config;
            self.running.insert(name, active);
        }
        for (name, gone) in before {
            self.remove(&name, gone, context);
        }
        for (name, config, (sink, stats), chunks) in starts {
            context.telemetry.add_sink(&stats);
            let setup = Setup {
                limits: config.queue.limits(),
                drain,
                stats: Arc::clone(&stats),
                stop: context.stop.clone(),
                tasks: context.tasks.clone(),
            };
            let store = self.queues.is_on().then(|| Store {
                queues: &self.queues,
                name: queue_name(&name, &config),
                chunks,
            });
            let sink = sink.start(setup, store);
            let active = Active {
                config,
                stats,
                sink,
            };
            self.running.insert(name, active);
        }
        self.producers(context)
    }

    /// Decides what happens to a sink with these settings, and builds it if needed.
    async fn step(
        &self,
        name: &str,
        configured: &Configured,
        own_metrics: bool,
    ) -> Result<Step, String> {
        let config = &configured.sink;
        let new = |stats: &Arc<SinkStats>| {
            let source = || self.source(own_metrics);
            NewSink::new(config, source, stats)
        };
        if let Some(active) = self.running.get(name)
            && active.config.settings.kind() == config.settings.kind()
        {
            return match active.is_of(config) {
                true => Ok(Step::Keep),
                false => Ok(Step::Change(Box::new(new(&active.stats)?))),
            };
        }
        let (kind, max_queue) = (config.settings.kind(), config.queue.max_queue);
        let setting = configured.limit_setting.as_str();
        let stats = Arc::new(SinkStats::new(name, kind, max_queue, setting));
        let sink = new(&stats)?;
        let queue = queue_name(name, config);
        // Two sinks must not own the same records.
        if let Some(left) = self.leaving.get(&queue) {
            left.cancelled().await;
        }
        let mut chunks = self.queues.take_restored(&queue);
        if self.queues.has_unconfigured(&queue) {
            let stored = self.journal.read(queue.prefix()).await?;
            for (key, value) in stored {
                let decoded = stored::decode(&key, value);
                let (_, chunk) = decoded.map_err(|problem| problem.to_string())?;
                chunks.push(chunk);
            }
        }
        Ok(Step::Start(Box::new(sink), stats, chunks))
    }

    /// The data that sinks of the type `remote_write` collect.
    fn source(&self, own_metrics: bool) -> Source {
        Source {
            store: Arc::clone(&self.store),
            own_metrics: own_metrics.then(|| OwnMetrics {
                store: Arc::clone(&self.store),
                described: Arc::clone(&self.store),
                telemetry: Arc::clone(&self.telemetry),
            }),
        }
    }

    /// Ends a sink that is no longer configured.
    fn remove(&mut self, name: &str, gone: Active, context: &Context) {
        context.telemetry.remove_sink(&gone.stats);
        let queue = queue_name(name, &gone.config);
        log::info!("the sink {queue} is removed");
        let ended = gone.sink.lifecycle().end();
        drop(gone);
        let left = CancellationToken::new();
        self.leaving.insert(queue.clone(), left.clone());
        let (queues, journal) = (Arc::clone(&self.queues), self.journal.clone());
        let stop = context.stop.clone();
        context.tasks.spawn(async move {
            let _left = left.drop_guard();
            ended.cancelled().await;
            // Its last changes have to be stored before its records are released.
            while queues.is_on() && !stop.is_cancelled() {
                if journal.kept().await.is_ok() && journal.failure().is_none() {
                    queues.release(&queue, Now::read());
                    return;
                }
                tokio::select! {
                    () = sleep(RELEASE_INTERVAL) => {}
                    () = stop.cancelled() => {}
                }
            }
        });
    }

    /// The current sinks, for producers.
    fn producers(&self, context: &Context) -> Producers {
        let mut operations = None;
        let mut queues = EventQueues::new();
        let mut forwarded = None;
        for active in self.running.values() {
            let limit = active.stats.limit_setting();
            match &active.sink {
                RunningSink::Operations(sink) => {
                    forwarded = Some(&active.stats);
                    operations = Some(line_sink(sink.handle().clone(), limit));
                }
                RunningSink::Loki(sink) => {
                    let queues = queues.entry(EventKind::Event).or_default();
                    queues.push((limit, sink.handle().clone()));
                }
                RunningSink::OpenSearch(sink) => {
                    let queues = queues.entry(EventKind::Index).or_default();
                    queues.push((limit, sink.handle().clone()));
                }
                RunningSink::RemoteWrite(_) => {}
                #[cfg(feature = "cql")]
                RunningSink::Cql(sink) => {
                    let queues = queues.entry(EventKind::Raw).or_default();
                    queues.push((limit, sink.handle().clone()));
                }
            }
        }
        context.telemetry.operations.forward_to(forwarded);
        let mut events = EventSinks::new(Arc::clone(&self.stamper));
        for (kind, sinks) in queues {
            let (limits, queues): (Vec<_>, Vec<_>) = sinks.into_iter().unzip();
            let push = move |events| push_to_all(&queues, events);
            events.add(kind, limits.join(", "), Box::new(push));
        }
        Producers { operations, events }
    }
}

impl NewSink {
    /// Builds a sink.
    fn new(
        config: &SinkConfig,
        source: impl FnOnce() -> Source,
        stats: &Arc<SinkStats>,
    ) -> Result<Self, String> {
        Ok(match config.settings.clone() {
            SinkSettings::Operations(settings) => {
                NewSink::Operations(OperationsSink::new(settings))
            }
            SinkSettings::Loki(settings) => NewSink::Loki(LokiSink::new(settings)?),
            SinkSettings::OpenSearch(settings) => {
                NewSink::OpenSearch(OpenSearchSink::new(settings)?)
            }
            SinkSettings::RemoteWrite(settings) => {
                let stats = Arc::clone(stats);
                let sink = NewRemoteWrite::new(*settings, &config.queue, source(), stats)?;
                NewSink::RemoteWrite(Box::new(sink))
            }
            #[cfg(feature = "cql")]
            SinkSettings::Cql(settings) => NewSink::Cql(Box::new(CqlSink::new(settings))),
            #[cfg(not(feature = "cql"))]
            SinkSettings::Cql(_) => return Err("this program has no feature cql".to_owned()),
        })
    }

    fn start(self, setup: Setup, store: Option<Store<'_>>) -> RunningSink {
        match self {
            NewSink::Operations(sink) => {
                RunningSink::Operations(Running::start(sink, setup, store))
            }
            NewSink::Loki(sink) => RunningSink::Loki(Running::start(sink, setup, store)),
            NewSink::OpenSearch(sink) => {
                RunningSink::OpenSearch(Running::start(sink, setup, store))
            }
            NewSink::RemoteWrite(sink) => RunningSink::RemoteWrite(sink.start(setup, store)),
            #[cfg(feature = "cql")]
            NewSink::Cql(sink) => RunningSink::Cql(Running::start(*sink, setup, store)),
        }
    }
}

impl Active {
    /// Whether the sink was built with these settings. Settings of the queue alone can differ.
    fn is_of(&self, config: &SinkConfig) -> bool {
        let has_same_batches = self.config.queue.batch_items == config.queue.batch_items
            && self.config.queue.batch_bytes == config.queue.batch_bytes;
        let makes_batches = matches!(self.sink, RunningSink::RemoteWrite(_));
        self.config.settings == config.settings && (has_same_batches || !makes_batches)
    }
}

impl RunningSink {
    /// Continues with a sink of the same type. [`Step::Change`] never has another type.
    fn replace(&mut self, sink: NewSink) {
        match (self, sink) {
            (RunningSink::Operations(running), NewSink::Operations(sink)) => running.replace(sink),
            (RunningSink::Loki(running), NewSink::Loki(sink)) => running.replace(sink),
            (RunningSink::OpenSearch(running), NewSink::OpenSearch(sink)) => running.replace(sink),
            (RunningSink::RemoteWrite(running), NewSink::RemoteWrite(sink)) => {
                running.replace(*sink);
            }
            #[cfg(feature = "cql")]
            (RunningSink::Cql(running), NewSink::Cql(sink)) => running.replace(*sink),
            (
                RunningSink::Operations(_)
                | RunningSink::Loki(_)
                | RunningSink::OpenSearch(_)
                | RunningSink::RemoteWrite(_),
                _,
            ) => unreachable!("a sink keeps its type"),
            #[cfg(feature = "cql")]
            (RunningSink::Cql(_), _) => unreachable!("a sink keeps its type"),
        }
    }

    fn lifecycle(&self) -> &dyn Lifecycle {
        match self {
            RunningSink::Operations(running) => running,
            RunningSink::Loki(running) => running,
            RunningSink::OpenSearch(running) => running,
            RunningSink::RemoteWrite(running) => running,
            #[cfg(feature = "cql")]
            RunningSink::Cql(running) => running,
        }
    }
}

/// How long a sink has at shutdown to send its queue.
pub fn drain_time(config: &Config) -> Duration {
    let grace = config.exporter.shutdown_timeout;
    grace - DRAIN_MARGIN.min(grace / 2)
}

/// The name of the queue of a sink.
fn queue_name(name: &str, config: &SinkConfig) -> QueueName {
    QueueName::new(config.settings.kind(), name)
}

/// Hands operations to a queue, whose limit is the setting `limit`.
fn line_sink(queue: QueueHandle<bytes::Bytes>, limit: String) -> LineSink {
    let lines = Lines::new(queue);
    let push = move |chunk| {
        lines.push(&chunk).map_err(|error| match error {
            PushError::Full => SinkRejection::Full,
            PushError::Stopped => SinkRejection::Stopped,
        })
    };
    LineSink::new(limit, Box::new(push))
}

/// Hands events to several sinks, and accepts as many as the one with the most room takes:
/// otherwise the sender would repeat them, and the sinks that took them would have them twice.
/// Sinks with less room count what they miss.
fn push_to_all(
    queues: &[QueueHandle<StoredEvent>],
    events: Vec<StoredEvent>,
) -> Result<usize, SinkRejection> {
    let mut result = Err(SinkRejection::Stopped);
    let mut note = |pushed: Result<usize, PushError>| {
        result = match (pushed, result) {
            (Ok(taken), Ok(before)) => Ok(taken.max(before)),
            (Ok(taken), Err(_)) => Ok(taken),
            (Err(PushError::Full), Err(_)) => Err(SinkRejection::Full),
            (Err(_), before) => before,
        };
    };
    // Shared events take more memory, so the last sink gets the originals.
    if let Some((last, others)) = queues.split_last() {
        for queue in others {
            note(queue.push_fitting(events.clone()));
        }
        note(last.push_fitting(events));
    }
    result
}

/// The configured sinks by name, including that of `operations.forward_to`.
fn all(config: &Config) -> impl Iterator<Item = (String, Configured)> {
    let forward = config.operations.forward_to.clone().map(|destination| {
        let sink = SinkConfig {
            settings: SinkSettings::Operations(operations::Settings { destination }),
            queue: operations::queue(config.operations.forward_queue),
        };
        let limit_setting = "operations.forward_queue".to_owned();
        let configured = Configured {
            sink,
            limit_setting,
        };
        (FORWARD_NAME.to_owned(), configured)
    });
    let configured = config.sinks.0.iter().map(|(name, sink)| {
        let configured = Configured {
            sink: sink.clone(),
            limit_setting: format!("sinks.{name}.max_queue"),
        };
        (name.clone(), configured)
    });
    forward.into_iter().chain(configured)
}
