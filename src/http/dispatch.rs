//! From a request to its answer: whether it is heard, where it leads, whether
//! its method and parameters are taken, and then what answers it. All of it is
//! here, so that no endpoint can forget a part.

use std::time::Instant;

use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};

use super::reply::{self, Reply};
use super::routes::{Ask, Nowhere, Route};
use super::{Server, cors, guard};
use crate::ingest::Fault;
use crate::inputs::aggregate as push_aggregate;
use crate::inputs::push::http as push;
use crate::inputs::push::http::{Call, after, refusal};
use crate::inputs::values::http as create;
use crate::inputs::webhooks::{self, Endpoint};
use crate::outputs::api::{groups, metrics as metrics_api, series};
use crate::outputs::{api, apps, echo, metrics, status};
use crate::peer::Peer;
use crate::reason::Reason;
use crate::telemetry::sender_log::{self, LogEvent};
use crate::telemetry::{PushMethod, clip_to};

/// Answers a request, and counts it by handler and status. Also returns the
/// handler's name.
pub async fn answer(
    server: &Server,
    peer: Peer,
    request: Request<Incoming>,
) -> (&'static str, Reply) {
    let start = Instant::now();
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let asked = Asked {
        server,
        peer,
        head: &head,
        query: head.uri.query().unwrap_or_default(),
    };
    let route = Route::of(path, asked.ask());
    let mut name = match &route {
        Ok(Route::Group(_) | Route::Addition(_)) if head.method == Method::DELETE => "delete",
        Ok(route) => route.endpoints(server.pushes.is_some()).name,
        Err(_) => "unknown",
    };
    let origins = asked.origins();
    let marked = route.as_ref().is_ok_and(Route::is_of_pushes);
    let api = route.as_ref().is_ok_and(Route::is_of_api);
    let mut reply = match guard::check(&server.hosts, origins, &head) {
        Err(fault) => after(asked.refuse(route.as_ref().ok(), &fault), body).await,
        Ok(()) => match asked.preflight(&route) {
            Some(reply) => {
                name = "preflight";
                after(reply, body).await
            }
            None => asked.answer(route, path, body).await,
        },
    };
    if marked {
        cors::mark(origins, api, &head.method, &head.headers, &mut reply);
    }
    let status = reply.status().as_u16();
    let telemetry = &server.telemetry;
    telemetry.count_request(name, status, start.elapsed());
    (name, reply)
}

/// A request beside its body.
struct Asked<'r> {
    server: &'r Server,
    peer: Peer,
    head: &'r Parts,
    query: &'r str,
}

impl<'r> Asked<'r> {
    fn ask(&self) -> Ask {
        let method = &self.head.method;
        let reads = matches!(*method, Method::GET | Method::HEAD);
        match &self.server.pushes {
            None => Ask {
                pushes: false,
                admin: false,
                adds: false,
                reads,
            },
            Some(pushes) => {
                let config = &pushes.intake.config;
                Ask {
                    pushes: true,
                    admin: config.enable_admin_api,
                    // What a page asks before it sends does not tell whether
                    // it is to add.
                    adds: push_aggregate::is_meant(method, self.query, config)
                        || cors::asks(&config.cors_origins, method, &self.head.headers),
                    reads,
                }
            }
        }
    }

