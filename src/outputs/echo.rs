//! `/echo` returns the request, for debugging of senders; `/time` returns the time.
//! Secrets are redacted, because clients log replies.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::http::request::Parts;
use serde_json::Value;

use crate::clock::Now;
use crate::http::reply::{self, Reply};
use crate::http::request::Request;
use crate::http::router::{ANY_METHOD, ANY_PARAMETER, Pages, Route};
use crate::redact::{is_secret_name, redact_json, redact_text};
use crate::telemetry::{PushMethod, dates, is_hidden};

/// The largest body that is shown, in bytes. A larger one is not shown in part, because
/// secrets in a part are not recognized reliably.
const MAX_SHOWN: usize = 64 << 10;

/// The outputs `/echo` and `/time`, compatible with pingpong.
#[derive(Debug)]
pub struct Echo;

impl Echo {
    /// The routes of the output.
    pub fn routes() -> Vec<Route> {
        let state = Arc::new(Echo);
        let any = |route: Route| {
            let route = route.on_push_listener().methods(ANY_METHOD);
            route.without_options().pages(Pages::Listed)
        };
        vec![
            any(Route::read(
                "time",
                "/time",
                ANY_PARAMETER,
                &state,
                |_, _| Box::pin(async { reply::text(StatusCode::OK, time_line()) }),
            )),
            any(Route::read(
                "echo",
                "/echo",
                ANY_PARAMETER,
                &state,
                |_, request| Box::pin(echo(request)),
            ))
            .counted(PushMethod::Echo),
        ]
    }
}

/// The line of text that `/time` returns.
fn time_line() -> String {
    let now = dates::written_out(Now::read().wall);
    format!("The time is: {now}\n")
}

/// The first line of a request, without its secrets.
fn start_line(head: &Parts) -> String {
    let uri = head.uri.to_string();
    format!("{} {} {:?}", head.method, redact_text(&uri), head.version)
}

/// The reply to `/echo`: the request, and the time.
async fn echo(request: &mut Request) -> Reply {
    let body = match request.read_body().await {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    request.count_success(body.len());
    let content_type = request.content_type();
    let mut dump = dump(&start_line(&request.head), request.headers());
    dump.push_str(&shown(&body.bytes, &content_type));
    if !dump.ends_with('\n') {
        dump.push('\n');
    }
    dump.push_str(&time_line());
    let mut reply = reply::text(StatusCode::OK, dump);
    // Browsers must not interpret the text as HTML.
    let nosniff = HeaderValue::from_static("nosniff");
    reply.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, nosniff);
    reply
}

/// The start line, the headers and an empty line.
fn dump(start: &str, headers: &HeaderMap) -> String {
    let mut out = format!("{start}\n");
    for (name, value) in headers {
        let _ = write!(out, "{name}: ");
        if is_secret_name(name.as_str()) {
            out.push_str("***");
        } else {
            escape(&mut out, &redact_text(&lossless(value.as_bytes())));
        }
        out.push('\n');
    }
    out.push('\n');
    out
}

/// A body for people, without its secrets.
fn shown(body: &Bytes, content_type: &str) -> String {
    let size = body.len();
    if size > MAX_SHOWN {
        return format!("(a body of {size} bytes; up to {MAX_SHOWN} are shown)\n");
    }
    // Secrets in parts are not recognized: a part has its name in a header, not beside its value.
    if content_type
        .trim_start()
        .to_ascii_lowercase()
        .starts_with("multipart/")
    {
        return format!("(a body of {size} bytes in several parts, which are not shown)\n");
    }
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        let mut redacted = value.clone();
        redact_json(&mut redacted);
        // A body with secrets is shown as redacted JSON, any other one unchanged.
        if redacted != value {
            return format!("{redacted}\n");
        }
    }
    let mut out = String::with_capacity(size + 1);
    escape(&mut out, &redact_text(&lossless(body)));
    out
}

/// The bytes as text. Bytes that are not UTF-8 become `\xff`.
fn lossless(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Writes text, with control characters escaped except newlines and tabs. A terminal would
/// interpret them.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            c if is_hidden(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: impl AsRef<[u8]>) -> String {
        shown(&Bytes::copy_from_slice(text.as_ref()), "text/plain")
    }

    #[test]
    fn bodies_are_shown_without_secrets() {
        assert_eq!(body("a=1&b=é\n"), "a=1&b=é\n");
        assert_eq!(body("user=x&password=y"), "user=x&password=***");
        assert_eq!(body(b"\x1b[1m\r\n\xff\0"), "\\u{1b}[1m\\r\n\\xff\\u{0}");
        assert_eq!(
            body("{ \"b\": 1, \"a\": \"x\" }"),
            "{ \"b\": 1, \"a\": \"x\" }"
        );
        assert_eq!(
            body("{ \"pass\\u0077ord\": {\"x\": \"y\"}, \"a\": 1 }"),
            "{\"a\":1,\"password\":{\"x\":\"***\"}}\n"
        );
        assert!(body("x".repeat(MAX_SHOWN)).len() >= MAX_SHOWN);
        assert_eq!(
            body("x".repeat(MAX_SHOWN + 1)),
            "(a body of 65537 bytes; up to 65536 are shown)\n"
        );
        let parts = Bytes::from_static(b"name=\"password\"\r\n\r\nhunter2");
        assert!(!shown(&parts, "Multipart/form-data; boundary=x").contains("hunter2"));
    }

    #[test]
    fn headers_are_shown_without_secrets() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Basic YTpi"),
            ("x-api-key", "k"),
            ("referer", "http://a:b@h/?token=t"),
            ("accept", "*/*"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        assert_eq!(
            dump("GET /echo HTTP/1.1", &headers),
            "GET /echo HTTP/1.1\nauthorization: ***\nx-api-key: ***\n\
             referer: http://***@h/?token=***\naccept: */*\n\n"
        );
    }
}
