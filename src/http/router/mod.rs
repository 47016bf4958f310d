//! Routes: each is a method and a pattern with the handler that answers it. The
//! table matches a request once; 404, 405 with `Allow`, `OPTIONS`, checks of
//! parameters, and counting follow from it.
//!
//! The module knows no endpoint: inputs and outputs bring their routes.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use hyper::Method;
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;

use super::query;
use super::reply::{self, Reply};
use super::request::Request;
use crate::ingest::Rejection;
use crate::reason::Reason;
use crate::telemetry::PushMethod;

/// The future of a handler.
pub type HandlerFuture<'r> = Pin<Box<dyn Future<Output = Reply> + Send + 'r>>;

/// A handler: a function of some state and the request.
pub type HandlerFn<S> = for<'r> fn(&'r S, &'r mut Request) -> HandlerFuture<'r>;

/// A condition beside the path, such as a parameter of the query. The text is what
/// `{*rest}` matched.
pub type Condition = Arc<dyn Fn(&Parts, &str) -> bool + Send + Sync>;

/// `GET` and `HEAD`.
pub const READ: &str = "GET, HEAD";

/// Every method.
pub const ANY_METHOD: &str = "*";

/// Parameters that are accepted and ignored, whatever their names.
pub const ANY_PARAMETER: &str = "...";

/// What a client must be allowed to do to use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// See what is exposed.
    Read,
    /// Change what one sender exposes.
    Write,
    /// Change what many senders expose, or stop the program.
    Admin,
}

/// The listeners that serve a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listeners {
    /// All.
    All,
    /// The one of `push.listen`.
    Push,
}

/// How a rejected request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errors {
    /// A line of text.
    Text,
    /// JSON with `status`, `errorType` and `error`, as Pushgateway's API.
    Api,
    /// JSON with `valid` and `errors`.
    Validation,
}

/// One route: methods and a pattern, with what they require and what answers them.
#[derive(Clone)]
pub struct Route {
    /// The name in the counters of requests.
    pub name: &'static str,
    /// Methods as in `Allow`: names with commas between them, or [`ANY_METHOD`].
    pub methods: &'static str,
    /// Segments, of which `{name}` matches one; `{*name}` at the end matches the
    /// rest of the path, and `[/{*name}]` also matches no rest.
    pub pattern: &'static str,
    /// Names of parameters, with blanks between them; a `*` follows those that may
    /// be repeated.
    pub parameters: &'static str,
    /// What the client must be allowed to do.
    pub role: Role,
    /// Where the route is served.
    pub listeners: Listeners,
    /// How requests are counted among those that change something.
    pub counts: Option<PushMethod>,
    /// How rejected requests are answered.
    pub errors: Errors,
    /// Whether a request that succeeds counts as progress, which keeps its
    /// connection when connections run out.
    pub progress: bool,
    /// Whether `OPTIONS` is answered with an empty reply.
    pub options: bool,
    /// What a client that pushes with a method that the pattern does not have should
    /// do instead.
    pub advice: Option<&'static str>,
    /// Told the reason of a request that is rejected before the handler sees it.
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

/// A function with its state.
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
    /// A route that reads: `GET` and `HEAD` on all listeners.
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
            listeners: Listeners::All,
            counts: None,
            errors: Errors::Text,
            progress: false,
            options: false,
            advice: None,
            on_rejection: None,
            condition: None,
            handler: Arc::new(Bound {
                state: Arc::clone(state),
                handle,
            }),
        }
    }

    /// A route that changes something: on the push listener, with `OPTIONS`.
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
            progress: true,
            options: true,
            ..Route::read(name, pattern, parameters, state, handle)
        }
    }

    /// Requires the role.
    #[must_use]
    pub fn role(self, role: Role) -> Self {
        Route { role, ..self }
    }

    /// Served on the push listener alone, with `OPTIONS`.
    #[must_use]
    pub fn on_push_listener(self) -> Self {
        Route {
            listeners: Listeners::Push,
            options: true,
            ..self
        }
    }

    /// Takes these methods in place of those of the constructor.
    #[must_use]
    pub fn methods(self, methods: &'static str) -> Self {
        Route { methods, ..self }
    }

    /// Counted as `method`.
    #[must_use]
    pub fn counted(self, method: PushMethod) -> Self {
        Route {
            counts: Some(method),
            ..self
        }
    }

    /// Rejected requests are answered in this form.
    #[must_use]
    pub fn errors(self, errors: Errors) -> Self {
        Route { errors, ..self }
    }

    /// Advises clients that push here with another method.
    #[must_use]
    pub fn advice(self, advice: &'static str) -> Self {
        Route {
            advice: Some(advice),
            ..self
        }
    }

    /// Whether a request that succeeds keeps its connection.
    #[must_use]
    pub fn progress(self, progress: bool) -> Self {
        Route { progress, ..self }
    }

    /// `OPTIONS` is a method like others: 405.
    #[must_use]
    pub fn without_options(self) -> Self {
        Route {
            options: false,
            ..self
        }
    }

    /// Matches only if the condition holds. Routes of one pattern and one condition,
    /// by its name, belong together.
    #[must_use]
    pub fn when(self, name: &'static str, condition: Condition) -> Self {
        Route {
            condition: Some((name, condition)),
            ..self
        }
    }

    /// Calls `on_rejection` with the reason of a request that is rejected before
    /// the handler sees it.
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

    /// Answers a request that is rejected before the handler sees it.
    pub fn rejection(&self, rejection: &Rejection) -> Reply {
        match self.errors {
            Errors::Text => reply::rejection(rejection),
            Errors::Validation if rejection.reason == Reason::BadParameter => {
                reply::invalid(rejection)
            }
            Errors::Api | Errors::Validation => reply::api_rejection(rejection),
        }
    }

    fn has(&self, method: &Method) -> bool {
        let mut methods = self.methods.split(", ");
        self.methods == ANY_METHOD || methods.any(|it| it == method.as_str())
    }

    fn condition_name(&self) -> &'static str {
        self.condition.as_ref().map_or("", |(name, _)| name)
    }
}

