//! `DELETE /api/v1/series`: removes aggregated series by selectors.

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::json;

use super::groups::cut_short;
use crate::http::query;
use crate::http::reply::{self, Reply};
use crate::http::request::Request;
use crate::http::work;
use crate::ingest::selector::Selectors;
use crate::ingest::{Removal, SeriesSelection};
use crate::store::Store;

/// Removes the series that match; 404 if none does.
pub async fn remove(store: &Arc<Store>, request: &Request) -> Reply {
    let bad = |problem: &str| reply::api_error(StatusCode::BAD_REQUEST, "bad_data", problem);
    let dry_run = match query::flag(request.query(), "dry_run") {
        Ok(dry_run) => dry_run,
        Err(problem) => return bad(&problem),
    };
    let mut texts = query::values(request.query(), "match[]");
    texts.extend(query::values(request.query(), "match"));
    if texts.is_empty() {
        return bad(
            "name the series to delete by match[]=hits_total{job=\"x\"}; match[]={} means all",
        );
    }
    // Compiling regular expressions takes too long for the serving thread.
    let lists = &request.server.pools.lists;
    let selectors = match lists.run(move || Selectors::for_series(&texts)).await {
        Ok(Ok(selectors)) => selectors,
        Ok(Err(problem)) => return bad(&problem),
        Err(problem) => return work::cannot_remove(&problem),
    };
    match work::remove_series(
        request,
        store,
        SeriesSelection::Matching(selectors),
        dry_run,
    )
    .await
    {
        Ok(Removal {
            is_incomplete: true,
            count,
            ..
        }) => cut_short(&format!("{count} series"), dry_run),
        Ok(Removal { count: 0, .. }) if !dry_run => {
            let problem = "no aggregated series matches";
            reply::api_error(StatusCode::NOT_FOUND, "not_found", problem)
        }
        Ok(Removal { count, listed, .. }) => reply::json(&json!({
            "status": "success",
            "data": { "dry_run": dry_run, "count": count, "series": listed },
        })),
        Err(reply) => reply,
    }
}
