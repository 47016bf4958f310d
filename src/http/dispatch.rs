//! Takes each request through the same steps to its reply: host and origin, route,
//! preflight, method, role, rate, parameters, handler, discarding of an unread body, CORS
//! headers, counting. So no handler can skip a step.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Method, StatusCode};

use super::reply::{self, Reply};
use super::request::Request;
use super::router::{Matched, NoRoute, Pages, Resource, Route, check_parameters};
use super::{Server, cors, guard};
use crate::clock;
use crate::fairness::Excess;
use crate::ingest::Rejection;
use crate::net::Progress;
use crate::peer::Sender;
use crate::reason::Reason;
use crate::security::{Caller, Denial, Grant, Role};
use crate::storage::NotKept;

/// The route name for counting requests that match no route.
const UNKNOWN: &str = "unknown";

/// The route name for counting CORS preflight requests.
const PREFLIGHT: &str = "preflight";

/// Answers a request and counts it by route and status. Returns the reply, and whether
/// the request counts as progress of its connection.
pub async fn answer(
    server: &Arc<Server>,
    mut caller: Caller,
    request: hyper::Request<Incoming>,
    progress: &Progress,
) -> (bool, Reply) {
    let start = clock::tick();
    let (mut head, body) = request.into_parts();
    if server.front.has_trusted_proxies() {
        caller.peer = server.front.client(caller.peer, &head.headers);
        // A reverse proxy is not limited to the share of one client.
        progress.set_client(Sender::from(caller.peer));
    }
    let origins = server.cors_origins();
    let preflight = cors::is_preflight(origins, &head.method, &head.headers);
    let found = match server.front.enter(&mut head) {
        true => server.table.find(&head, preflight),
        false => Err(NoRoute::OutsidePrefix),
    };
    let mut request = Request::new(Arc::clone(server), caller.peer, head, body);
    let (name, counts, mut reply) = handle(server, &caller, &found, &mut request).await;
    reply = request.finish(reply).await;
    let head = &request.head;
    let pages = match &found {
        Ok(Matched { resource, .. }) => resource.pages(&head.method),
        // Pages of listed origins may learn that a path does not exist.
        Err(_) => Pages::Listed,
    };
    cors::add_headers(origins, pages, &head.method, &head.headers, &mut reply);
    server.access.add_headers(|name, value| {
        reply.headers_mut().insert(name, value);
    });
    let status = reply.status();
    server
        .telemetry
        .count_request(name, status.as_u16(), start.elapsed());
    (counts && status.is_success(), reply)
}

/// Checks a request and calls its handler. Returns the route name to count it under,
/// whether it counts as progress if it succeeds, and the reply.
async fn handle(
    server: &Server,
    caller: &Caller,
    found: &Result<Matched<'_>, NoRoute>,
    request: &mut Request,
) -> (&'static str, bool, Reply) {
    let method = request.method().clone();
    let resource = found.as_ref().ok().map(|matched| matched.resource);
    let route = resource.and_then(|resource| resource.route(&method));
    // Without a route, the resource still gives a name and an error format.
    let nearest = route.or(resource.map(Resource::first));
    let name = nearest.map_or(UNKNOWN, |route| route.name);
    request.counts = route.and_then(|route| route.counts);
    let (hosts, origins) = (&server.hosts, &server.write_origins);
    let writes = route.is_some_and(|route| route.role != Role::Read);
    if let Err(rejection) = guard::check(hosts, origins, &request.head, writes) {
        return (name, false, reject(nearest, request, &rejection));
    }
    let matched = match found {
        Ok(matched) => matched,
        Err(no_route) => return (name, false, not_found(server, *no_route, request)),
    };
    if matched.resource.answers_preflight()
        && let Some(reply) = cors::preflight(server.cors_origins(), &method, request.headers())
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
    match authorize(server, caller, route, request).await {
        Ok(grant) => {
            request.scope = grant.scope;
            request.user = grant.user;
        }
        Err(denial) => return (name, false, deny(route, request, &denial)),
    }
    if let Err(excess) = charge(server, route, request) {
        return (name, false, over_limit(route, request, &excess));
    }
    if let Err(problem) = check_parameters(route.parameters, request.query()) {
        let rejection = Rejection::new(Reason::BadParameter, &problem);
        let reply = reject(Some(route), request, &rejection);
        return (name, false, reply);
    }
    request.captured.clone_from(&matched.captured);
    let reply = match route.is_stored {
        true => answer_stored(server, route, request).await,
        false => route.answer(request).await,
    };
    (name, route.progress, reply)
}

