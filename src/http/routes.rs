//! The one table of endpoints: which path leads to what, by which methods, and
//! with which parameters. What is not in here is not reached.

use std::borrow::Cow;

use hyper::Method;
use percent_encoding::percent_decode_str;

use super::query;
use crate::inputs::values::Verb;
use crate::inputs::webhooks::Endpoint;

/// What a request leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route<'p> {
    Index,
    Metrics,
    Apps,
    App(Cow<'p, str>),
    AppText(Cow<'p, str>),
    Healthy,
    Ready,
    Health,
    /// prom-aggregation-gateway's `/healthy` and `/ready`.
    Alive(&'static str),
    Ping,
    /// A push that replaces, by what follows `/metrics/`.
    Group(&'p str),
    /// A push that is added, or the removal of what was, by what follows
    /// `/metrics/`.
    Addition(&'p str),
    Quit,
    /// `/create` and `/update`. These and the next two are pingpong's.
    Values(Verb),
    Time,
    Echo,
    Webhooks(Endpoint),
    ApiMetrics,
    ApiStatus,
    ApiGroups,
    ApiSeries,
    ApiBatch,
    /// By what follows `/api/v1/validate/`.
    ApiValidate(&'p str),
    ApiWipe,
}

/// What a path may lead to besides its text.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// Pushes are taken here.
    pub pushes: bool,
    pub admin: bool,
    /// The request is a push that is added, or may become one.
    pub adds: bool,
    /// It reads: `GET` or `HEAD`.
    pub reads: bool,
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nowhere {
    NotUtf8,
    /// It begins as that of a push, and names no job.
    NoGroup,
    /// It would where pushes are taken.
    WherePushesAre,
    Unknown,
}

/// What an endpoint takes: its name, and its methods with their parameters.
#[derive(Debug, Clone, Copy)]
pub struct Endpoints {
    /// Its name in logs and metrics.
    pub name: &'static str,
    /// Methods as in `Allow`, and their parameters.
    takes: &'static [Takes],
    /// `OPTIONS` is answered, as Pushgateway does.
    options: bool,
}

/// Methods, with commas between them, and the parameters they take, with blanks
/// between them: a `*` behind those that may be given again.
type Takes = (&'static str, &'static str);

const READ: &str = "GET, HEAD";
const ANY_METHOD: &str = "*";

/// Any parameter is accepted and ignored.
const IGNORED: &str = "...";

/// The parameters that a query may have.
#[derive(Debug, Clone, Copy)]
pub struct Parameters(&'static str);

impl Route<'_> {
    /// The table.
    pub fn endpoints(&self, pushes: bool) -> Endpoints {
        const GROUPS: &[Takes] = &[
            (READ, "match[]* match* older_than limit after"),
            ("DELETE", "match[]* match* older_than dry_run"),
        ];
        const PUSH: &[Takes] = &[("PUT, POST", "mode ttl"), ("DELETE", "mode")];
        const WEBHOOKS: &[Takes] = &[(READ, "kind alertname receiver status format")];
        let (name, options, takes): (_, _, &[Takes]) = match self {
            Route::Index => ("index", false, &[(READ, IGNORED)]),
            Route::Metrics => ("metrics", false, &[(READ, "app* name[]*")]),
            Route::Apps => ("apps", false, &[(READ, "wide format")]),
            Route::App(_) if pushes => ("app", true, &[(READ, ""), ("DELETE", "")]),
            Route::App(_) => ("app", false, &[(READ, "")]),
            Route::AppText(_) => ("app_metrics", false, &[(READ, "")]),
            Route::Healthy => ("healthy", false, &[(READ, IGNORED)]),
            Route::Ready => ("ready", false, &[(READ, IGNORED)]),
            Route::Health => ("health", false, &[(READ, IGNORED)]),
            Route::Alive(name) => (*name, false, &[(READ, IGNORED)]),
            Route::Ping if pushes => ("ping", false, &[(ANY_METHOD, IGNORED)]),
            Route::Ping => ("ping", false, &[(READ, IGNORED)]),
            Route::Time => ("time", false, &[(ANY_METHOD, IGNORED)]),
            Route::Echo => ("echo", false, &[(ANY_METHOD, IGNORED)]),
            Route::Group(_) | Route::Addition(_) => ("push", true, PUSH),
            Route::Quit => ("quit", true, &[("PUT, POST", "")]),
            Route::Values(verb) => (verb.as_str(), false, &[("POST", "ttl")]),
            // Services have tokens in the addresses of their webhooks.
            Route::Webhooks(Endpoint::Take(kind, _)) => (kind.as_str(), true, &[("POST", IGNORED)]),
            Route::Webhooks(Endpoint::List) => ("webhooks", true, WEBHOOKS),
            Route::ApiMetrics => ("api_metrics", true, &[(READ, "")]),
            Route::ApiStatus => ("api_status", true, &[(READ, "")]),
            Route::ApiGroups => ("api_groups", true, GROUPS),
            Route::ApiSeries => ("api_series", true, &[("DELETE", "match[]* match* dry_run")]),
            Route::ApiBatch => ("api_batch", true, &[("POST", "")]),
            Route::ApiValidate(_) => ("api_validate", true, &[("POST, PUT", "mode ttl")]),
            Route::ApiWipe => ("api_wipe", true, &[("PUT", "")]),
        };
        Endpoints {
            name,
            takes,
            options,
        }
    }

    /// Whether only the listener of pushes knows it.
    pub fn is_of_pushes(&self) -> bool {
        use Route::{
            Alive, App, AppText, Apps, Health, Healthy, Index, Metrics, Ping, Ready, Time,
        };
        !matches!(
            self,
            Index
                | Metrics
                | Apps
                | App(_)
                | AppText(_)
                | Healthy
                | Ready
                | Health
                | Alive(_)
                | Ping
                | Time
        )
    }

    /// Whether it is of the API, whose errors are JSON.
    pub fn is_of_api(&self) -> bool {
        use Route::{ApiBatch, ApiGroups, ApiMetrics, ApiSeries, ApiStatus, ApiValidate, ApiWipe};
        matches!(
            self,
            ApiMetrics | ApiStatus | ApiGroups | ApiSeries | ApiBatch | ApiValidate(_) | ApiWipe
        )
    }
}

impl<'p> Route<'p> {
    /// Where a path leads.
    pub fn of(path: &'p str, ask: Ask) -> Result<Self, Nowhere> {
        match Route::of_pushes(path, ask) {
            Some(Route::Group(rest)) if !names_a_job(rest) => return Err(Nowhere::NoGroup),
            Some(route) => return Ok(route),
            None => {}
        }
        let segments = segments(path).ok_or(Nowhere::NotUtf8)?;
        let first = segments.first().map_or("", AsRef::as_ref).to_owned();
        let mut segments = segments.into_iter();
        let parts = [segments.next(), segments.next(), segments.next()];
        if segments.next().is_some() {
            return Err(Nowhere::of(&first, ask));
        }
        let [one, two, three] = parts;
        Ok(match (one.as_deref(), two, three.as_deref()) {
            (None, _, _) => Route::Index,
            (Some("metrics"), None, _) => Route::Metrics,
            (Some("apps"), None, _) => Route::Apps,
            (Some("apps"), Some(name), None) => Route::App(name),
            (Some("apps"), Some(name), Some("metrics")) => Route::AppText(name),
            (Some("-"), Some(name), None) if name == "healthy" => Route::Healthy,
            (Some("-"), Some(name), None) if name == "ready" => Route::Ready,
            (Some("health"), None, _) => Route::Health,
            (Some("healthy"), None, _) if ask.pushes => Route::Alive("healthy"),
            (Some("ready"), None, _) if ask.pushes => Route::Alive("ready"),
            (Some("ping"), None, _) => Route::Ping,
            _ => return Err(Nowhere::of(&first, ask)),
        })
    }

    /// What only the listener of pushes knows.
    ///
    /// More slashes than one before `metrics` and before `job`, as where a
    /// base address ends in one, mean one: no value can stand there. For those
    /// further on see [`Group::of_path`](crate::ingest::Group::of_path).
    ///
    /// `/metrics` itself is read, and pushed to by a push that is added, or
    /// may be. With a slash at its end it is read too, but to others it is a
    /// push that lacks its group.
    fn of_pushes(path: &'p str, ask: Ask) -> Option<Self> {
        if !ask.pushes {
            return None;
        }
        let path = path.trim_start_matches('/');
        let rest = match path.strip_prefix("metrics/") {
            None if path == "metrics" => Some(""),
            rest => rest.map(|rest| rest.trim_start_matches('/')),
        };
        if let Some(rest) = rest {
            let is_page = rest.is_empty() && (ask.reads || path == "metrics");
            return match ask.adds {
                true => Some(Route::Addition(rest)),
                false => (!is_page).then_some(Route::Group(rest)),
            };
        }
        if let Some(rest) = path.strip_prefix("api/v1/") {
            return match rest.strip_suffix('/').unwrap_or(rest) {
                "metrics" => Some(Route::ApiMetrics),
                "status" => Some(Route::ApiStatus),
                "groups" => Some(Route::ApiGroups),
                "series" => Some(Route::ApiSeries),
                "batch" => Some(Route::ApiBatch),
                "validate" => Some(Route::ApiValidate("")),
                "admin/wipe" if ask.admin => Some(Route::ApiWipe),
                _ => rest.strip_prefix("validate/").map(Route::ApiValidate),
            };
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        Some(match path {
            "-/quit" => Route::Quit,
            "create" => Route::Values(Verb::Create),
            "update" => Route::Values(Verb::Update),
            "time" => Route::Time,
            "echo" => Route::Echo,
            _ => return Endpoint::of(path).map(Route::Webhooks),
        })
    }
}

/// Whether a path of a push begins with `job/`: without, it is none.
fn names_a_job(rest: &str) -> bool {
    let Some((first, _)) = rest.split_once('/') else {
        return false;
    };
    let first = percent_decode_str(first).decode_utf8();
    first.is_ok_and(|first| matches!(&*first, "job" | "job@base64"))
}

impl Nowhere {
    fn of(first: &str, ask: Ask) -> Self {
        /// The first part of paths that only the listener of pushes knows.
        const OF_PUSHES: [&str; 11] = [
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
            "v2",
        ];
        match !ask.pushes && OF_PUSHES.contains(&first) {
            true => Nowhere::WherePushesAre,
            false => Nowhere::Unknown,
        }
    }
}

impl Endpoints {
    /// The parameters that a method takes; `None` where the method is not
    /// taken.
    pub fn parameters(&self, method: &Method) -> Option<Parameters> {
        let takes = self.takes.iter().find(|(methods, _)| {
            *methods == ANY_METHOD || methods.split(", ").any(|it| it == method.as_str())
        });
        takes.map(|(_, parameters)| Parameters(parameters))
    }

    /// Whether `OPTIONS` is answered with nothing.
    pub fn answers_options(&self) -> bool {
        self.options
    }

    /// The methods, as `Allow` has them.
    pub fn allowed(&self) -> String {
        let methods = self.takes.iter().map(|(methods, _)| *methods);
        let options = self.options.then_some("OPTIONS");
        methods.chain(options).collect::<Vec<_>>().join(", ")
    }
}

/// How near a known name has to be to be meant.
const NEAR: f64 = 0.65;

impl Parameters {
    /// Refuses what is not known, and what is given again where one counts.
    pub fn check(self, query: &str) -> Result<(), String> {
        if self.0 == IGNORED || query.is_empty() {
            return Ok(());
        }
        let names = query::names(query);
        for (place, name) in names.iter().enumerate() {
            match self.known().find(|(known, _)| known == name) {
                None => return Err(self.unknown(name)),
                Some((_, false)) if names[..place].contains(name) => {
                    return Err(format!("the parameter {name} may be given once, not twice"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Their names, and whether they may be given again.
    fn known(self) -> impl Iterator<Item = (&'static str, bool)> {
        let names = self.0.split_ascii_whitespace();
        names.map(|name| match name.strip_suffix('*') {
            Some(name) => (name, true),
            None => (name, false),
        })
    }

    fn unknown(self, name: &str) -> String {
        let near = self
            .known()
            .map(|(known, _)| (similarity(name, known), known))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(similarity, _)| *similarity >= NEAR);
        let names: Vec<&str> = self.known().map(|(known, _)| known).collect();
        let hint = match near {
            Some((_, near)) => format!("did you mean {near}?"),
            None if names.is_empty() => "none is known here".to_owned(),
            None => format!("known here: {}", names.join(", ")),
        };
        // A name of any length may come.
        let name: String = name.chars().take(80).collect();
        format!("unknown parameter {name:?}; {hint}")
    }
}

/// By what two names have together, or by what it takes to correct one.
fn similarity(name: &str, known: &str) -> f64 {
    strsim::jaro_winkler(name, known).max(strsim::normalized_levenshtein(name, known))
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

    const READS: Ask = Ask {
        pushes: true,
        admin: false,
        adds: false,
        reads: true,
    };

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

    #[test]
    fn slashes_too_many_before_the_job_mean_one() {
        for (path, route) in [
            ("/metrics/job/x", Ok(Route::Group("job/x"))),
            ("//metrics//job/x", Ok(Route::Group("job/x"))),
            ("/metrics/job//a", Ok(Route::Group("job//a"))),
            ("/api/v1/metrics", Ok(Route::ApiMetrics)),
            ("/api/v1/validate/job/x", Ok(Route::ApiValidate("job/x"))),
            ("/api/v1/admin/wipe", Err(Nowhere::Unknown)),
            ("/-/quit/", Ok(Route::Quit)),
            ("/webhooks/", Ok(Route::Webhooks(Endpoint::List))),
            ("/create", Ok(Route::Values(Verb::Create))),
            ("/update/", Ok(Route::Values(Verb::Update))),
            ("/echo/x", Err(Nowhere::Unknown)),
            ("/metrics", Ok(Route::Metrics)),
            ("/metrics/", Ok(Route::Metrics)),
            ("/metricsjob/x", Err(Nowhere::Unknown)),
            ("/apps", Ok(Route::Apps)),
            ("/apps/a%2Fb", Ok(Route::App("a/b".into()))),
            ("/apps/a/metrics/b", Err(Nowhere::Unknown)),
        ] {
            assert_eq!(Route::of(path, READS), route, "{path}");
        }
        let adds = Ask {
            adds: true,
            reads: false,
            ..READS
        };
        for path in ["/metrics", "/metrics/"] {
            assert_eq!(Route::of(path, adds), Ok(Route::Addition("")), "{path}");
        }
        let writes = Ask {
            reads: false,
            ..READS
        };
        assert_eq!(Route::of("/metrics", writes), Ok(Route::Metrics));
        for path in ["/metrics/", "/metrics/job", "/metrics/foo/bar"] {
            assert_eq!(Route::of(path, writes), Err(Nowhere::NoGroup), "{path}");
        }
        for path in [
            "/metrics/job/",
            "/metrics/%6aob/x",
            "/metrics/job@base64/eA",
        ] {
            assert!(
                matches!(Route::of(path, writes), Ok(Route::Group(_))),
                "{path}"
            );
        }
        let scraped = Ask {
            pushes: false,
            ..READS
        };
        for path in [
            "/metrics/job/x",
            "/api/v1/groups",
            "/webhook",
            "/v2/enqueue",
        ] {
            assert_eq!(
                Route::of(path, scraped),
                Err(Nowhere::WherePushesAre),
                "{path}"
            );
        }
    }

    #[test]
    fn unknown_and_repeated_parameters_are_refused_with_the_nearest_name() {
        let check = |route: Route<'_>, method: Method, query: &str| {
            let parameters = route.endpoints(true).parameters(&method).unwrap();
            parameters
                .check(query)
                .map_or_else(|told| told, |()| "fine".to_owned())
        };
        for (route, method, query, told) in [
            (Route::Group(""), Method::PUT, "", "fine"),
            (Route::Group(""), Method::PUT, "&&", "fine"),
            (Route::Group(""), Method::PUT, "ttl=1m&mode=replace", "fine"),
            (
                Route::Group(""),
                Method::PUT,
                "tll=10m",
                "unknown parameter \"tll\"; did you mean ttl?",
            ),
            (
                Route::Addition(""),
                Method::POST,
                "mod=aggregate",
                "unknown parameter \"mod\"; did you mean mode?",
            ),
            (
                Route::Group(""),
                Method::PUT,
                "ttl=1m&t%74l=2m",
                "the parameter ttl may be given once, not twice",
            ),
            (
                Route::Metrics,
                Method::GET,
                "name=a",
                "unknown parameter \"name\"; did you mean name[]?",
            ),
            (
                Route::Metrics,
                Method::GET,
                "name[]=a&name%5B%5D=b&app=c",
                "fine",
            ),
            (
                Route::Metrics,
                Method::GET,
                "zzz",
                "unknown parameter \"zzz\"; known here: app, name[]",
            ),
            (
                Route::ApiStatus,
                Method::GET,
                "a=b",
                "unknown parameter \"a\"; none is known here",
            ),
            // A removal that stops at some number there is not.
            (
                Route::ApiGroups,
                Method::DELETE,
                "limit=5",
                "unknown parameter \"limit\"; known here: match[], match, older_than, dry_run",
            ),
            (Route::Echo, Method::PATCH, "a=1&a=2", "fine"),
        ] {
            assert_eq!(check(route, method, query), told, "{query}");
        }
        let long = check(Route::Metrics, Method::GET, &"x".repeat(60_000));
        assert!(long.len() < 200, "{long}");
    }
}
