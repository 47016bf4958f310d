//! `GET /api/v1/targets`: polled targets with their origin, in the JSON of Prometheus' API, and the
//! discoveries that find them.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::exposition::{label_pairs, unescape};
use crate::http::reply::{self, Reply};
use crate::http::request::Request;
use crate::outputs::batches::{PAGE_SECTIONS, SectionBatches};
use crate::store::{Producer, Section, SectionId, Store};
use crate::telemetry::{DiscoveryStats, TargetStats, Telemetry, clip, dates};

/// Lists all targets. The list is generated while it is sent: each item is consistent, but
/// items can be from different moments.
pub async fn list(store: &Arc<Store>, request: &Request) -> Reply {
    let telemetry = Arc::clone(&request.server.telemetry);
    let totals = store.totals();
    let short = totals.states.all() <= PAGE_SECTIONS;
    let discoveries: Vec<Value> = telemetry
        .targets
        .discoveries()
        .iter()
        .map(|stats| discovery(stats))
        .collect();
    let mut first = true;
    let items = SectionBatches::new(store, usize::MAX).map(move |sections| {
        let mut chunk = Vec::new();
        for (id, section) in &sections {
            if id.producer != Producer::Target {
                continue;
            }
            chunk.extend_from_slice(if first { b"" } else { b"," });
            first = false;
            let target = target(id, section, &telemetry);
            serde_json::to_writer(&mut chunk, &target).expect("a JSON value can be written");
        }
        Bytes::from(chunk)
    });
    let head = Bytes::from_static(b"{\"status\":\"success\",\"data\":{\"activeTargets\":[");
    let end = format!(
        "],\"droppedTargets\":[],\"discoveries\":{}}}}}\n",
        Value::Array(discoveries)
    );
    let chunks = [head].into_iter().chain(items);
    let chunks = Box::new(chunks.chain([Bytes::from(end)]));
    reply::list(&request.server.pools.lists, short, true, chunks).await
}

fn target(id: &SectionId, section: &Section, telemetry: &Telemetry) -> Value {
    let stats = telemetry.targets.get(&id.name);
    let problem = section.problem.as_ref();
    let mut target = json!({
        "name": &*id.name,
        "state": section.state.as_str(),
        "scrapeUrl": section.url.as_deref(),
        "globalUrl": section.url.as_deref(),
    });
    let polls = stats
        .as_ref()
        .map(|stats| stats.polls())
        .unwrap_or_default();
    let is_up = polls.success;
    target["health"] = json!(match is_up {
        None => "unknown",
        Some(true) => "up",
        Some(false) => "down",
    });
    let last_error = problem.filter(|_| is_up == Some(false));
    target["lastError"] = json!(last_error.map_or(String::new(), |it| clip(&it.reason)));
    target["lastScrape"] = json!(polls.ended.map(|at| dates::rfc3339(at.wall)));
    target["lastScrapeDuration"] = json!(polls.duration.as_secs_f64());
    if let Some(stats) = &stats {
        add_info(&mut target, stats);
    }
    target
}

/// Adds the settings that the target is polled with.
fn add_info(target: &mut Value, stats: &TargetStats) {
    let info = stats.info();
    let mut labels = Map::new();
    for label in label_pairs(info.labels.as_str()) {
        let value = unescape(label.value);
        labels.insert(label.name.to_owned(), json!(value));
    }
    let seconds = |time: std::time::Duration| format!("{}s", time.as_secs_f64());
    target["labels"] = Value::Object(labels);
    target["scrapePool"] = json!(&*info.found_in);
    let interval = info.interval.map_or_else(|| "scrape".to_owned(), seconds);
    target["scrapeInterval"] = json!(interval);
    target["scrapeTimeout"] = json!(seconds(info.timeout));
}

fn discovery(stats: &DiscoveryStats) -> Value {
    let state = stats.state();
    json!({
        "name": stats.name,
        "source": stats.source,
        "state": state.word(),
        "targets": state.targets,
        "dropped": state.dropped,
        "rejected": state.rejected,
        "rejections": state.rejections.iter().map(|it| clip(it)).collect::<Vec<_>>(),
        "lastSuccess": state.last_success.map(|at| dates::rfc3339(at.wall)),
        "lastProblem": state.problem.as_ref().map(|(problem, at)| json!({
            "reason": clip(problem),
            "time": dates::rfc3339(at.wall),
        })),
    })
}
