//! The list of sinks. Inputs and outputs do not know one another, so a sink is handed
//! to its input as a closure.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::context::Context;
use crate::inputs::operations::sink::{LineSink, SinkRejection};
use crate::outputs::sinks::{PushError, operations};

/// A sink stops sending this long before the grace period ends, or halfway through a
/// shorter one, so that it can still log what is left.
const DRAIN_MARGIN: Duration = Duration::from_millis(100);

/// Starts the sink that operations are forwarded to, if one is configured
/// (`operations.forward_to`).
pub fn of_operations(config: &Config, context: &Context) -> Option<LineSink> {
    let grace = config.exporter.shutdown_timeout;
    let sink = operations::Config {
        destination: config.operations.forward_to.clone()?,
        queue: config.operations.forward_queue,
        drain: grace - DRAIN_MARGIN.min(grace / 2),
    };
    let stats = Arc::clone(&context.telemetry.operations.forwarded);
    let lines = operations::start(sink, stats, &context.stop, &context.tasks);
    let push = move |chunk| {
        lines.push(&chunk).map_err(|error| match error {
            PushError::Full => SinkRejection::Full,
            PushError::Stopped => SinkRejection::Stopped,
        })
    };
    Some(LineSink::new(Box::new(push)))
}
