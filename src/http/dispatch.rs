//! Takes a request to its reply, through the same steps for every route: host and
//! origin, route, preflight, method, parameters, handler, discarding of an unread body,
//! CORS headers, counting. So no handler can skip a step.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, StatusCode};

use super::reply::{self, Reply};
use super::request::Request;
use super::router::{Errors, Matched, NoRoute, Resource, Route, check_parameters};
use super::{Server, cors, guard};
use crate::clock;
use crate::ingest::Rejection;
use crate::peer::Peer;
use crate::reason::Reason;

/// The route name under which requests are counted that match no route, ...
const UNKNOWN: &str = "unknown";

/// ... and CORS preflight requests.
const PREFLIGHT: &str = "preflight";

/// Answers a request and counts it by route and status. Returns the reply, and whether
/// the request counts as progress of its connection.
pub async fn answer(
    server: &Arc<Server>,
    peer: Peer,
    request: hyper::Request<Incoming>,
) -> (bool, Reply) {
    let start = clock::tick();
    let (head, body) = request.into_parts();
    let origins = server.origins();
    let preflight = cors::is_preflight(origins, &head.method, &head.headers);
    let found = server.table.find(&head, preflight);
    let mut request = Request::new(Arc::clone(server), peer, head, body);
    let (name, progress, mut reply) = handle(server, &found, &mut request).await;
    reply = request.finish(reply).await;
    if let Ok(Matched { resource, .. }) = &found
        && resource.is_push_only()
    {
        let head = &request.head;
        let is_api = resource.first().errors != Errors::Text;
        cors::add_headers(origins, is_api, &head.method, &head.headers, &mut reply);
    }
    let status = reply.status();
    server
        .telemetry
        .count_request(name, status.as_u16(), start.elapsed());
    (progress && status.is_success(), reply)
}

/// Checks a request and calls its handler. Returns the route name to count it under,
/// whether it counts as progress if it succeeds, and the reply.
async fn handle(
    server: &Server,
    found: &Result<Matched<'_>, NoRoute>,
    request: &mut Request,
) -> (&'static str, bool, Reply) {
    let method = request.method().clone();
    let resource = found.as_ref().ok().map(|matched| matched.resource);
    let route = resource.and_then(|resource| resource.route(&method));
    // Without a route, a resource still has a name and a format of errors.
    let nearest = route.or(resource.map(Resource::first));
    let name = nearest.map_or(UNKNOWN, |route| route.name);
    request.counts = route.and_then(|route| route.counts);
    if let Err(rejection) = guard::check(&server.hosts, server.origins(), &request.head) {
        return (name, false, reject(route, nearest, request, &rejection));
    }
    let matched = match found {
        Ok(matched) => matched,
        Err(no_route) => return (name, false, not_found(server, *no_route, request)),
    };
    if matched.resource.answers_preflight()
        && let Some(reply) = cors::preflight(server.origins(), &method, request.headers())
    {
        return (PREFLIGHT, false, reply);
    }
    let Some(route) = route else {
        let reply = match method == Method::OPTIONS && matched.resource.answers_options() {
            true => reply::empty(StatusCode::OK),
            false => reply::method_not_allowed(
                &method,
                &matched.resource.allowed(),
                advice(server, matched.resource, &method).as_deref(),
            ),
        };
        return (name, false, reply);
    };
    if let Err(problem) = check_parameters(route.parameters, request.query()) {
        let rejection = Rejection::new(Reason::BadParameter, &problem);
        let reply = reject(Some(route), Some(route), request, &rejection);
        return (name, false, reply);
    }
    request.captured.clone_from(&matched.captured);
    (name, route.progress, route.answer(request).await)
}

/// Logs, counts and answers a request that is rejected before its handler runs. `format`
/// is the route whose format of errors applies.
fn reject(
    route: Option<&Route>,
    format: Option<&Route>,
    request: &Request,
    rejection: &Rejection,
) -> Reply {
    request.count(Err(rejection.reason), 0);
    if let Some(on_rejection) = route.and_then(|route| route.on_rejection.as_ref()) {
        on_rejection(rejection.reason);
    }
    request.log_rejection(request.method().as_str(), rejection);
    format.map_or_else(
        || reply::rejection(rejection),
        |route| route.rejection(rejection),
    )
}

/// The reply to a path that no pattern matches.
fn not_found(server: &Server, no_route: NoRoute, request: &Request) -> Reply {
    let path = request.path();
    match no_route {
        NoRoute::NotUtf8 => {
            let problem = "the decoded path is not UTF-8\n";
            reply::text(StatusCode::BAD_REQUEST, problem)
        }
        NoRoute::PushListenerOnly => reply::not_found(path, server.push_location.as_deref()),
        NoRoute::Unknown => reply::not_found(path, None),
    }
}

/// Advice for a request whose method the resource does not have.
fn advice(server: &Server, resource: &Resource, method: &Method) -> Option<String> {
    let pushes = matches!(*method, Method::POST | Method::PUT);
    server.push_location.clone().or_else(|| {
        let advice = resource.first().advice.filter(|_| pushes);
        advice.map(str::to_owned)
    })
}
