//! Processes request bodies. Large bodies, and those that expand to much text, are
//! processed on the [pools of threads](super::pools).

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::CONTENT_ENCODING;

use super::pools::MAX_INLINE_TEXT;
use super::reply::{self, Reply};
use super::request::Request;
use super::request_body::ReceivedBody;
use crate::clock::Now;
use crate::ingest::{
    Admission, Body, Group, Rejection, Removal, SeriesSelection, remove_series as remove_some,
};
use crate::net::BlockingPool;
use crate::reason::Reason;
use crate::store::Store;
use crate::telemetry::sender_log::{self, About, LogEvent};

/// Decompresses a body by its `Content-Encoding`.
///
/// # Errors
///
/// The coding is unknown, the body is corrupt, or a limit on size or memory is reached.
pub async fn decompress(request: &Request, body: ReceivedBody) -> Result<ReceivedBody, Rejection> {
    let content_encoding = request.header(CONTENT_ENCODING);
    let limit = request.server.requests.max_body;
    let pool = &request.server.pools.bodies;
    body.decompressed(&content_encoding, limit, pool).await
}

/// Decompresses a body and processes it with `work`, which adds the labels of `group`
/// to its samples. The size of the resulting text counts against the memory for bodies
/// in the meantime.
///
/// # Errors
///
/// The body cannot be decompressed, a limit is reached, or `work` rejects the body.
pub async fn with_labels<T: Send + 'static>(
    request: &Request,
    (admission, store): (&Arc<Admission>, &Store),
    group: &Arc<Group>,
    body: ReceivedBody,
    work: impl FnOnce(Body<'_>) -> Result<T, Rejection> + Send + 'static,
) -> Result<T, Rejection> {
    let mut body = decompress(request, body).await?;
    let text = text_size(request, admission, group, &body.bytes).await?;
    // Text above exposition.max_text is not counted: `work` rejects it before it is made.
    if text > MAX_INLINE_TEXT && admission.allows_text_size(text) {
        body.grow(text)?;
    }
    let pool = request.server.pools.for_text(text.max(body.len()));
    on_body(request, store, pool, body, work).await
}

/// The size of the text that a body expands to, in bytes; 0 if the body is small. A large
/// body is measured on a pool, because measuring takes time in proportion to its size.
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
    on_pool(&request.server.pools.bodies, measure).await
}

/// Processes a decompressed body on `pool`, or on the serving thread if it is `None`. While
/// the store applies a large write, the pool for bodies replaces the serving thread,
/// because the work would wait for that write.
///
/// # Errors
///
/// `work` rejects the body or fails.
pub async fn on_body<T: Send + 'static>(
    request: &Request,
    store: &Store,
    pool: Option<&BlockingPool>,
    body: ReceivedBody,
    work: impl FnOnce(Body<'_>) -> Result<T, Rejection> + Send + 'static,
) -> Result<T, Rejection> {
    let content_type = request.content_type();
    let while_busy = || store.is_busy().then_some(&request.server.pools.bodies);
    let Some(pool) = pool.or_else(while_busy) else {
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
    on_pool(pool, work).await?
}

/// Runs `work` on a pool. A failure is logged.
async fn on_pool<T: Send + 'static>(
    pool: &BlockingPool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Rejection> {
    pool.run(work).await.map_err(|problem| {
        sender_log::internal_error(format_args!("a push cannot be processed: {problem}"));
        let message = "the push cannot be processed; the log has the cause";
        Rejection::new(Reason::Closed, message)
    })
}

/// Removes aggregated series, on the pool for lists. With `dry_run`, they are only counted.
///
/// # Errors
///
/// The reply to a failed removal; the log has the cause.
pub async fn remove_series(
    request: &Request,
    store: &Arc<Store>,
    selection: SeriesSelection,
    dry_run: bool,
) -> Result<Removal, Reply> {
    let store = Arc::clone(store);
    let work = move || remove_some(&store, &selection, dry_run, Now::read());
    let removed = match request.server.pools.lists.run(work).await {
        Ok(Ok(removed)) => removed,
        Ok(Err(rejected)) => return Err(cannot_remove(&rejected)),
        Err(problem) => return Err(cannot_remove(&problem)),
    };
    if !dry_run && removed.count > 0 {
        let (peer, count) = (request.peer, removed.count);
        sender_log::write(
            LogEvent::Removal,
            About::peer(peer),
            format_args!("{peer} removes {count} aggregated series"),
        );
    }
    Ok(removed)
}

/// Logs why series cannot be removed, and returns the reply to the client.
pub fn cannot_remove(problem: &dyn std::fmt::Display) -> Reply {
    sender_log::internal_error(format_args!(
        "aggregated series cannot be removed: {problem}"
    ));
    let problem = "the series cannot be removed; the log has the cause";
    reply::api_error(StatusCode::INTERNAL_SERVER_ERROR, "internal", problem)
}