    /// Origins whose pages may change something.
    fn origins(&self) -> &'r [String] {
        let pushes = self.server.pushes.as_ref();
        pushes.map_or(&[], |pushes| &pushes.intake.config.cors_origins)
    }

    fn preflight(&self, route: &Result<Route<'_>, Nowhere>) -> Option<Reply> {
        let route = route.as_ref().ok()?;
        // Nobody but a push or a removal asks.
        if !route.is_of_pushes() && !matches!(route, Route::App(_)) {
            return None;
        }
        cors::preflight(self.origins(), &self.head.method, &self.head.headers)
    }

    /// Answers what is heard.
    async fn answer(&self, route: Result<Route<'_>, Nowhere>, path: &str, body: Incoming) -> Reply {
        let server = self.server;
        let route = match route {
            Ok(route) => route,
            Err(nowhere) => return after(self.lead_on(nowhere, path), body).await,
        };
        let method = &self.head.method;
        let endpoints = route.endpoints(server.pushes.is_some());
        let Some(parameters) = endpoints.parameters(method) else {
            let reply = match *method == Method::OPTIONS && endpoints.answers_options() {
                true => reply::empty(StatusCode::OK),
                false => reply::method_not_allowed(
                    method,
                    &endpoints.allowed(),
                    self.instead_of(&route).as_deref(),
                ),
            };
            return after(reply, body).await;
        };
        if let Err(problem) = parameters.check(self.query) {
            let fault = Fault::new(Reason::BadParameter, &problem);
            return after(self.refuse(Some(&route), &fault), body).await;
        }
        match &server.pushes {
            Some(pushes) => {
                let call = Call {
                    server,
                    pushes,
                    peer: self.peer,
                    path,
                    method,
                    headers: &self.head.headers,
                    query: self.query,
                };
                take(&call, self.head, route, body).await
            }
            None => {
                let reply = read(server, &self.head.headers, self.query, route).await;
                after(reply, body).await
            }
        }
    }

    /// The answer where a path leads nowhere.
    fn lead_on(&self, nowhere: Nowhere, path: &str) -> Reply {
        match nowhere {
            Nowhere::NotUtf8 => {
                let problem = "the path is not UTF-8 once it is decoded\n";
                reply::text(StatusCode::BAD_REQUEST, problem)
            }
            Nowhere::NoGroup => reply::not_found(push::WHERE_TO, None),
            Nowhere::WherePushesAre => {
                let pushes = self.where_pushes_are().unwrap_or_default();
                reply::not_found(path, Some(&pushes))
            }
            Nowhere::Unknown => reply::not_found(path, None),
        }
    }

    /// What to do instead of a request whose method the route does not have.
    fn instead_of(&self, route: &Route<'_>) -> Option<String> {
        let pushes = matches!(self.head.method, Method::POST | Method::PUT);
        self.where_pushes_are().or_else(|| {
            (pushes && matches!(route, Route::Metrics)).then(|| {
                "a push names its group, as in /metrics/job/<job>, or adds up with ?mode=aggregate"
                    .to_owned()
            })
        })
    }

    /// What to tell who pushes, where pushes are not taken here.
    fn where_pushes_are(&self) -> Option<String> {
        let server = self.server;
        server.pushes.is_none().then(|| match &server.pushed_to {
            Some(address) => format!("pushes are taken at {address} (push.listen)"),
            None => "pushes are not taken (push.listen = \"\")".to_owned(),
        })
    }

    /// Tells the sender, the log and the counters of a request with which
    /// nothing is done.
    fn refuse(&self, route: Option<&Route<'_>>, fault: &Fault) -> Reply {
        let telemetry = &self.server.telemetry;
        let reason = fault.reason;
        if let Some(method) = route.and_then(|route| counted(route, &self.head.method)) {
            telemetry.pushes.count(method, Err(reason), 0);
        }
        if let Some(Route::Webhooks(Endpoint::Take(kind, _))) = route {
            telemetry.webhooks.count_rejected(kind.as_str(), reason);
        }
        let method = &self.head.method;
        let path = clip_to(push::LONGEST_PATH, self.head.uri.path(), "...");
        let who = format_args!("{method} {path} from {}", self.peer);
        sender_log::rejected(LogEvent::RequestRejected, who, reason, &fault.message);
        match route {
            Some(Route::ApiValidate(_)) if reason == Reason::BadParameter => api::invalid(fault),
            Some(route) if route.is_of_api() => {
                let status = refusal(fault).status();
                let kind = match status {
                    StatusCode::FORBIDDEN => "forbidden",
                    _ => "bad_data",
                };
                api::wrong(status, kind, &fault.message)
            }
            _ => refusal(fault),
        }
    }
}

