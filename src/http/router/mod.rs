//! The route table. A [`Route`] has methods, a path pattern and a handler. The
//! [`Table`] matches each request once; 404, 405 with `Allow`, `OPTIONS`, checks of
//! parameters, and counting all follow from the match.
//!
//! This module contains no endpoint: inputs and outputs define their own routes.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod parameters;
mod pattern;

use std::cell::OnceCell;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use hyper::Method;
use hyper::http::request::Parts;

pub use parameters::check_parameters;
use pattern::{Pattern, segments};

use super::reply::{self, Reply};
use super::request::Request;
use crate::ingest::Rejection;
use crate::reason::Reason;
pub use crate::security::Role;
use crate::telemetry::PushMethod;

/// The future that a handler returns.
pub type HandlerFuture<'r> = Pin<Box<dyn Future<Output = Reply> + Send + 'r>>;

/// A handler: a function of its state and the request.
pub type HandlerFn<S> = for<'r> fn(&'r S, &'r mut Request) -> HandlerFuture<'r>;

/// A condition on a request besides its path, such as a query parameter. The second
/// argument is the text captured by the pattern.
pub type Condition = Arc<dyn Fn(&Parts, &str) -> bool + Send + Sync>;

/// `GET` and `HEAD`.
pub const READ: &str = "GET, HEAD";

/// All methods.
pub const ANY_METHOD: &str = "*";

/// Any parameters. Their names are not checked.
pub const ANY_PARAMETER: &str = "...";

/// The listeners on which a route is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listeners {
    /// All listeners.
    All,
    /// The listener at `push.listen`.
    Push,
}

/// The web pages of other origins that can use a route (CORS).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pages {
    /// None.
    None,
    /// Those of listed origins (`push.cors_origins`).
    Listed,
    /// All can read, unless origins are listed.
    Any,
}

/// The format of the reply to a rejected request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errors {
    /// A line of text.
    Text,
    /// JSON with `status`, `errorType` and `error`, as in Pushgateway's API.
    Api,
    /// JSON with `valid` and `errors`.
    Validation,
}

/// A route: methods and a path pattern, with their requirements and their handler.
#[derive(Clone)]
pub struct Route {
    /// The value of the label in the counter of requests.
    pub name: &'static str,
    /// Methods as in `Allow`, separated by `, `; or [`ANY_METHOD`].
    pub methods: &'static str,
    /// The path. `{name}` matches one segment, `{*name}` at the end matches the rest of
    /// the path, and `[/{*name}]` also matches no rest.
    pub pattern: &'static str,
    /// The names of query parameters, separated by spaces, or [`ANY_PARAMETER`]. `*`
    /// follows a name that may be repeated.
    pub parameters: &'static str,
    /// The role that a request needs.
    pub role: Role,
    /// Whether the handler checks each write against [`Request::scope`]. Otherwise senders
    /// that are bound to apps or labels are turned away.
    pub checks_scope: bool,
    /// The listeners on which the route is served.
    pub listeners: Listeners,
    /// The method under which requests are counted among pushes, if they are counted.
    pub counts: Option<PushMethod>,
    /// The pages of other origins that can use the route.
    pub pages: Pages,
    /// The format of the reply to a rejected request.
    pub errors: Errors,
    /// Whether a successful request counts as progress. When connections run out, those
    /// without progress are closed first.
    pub progress: bool,
    /// Whether a successful request waits until its change is
    /// [stored](crate::storage::Journal).
    pub is_stored: bool,
    /// Whether the reply to `OPTIONS` is an empty 200.
    pub options: bool,
    /// Advice in the reply to a `POST` or `PUT` that the pattern does not support.
    pub advice: Option<&'static str>,
    /// For a route on the push listener: the path that gives the same answer on other listeners.
    pub elsewhere: Option<&'static str>,
    /// Called with the reason when a request is rejected before its handler runs.
    pub on_rejection: Option<Arc<dyn Fn(Reason) + Send + Sync>>,
    condition: Option<(&'static str, Condition)>,
    handler: Arc<dyn Handler>,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.methods, self.pattern, self.name)
    }
}

