//! `GET /api/v1/sinks`: the sinks and whether they work.

use serde_json::{Map, Value, json};

use crate::clock::Now;
use crate::http::reply::{self, Reply};
use crate::telemetry::{SinkStats, Telemetry, dates};

/// Lists the sinks, sorted by name, and then sinks that only have stored items.
pub fn list(telemetry: &Telemetry) -> Reply {
    let now = Now::read();
    let mut sinks: Vec<Value> = telemetry
        .sinks()
        .iter()
        .map(|stats| sink(stats, now))
        .collect();
    let unconfigured = telemetry.unconfigured_sinks.load();
    let unconfigured = unconfigured.iter().map(|sink| {
        json!({
            "name": sink.name,
            "type": sink.kind,
            "state": "unconfigured",
            "queued_items": sink.items,
            "queued_bytes": sink.bytes,
        })
    });
    sinks.extend(unconfigured);
    reply::json(&json!({ "status": "success", "data": sinks }))
}

fn sink(stats: &SinkStats, now: Now) -> Value {
    let health = stats.health();
    let items: Map<String, Value> = stats
        .items
        .counts()
        .into_iter()
        .map(|(result, count)| (result.to_owned(), count.into()))
        .collect();
    let time = |at: Now| dates::rfc3339(at.wall);
    let age = |since| now.tick.saturating_duration_since(since).as_secs_f64();
    json!({
        "name": stats.name,
        "type": stats.kind,
        "state": health.state.as_str(),
        "last_success": health.last_success.map(time),
        "failing_since": health.failing_since.map(time),
        "last_error": health.last_error.map(|(at, problem)| json!({
            "time": time(at),
            "message": problem,
        })),
        "failures": health.failures,
        "items": items,
        "queued_items": stats.queued_items.value(),
        "queued_bytes": stats.queued.value(),
        "queued_max_bytes": stats.max_queued.value(),
        "oldest_age_seconds": stats.oldest().map(age),
    })
}
