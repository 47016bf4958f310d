//! Parameters and headers shared by the inputs over HTTP: `mode`, `ttl` and
//! `Idempotency-Key`.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};

use crate::http::query;
use crate::http::reply::Reply;
use crate::http::request::Request;
use crate::http::router::Condition;
use crate::ingest::config::PushMode;
use crate::ingest::{Addition, Admission, KeyOutcome, MAX_KEY_LENGTH, Rejection, parse_ttl};
use crate::reason::Reason;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The reply header of a push that was not added because its key was used before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The parameter `mode`, or `default` (`push.mode`).
///
/// # Errors
///
/// The mode is not known.
pub fn mode(query: &str, default: PushMode) -> Result<PushMode, Rejection> {
    match query::value(query, "mode").as_deref() {
        None => Ok(default),
        Some("replace") => Ok(PushMode::Replace),
        Some("aggregate") => Ok(PushMode::Aggregate),
        Some(other) => {
            let message = format!("mode must be \"replace\" or \"aggregate\", not {other:?}");
            Err(Rejection::new(Reason::BadParameter, &message))
        }
    }
}

/// Whether a request changes aggregated families: a push or a removal with
/// `mode=aggregate`.
pub fn aggregates(method: &Method, query: &str, default: PushMode) -> bool {
    matches!(*method, Method::PUT | Method::POST | Method::DELETE)
        && matches!(mode(query, default), Ok(PushMode::Aggregate))
}

/// [`aggregates`] as the condition of a route.
pub fn when_aggregating(default: PushMode) -> Condition {
    Arc::new(move |head, _| aggregates(&head.method, head.uri.query().unwrap_or_default(), default))
}

/// The parameter `ttl`: how long a push is kept.
///
/// # Errors
///
/// The value is not a valid duration.
pub fn ttl(request: &Request) -> Result<Option<Duration>, Rejection> {
    let ttl = query::value(request.query(), "ttl");
    let ttl =
        ttl.map(|ttl| parse_ttl(&ttl).map_err(|it| Rejection::new(Reason::BadParameter, &it)));
    ttl.transpose()
}

/// The options of an aggregating push: `ttl` and `Idempotency-Key`.
///
/// # Errors
///
/// One of them is not valid.
pub fn addition(request: &Request) -> Result<Addition, Rejection> {
    let key = match request.headers().get(IDEMPOTENCY_KEY) {
        None => None,
        Some(key) => {
            let key = key.to_str().unwrap_or_default();
            if key.is_empty() || key.len() > MAX_KEY_LENGTH {
                let message = format!(
                    "an Idempotency-Key must have 1 to {MAX_KEY_LENGTH} characters, all ASCII"
                );
                return Err(Rejection::new(Reason::BadParameter, &message));
            }
            Some(key.to_owned())
        }
    };
    Ok(Addition {
        ttl: ttl(request)?,
        key,
        scope: request.scope.clone(),
        account: request.account().clone(),
        listener: Some(Arc::clone(&request.server.source)),
    })
}

/// Counts an accepted push, and marks the reply to a repeated one.
pub fn count_addition(
    request: &Request,
    admission: &Admission,
    outcome: KeyOutcome,
    bytes: usize,
    reply: &mut Reply,
) {
    let pushes = &request.server.telemetry.pushes;
    let (keys, forgotten) = admission.key_counts();
    pushes.keys.set(keys);
    pushes.forgotten_keys.raise_to(forgotten);
    request.count_success(bytes);
    if outcome == KeyOutcome::Repeated {
        pushes.repeated.add(1);
        let yes = HeaderValue::from_static("true");
        reply.headers_mut().insert(REPLAYED, yes);
    }
}
