//! `/metrics`: everything, as text.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, HeaderValue, VARY};
use hyper::{Request, StatusCode};
use tokio::task::{JoinError, JoinSet, spawn_blocking};

use super::accept::{Negotiated, TEXT_FORMAT, negotiate};
use super::body::Pieces;
use super::encoding::accepts_gzip;
use super::reply::{self, Reply};
use super::{Server, query};
use crate::config::Mode;
use crate::exposition::{Form, keep_families};
use crate::store::{Now, Snapshot};
use crate::telemetry::own;

/// Stale text up to this size is compressed where it is asked for, in less
/// time than other threads take to be woken. It holds the thread up for about
/// a quarter of a millisecond.
const COMPRESSED_AT_ONCE: usize = 256 * 1024;

pub async fn all(server: &Server, request: &Request<Incoming>) -> Reply {
    match answer(server, request).await {
        Ok(reply) => reply,
        Err(problem) => {
            log::error!("the metrics cannot be prepared: {problem}");
            let problem = "the metrics cannot be prepared; the log says why\n";
            reply::text(StatusCode::INTERNAL_SERVER_ERROR, problem)
        }
    }
}

async fn answer(server: &Server, request: &Request<Incoming>) -> Result<Reply, JoinError> {
    if server.config.own_metrics {
        let write = own::write(&server.telemetry, &server.store);
        if let Err(refused) = server.store.apply(write, Now::read()) {
            log::error!("the proxy's own metrics are not shown: {refused}");
        }
    }
    let headers = request.headers();
    let Negotiated { form, content_type } = match server.mode {
        Mode::Merged => negotiate(headers),
        // What is in there nobody knows, so it is what it was sent as.
        Mode::Verbatim => Negotiated {
            form: Form::NORMAL,
            content_type: TEXT_FORMAT,
        },
    };
    let query = request.uri().query().unwrap_or_default();
    let snapshot = select(server, query).await?.in_form(form);
    let gzip = accepts_gzip(headers);
    let (body, stats) = if gzip {
        let pieces = Pieces::new(compress(snapshot).await?);
        (pieces, &server.telemetry.scrapes_gzip)
    } else {
        (Pieces::of(&snapshot), &server.telemetry.scrapes_identity)
    };
    stats.count.add(1);
    stats.bytes.add(body.len());

    let mut reply = reply::reply(StatusCode::OK, content_type, body);
    let headers = reply.headers_mut();
    let varies = match server.mode {
        Mode::Merged => "Accept, Accept-Encoding",
        Mode::Verbatim => "Accept-Encoding",
    };
    headers.insert(VARY, HeaderValue::from_static(varies));
    if gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(reply)
}

/// What the query asks for: everything, or the apps named by `app`, or the
/// families named by `name[]`, or what is both.
async fn select(server: &Server, query: &str) -> Result<Snapshot, JoinError> {
    let apps = query::values(query, "app");
    let names = query::values(query, "name[]");
    let selected = if apps.is_empty() {
        server.store.snapshot()
    } else {
        Snapshot::of(server.store.texts(&apps).into_bytes())
    };
    if names.is_empty() {
        return Ok(selected);
    }
    // This reads all of the text, away from the threads that serve.
    let filter = move || {
        let text = selected.text();
        let text = String::from_utf8_lossy(&text);
        Snapshot::of(Bytes::from(keep_families(&text, &names)))
    };
    spawn_blocking(filter).await
}

/// The snapshot as a gzip member. Much stale text is compressed on all cores,
/// away from the threads that serve.
async fn compress(snapshot: Snapshot) -> Result<Vec<Bytes>, JoinError> {
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
