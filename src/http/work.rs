//! Work on bodies. A large body, and one that becomes much text, is worked on away
//! from the threads that serve.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::CONTENT_ENCODING;

use super::incoming::ReceivedBody;
use super::pools::MAX_INLINE_TEXT;
use super::reply::{self, Reply};
use super::request::Request;
use crate::clock::Now;
use crate::ingest::{
    Admission, Body, Group, Meant, Rejection, Removed, remove_series as remove_some,
};
use crate::net::BlockingPool;
use crate::reason::Reason;
use crate::store::Store;
use crate::telemetry::sender_log::{self, LogEvent};

/// Decompresses a body as its `Content-Encoding` says.
pub async fn unpack(request: &Request, body: ReceivedBody) -> Result<ReceivedBody, Rejection> {
    let content_encoding = request.header(CONTENT_ENCODING);
    let limit = request.server.requests.max_body;
    let turns = &request.server.pools.bodies;
    body.unpacked(&content_encoding, limit, turns).await
}

/// Works on a body whose samples get the labels of `group`. The text that it becomes
/// is counted like bytes of bodies while it is made.
pub async fn with_labels<T: Send + 'static>(
    request: &Request,
    (admission, store): (&Arc<Admission>, &Store),
    group: &Arc<Group>,
    body: ReceivedBody,
    work: impl FnOnce(Body<'_>) -> Result<T, Rejection> + Send + 'static,
) -> Result<T, Rejection> {
    let mut body = unpack(request, body).await?;
    let text = text_size(request, admission, group, &body.bytes).await?;
    // A push that becomes too much text is rejected before the text is made.
    if text > MAX_INLINE_TEXT && admission.may_become(text) {
        body.grow(text)?;
    }
    let place = request.server.pools.for_text(text.max(body.len()));
    on_body(request, store, place, body, work).await
}

/// The bytes of text that a body becomes, or 0 if they are few. Measuring takes time
/// that grows with the body, so a large one is measured away from the threads that
/// serve.
async fn text_size(
    request: &Request,
    admission: &Arc<Admission>,
    group: &Arc<Group>,
    bytes: &Bytes,
) -> Result<usize, Rejection> {
    let content_type = request.content_type();
    if bytes.len() <= MAX_INLINE_TEXT {
        let body = Body {
            content_type: &content_type,
            bytes,
        };
        return Ok(admission.text_size(group, body, MAX_INLINE_TEXT));
    }
    let (content_type, bytes) = (content_type.into_owned(), bytes.clone());
    let (admission, group) = (Arc::clone(admission), Arc::clone(group));
    let measure = move || {
        let body = Body {
            content_type: &content_type,
            bytes: &bytes,
        };
        admission.text_size(&group, body, MAX_INLINE_TEXT)
    };
    away(&request.server.pools.bodies, measure).await
}

/// Works on a decompressed body: with a permit of `place` away from the threads that
/// serve, or at once without one. A write that would wait for a large one of
/// another sender also goes away.
pub async fn on_body<T: Send + 'static>(
    request: &Request,
    store: &Store,
    place: Option<&BlockingPool>,
    body: ReceivedBody,
    work: impl FnOnce(Body<'_>) -> Result<T, Rejection> + Send + 'static,
) -> Result<T, Rejection> {
    let content_type = request.content_type();
    let while_busy = || store.is_busy().then_some(&request.server.pools.bodies);
    let Some(place) = place.or_else(while_busy) else {
        return work(Body {
            content_type: &content_type,
            bytes: &body.bytes,
        });
    };
    let content_type = content_type.into_owned();
    let work = move || {
        work(Body {
            content_type: &content_type,
            bytes: &body.bytes,
        })
    };
    away(place, work).await?
}

/// Works away from the threads that serve, with a permit of `place`.
async fn away<T: Send + 'static>(
    place: &BlockingPool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Rejection> {
    place.run(work).await.map_err(|problem| {
        sender_log::internal_error(format_args!("a push cannot be worked on: {problem}"));
        let message = "the push cannot be worked on; the log says why";
        Rejection::new(Reason::Closed, message)
    })
}

/// Removes aggregated series away from the threads that serve. With `dry_run`, they
/// are only counted.
///
/// # Errors
///
/// The reply that tells the client that it failed; the log has the cause.
pub async fn remove_series(
    request: &Request,
    store: &Arc<Store>,
    meant: Meant,
    dry_run: bool,
) -> Result<Removed, Reply> {
    let store = Arc::clone(store);
    let work = move || remove_some(&store, &meant, dry_run, Now::read());
    let removed = match request.server.pools.lists.run(work).await {
        Ok(Ok(removed)) => removed,
        Ok(Err(rejected)) => return Err(cannot_remove(&rejected)),
        Err(problem) => return Err(cannot_remove(&problem)),
    };
    if !dry_run && removed.count > 0 {
        let (peer, count) = (request.peer, removed.count);
        sender_log::write(
            LogEvent::Removal,
            format_args!("{peer} removes {count} aggregated series"),
        );
    }
    Ok(removed)
}

/// Logs why series cannot be removed, and returns the reply.
pub fn cannot_remove(problem: &dyn std::fmt::Display) -> Reply {
    sender_log::internal_error(format_args!(
        "aggregated series cannot be removed: {problem}"
    ));
    let problem = "the series cannot be removed; the log says why";
    reply::api_error(StatusCode::INTERNAL_SERVER_ERROR, "internal", problem)
}