/// What a request is counted as among those that are taken or refused.
fn counted(route: &Route<'_>, method: &Method) -> Option<PushMethod> {
    Some(match (route, method) {
        (Route::Group(_), &Method::PUT) => PushMethod::Put,
        (Route::Group(_), &Method::POST) => PushMethod::Post,
        (Route::Group(_) | Route::Addition(_), &Method::DELETE) => PushMethod::Delete,
        (Route::Addition(_), _) => PushMethod::Aggregate,
        (Route::Values(verb), &Method::POST) => verb.counted(),
        (Route::ApiBatch, &Method::POST) => PushMethod::Batch,
        (Route::ApiValidate(_), &Method::POST | &Method::PUT) => PushMethod::Validate,
        (Route::ApiGroups, &Method::DELETE) => PushMethod::DeleteGroups,
        (Route::ApiSeries, &Method::DELETE) => PushMethod::DeleteSeries,
        (Route::ApiWipe, &Method::PUT) => PushMethod::Wipe,
        (Route::App(_), &Method::DELETE) => PushMethod::DeleteApp,
        (Route::Quit, &Method::PUT | &Method::POST) => PushMethod::Quit,
        (Route::Echo, _) => PushMethod::Echo,
        _ => return None,
    })
}

/// Answers where pushes are taken.
async fn take(call: &Call<'_>, head: &Parts, route: Route<'_>, body: Incoming) -> Reply {
    let deletes = *call.method == Method::DELETE;
    let reply = match route {
        Route::Group(path) => return call.group(path, body).await,
        Route::Addition(path) => return push_aggregate::answer(call, path, body).await,
        Route::Values(verb) => return create::answer(call, verb, body).await,
        Route::ApiBatch => return api::batch(call, body).await,
        Route::ApiValidate(labels) => return api::validate(call, labels, body).await,
        Route::Webhooks(Endpoint::Take(kind, path)) => {
            return webhooks::take(call, kind, path, body).await;
        }
        Route::Echo => return echo::answer(call, &echo::start_line(head), body).await,
        Route::Webhooks(Endpoint::List) => webhooks::list(call).await,
        Route::ApiMetrics => metrics_api::list(call.server).await,
        Route::ApiStatus => api::status(call),
        Route::ApiGroups if deletes => {
            counting(call, PushMethod::DeleteGroups, groups::remove(call).await)
        }
        Route::ApiGroups => groups::list(call).await,
        Route::ApiSeries => counting(call, PushMethod::DeleteSeries, series::remove(call).await),
        Route::ApiWipe => counting(call, PushMethod::Wipe, groups::wipe(call).await),
        Route::App(name) if deletes => apps::remove(call, &name),
        Route::Quit => call.quit(),
        Route::Time => echo::time(),
        route => read(call.server, call.headers, call.query, route).await,
    };
    after(reply, body).await
}

/// Counts a request that changes something by how it was answered.
fn counting(call: &Call<'_>, method: PushMethod, reply: Reply) -> Reply {
    let result = match reply.status() {
        status if status.is_success() => Ok(()),
        // Nothing was there to be removed, which is no fault.
        StatusCode::NOT_FOUND => Ok(()),
        StatusCode::BAD_REQUEST => Err(Reason::BadParameter),
        // Its regular expressions took too long.
        StatusCode::SERVICE_UNAVAILABLE => Err(Reason::Timeout),
        _ => Err(Reason::Closed),
    };
    call.server.telemetry.pushes.count(method, result, 0);
    reply
}

/// Answers what every listener knows.
async fn read(server: &Server, headers: &HeaderMap, query: &str, route: Route<'_>) -> Reply {
    match route {
        Route::Index => status::index(),
        Route::Metrics => metrics::all(server, headers, query).await,
        Route::Apps => apps::list(server, headers, query).await,
        Route::App(name) => apps::detail(server, &name).await,
        Route::AppText(name) => apps::text(server, headers, &name).await,
        Route::Healthy => status::healthy(),
        Route::Ready => status::ready(server),
        Route::Health => status::health(server),
        Route::Alive(_) => status::alive(server),
        Route::Ping => status::ping(),
        // Paths lead to all others only where pushes are taken.
        _ => reply::empty(StatusCode::NOT_FOUND),
    }
}
