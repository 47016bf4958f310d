//! Pages of other origins that push or read (CORS).

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    CACHE_CONTROL, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use hyper::{Method, StatusCode};

use super::reply::{self, Reply};

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, PUT, POST, DELETE, OPTIONS");
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Accept, Authorization, Content-Encoding, Content-Type, Idempotency-Key",
);

/// For how long a browser need not ask again, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

const ANY: HeaderValue = HeaderValue::from_static("*");

/// Whether an origin is among those in the list.
pub fn is_listed(origins: &[String], origin: &HeaderValue) -> bool {
    let asked = origin.as_bytes();
    let is_it = |listed: &String| listed == "*" || listed.as_bytes().eq_ignore_ascii_case(asked);
    origins.iter().any(is_it)
}

/// The origin of a request, where a page of it may push: `*` where all may.
fn allowed(origins: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    if origins.iter().any(|allowed| allowed == "*") {
        return Some(ANY);
    }
    is_listed(origins, origin).then(|| origin.clone())
}

/// Whether a browser asks before it sends, where a page may.
pub fn is_preflight(origins: &[String], method: &Method, headers: &HeaderMap) -> bool {
    !origins.is_empty()
        && method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a browser that asks before it sends; `None` where this is
/// another `OPTIONS`.
pub fn preflight(origins: &[String], method: &Method, headers: &HeaderMap) -> Option<Reply> {
    if !is_preflight(origins, method, headers) {
        return None;
    }
    let mut reply = match allowed(origins, headers) {
        Some(_) => reply::empty(StatusCode::NO_CONTENT),
        None => reply::text(
            StatusCode::FORBIDDEN,
            "pages of this origin may not push here (push.cors_origins)\n",
        ),
    };
    if reply.status() == StatusCode::NO_CONTENT {
        let answer = reply.headers_mut();
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
        answer.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    }
    Some(reply)
}

/// Lets pages of allowed origins read the answer. Where no origin is set, an
/// answer of the API to `GET` is open to all, as Pushgateway's is.
pub fn add_headers(
    origins: &[String],
    api: bool,
    method: &Method,
    headers: &HeaderMap,
    reply: &mut Reply,
) {
    let read = api && matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let marked = reply.headers_mut();
    if read {
        const NO_CACHE: HeaderValue =
            HeaderValue::from_static("no-cache, no-store, must-revalidate");
        marked.insert(CACHE_CONTROL, NO_CACHE);
    }
    if read && origins.is_empty() {
        const DATE: HeaderValue = HeaderValue::from_static("Date");
        const READ_METHODS: HeaderValue = HeaderValue::from_static("GET, OPTIONS");
        const READ_HEADERS: HeaderValue =
            HeaderValue::from_static("Accept, Authorization, Content-Type, Origin");
        marked.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
        marked.insert(ACCESS_CONTROL_ALLOW_METHODS, READ_METHODS);
        marked.insert(ACCESS_CONTROL_ALLOW_HEADERS, READ_HEADERS);
        marked.insert(ACCESS_CONTROL_EXPOSE_HEADERS, DATE);
        return;
    }
    if origins.is_empty() {
        return;
    }
    // Who keeps the answer must keep it for each origin.
    marked.append(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = allowed(origins, headers) {
        marked.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
}