/// All routes of a server, in order: the first pattern that matches counts.
#[derive(Debug)]
pub struct Table {
    resources: Vec<Resource>,
    /// First segments of paths that only the push listener serves, if this is
    /// another one.
    push_only: Vec<&'static str>,
}

/// The routes of one pattern under one condition.
#[derive(Debug)]
pub struct Resource {
    pattern: Pattern,
    routes: Vec<Route>,
}

/// A matched resource, with what its pattern captured.
#[derive(Debug)]
pub struct Matched<'t> {
    /// The routes.
    pub resource: &'t Resource,
    /// See [`Request::captured`].
    pub captured: String,
}

/// Why no route matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoute {
    /// A segment of the path is not UTF-8.
    NotUtf8,
    /// The path belongs to the push listener, and this is another one.
    PushListenerOnly,
    /// No pattern is like the path.
    Unknown,
}

impl Table {
    /// The routes of a server: all, or those that are not only for pushes.
    pub fn new(routes: &[Route], accepts_pushes: bool) -> Self {
        let mut table = Table {
            resources: Vec::new(),
            push_only: Vec::new(),
        };
        for route in routes {
            if !accepts_pushes && route.listeners == Listeners::Push {
                let first = Pattern::new(route.pattern, false).first();
                // Both listeners have paths that begin with a dash or with /apps.
                if !["-", "apps"].contains(&first) {
                    table.push_only.push(first);
                }
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
                }),
            }
        }
        table
    }

    /// The resource that a path leads to. For a preflight request, which names the
    /// method but not the parameters of the one that follows, conditions hold.
    pub fn find(&self, head: &Parts, preflight: bool) -> Result<Matched<'_>, NoRoute> {
        let path = head.uri.path();
        let segments = segments(path);
        for resource in &self.resources {
            let Some(captured) = resource.pattern.captures(path, segments.as_deref()) else {
                continue;
            };
            let holds = match &resource.routes[0].condition {
                Some((_, condition)) => preflight || condition(head, &captured),
                None => true,
            };
            if holds {
                return Ok(Matched { resource, captured });
            }
        }
        let Some(segments) = segments else {
            return Err(NoRoute::NotUtf8);
        };
        let first = segments.first().map_or("", AsRef::as_ref);
        Err(match self.push_only.contains(&first) {
            true => NoRoute::PushListenerOnly,
            false => NoRoute::Unknown,
        })
    }
}

impl Resource {
    /// The route that has the method.
    pub fn route(&self, method: &Method) -> Option<&Route> {
        self.routes.iter().find(|route| route.has(method))
    }

    /// The first route, for what all of them share.
    pub fn first(&self) -> &Route {
        &self.routes[0]
    }

    /// Whether `OPTIONS` is answered with an empty reply.
    pub fn answers_options(&self) -> bool {
        self.routes.iter().any(|route| route.options)
    }

    /// Whether a page of another origin can ask for permission: a route changes
    /// something, or only pushing clients know it.
    pub fn answers_preflight(&self) -> bool {
        let changes = |route: &Route| route.role != Role::Read;
        self.is_push_only() || self.routes.iter().any(changes)
    }

    /// Whether only the push listener serves the resource.
    pub fn is_push_only(&self) -> bool {
        self.routes
            .iter()
            .all(|route| route.listeners == Listeners::Push)
    }