/// Calls a handler that writes, and waits until the change is stored.
async fn answer_stored(server: &Server, route: &Route, request: &mut Request) -> Reply {
    let not_stored = |problem: NotKept| Rejection::new(Reason::NotStored, &problem.to_string());
    if let Err(problem) = server.journal.admit() {
        return reject(Some(route), request, &not_stored(problem));
    }
    let reply = route.answer(request).await;
    if !reply.status().is_success() {
        return reply;
    }
    match server.journal.kept().await {
        Ok(()) => reply,
        Err(problem) => reject(Some(route), request, &not_stored(problem)),
    }
}

/// Checks that the client has the role of the route. The grant says what it may write.
async fn authorize(
    server: &Server,
    caller: &Caller,
    route: &Route,
    request: &Request,
) -> Result<Grant, Denial> {
    let authorization = request.headers().get(AUTHORIZATION);
    let access = &server.access;
    access.count_request(clock::tick())?;
    let grant = access.authorize(route.role, caller, authorization).await?;
    match grant.scope.is_bound() && route.role != Role::Read && !route.checks_scope {
        true => Err(Denial::out_of_bounds()),
        false => Ok(grant),
    }
}

/// Charges a request that writes to its sender: one message, and the body's length if the
/// head announces it. The rest is charged when the body is read.
fn charge(server: &Server, route: &Route, request: &mut Request) -> Result<(), Excess> {
    if route.role == Role::Read || !server.fairness.is_active() {
        return Ok(());
    }
    let account = server
        .fairness
        .account(request.peer, request.user.as_deref());
    let now = clock::tick();
    account.check(now)?;
    let announced = request.announced();
    account.charge(1, announced, now);
    request.charge_body(account, announced);
    Ok(())
}

/// Logs, counts and answers a request whose sender exceeds its rate.
fn over_limit(route: &Route, request: &Request, excess: &Excess) -> Reply {
    request.server.fairness.count(excess);
    let rejection = Rejection::new(Reason::RateLimited, &excess.to_string());
    let mut reply = reject(Some(route), request, &rejection);
    let seconds = HeaderValue::from(excess.seconds());
    reply.headers_mut().insert(RETRY_AFTER, seconds);
    reply
}

/// Logs, counts and answers a request whose client lacks the role of the route.
fn deny(route: &Route, request: &Request, denial: &Denial) -> Reply {
    const PASSWORD: HeaderValue =
        HeaderValue::from_static("Basic realm=\"exporter-proxy\", charset=\"UTF-8\"");
    const TOKEN: HeaderValue = HeaderValue::from_static("Bearer realm=\"exporter-proxy\"");
    let rejection = Rejection::new(denial.reason, &denial.message);
    let mut reply = reject(Some(route), request, &rejection);
    let asked = [(denial.ask_password, PASSWORD), (denial.ask_token, TOKEN)];
    for (_, scheme) in asked.into_iter().filter(|(asked, _)| *asked) {
        reply.headers_mut().append(WWW_AUTHENTICATE, scheme);
    }
    if let Some(wait) = denial.wait {
        let seconds = HeaderValue::from(clock::whole_seconds(wait));
        reply.headers_mut().insert(RETRY_AFTER, seconds);
    }
    reply
}

/// Logs, counts and answers a request that is rejected before its handler runs. `route`
/// is its route, or the first one of its path if none has the method.
fn reject(route: Option<&Route>, request: &Request, rejection: &Rejection) -> Reply {
    request.count(Err(rejection.reason), 0);
    if let Some(on_rejection) = route.and_then(|route| route.on_rejection.as_ref()) {
        on_rejection(rejection.reason);
    }
    request.log_rejection(rejection);
    route.map_or_else(
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
        NoRoute::PushListenerOnly { is_read, elsewhere } => {
            let advice = server.push_location.as_ref().map(|location| {
                let there = match is_read {
                    true => location.for_reads(),
                    false => location.for_pushes(),
                };
                match elsewhere {
                    Some(here) => format!("use {here} here; {there}"),
                    None => there,
                }
            });
            reply::not_found(path, advice.as_deref())
        }
        NoRoute::OutsidePrefix if path == "/" => {
            reply::redirect(&format!("{}/", server.front.link_prefix()))
        }
        NoRoute::OutsidePrefix => {
            let prefix = &server.front.route_prefix;
            let advice = format!("paths begin with {prefix} (web.route_prefix)");
            reply::not_found(path, Some(&advice))
        }
        NoRoute::Unknown => reply::not_found(path, None),
    }
}

