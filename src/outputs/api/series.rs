//! Removing aggregated series: `DELETE /api/v1/series` by selectors, and
//! `DELETE /metrics{/<label>/<value>}?mode=aggregate` by labels.

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::json;

use super::groups::cut_short;
use super::wrong;
use crate::clock::Now;
use crate::http::query;
use crate::http::reply::{self, Reply};
use crate::ingest::selector::Selectors;
use crate::ingest::{Fault, Group, Meant, Removed, remove_series};
use crate::inputs::push::http::Call;
use crate::reason::Reason;
use crate::telemetry::PushMethod;
use crate::telemetry::sender_log::{self, LogEvent};

/// `DELETE series`: removes those that match; 404 where none does.
pub async fn remove(call: &Call<'_>) -> Reply {
    let bad = |problem: &str| wrong(StatusCode::BAD_REQUEST, "bad_data", problem);
    let dry_run = match query::flag(call.query, "dry_run") {
        Ok(dry_run) => dry_run,
        Err(problem) => return bad(&problem),
    };
    let mut texts = query::values(call.query, "match[]");
    texts.extend(query::values(call.query, "match"));
    if texts.is_empty() {
        return bad("which series? give match[]=hits_total{job=\"x\"}; match[]={} is all of them");
    }
    // Compiling patterns takes too long for a thread that serves.
    let lists = &call.server.places.lists;
    let selectors = match lists.run(move || Selectors::of_series(&texts)).await {
        Ok(Ok(selectors)) => selectors,
        Ok(Err(problem)) => return bad(&problem),
        Err(problem) => return failed(&problem),
    };
    match removed(call, Meant::Matching(selectors), dry_run).await {
        Ok(Removed {
            stopped: true,
            count,
            ..
        }) => cut_short(&format!("{count} series"), dry_run),
        Ok(Removed { count: 0, .. }) if !dry_run => {
            let problem = "no aggregated series matches";
            wrong(StatusCode::NOT_FOUND, "not_found", problem)
        }
        Ok(Removed { count, listed, .. }) => reply::json(&json!({
            "status": "success",
            "data": { "dry_run": dry_run, "count": count, "series": listed },
        })),
        Err(reply) => reply,
    }
}

/// `DELETE /metrics/...?mode=aggregate`: removes the series that have all labels
/// of the path. 202 as Pushgateway answers, or 404 where there are none.
pub async fn remove_labelled(call: &Call<'_>, labels: Group) -> Reply {
    // An empty value is that of a label that is not there, as of most series.
    if labels.labels().values().all(String::is_empty) {
        let message = "name a label and its value at least, as in /metrics/job/x; DELETE \
                       /api/v1/series?match[]={} removes all aggregated series";
        return call.refuse(
            PushMethod::Delete,
            &Fault::new(Reason::BadParameter, message),
            0,
        );
    }
    let removed = match removed(call, Meant::Labels(labels), false).await {
        Ok(removed) => removed,
        Err(reply) => return reply,
    };
    let pushes = &call.server.telemetry.pushes;
    pushes.count(PushMethod::Delete, Ok(()), 0);
    if removed.count == 0 {
        let problem = "no aggregated series has these labels\n";
        return reply::text(StatusCode::NOT_FOUND, problem);
    }
    reply::empty(StatusCode::ACCEPTED)
}

/// Removes series away from the threads that serve.
pub async fn removed(call: &Call<'_>, meant: Meant, dry_run: bool) -> Result<Removed, Reply> {
    let store = Arc::clone(&call.server.store);
    let work = move || remove_series(&store, &meant, dry_run, Now::read());
    let removed = match call.server.places.lists.run(work).await {
        Ok(Ok(removed)) => removed,
        Ok(Err(refused)) => return Err(failed(&refused)),
        Err(problem) => return Err(failed(&problem)),
    };
    if !dry_run && removed.count > 0 {
        let (peer, count) = (call.peer, removed.count);
        sender_log::write(
            LogEvent::Removal,
            format_args!("{peer} removes {count} aggregated series"),
        );
    }
    Ok(removed)
}

fn failed(problem: &dyn std::fmt::Display) -> Reply {
    sender_log::internal_error(format_args!(
        "aggregated series cannot be removed: {problem}"
    ));
    let problem = "the series cannot be removed; the log says why";
    wrong(StatusCode::INTERNAL_SERVER_ERROR, "internal", problem)
}
