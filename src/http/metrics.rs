//! `/metrics`: everything, as text.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, HeaderMap, HeaderValue, VARY};
use hyper::{Request, StatusCode};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet, spawn_blocking};

use super::accept::{Negotiated, TEXT_FORMAT, negotiate};
use super::body::Pieces;
use super::encoding::accepts_gzip;
use super::reply::{self, Reply};
use super::{Server, query};
use crate::config::Mode;
use crate::exposition::{Form, Text, keep_families};
use crate::store::{Now, SectionId, Snapshot};
use crate::telemetry::own;

/// Stale text up to this size is compressed where it is asked for, in less
/// time than other threads take to be woken. It holds the thread up for about
/// a quarter of a millisecond.
const MADE_AT_ONCE: usize = 256 * 1024;

/// Requests that read all of the text may do so at once; others wait. Each
/// makes a copy of what it reads.
static READERS: Semaphore = Semaphore::const_new(4);

/// Everything, or what the query chooses.
pub async fn all(server: &Server, request: &Request<Incoming>) -> Reply {
    if server.config.own_metrics {
        let write = own::write(&server.telemetry, &server.store);
        if let Err(refused) = server.store.apply(write, Now::read()) {
            log::error!("the proxy's own metrics are not shown: {refused}");
        }
    }
    let query = request.uri().query().unwrap_or_default();
    let answer = async {
        let snapshot = select(server, query).await?;
        answer(server, request.headers(), snapshot).await
    };
    answer.await.unwrap_or_else(|problem| failed(&problem))
}

/// What one app or target exposes.
pub async fn one(server: &Server, request: &Request<Incoming>, id: &SectionId) -> Reply {
    let snapshot = Snapshot::of(server.store.text(id).into_bytes());
    let answer = answer(server, request.headers(), snapshot).await;
    answer.unwrap_or_else(|problem| failed(&problem))
}

fn failed(problem: &JoinError) -> Reply {
    log::error!("the metrics cannot be prepared: {problem}");
    let problem = "the metrics cannot be prepared; the log says why\n";
    reply::text(StatusCode::INTERNAL_SERVER_ERROR, problem)
}

/// Shows a snapshot in the form and coding that the client asks for.
async fn answer(
    server: &Server,
    headers: &HeaderMap,
    snapshot: Snapshot,
) -> Result<Reply, JoinError> {
    let Negotiated { form, content_type } = match server.mode {
        Mode::Merged => negotiate(headers),
        // What is in there nobody knows, so it is what it was sent as.
        Mode::Verbatim => Negotiated {
            form: Form::NORMAL,
            content_type: TEXT_FORMAT,
        },
    };
    let gzip = accepts_gzip(headers);
    let snapshot = prepare(snapshot.in_form(form), gzip).await?;
    let (body, stats) = if gzip {
        (Pieces::new(snapshot.gzip()), &server.telemetry.scrapes_gzip)
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
    let store = Arc::clone(&server.store);
    if apps.is_empty() && names.is_empty() {
        if store.is_snapshot_slow() {
            return spawn_blocking(move || store.snapshot()).await;
        }
        return Ok(store.snapshot());
    }
    let choose = move || {
        let chosen = match apps.as_slice() {
            [] => Text::concat(&store.snapshot().texts().collect::<Vec<_>>()),
            apps => store.texts(apps),
        };
        if names.is_empty() {
            return Snapshot::of(chosen.into_bytes());
        }
        Snapshot::of(Bytes::from(keep_families(chosen.as_str(), &names)))
    };
    let _turn = READERS.acquire().await;
    spawn_blocking(choose).await
}

/// Makes what has yet to be made of a snapshot: its form, and its compressed
/// blocks where `packed`. Much of it is made on all cores, away from the
/// threads that serve.
async fn prepare(snapshot: Snapshot, packed: bool) -> Result<Snapshot, JoinError> {
    let stale = snapshot.unmade(packed);
    if stale <= MADE_AT_ONCE {
        return Ok(snapshot);
    }
    let mut workers = JoinSet::new();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for _ in 0..cores.min(stale.div_ceil(MADE_AT_ONCE)) {
        let snapshot = snapshot.clone();
        workers.spawn_blocking(move || snapshot.make_some(packed));
    }
    while let Some(worker) = workers.join_next().await {
        worker?;
    }
    Ok(snapshot)
}
