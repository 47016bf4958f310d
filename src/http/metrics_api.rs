//! `GET /api/v1/metrics`: all groups with their metrics, as Pushgateway shows
//! them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde_json::{Map, Value as Json, json};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::Server;
use super::api::wrong;
use super::apps::rfc3339;
use super::body::Pieces;
use super::groups::Scan;
use super::reply::{self, Reply};
use crate::exposition::{
    Families, Format, Limits, Metric, Metrics, Value, number_text, unescape, unescape_help,
};
use crate::push::Group;
use crate::store::{Now, Section, SectionId, Store};

/// Lists that are in memory at once, from when they are made until they are
/// sent. Each takes several times the memory of what all groups expose.
static MAKERS: Semaphore = Semaphore::const_new(2);

/// Pieces of the answer are about this large.
const PIECE: usize = 64 << 10;

/// The list is in the order of the groups' keys; each group is as it was at
/// one moment, and they need not be all of the same.
pub async fn list(server: &Server) -> Reply {
    let store = Arc::clone(&server.store);
    // The place goes along with the list, so that a client that is slow to
    // read, or leaves, gives it back no sooner than the memory.
    let turn = MAKERS.acquire().await.expect("nobody closes it");
    let make = move || Pieces::new(pieces(&store)).holding(turn);
    match spawn_blocking(make).await {
        Ok(pieces) => {
            const JSON: HeaderValue = HeaderValue::from_static("application/json");
            reply::reply(StatusCode::OK, JSON, pieces)
        }
        Err(problem) => {
            log::error!("the metrics of groups cannot be listed: {problem}");
            let problem = "the metrics cannot be listed; the log says why";
            wrong(StatusCode::INTERNAL_SERVER_ERROR, "internal", problem)
        }
    }
}

fn pieces(store: &Store) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut piece = br#"{"status":"success","data":["#.to_vec();
    let now = Now::read();
    for (place, (id, group, section)) in Scan::new(store, None).enumerate() {
        if place > 0 {
            piece.push(b',');
        }
        let shown = shown(store, &id, &group, &section, now);
        serde_json::to_writer(&mut piece, &shown).expect("a JSON value can be written");
        if piece.len() >= PIECE {
            pieces.push(Bytes::from(std::mem::take(&mut piece)));
        }
    }
    piece.extend_from_slice(b"]}\n");
    pieces.push(Bytes::from(piece));
    pieces
}

fn shown(store: &Store, id: &SectionId, group: &Group, section: &Section, now: Now) -> Json {
    let text = store.text(id);
    let came: BTreeMap<&str, u64> = section.families().collect();
    let mut out = Map::new();
    // What is stored can be read.
    if let Ok(families) = Families::parse(text.as_str(), Format::Text, &Limits::default()) {
        for family in families.iter() {
            let at = came.get(family.name()).copied().unwrap_or_default();
            let at = SystemTime::UNIX_EPOCH + Duration::from_millis(at);
            let metrics = Metrics::of(&family).metrics;
            let mut shown = json!({
                "time_stamp": rfc3339(at),
                "type": family.kind().as_str().to_ascii_uppercase(),
                "metrics": metrics.iter().map(metric).collect::<Vec<_>>(),
            });
            if let Some(help) = family.help().filter(|help| !help.is_empty()) {
                shown["help"] = json!(unescape_help(help, Format::Text));
            }
            out.insert(unescape(family.name()).into_owned(), shown);
        }
    }
    // These stand for themselves, whatever families are called.
    out.insert("labels".to_owned(), json!(group.labels()));
    let failed = section.problem.as_ref().map(|problem| problem.at.tick);
    let succeeded = section.updated.map(|at| at.tick);
    out.insert(
        "last_push_successful".to_owned(),
        json!(failed <= succeeded),
    );
    if let Some(at) = section.expires(now) {
        out.insert("expires_at".to_owned(), json!(rfc3339(at)));
    }
    Json::Object(out)
}

fn metric(metric: &Metric<'_>) -> Json {
    let mut out = Map::new();
    let labels: Map<String, Json> = metric
        .labels
        .iter()
        .map(|(name, value)| (name.to_string(), json!(value)))
        .collect();
    out.insert("labels".to_owned(), Json::Object(labels));
    let mut put = |key: &str, value: Json| out.insert(key.to_owned(), value);
    let text = |value: f64| Json::String(number_text(value));
    let by_number = |pairs: &[(f64, f64)]| {
        let pairs = pairs
            .iter()
            .map(|(at, value)| (number_text(*at), text(*value)));
        Json::Object(pairs.collect())
    };
    match &metric.value {
        Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => {
            put("value", text(*value));
        }
        Value::Histogram {
            buckets,
            sum,
            count,
        } => {
            put("buckets", by_number(buckets));
            put("count", text(count.unwrap_or_default()));
            put("sum", text(sum.unwrap_or_default()));
        }
        Value::Summary {
            quantiles,
            sum,
            count,
        } => {
            put("quantiles", by_number(quantiles));
            put("count", text(count.unwrap_or_default()));
            put("sum", text(sum.unwrap_or_default()));
        }
    }
    Json::Object(out)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    static TURNS: Semaphore = Semaphore::const_new(1);

    #[tokio::test]
    async fn a_list_keeps_its_place_until_it_is_sent_or_let_go() {
        let list = || {
            let turn = TURNS.try_acquire().unwrap();
            Pieces::new(vec![Bytes::from("a"), Bytes::from("b")]).holding(turn)
        };
        let reply = reply::reply(StatusCode::OK, HeaderValue::from_static("x"), list());
        let mut body = reply.into_body();
        assert!(body.frame().await.is_some());
        assert_eq!(TURNS.available_permits(), 0);
        assert!(body.frame().await.is_none());
        assert_eq!(TURNS.available_permits(), 1);
        let left = list();
        assert_eq!(TURNS.available_permits(), 0);
        drop(left);
        assert_eq!(TURNS.available_permits(), 1);
    }
}