trait Handler: Send + Sync {
    fn answer<'r>(&'r self, request: &'r mut Request) -> HandlerFuture<'r>;
}

/// A handler function with its state.
struct Bound<S> {
    state: Arc<S>,
    handle: HandlerFn<S>,
}

impl<S: Send + Sync> Handler for Bound<S> {
    fn answer<'r>(&'r self, request: &'r mut Request) -> HandlerFuture<'r> {
        (self.handle)(&self.state, request)
    }
}

impl Route {
    /// A route that reads: `GET` and `HEAD`, on all listeners.
    pub fn read<S: Send + Sync + 'static>(
        name: &'static str,
        pattern: &'static str,
        parameters: &'static str,
        state: &Arc<S>,
        handle: HandlerFn<S>,
    ) -> Self {
        Route {
            name,
            methods: READ,
            pattern,
            parameters,
            role: Role::Read,
            checks_scope: false,
            listeners: Listeners::All,
            counts: None,
            pages: Pages::None,
            errors: Errors::Text,
            progress: false,
            is_stored: false,
            options: false,
            advice: None,
            elsewhere: None,
            on_rejection: None,
            condition: None,
            handler: Arc::new(Bound {
                state: Arc::clone(state),
                handle,
            }),
        }
    }

    /// A route that writes: on the push listener, with `OPTIONS`, for pages of listed
    /// origins. The reply waits until the change is stored.
    pub fn write<S: Send + Sync + 'static>(
        name: &'static str,
        methods: &'static str,
        pattern: &'static str,
        parameters: &'static str,
        state: &Arc<S>,
        handle: HandlerFn<S>,
    ) -> Self {
        Route {
            methods,
            role: Role::Write,
            listeners: Listeners::Push,
            pages: Pages::Listed,
            progress: true,
            is_stored: true,
            options: true,
            ..Route::read(name, pattern, parameters, state, handle)
        }
    }

    /// Sets the required role.
    #[must_use]
    pub fn role(self, role: Role) -> Self {
        Route { role, ..self }
    }

    /// Declares that the handler checks each write against [`Request::scope`].
    #[must_use]
    pub fn checks_scope(self) -> Self {
        Route {
            checks_scope: true,
            ..self
        }
    }

    /// Serves the route on the push listener only, with `OPTIONS`.
    #[must_use]
    pub fn on_push_listener(self) -> Self {
        Route {
            listeners: Listeners::Push,
            options: true,
            ..self
        }
    }

    /// Replaces the methods.
    #[must_use]
    pub fn methods(self, methods: &'static str) -> Self {
        Route { methods, ..self }
    }

    /// Counts requests as `method`.
    #[must_use]
    pub fn counted(self, method: PushMethod) -> Self {
        Route {
            counts: Some(method),
            ..self
        }
    }

    /// Sets which pages of other origins can use the route.
    #[must_use]
    pub fn pages(self, pages: Pages) -> Self {
        Route { pages, ..self }
    }

    /// Sets the path that gives the same answer on listeners other than the push listener.
    #[must_use]
    pub fn elsewhere(self, path: &'static str) -> Self {
        Route {
            elsewhere: Some(path),
            ..self
        }
    }

    /// Sets the format of replies to rejected requests.
    #[must_use]
    pub fn errors(self, errors: Errors) -> Self {
        Route { errors, ..self }
    }

    /// Sets the advice for clients that push with another method.
    #[must_use]
    pub fn advice(self, advice: &'static str) -> Self {
        Route {
            advice: Some(advice),
            ..self
        }
    }

    /// Sets whether a successful request counts as progress.
    #[must_use]
    pub fn progress(self, progress: bool) -> Self {
        Route { progress, ..self }
    }

    /// Does not wait for storage, since the route changes nothing that is stored.
    #[must_use]
    pub fn without_storage(self) -> Self {
        Route {
            is_stored: false,
            ..self
        }
    }

    /// Removes `OPTIONS`: the reply is 405.
    #[must_use]
    pub fn without_options(self) -> Self {
        Route {
            options: false,
            ..self
        }
    }

    /// Restricts the route to requests that meet the condition. Routes with the same
    /// pattern and condition name form one resource.
    #[must_use]
    pub fn when(self, name: &'static str, condition: Condition) -> Self {
        Route {
            condition: Some((name, condition)),
            ..self
        }
    }

    /// Sets a function that is called with the reason when a request is rejected before
    /// its handler runs.
    #[must_use]
    pub fn on_rejection(self, on_rejection: Arc<dyn Fn(Reason) + Send + Sync>) -> Self {
        Route {
            on_rejection: Some(on_rejection),
            ..self
        }
    }

    /// Calls the handler.
    pub async fn answer(&self, request: &mut Request) -> Reply {
        self.handler.answer(request).await
    }

    /// The reply to a request that is rejected before the handler runs.
    pub fn rejection(&self, rejection: &Rejection) -> Reply {
        match self.errors {
            Errors::Text => reply::rejection(rejection),
            Errors::Validation if rejection.reason == Reason::BadParameter => {
                reply::invalid(rejection)
            }
            Errors::Api | Errors::Validation => reply::api_rejection(rejection),
        }
    }

    /// Whether the route supports the method.
    fn has(&self, method: &Method) -> bool {
        let mut methods = self.methods.split(", ");
        self.methods == ANY_METHOD || methods.any(|it| it == method.as_str())
    }

    fn condition_name(&self) -> &'static str {
        self.condition.as_ref().map_or("", |(name, _)| name)
    }
}

