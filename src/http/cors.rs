//! Cross-origin resource sharing (CORS): replies to preflight requests, and the headers
//! that let pages of other origins read replies.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    CACHE_CONTROL, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use hyper::{Method, StatusCode};

use super::reply::{self, Reply};
use super::router::Pages;

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, PUT, POST, DELETE, OPTIONS");
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Accept, Authorization, Content-Encoding, Content-Type, Idempotency-Key",
);

/// The reply headers that pages may read, besides those that are always readable.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("Allow, Date, Idempotent-Replayed, Retry-After");

/// How long a browser caches the reply to a preflight request, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

const ANY: HeaderValue = HeaderValue::from_static("*");

/// Whether `origins` contains an origin, or `*`.
pub fn is_listed(origins: &[String], origin: &HeaderValue) -> bool {
    let origin = origin.as_bytes();
    let matches = |listed: &String| listed == "*" || listed.as_bytes().eq_ignore_ascii_case(origin);
    origins.iter().any(matches)
}

/// The value of `Access-Control-Allow-Origin`: `*`, or the origin of the request if it
/// is listed.
fn allowed(origins: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    if origins.iter().any(|allowed| allowed == "*") {
        return Some(ANY);
    }
    is_listed(origins, origin).then(|| origin.clone())
}

/// Whether a request is a preflight request. Without allowed origins, none is.
pub fn is_preflight(origins: &[String], method: &Method, headers: &HeaderMap) -> bool {
    !origins.is_empty()
        && method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The reply to a preflight request; `None` for any other request.
pub fn preflight(origins: &[String], method: &Method, headers: &HeaderMap) -> Option<Reply> {
    if !is_preflight(origins, method, headers) {
        return None;
    }
    let mut reply = match allowed(origins, headers) {
        Some(_) => reply::empty(StatusCode::NO_CONTENT),
        None => reply::text(
            StatusCode::FORBIDDEN,
            "pages of this origin are not allowed to write; list the origin in push.cors_origins\n",
        ),
    };
    if reply.status() == StatusCode::NO_CONTENT {
        let headers = reply.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    }
    Some(reply)
}

/// Adds the headers that let `pages` read the reply. If no origins are allowed,
/// [`Pages::Any`] lets pages of every origin read it, as in Pushgateway's API.
pub fn add_headers(
    origins: &[String],
    pages: Pages,
    method: &Method,
    headers: &HeaderMap,
    reply: &mut Reply,
) {
    if pages == Pages::None {
        return;
    }
    let read =
        pages == Pages::Any && matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let added = reply.headers_mut();
    if read {
        const NO_CACHE: HeaderValue =
            HeaderValue::from_static("no-cache, no-store, must-revalidate");
        added.insert(CACHE_CONTROL, NO_CACHE);
    }
    if read && origins.is_empty() {
        const DATE: HeaderValue = HeaderValue::from_static("Date");
        const READ_METHODS: HeaderValue = HeaderValue::from_static("GET, OPTIONS");
        const READ_HEADERS: HeaderValue =
            HeaderValue::from_static("Accept, Authorization, Content-Type, Origin");
        added.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
        added.insert(ACCESS_CONTROL_ALLOW_METHODS, READ_METHODS);
        added.insert(ACCESS_CONTROL_ALLOW_HEADERS, READ_HEADERS);
        added.insert(ACCESS_CONTROL_EXPOSE_HEADERS, DATE);
        return;
    }
    if origins.is_empty() {
        return;
    }
    // Caches keep one reply for each origin.
    added.append(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = allowed(origins, headers) {
        added.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        added.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}