    /// The methods, as in `Allow`.
    pub fn allowed(&self) -> String {
        let methods = self.routes.iter().map(|route| route.methods);
        let options = self.answers_options().then_some("OPTIONS");
        methods.chain(options).collect::<Vec<_>>().join(", ")
    }
}

/// A parsed pattern.
#[derive(Debug, PartialEq, Eq)]
struct Pattern {
    /// `None` is a `{parameter}`.
    segments: Vec<Option<&'static str>>,
    rest: Rest,
    /// Whether more slashes than one can begin the path, as where a base address
    /// ends in a slash.
    slashes: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Rest {
    No,
    Required,
    Optional,
}

impl Pattern {
    fn new(pattern: &'static str, slashes: bool) -> Self {
        let (pattern, rest) = match pattern.split_once("{*") {
            None => (pattern, Rest::No),
            Some((before, _)) => match before.strip_suffix("[/") {
                Some(before) => (before, Rest::Optional),
                None => (before, Rest::Required),
            },
        };
        let segments = pattern.split('/').filter(|segment| !segment.is_empty());
        Pattern {
            segments: segments
                .map(|segment| (!segment.starts_with('{')).then_some(segment))
                .collect(),
            rest,
            slashes,
        }
    }

    fn first(&self) -> &'static str {
        self.segments.first().copied().flatten().unwrap_or_default()
    }

    /// What the pattern captures of a path, if it matches. `segments` are those of
    /// the path, decoded.
    fn captures(&self, path: &str, segments: Option<&[Cow<'_, str>]>) -> Option<String> {
        if self.rest != Rest::No {
            return self.rest_of(path).map(str::to_owned);
        }
        let mut segments = segments?;
        if self.slashes {
            while let [first, rest @ ..] = segments
                && first.is_empty()
            {
                segments = rest;
            }
        }
        if segments.len() != self.segments.len() {
            return None;
        }
        let mut captured = String::new();
        for (segment, wanted) in segments.iter().zip(&self.segments) {
            match wanted {
                Some(wanted) if segment == wanted => {}
                Some(_) => return None,
                None => captured = segment.clone().into_owned(),
            }
        }
        Some(captured)
    }

    /// The raw path after the pattern's segments and the slashes that follow them.
    fn rest_of<'p>(&self, path: &'p str) -> Option<&'p str> {
        let mut rest = path.trim_start_matches('/');
        for (place, segment) in self.segments.iter().enumerate() {
            rest = rest.strip_prefix((*segment)?)?;
            let last = place + 1 == self.segments.len();
            if last && rest.is_empty() {
                return (self.rest == Rest::Optional).then_some("");
            }
            rest = rest.strip_prefix('/')?;
        }
        Some(rest.trim_start_matches('/'))
    }
}

/// The segments of a path, each decoded after the split, so that `%2F` is part of a
/// segment. One slash may follow the last. `None` if a segment is not UTF-8.
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

/// The least similarity of a name to a known one for which the latter is suggested.
const SIMILAR: f64 = 0.65;

/// Checks a query against the parameters of a route.
///
/// # Errors
///
/// A name that is unknown, with the nearest known one, or that is repeated and must
/// not be.
pub fn check_parameters(parameters: &'static str, query: &str) -> Result<(), String> {
    if parameters == ANY_PARAMETER || query.is_empty() {
        return Ok(());
    }
    let names = query::names(query);
    for (place, name) in names.iter().enumerate() {
        match known(parameters).find(|(known, _)| known == name) {
            None => return Err(unknown(parameters, name)),
            Some((_, false)) if names[..place].contains(name) => {
                return Err(format!("the parameter {name} may be given once, not twice"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// The names of parameters, and whether they may be repeated.
fn known(parameters: &'static str) -> impl Iterator<Item = (&'static str, bool)> {
    let names = parameters.split_ascii_whitespace();
    names.map(|name| match name.strip_suffix('*') {
        Some(name) => (name, true),
        None => (name, false),
    })
}

fn unknown(parameters: &'static str, name: &str) -> String {
    let near = known(parameters)
        .map(|(known, _)| (similarity(name, known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity >= SIMILAR);
    let names: Vec<&str> = known(parameters).map(|(known, _)| known).collect();
    let hint = match near {
        Some((_, near)) => format!("did you mean {near}?"),
        None if names.is_empty() => "none is known here".to_owned(),
        None => format!("known here: {}", names.join(", ")),
    };
    // The name can be of any length.
    let name: String = name.chars().take(80).collect();
    format!("unknown parameter {name:?}; {hint}")
}

/// The larger of two measures: common letters, and edits between the names.
fn similarity(name: &str, known: &str) -> f64 {
    strsim::jaro_winkler(name, known).max(strsim::normalized_levenshtein(name, known))
}

#[cfg(test)]
mod tests;
