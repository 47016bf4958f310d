//! The list of sinks. Inputs and outputs do not know one another, so a sink is handed
//! to its input as a closure.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::context::Context;
use crate::inputs::operations::sink::{LineSink, SinkRejection};
use crate::outputs::sinks::config::{SinkConfig, SinkSettings};
use crate::outputs::sinks::{PushError, operations};
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
}

/// Starts all sinks.
pub fn start(config: &Config, context: &Context) -> Sinks {
    let grace = config.exporter.shutdown_timeout;
    let drain = grace - DRAIN_MARGIN.min(grace / 2);
    let mut sinks = Sinks::default();
    for (name, sink) in all(config) {
        let max_queue = sink.queue.max_queue;
        let stats = Arc::new(SinkStats::new(&name, sink.settings.kind(), max_queue));
        context.telemetry.add_sink(&stats);
        match sink.settings {
            SinkSettings::Operations(settings) => {
                context.telemetry.operations.forward_to(&stats);
                let (stop, tasks) = (&context.stop, &context.tasks);
                let lines = operations::start(settings, &sink.queue, drain, stats, stop, tasks);
                let push = move |chunk| {
                    lines.push(&chunk).map_err(|error| match error {
                        PushError::Full => SinkRejection::Full,
                        PushError::Stopped => SinkRejection::Stopped,
                    })
                };
                sinks.operations = Some(LineSink::new(Box::new(push)));
            }
        }
    }
    sinks
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
