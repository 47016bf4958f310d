//! `[profiling]`: CPU profiles of the proxy, recorded and sent one after another.

use std::sync::Arc;

use super::StartError;
use super::sinks::drain_time;
use crate::config::Config;
use crate::context::Context;
use crate::outputs::sinks;
use crate::outputs::sinks::pyroscope::{self, PyroscopeSink, config};
use crate::telemetry::SinkStats;

/// The name of the sink in metrics and lists.
const NAME: &str = "profiling";

/// Starts recording and sending, if configured.
///
/// # Errors
///
/// The sink cannot be used as configured.
pub fn start(settings: &Config, context: &Context) -> Result<(), StartError> {
    let Some(profiling) = &settings.profiling else {
        return Ok(());
    };
    let sink = PyroscopeSink::new(profiling.clone()).map_err(StartError::Profiling)?;
    let queue = config::queue();
    let stats = Arc::new(SinkStats::new(NAME, "pyroscope", queue.max_queue, "fixed"));
    context.telemetry.add_sink(&stats);
    let (stop, tasks) = (&context.stop, &context.tasks);
    let drain = drain_time(settings);
    let profiles = sinks::start(sink, queue.limits(), drain, stats, stop, tasks);
    tasks.spawn(pyroscope::record(
        profiles,
        profiling.interval,
        stop.clone(),
    ));
    Ok(())
}
