//! The list of sinks. Inputs and outputs do not know one another, so a sink is handed
//! to its input as a closure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::StartError;
use crate::config::Config;
use crate::context::Context;
use crate::event::{EventKind, StoredEvent};
use crate::inputs::operations::sink::{EventSinks, LineSink, SinkRejection};
use crate::outputs::own_metrics::OwnMetrics;
use crate::outputs::sinks::config::{SinkConfig, SinkSettings};
#[cfg(feature = "cql")]
use crate::outputs::sinks::cql::CqlSink;
use crate::outputs::sinks::{PushError, QueueHandle, loki, opensearch, operations, remote_write};
use crate::telemetry::SinkStats;

/// A sink stops sending this long before the grace period ends, or halfway through a
/// shorter one, so that it can still log what is left.
const DRAIN_MARGIN: Duration = Duration::from_millis(100);

/// The name of the sink of `operations.forward_to`.
const FORWARD_NAME: &str = "operations";

/// What producers push to.
#[derive(Debug, Default)]
pub struct Sinks {
    /// The sink that operations are forwarded to, instead of keeping values here.
    pub operations: Option<LineSink>,
    /// The sinks of events.
    pub events: EventSinks,
}

/// The queues of the sinks of each kind of events.
type EventQueues = BTreeMap<EventKind, Vec<QueueHandle<StoredEvent>>>;

/// Starts all sinks.
///
/// # Errors
///
/// The first sink that cannot be used as it is configured.
pub fn start(config: &Config, context: &Context) -> Result<Sinks, StartError> {
    let drain = drain_time(config);
    let mut sinks = Sinks::default();
    let mut queues = EventQueues::new();
    let (stop, tasks) = (&context.stop, &context.tasks);
    for (name, sink) in all(config) {
        let max_queue = sink.queue.max_queue;
        let stats = Arc::new(SinkStats::new(&name, sink.settings.kind(), max_queue));
        context.telemetry.add_sink(&stats);
        let failed = |problem| StartError::Sink {
            name: name.clone(),
            problem,
        };
        match sink.settings {
            SinkSettings::Operations(settings) => {
                context.telemetry.operations.forward_to(&stats);
                let lines = operations::start(settings, &sink.queue, drain, stats, stop, tasks);
                let push = move |chunk| {
                    lines.push(&chunk).map_err(|error| match error {
                        PushError::Full => SinkRejection::Full,
                        PushError::Stopped => SinkRejection::Stopped,
                    })
                };
                sinks.operations = Some(LineSink::new(Box::new(push)));
            }
            SinkSettings::Loki(settings) => {
                let started = loki::start(settings, &sink.queue, drain, stats, stop, tasks);
                let queue = started.map_err(failed)?;
                queues.entry(EventKind::Event).or_default().push(queue);
            }
            SinkSettings::RemoteWrite(settings) => {
                let source = remote_write::Source {
                    store: Arc::clone(&context.store),
                    own_metrics: config.exporter.own_metrics.then(|| OwnMetrics {
                        store: Arc::clone(&context.store),
                        described: Arc::clone(&context.store),
                        telemetry: Arc::clone(&context.telemetry),
                    }),
                };
                let queue = &sink.queue;
                let started =
                    remote_write::start(*settings, queue, source, drain, stats, stop, tasks);
                started.map_err(failed)?;
            }
            SinkSettings::OpenSearch(settings) => {
                let started = opensearch::start(settings, &sink.queue, drain, stats, stop, tasks);
                let queue = started.map_err(failed)?;
                queues.entry(EventKind::Index).or_default().push(queue);
            }
            #[cfg(feature = "cql")]
            SinkSettings::Cql(settings) => {
                let (cql, limits) = (CqlSink::new(settings), sink.queue.limits());
                let start = crate::outputs::sinks::start;
                let queue = start(cql, limits, drain, stats, stop, tasks);
                queues.entry(EventKind::Raw).or_default().push(queue);
            }
            // Reading the settings failed.
            #[cfg(not(feature = "cql"))]
            SinkSettings::Cql(_) => {}
        }
    }
    for (kind, queues) in queues {
        let push = move |events| push_to_all(&queues, events);
        sinks.events.add(kind, Box::new(push));
    }
    Ok(sinks)
}

/// The time that a sink has at shutdown for what waits.
pub fn drain_time(config: &Config) -> Duration {
    let grace = config.exporter.shutdown_timeout;
    grace - DRAIN_MARGIN.min(grace / 2)
}

/// Hands events to several sinks. They are accepted once one sink has room for them: its
/// sender would repeat what one of several rejects, and the others would have it twice. The
/// sinks without room count what they miss.
fn push_to_all(
    queues: &[QueueHandle<StoredEvent>],
    events: Vec<StoredEvent>,
) -> Result<(), SinkRejection> {
    let mut result = Err(SinkRejection::Stopped);
    let mut note = |pushed| match (pushed, result) {
        (Ok(()), _) => result = Ok(()),
        (Err(PushError::Full), Err(_)) => result = Err(SinkRejection::Full),
        (Err(_), _) => {}
    };
    // Events that are shared take more memory, so the last sink gets them as they are.
    if let Some((last, others)) = queues.split_last() {
        for queue in others {
            note(queue.push(events.clone()));
        }
        note(last.push(events));
    }
    result
}

/// The sinks of the settings by name, with that of `operations.forward_to`.
fn all(config: &Config) -> impl Iterator<Item = (String, SinkConfig)> {
    let forward = config.operations.forward_to.clone().map(|destination| {
        let sink = SinkConfig {
            settings: SinkSettings::Operations(operations::Settings { destination }),
            queue: operations::queue(config.operations.forward_queue),
        };
        (FORWARD_NAME.to_owned(), sink)
    });
    let configured = config.sinks.0.iter();
    let configured = configured.map(|(name, sink)| (name.clone(), sink.clone()));
    forward.into_iter().chain(configured)
}