/// The routes of one listener, in order. The first pattern that matches wins.
#[derive(Debug)]
pub struct Table {
    resources: Vec<Resource>,
    /// On other listeners than the push listener: the routes whose paths only the push
    /// listener serves.
    push_only: Vec<(Pattern, Route)>,
}

/// The routes that share a pattern and a condition.
#[derive(Debug)]
pub struct Resource {
    pattern: Pattern,
    routes: Vec<Route>,
    /// Whether only the push listener supports other methods of this pattern, for reading.
    reads_elsewhere: bool,
}

/// A matched resource, with the text that its pattern captured.
#[derive(Debug)]
pub struct Matched<'t> {
    /// The resource.
    pub resource: &'t Resource,
    /// See [`Request::captured`].
    pub captured: String,
}

/// Why no resource matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoute {
    /// A segment of the path is not UTF-8.
    NotUtf8,
    /// Only the push listener serves the path.
    PushListenerOnly {
        /// Whether the path is for reading there.
        is_read: bool,
        /// See [`Route::elsewhere`].
        elsewhere: Option<&'static str>,
    },
    /// The path does not begin with the route prefix.
    OutsidePrefix,
    /// No listener serves the path.
    Unknown,
}

impl Table {
    /// The table of a listener. `accepts_pushes` says whether it is the push listener.
    pub fn new(routes: &[Route], accepts_pushes: bool) -> Self {
        let mut table = Table {
            resources: Vec::new(),
            push_only: Vec::new(),
        };
        for route in routes {
            if !accepts_pushes && route.listeners == Listeners::Push {
                let pattern = Pattern::new(route.pattern, true);
                table.push_only.push((pattern, route.clone()));
                continue;
            }
            let alike = |resource: &&mut Resource| {
                let first = &resource.routes[0];
                first.pattern == route.pattern && first.condition_name() == route.condition_name()
            };
            match table.resources.iter_mut().find(alike) {
                Some(resource) => resource.routes.push(route.clone()),
                None => table.resources.push(Resource {
                    pattern: Pattern::new(route.pattern, route.listeners == Listeners::Push),
                    routes: vec![route.clone()],
                    reads_elsewhere: false,
                }),
            }
        }
        // Paths such as `/apps/{name}` are served by all listeners.
        let shared = |first: &str| {
            let mut shared = routes.iter().filter(|it| it.listeners == Listeners::All);
            shared.any(|route| first_segment(route) == first)
        };
        // Although `/metrics` has a page, `/metrics/job/x` is not a path of this listener.
        let rest = |first: &str| {
            let mut rest = routes.iter().filter(|it| it.pattern.contains("{*"));
            rest.any(|route| first_segment(route) == first)
        };
        table
            .push_only
            .retain(|(pattern, _)| rest(pattern.first()) || !shared(pattern.first()));
        if !accepts_pushes {
            for resource in &mut table.resources {
                let pattern = resource.routes[0].pattern;
                resource.reads_elsewhere = routes.iter().any(|it| {
                    it.listeners == Listeners::Push
                        && it.pattern == pattern
                        && it.role == Role::Read
                });
            }
        }
        table
    }

