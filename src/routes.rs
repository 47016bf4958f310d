//! The route table: every input and output that is served over HTTP. It matches
//! `docs/http.md`, the document of the API; a test compares the two.

mod page;

use std::sync::Arc;

use crate::config::Config;
use crate::context::Context;
use crate::http::router::Route;
use crate::inputs::aggregate::Aggregate;
use crate::inputs::push::Push;
use crate::inputs::values::{Ping, Values};
use crate::inputs::webhooks::Webhooks;
use crate::outputs::api::Api;
use crate::outputs::apps::Apps;
use crate::outputs::echo::Echo;
use crate::outputs::metrics::Metrics;
use crate::outputs::page::TokenKey;
#[cfg(feature = "profiling")]
use crate::outputs::profile::CpuProfile;
use crate::outputs::reload::Reload;
use crate::outputs::status::Status;

/// State of routes that outlives a reload.
#[derive(Debug)]
pub struct Stateful {
    /// The kept webhooks.
    webhooks: Arc<Webhooks>,
    /// The key for tokens in pages.
    token_key: Arc<TokenKey>,
}

impl Stateful {
    /// Creates the state, and restores the webhooks that are stored.
    pub fn new(config: &Config, context: &Context) -> Self {
        Stateful {
            webhooks: Webhooks::new(&config.push.webhooks, context),
            token_key: Arc::new(TokenKey::random()),
        }
    }

    /// Applies new settings.
    pub fn apply(&self, config: &Config) {
        self.webhooks.set_limits(&config.push.webhooks);
    }
}

/// All routes. The first pattern that matches wins, so inputs come before outputs that
/// share their paths, and pages for browsers before both.
///
/// Each line is one input or output, whose folder defines patterns, methods, parameters and roles.
pub fn all(config: &Config, context: &Context, stateful: &Stateful) -> Vec<Route> {
    let (exporter, push) = (&config.exporter, &config.push);
    let metrics = Metrics::new(exporter.own_metrics, context);
    let routes = [
        page::page(config, context, stateful).routes(),
        Aggregate::new(push.groups.mode, push.groups.enable_utf8_names, context).routes(),
        Push::new(&push.groups, context).routes(),
        Values::new(context).routes(),
        Ping::new(context).routes(),
        stateful.webhooks.routes(),
        metrics.routes(),
        Apps::new(&metrics, context).routes(),
        Api::new(push, push.groups.enable_admin_api, context).routes(),
        Status::new(config.web.front.link_prefix(), context).routes(),
        Reload::new(context).routes(),
        Echo::routes(),
    ]
    .concat();
    #[cfg(feature = "profiling")]
    let routes = [routes, CpuProfile::new(context).routes()].concat();
    routes
}

/// The routes of `lifecycle.listen`: health checks, and only the proxy's own metrics.
pub fn lifecycle(config: &Config, context: &Context) -> Vec<Route> {
    let metrics = Metrics::of_own(context);
    let status = Status::new(config.web.front.link_prefix(), context);
    [metrics.routes(), status.health_routes()].concat()
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::clock::Now;
    use crate::context::{Polls, Reloads};
    use crate::fairness::Fairness;
    use crate::http::router::{ANY_METHOD, ANY_PARAMETER, Listeners, Role};
    use crate::ingest::Admission;
    use crate::ingest::config::Aggregation;
    use crate::security::Access;
    use crate::storage::Journal;
    use crate::store::{Store, StoreLimits};
    use crate::telemetry::{ConfiguredLimits, Telemetry};

    /// All routes, including those that a setting enables.
    fn routes() -> Vec<Route> {
        let mut config = Config::default();
        config.push.groups.enable_admin_api = true;
        let limits = StoreLimits {
            apps: 1,
            groups: 1,
            bytes: 1,
            registry: Default::default(),
        };
        let store = Arc::new(Store::new(limits, false));
        let admission = Admission::new(
            config.exposition.clone(),
            Aggregation::default(),
            true,
            store.hasher().clone(),
        );
        let context = Context {
            store,
            admission: Arc::new(admission),
            access: Arc::new(Access::new(&config.web.security, &Arc::default()).unwrap()),
            fairness: Arc::new(Fairness::unlimited()),
            journal: Journal::off(),
            telemetry: Arc::new(Telemetry::new(Now::read(), ConfiguredLimits::default())),
            tasks: TaskTracker::new(),
            reloads: Reloads::new().0,
            polls: Polls::new(&Arc::default()),
            quit: CancellationToken::new(),
            leaving: CancellationToken::new(),
            stop: CancellationToken::new(),
        };
        let stateful = Stateful::new(&config, &context);
        all(&config, &context, &stateful)
    }

    /// The columns of a route in the document, without its purpose.
    fn columns(route: &Route) -> String {
        let quoted = |text: &str, any: &str| match text {
            "" => String::new(),
            text if text == any => "any".to_owned(),
            text => format!("`{text}`"),
        };
        let role = match route.role {
            Role::Read => "read",
            Role::Write => "write",
            Role::Admin => "admin",
        };
        let listener = match route.listeners {
            Listeners::All => "all",
            Listeners::Push => "push",
        };
        format!(
            "{} | `{}` | {} | `{role}` | `{listener}`",
            quoted(route.methods, ANY_METHOD),
            route.pattern,
            quoted(route.parameters, ANY_PARAMETER),
        )
    }

    #[test]
    fn the_document_of_the_api_has_every_route_and_no_other() {
        let document = include_str!("../docs/http.md");
        let mut documented = Vec::new();
        let mut in_table = false;
        for line in document.lines() {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            match cells.as_slice() {
                ["", "Method", ..] => in_table = true,
                ["", "---", ..] => {}
                ["", route @ .., purpose, ""] if in_table => {
                    assert!(!purpose.is_empty(), "{line}");
                    documented.push(route.join(" | "));
                }
                _ => in_table = false,
            }
        }
        // A push without a job is answered with 404, so that route is not documented.
        let routes = routes();
        let known = routes.iter().filter(|route| route.name != "unknown");
        let mut served: Vec<String> = known.map(columns).collect();
        documented.sort();
        served.sort();
        assert_eq!(documented, served);
    }
}
