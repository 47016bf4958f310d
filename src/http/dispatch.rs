//! Which path is answered by what.

use std::borrow::Cow;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use percent_encoding::percent_decode_str;

use super::reply::{self, Reply};
use super::{Server, apps, metrics, push, status};
use crate::store::Peer;

/// Answers a request, and counts it by handler and status.
pub async fn answer(server: &Server, peer: Peer, request: Request<Incoming>) -> Reply {
    let answered = match &server.pushes {
        Some(pushes) => push::answer(server, pushes, peer, request).await,
        None => Err(request),
    };
    let (handler, reply) = match answered {
        Ok(answered) => answered,
        Err(request) => route(server, &request).await,
    };
    server
        .telemetry
        .count_request(handler, reply.status().as_u16());
    reply
}

const READ_METHODS: &str = "GET, HEAD";

/// What the first part of a path is that only the listener for pushes knows.
const OF_PUSHES: [&str; 10] = [
    "metrics",
    "api",
    "create",
    "update",
    "time",
    "echo",
    "webhook",
    "webhooks",
    "slack",
    "pagerduty",
];

async fn route(server: &Server, request: &Request<Incoming>) -> (&'static str, Reply) {
    let path = request.uri().path();
    let Some(segments) = segments(path) else {
        let problem = "the path is not UTF-8 once it is decoded\n";
        return ("unknown", reply::text(StatusCode::BAD_REQUEST, problem));
    };
    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    let handler = match segments.as_slice() {
        [] => "index",
        ["metrics"] => "metrics",
        ["apps"] => "apps",
        ["apps", _] => "app",
        ["apps", _, "metrics"] => "app_metrics",
        ["-", "healthy"] => "healthy",
        ["-", "ready"] => "ready",
        ["health"] => "health",
        ["healthy"] if server.pushes.is_some() => "healthy",
        ["ready"] if server.pushes.is_some() => "ready",
        ["ping"] => "ping",
        [first, ..] if server.pushes.is_none() && OF_PUSHES.contains(first) => {
            let problem = format!("{path}: that is where pushes are taken (push.listen)");
            return ("unknown", reply::not_found(&problem));
        }
        _ => return ("unknown", reply::not_found(path)),
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return (
            handler,
            reply::method_not_allowed(request.method(), READ_METHODS),
        );
    }
    let reply = match segments.as_slice() {
        ["metrics"] => metrics::all(server, request).await,
        ["apps"] => apps::list(server, request).await,
        ["apps", name] => apps::detail(server, name).await,
        ["apps", name, _] => apps::text(server, request, name).await,
        ["-", "healthy"] => status::healthy(),
        ["-", "ready"] => status::ready(server),
        ["health"] => status::health(server),
        ["healthy" | "ready"] => status::alive(server),
        ["ping"] => status::ping(),
        _ => status::index(),
    };
    (handler, reply)
}

/// The parts of a path, each decoded after the split, so that `%2F` is part
/// of a name. One slash may follow the last. `None` where a part is not UTF-8.
fn segments(path: &str) -> Option<Vec<Cow<'_, str>>> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Some(Vec::new());
    }
    path.split('/')
        .map(|segment| percent_decode_str(segment).decode_utf8().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_before_they_are_decoded() {
        let cases: [(&str, Option<&[&str]>); 8] = [
            ("/", Some(&[])),
            ("", Some(&[])),
            ("/metrics", Some(&["metrics"])),
            ("/metrics/", Some(&["metrics"])),
            ("/metrics//", Some(&["metrics", ""])),
            (
                "/apps/a%2Fb%20c/metrics",
                Some(&["apps", "a/b c", "metrics"]),
            ),
            ("/apps/%zz", Some(&["apps", "%zz"])),
            ("/apps/%ff", None),
        ];
        for (path, expected) in cases {
            let found = segments(path);
            let found: Option<Vec<&str>> = found
                .as_ref()
                .map(|parts| parts.iter().map(AsRef::as_ref).collect());
            assert_eq!(found.as_deref(), expected, "{path}");
        }
    }
}
