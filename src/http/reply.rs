//! Answers, made of a status, a type and a body.

use bytes::Bytes;
use hyper::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER};

use hyper::{Response, StatusCode};

use super::body::{ChunkIterator, ReplyBody};
use serde_json::{Value, json};

use crate::ingest::Rejection;
use crate::net::BlockingPool;
use crate::reason::Reason;
use crate::telemetry::{clip, sender_log};

pub type Reply = Response<ReplyBody>;

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer of that type, with its length unless it is made while it is sent.
pub fn reply(status: StatusCode, content_type: HeaderValue, body: ReplyBody) -> Reply {
    let length = body.len().map(HeaderValue::from);
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    if let Some(length) = length {
        reply.headers_mut().insert(CONTENT_LENGTH, length);
    }
    reply
}

/// A list that `maker` makes, and that may be `short`.
pub async fn list(turns: &BlockingPool, short: bool, is_json: bool, maker: ChunkIterator) -> Reply {
    let content_type = if is_json { JSON } else { PLAIN };
    match ReplyBody::streamed(turns, short, maker).await {
        Ok(body) => reply(StatusCode::OK, content_type, body),
        Err(problem) => {
            sender_log::internal_error(format_args!("a list cannot be made: {problem}"));
            let problem = "the list cannot be made; the log says why\n";
            text(StatusCode::INTERNAL_SERVER_ERROR, problem)
        }
    }
}

pub fn text(status: StatusCode, body: impl Into<String>) -> Reply {
    reply(status, PLAIN, ReplyBody::from(Bytes::from(body.into())))
}

/// Tells what is wrong with the value of a parameter.
pub fn bad_value(problem: &str) -> Reply {
    text(StatusCode::BAD_REQUEST, clip(problem) + "\n")
}

pub fn json(value: &Value) -> Reply {
    json_with(StatusCode::OK, value)
}

pub fn json_with(status: StatusCode, value: &Value) -> Reply {
    let mut body = serde_json::to_vec(value).expect("a JSON value can be written");
    body.push(b'\n');
    reply(status, JSON, ReplyBody::from(Bytes::from(body)))
}

/// An answer that is all in its status.
pub fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(ReplyBody::new(Vec::new()));
    *reply.status_mut() = status;
    // No answer of that status has a length.
    if status != StatusCode::NO_CONTENT {
        reply
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(0));
    }
    reply
}

/// What is not here, cut where it is long, and where to go instead.
pub fn not_found(what: &str, instead: Option<&str>) -> Reply {
    let what = clip(what);
    let told = match instead {
        Some(instead) => format!("not found: {what}: {instead}\n"),
        None => format!("not found: {what}\n"),
    };
    text(StatusCode::NOT_FOUND, told)
}

pub fn method_not_allowed(method: &hyper::Method, allowed: &str, instead: Option<&str>) -> Reply {
    let method = clip(method.as_str());
    let mut told = format!("{method} is not allowed here; allowed: {allowed}");
    if let Some(instead) = instead {
        told.push_str("; ");
        told.push_str(instead);
    }
    told.push('\n');
    let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, told);
    let allowed = HeaderValue::from_str(allowed).expect("names of methods are text");
    reply.headers_mut().insert(ALLOW, allowed);
    reply
}

/// The reply to a rejected request: its message as a line of text.
pub fn rejection(rejection: &Rejection) -> Reply {
    let mut reply = text(
        status_of(rejection.reason),
        format!("{}\n", rejection.message),
    );
    if reply.status() == StatusCode::SERVICE_UNAVAILABLE {
        reply
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    reply
}

/// The reply to a rejected request in the form of the API.
pub fn api_rejection(rejection: &Rejection) -> Reply {
    let status = status_of(rejection.reason);
    let kind = match status {
        StatusCode::FORBIDDEN => "forbidden",
        _ => "bad_data",
    };
    api_error(status, kind, &rejection.message)
}

/// An error in the form of the API, as Pushgateway words it.
pub fn api_error(status: StatusCode, kind: &str, message: &str) -> Reply {
    let value = json!({ "status": "error", "errorType": kind, "error": message });
    json_with(status, &value)
}

/// The reply of validation to a body that would be rejected.
pub fn invalid(rejection: &Rejection) -> Reply {
    let value: Value = json!({
        "valid": false,
        "families": 0,
        "series": 0,
        "errors": [{
            "line": rejection.line,
            "column": rejection.column,
            "reason": rejection.message,
        }],
    });
    json_with(StatusCode::BAD_REQUEST, &value)
}

/// The reply, after which the connection is closed.
pub fn closing(mut reply: Reply) -> Reply {
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    reply
}

/// The status of a rejection. Limits on what is held are temporary (503); other
/// errors are the sender's.
fn status_of(reason: Reason) -> StatusCode {
    match reason {
        Reason::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::Timeout => StatusCode::REQUEST_TIMEOUT,
        Reason::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Reason::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        Reason::NotFound => StatusCode::NOT_FOUND,
        Reason::NotAnApp => StatusCode::CONFLICT,
        Reason::ForbiddenOrigin | Reason::ForbiddenHost | Reason::NotAllowed => {
            StatusCode::FORBIDDEN
        }
        Reason::NoBuffer | Reason::TooManyGroups | Reason::TooManySeries | Reason::TooManyBytes => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Reason::Closed => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}
