//! `/metrics`: everything, as text.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{CONTENT_ENCODING, HeaderMap, HeaderValue, VARY};
use tokio::task::JoinSet;

use super::body::Pieces;
use super::encoding::accepts_gzip;
use super::reply::{Reply, reply};
use super::{Server, reply as replies};
use crate::store::{Now, Snapshot};
use crate::telemetry::own;

/// Text format 0.0.4, as Prometheus wants it named.
pub const TEXT_FORMAT: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Stale text up to this size is compressed where it is asked for, in less
/// time than other threads take to be woken. It holds the thread up for about
/// a quarter of a millisecond.
const COMPRESSED_AT_ONCE: usize = 256 * 1024;

pub async fn all(server: &Server, headers: &HeaderMap) -> Reply {
    if server.config.own_metrics {
        let write = own::write(&server.telemetry, &server.store);
        if let Err(refused) = server.store.apply(write, Now::read()) {
            log::error!("the proxy's own metrics are not shown: {refused}");
        }
    }
    let snapshot = server.store.snapshot();
    let gzip = accepts_gzip(headers);
    let (body, stats) = if gzip {
        match compress(snapshot).await {
            Ok(pieces) => (Pieces::new(pieces), &server.telemetry.scrapes_gzip),
            Err(problem) => {
                log::error!("the metrics cannot be compressed: {problem}");
                let problem = "the metrics cannot be compressed; ask for them without gzip\n";
                return replies::text(StatusCode::INTERNAL_SERVER_ERROR, problem);
            }
        }
    } else {
        (Pieces::of(&snapshot), &server.telemetry.scrapes_identity)
    };
    stats.count.add(1);
    stats.bytes.add(body.len());
    let mut reply = reply(StatusCode::OK, TEXT_FORMAT, body);
    let headers = reply.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    if gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    reply
}

/// The snapshot as a gzip member. Much stale text is compressed on all cores,
/// away from the threads that serve.
async fn compress(snapshot: Snapshot) -> Result<Vec<bytes::Bytes>, tokio::task::JoinError> {
    let stale = snapshot.unpacked();
    if stale <= COMPRESSED_AT_ONCE {
        return Ok(snapshot.gzip());
    }
    let snapshot = Arc::new(snapshot);
    let mut workers = JoinSet::new();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for _ in 0..cores.min(stale.div_ceil(COMPRESSED_AT_ONCE)) {
        let snapshot = Arc::clone(&snapshot);
        workers.spawn_blocking(move || snapshot.pack_some());
    }
    while let Some(worker) = workers.join_next().await {
        worker?;
    }
    Ok(snapshot.gzip())
}