/// Advice for a request whose method the resource does not have.
fn advice(server: &Server, resource: &Resource, method: &Method) -> Option<String> {
    let pushes = matches!(*method, Method::POST | Method::PUT | Method::DELETE);
    match &server.push_location {
        Some(location) if resource.reads_elsewhere() => Some(location.for_reads()),
        Some(location) => pushes.then(|| location.for_pushes()),
        None => {
            let advice = resource.first().advice;
            let advice = advice.filter(|_| pushes && *method != Method::DELETE);
            advice.map(str::to_owned)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;
    use std::time::Duration;

    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::clock::Now;
    use crate::fairness::Fairness;
    use crate::http::config::Requests;
    use crate::http::front::{Front, TrustedProxy};
    use crate::http::router::Table;
    use crate::http::{Hosts, PushLocation, WorkPools};
    use crate::net::{MemoryBudget, Permit, Permits};
    use crate::peer::Peer;
    use crate::security::{Access, ListenerKind, Web};
    use crate::storage::Journal;
    use crate::telemetry::{ConfiguredLimits, Telemetry};

    const LISTED: &str = "https://app.example";

    /// A listener with the routes `/read`, which reads, and `/write`, which writes. The
    /// handlers ignore bodies.
    fn server(accepts_pushes: bool) -> Arc<Server> {
        let state = Arc::new(());
        let routes = [
            Route::read("read", "/read", "a", &state, |(), _| {
                Box::pin(async { reply::text(StatusCode::OK, "handled\n") })
            }),
            Route::write("write", "PUT", "/write", "a", &state, |(), _| {
                Box::pin(async { reply::text(StatusCode::OK, "handled\n") })
            }),
        ];
        Arc::new(Server {
            table: Table::new(&routes, accepts_pushes),
            telemetry: Arc::new(Telemetry::new(Now::read(), ConfiguredLimits::default())),
            header_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            requests: Requests {
                max_body: 1 << 20,
                max_buffered: 1 << 20,
                body_timeout: Duration::from_secs(30),
                cors_origins: vec![LISTED.to_owned()],
                allowed_hosts: Vec::new(),
            },
            accepts_pushes,
            access: Arc::new(Access::new(&Web::default(), &Arc::default()).unwrap()),
            fairness: Arc::new(Fairness::unlimited()),
            budget: Arc::new(MemoryBudget::new(1 << 20, Arc::default())),
            pools: Arc::new(WorkPools::new(&Arc::default())),
            source: Arc::from("test"),
            is_secure: false,
            push_location: (!accepts_pushes).then(|| PushLocation::At("there".to_owned())),
            front: Front::default(),
            hosts: Hosts::Loopback(Vec::new()),
            write_origins: vec![LISTED.to_owned()],
            journal: Journal::off(),
            stop: CancellationToken::new(),
        })
    }

    /// A permit for a connection.
    fn permit() -> Permit {
        let permits = Permits::new(1, Arc::default());
        let acquired = permits.try_acquire().expect("a free permit");
        permits.assign(Sender::Unknown, acquired)
    }

    /// The reply to an HTTP/1.1 request, and whether it counts as progress.
    async fn exchange(server: &Arc<Server>, request: &str) -> (String, bool) {
        exchange_on(server, Peer::Unknown, &permit(), request).await
    }

    async fn exchange_on(
        server: &Arc<Server>,
        peer: Peer,
        permit: &Permit,
        request: &str,
    ) -> (String, bool) {
        let (mut client, stream) = tokio::io::duplex(64 << 10);
        let progress = Mutex::new(false);
        let service = service_fn(|request| async {
            let caller = Caller {
                listener: ListenerKind::Http,
                peer,
                gid: None,
                identity: None,
            };
            let (is_progress, reply) = answer(server, caller, request, permit.progress()).await;
            *progress.lock().unwrap() = is_progress;
            Ok::<_, Infallible>(reply)
        });
        client.write_all(request.as_bytes()).await.unwrap();
        let serve = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let read = async {
            let mut text = String::new();
            client.read_to_string(&mut text).await.unwrap();
            text
        };
        let (served, text) = tokio::join!(serve, read);
        served.unwrap();
        let progress = *progress.lock().unwrap();
        (text, progress)
    }

    /// The status of a reply to a request with `headers`, and whether it counts as progress.
    async fn status(server: &Arc<Server>, line: &str, headers: &str) -> (u16, bool) {
        let request = format!("{line} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        let (text, progress) = exchange(server, &request).await;
        (text["HTTP/1.1 ".len()..][..3].parse().unwrap(), progress)
    }

    #[tokio::test]
    async fn a_connection_counts_for_the_client_that_a_reverse_proxy_names() {
        let mut server = server(true);
        let reverse_proxy = Peer::Unix { pid: None, uid: 7 };
        let holder_after = async |server: &Arc<Server>, clients: &[&str]| {
            let permit = permit();
            for client in clients {
                let head = "GET /read HTTP/1.1\r\nHost: localhost\r\nConnection: close";
                let request = format!("{head}\r\nX-Forwarded-For: {client}\r\n\r\n");
                exchange_on(server, reverse_proxy, &permit, &request).await;
            }
            permit.progress().holder()
        };
        let address = |text: &str| Sender::Address(text.parse().unwrap());
        // Only a reverse proxy is believed.
        let holder = holder_after(&server, &["192.0.2.1"]).await;
        assert_eq!(holder, Sender::Unknown);
        Arc::get_mut(&mut server).unwrap().front.trusted_proxies = vec![TrustedProxy::Unix];
        let holder = holder_after(&server, &["192.0.2.1"]).await;
        assert_eq!(holder, address("192.0.2.1"));
        let holder = holder_after(&server, &["192.0.2.1", "192.0.2.2"]).await;
        assert_eq!(holder, address("192.0.2.2"));
    }

    #[tokio::test]
    async fn checks_come_in_order_and_before_the_handler() {
        const LOCAL: &str = "Host: localhost\r\n";
        const EVIL: &str = "Host: evil.example\r\n";
        const PAGE: &str = "Host: localhost\r\nOrigin: https://evil.example\r\n";
        let server = server(true);
        for (line, headers, expected) in [
            // Host and origin are checked before the route.
            ("GET /other", EVIL, 403),
            ("PUT /other", PAGE, 403),
            ("PUT /write", PAGE, 403),
            // The route is checked before the method and the parameters.
            ("PUT /other?b", LOCAL, 404),
            ("GET /%ff", LOCAL, 400),
            // The method is checked before the parameters.
            ("PUT /read?b", LOCAL, 405),
            ("OPTIONS /read", LOCAL, 405),
            ("OPTIONS /write", LOCAL, 200),
            // The parameters are checked before the handler runs.
            ("GET /read?b", LOCAL, 400),
            ("GET /read?a", LOCAL, 200),
        ] {
            let found = status(&server, line, headers).await;
            assert_eq!(found, (expected, false), "{line} {headers}");
        }
        assert_eq!(status(&server, "PUT /write?b", LOCAL).await, (400, false));
        assert_eq!(status(&server, "PUT /write", LOCAL).await, (200, true));
    }

    #[tokio::test]
    async fn preflight_requests_of_listed_origins_are_allowed() {
        let server = server(true);
        for (origin, expected) in [(LISTED, 204), ("https://evil.example", 403)] {
            let headers = format!(
                "Host: localhost\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: PUT\r\n"
            );
            let found = status(&server, "OPTIONS /write", &headers).await;
            assert_eq!(found, (expected, false), "{origin}");
        }
        let headers = format!("Host: localhost\r\nOrigin: {LISTED}\r\nConnection: close\r\n");
        let (reply, _) = exchange(&server, &format!("PUT /write HTTP/1.1\r\n{headers}\r\n")).await;
        let allowed = format!("access-control-allow-origin: {LISTED}");
        assert!(reply.contains(&allowed), "{reply}");
    }

    #[tokio::test]
    async fn other_listeners_name_the_push_listener() {
        let request = "PUT /write HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let (reply, _) = exchange(&server(false), request).await;
        assert!(reply.starts_with("HTTP/1.1 404"), "{reply}");
        assert!(
            reply.ends_with("not found: /write: pushes are accepted at there (push.listen)\n"),
            "{reply}"
        );
    }

    #[tokio::test]
    async fn unread_bodies_are_discarded_or_close_the_connection() {
        let server = server(true);
        let small = "PUT /write HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody";
        let last = "GET /read HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let (replies, _) = exchange(&server, &format!("{small}{last}")).await;
        assert_eq!(replies.matches("handled").count(), 2, "{replies}");
        let large = "PUT /write HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n";
        let (reply, _) = exchange(&server, large).await;
        assert!(reply.contains("connection: close"), "{reply}");
    }
}