    /// The first resource whose pattern and condition match a request. For preflight
    /// requests, the conditions of resources that answer them always hold, because a
    /// preflight request lacks the parameters of the request that it announces.
    ///
    /// # Errors
    ///
    /// The reason why no resource matches.
    pub fn find(&self, head: &Parts, preflight: bool) -> Result<Matched<'_>, NoRoute> {
        let path = head.uri.path();
        let decoded = OnceCell::new();
        let segments = || decoded.get_or_init(|| segments(path)).as_deref();
        for resource in &self.resources {
            let Some(captured) = resource.pattern.captures(path, segments) else {
                continue;
            };
            let holds = match &resource.routes[0].condition {
                Some((_, condition)) => {
                    (preflight && resource.answers_preflight()) || condition(head, &captured)
                }
                None => true,
            };
            if holds {
                let captured = captured.into_owned();
                return Ok(Matched { resource, captured });
            }
        }
        let Some(segments) = segments() else {
            return Err(NoRoute::NotUtf8);
        };
        let first = segments.first().map_or("", AsRef::as_ref);
        // Even a path that no pattern matches may be a mistaken push.
        let alike = self.push_only.iter();
        let mut alike = alike.filter(|(pattern, _)| pattern.first() == first);
        let Some(any) = alike.next() else {
            return Err(NoRoute::Unknown);
        };
        let matching = self
            .push_only
            .iter()
            .find(|(pattern, _)| pattern.captures(path, || Some(segments)).is_some());
        let is_read = matching.is_some_and(|(_, route)| route.role == Role::Read);
        let (_, route) = matching.unwrap_or(any);
        Err(NoRoute::PushListenerOnly {
            is_read,
            elsewhere: route.elsewhere,
        })
    }
}

/// The first segment of a route's pattern.
fn first_segment(route: &Route) -> &'static str {
    Pattern::new(route.pattern, false).first()
}

impl Resource {
    /// The first route with the method.
    pub fn route(&self, method: &Method) -> Option<&Route> {
        self.routes.iter().find(|route| route.has(method))
    }

    /// The first route, for properties that all routes share.
    pub fn first(&self) -> &Route {
        &self.routes[0]
    }

    /// Whether the reply to `OPTIONS` is an empty 200.
    pub fn answers_options(&self) -> bool {
        self.routes.iter().any(|route| route.options)
    }

    /// Whether the resource answers CORS preflight requests.
    pub fn answers_preflight(&self) -> bool {
        self.routes.iter().any(|route| route.pages != Pages::None)
    }

    /// The pages of other origins that may send a request with the method. `OPTIONS` and
    /// methods without a route are for all pages that may use one of the routes.
    pub fn pages(&self, method: &Method) -> Pages {
        let all = || self.routes.iter().map(|route| route.pages).max();
        let one = self.route(method).map(|route| route.pages);
        one.or_else(all).unwrap_or(Pages::None)
    }

    /// Whether the push listener supports other methods of the path, for reading.
    pub fn reads_elsewhere(&self) -> bool {
        self.reads_elsewhere
    }

    /// The value of `Allow`.
    pub fn allowed(&self) -> String {
        let methods = self.routes.iter().map(|route| route.methods);
        let options = self.answers_options().then_some("OPTIONS");
        methods.chain(options).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests;
