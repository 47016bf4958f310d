//! The endpoints of pushed groups.

use std::sync::Arc;

use hyper::{Method as HttpMethod, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::replace::{Groups, Method, PushSender};
use crate::clock::Now;
use crate::context::Context;
use crate::http::reply::{self, Reply};
use crate::http::request::Request;
use crate::http::request_body::ReceivedBody;
use crate::http::router::{ANY_METHOD, ANY_PARAMETER, Condition, Errors, Role, Route};
use crate::http::work;
use crate::ingest::bounds::check_group;
use crate::ingest::config::PushMode;
use crate::ingest::group::NO_JOB;
use crate::ingest::{Addition, Body, Group, Rejection};
use crate::inputs::parameters::{self, aggregates};
use crate::reason::Reason;
use crate::store::Store;
use crate::telemetry::PushMethod;
use crate::telemetry::sender_log::{self, About, LogEvent};

/// The input for Pushgateway's protocol.
#[derive(Debug)]
pub struct Push {
    groups: Arc<Groups>,
    store: Arc<Store>,
    /// Cancelled to request shutdown (`/-/quit`).
    quit: CancellationToken,
}

impl Push {
    /// Creates the input.
    pub fn new(config: &Config, context: &Context) -> Arc<Self> {
        Arc::new(Push {
            groups: Arc::new(Groups {
                admission: Arc::clone(&context.admission),
                config: config.clone(),
            }),
            store: Arc::clone(&context.store),
            quit: context.quit.clone(),
        })
    }

    /// The routes of the input.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        const GROUP: &str = "/metrics/{*group}";
        let mode = self.groups.config.mode;
        let group = |name, methods, parameters, counted| {
            Route::write(name, methods, GROUP, parameters, self, |push, request| {
                Box::pin(push.group(request))
            })
            .counted(counted)
            .checks_scope()
            .when("a job", when(mode, names_a_job))
        };
        let no_job = |rest: &str| !names_a_job(rest);
        vec![
            group("push", "PUT", "mode ttl", PushMethod::Put),
            group("push", "POST", "mode ttl", PushMethod::Post),
            group("delete", "DELETE", "mode", PushMethod::Delete),
            Route::write("unknown", ANY_METHOD, GROUP, ANY_PARAMETER, self, |_, _| {
                Box::pin(async { reply::not_found(NO_JOB, None) })
            })
            .progress(false)
            .checks_scope()
            .without_storage()
            .when("no job", when(mode, no_job)),
            Route::write(
                "api_batch",
                "POST",
                "/api/v1/batch",
                "",
                self,
                |push, request| Box::pin(push.batch(request)),
            )
            .errors(Errors::Api)
            .counted(PushMethod::Batch)
            .checks_scope(),
            Route::write(
                "api_validate",
                "POST, PUT",
                "/api/v1/validate[/{*group}]",
                "mode ttl",
                self,
                |push, request| Box::pin(push.validate(request)),
            )
            .errors(Errors::Validation)
            .without_storage()
            .counted(PushMethod::Validate)
            .checks_scope(),
            Route::write("quit", "PUT, POST", "/-/quit", "", self, |push, request| {
                Box::pin(async { push.quit(request) })
            })
            .role(Role::Admin)
            .without_storage()
            .counted(PushMethod::Quit),
        ]
    }

    /// Handles `PUT`, `POST` and `DELETE` of a group.
    async fn group(&self, request: &mut Request) -> Reply {
        let method = match *request.method() {
            HttpMethod::PUT => Method::Put,
            HttpMethod::POST => Method::Post,
            _ => Method::Delete,
        };
        let utf8_names = self.groups.config.enable_utf8_names;
        let group = match Group::from_path(&request.captured, utf8_names) {
            Err(rejection) => return request.reject(&rejection, 0),
            Ok(group) => Arc::new(group),
        };
        if let Err(rejection) = check_group(&request.scope, &group) {
            return request.reject(&rejection, 0);
        }
        let sender = match self.sender(request) {
            Ok(sender) => sender,
            Err(rejection) => return request.reject(&rejection, 0),
        };
        let body = match method {
            Method::Delete => ReceivedBody::empty(),
            Method::Put | Method::Post => match request.read_body().await {
                Ok(body) => body,
                Err(reply) => return reply,
            },
        };
        let bytes = body.len();
        let apply = {
            let (groups, store) = (Arc::clone(&self.groups), Arc::clone(&self.store));
            let group = Arc::clone(&group);
            move |body: Body<'_>| groups.push(&store, (method, &group), body, &sender, Now::read())
        };
        let core = (&self.groups.admission, &*self.store);
        match work::with_labels(request, core, &group, body, apply).await {
            Ok(()) => {
                request.count_success(bytes);
                reply::empty(match method {
                    Method::Put | Method::Post => StatusCode::OK,
                    Method::Delete => StatusCode::ACCEPTED,
                })
            }
            Err(rejection) => request.reject(&rejection, bytes),
        }
    }

    fn sender(&self, request: &Request) -> Result<PushSender, Rejection> {
        // Rejects an unknown mode, although the route is known.
        parameters::mode(request.query(), self.groups.config.mode)?;
        Ok(PushSender {
            origin: request.origin(),
            ttl: parameters::ttl(request)?,
        })
    }

    /// Handles a batch: several groups in one body.
    async fn batch(&self, request: &mut Request) -> Reply {
        let body = match request.read_body().await {
            Ok(body) => body,
            Err(reply) => return reply,
        };
        let bytes = body.len();
        let (groups, store) = (Arc::clone(&self.groups), Arc::clone(&self.store));
        let (origin, scope) = (request.origin(), request.scope.clone());
        let apply = move |body: Body<'_>| {
            let now = Now::read();
            let (write, count) = groups.batch(&store, body.bytes, (&origin, &scope), now)?;
            store.apply(write, now).map_err(Rejection::from)?;
            Ok(count)
        };
        let done = match work::decompress(request, body).await {
            Ok(body) => {
                let place = request.server.pools.for_text(body.len());
                work::on_body(request, &self.store, place, body, apply).await
            }
            Err(rejection) => Err(rejection),
        };
        match done {
            Ok(groups) => {
                request.count_success(bytes);
                reply::json(&json!({ "status": "success", "data": { "groups": groups } }))
            }
            Err(rejection) => request.reject(&rejection, bytes),
        }
    }

    /// Checks a push without applying it. Replies with its size or with the rejection.
    async fn validate(&self, request: &mut Request) -> Reply {
        let (group, sender, addition) = match self.validated(request) {
            Ok(validated) => validated,
            Err(rejection) => {
                request.count(Err(rejection.reason), 0);
                return reply::invalid(&rejection);
            }
        };
        let body = match request.read_body().await {
            Ok(body) => body,
            Err(reply) => return reply,
        };
        let bytes = body.len();
        let group = Arc::new(group);
        let check = {
            let (groups, store) = (Arc::clone(&self.groups), Arc::clone(&self.store));
            let group = Arc::clone(&group);
            move |body: Body<'_>| {
                let now = Now::read();
                match &addition {
                    Some(addition) => {
                        let admission = &groups.admission;
                        admission.validate_addition(&store, &group, body, addition, now)
                    }
                    None => groups.validate(&store, &group, body, &sender, now),
                }
            }
        };
        let core = (&self.groups.admission, &*self.store);
        let checked = work::with_labels(request, core, &group, body, check).await;
        let result = checked.as_ref().map(|_| ()).map_err(|it| it.reason);
        request.count(result, bytes);
        match checked {
            Ok((families, series)) => reply::json(&json!({
                "valid": true,
                "families": families,
                "series": series,
                "errors": [],
            })),
            Err(rejection) => reply::invalid(&rejection),
        }
    }

    /// Returns the group of a push to validate (empty if the path names none), the sender,
    /// and the options of an aggregating push.
    fn validated(
        &self,
        request: &Request,
    ) -> Result<(Group, PushSender, Option<Addition>), Rejection> {
        let config = &self.groups.config;
        let (labels, utf8_names) = (&*request.captured, config.enable_utf8_names);
        let sender = self.sender(request)?;
        if parameters::mode(request.query(), config.mode)? == PushMode::Aggregate {
            let group = Group::from_labels_path(labels, utf8_names)?;
            let addition = parameters::addition(request)?;
            return Ok((group, sender, Some(addition)));
        }
        let group = match labels {
            "" => Group::default(),
            labels => {
                let group = Group::from_path(labels, utf8_names)?;
                check_group(&request.scope, &group)?;
                group
            }
        };
        Ok((group, sender, None))
    }

    /// Handles `/-/quit`: stops the program, if that is enabled.
    fn quit(&self, request: &Request) -> Reply {
        if !self.groups.config.enable_lifecycle {
            let problem = "this is not enabled (push.enable_lifecycle)";
            return request.reject(&Rejection::new(Reason::NotAllowed, problem), 0);
        }
        let peer = request.peer;
        let asked = format_args!("{peer} asks for a stop");
        sender_log::write(LogEvent::Removal, About::peer(peer), asked);
        request.count_success(0);
        self.quit.cancel();
        reply::text(StatusCode::OK, "stopping\n")
    }
}

/// The condition that a request is a replacing push, and that `matches` accepts the rest of
/// its path. `GET /metrics/` is a scrape.
fn when(mode: PushMode, matches: fn(&str) -> bool) -> Condition {
    Arc::new(move |head, rest| {
        let reads = matches!(head.method, HttpMethod::GET | HttpMethod::HEAD);
        let query = head.uri.query().unwrap_or_default();
        let is_scrape = reads && rest.is_empty();
        !is_scrape && !aggregates(&head.method, query, mode) && matches(rest)
    })
}

/// Whether the path of a push begins with `job/`, as required.
fn names_a_job(rest: &str) -> bool {
    let Some((first, _)) = rest.split_once('/') else {
        return false;
    };
    let first = percent_decode_str(first).decode_utf8();
    first.is_ok_and(|first| matches!(&*first, "job" | "job@base64"))
}
