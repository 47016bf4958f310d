//! The index page, and health checks.

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::clock::Now;
use crate::context::Context;
use crate::http::reply::{self, Reply};
use crate::http::router::{ANY_PARAMETER, HandlerFn, Route};
use crate::storage::Journal;
use crate::telemetry::Telemetry;

/// The text of `/`, without a prefix of paths.
const INDEX: &str = concat!(
    "exporter-proxy ",
    env!("CARGO_PKG_VERSION"),
    "

/metrics              all metrics, for Prometheus
/metrics?app=A        the metrics of one app; ?name[]=F one family; both can be repeated
/apps                 apps, targets and groups: name, last update, source
/apps?wide=1          the same with peer, age, bytes, samples, state, last problem
/apps?format=json     the same as JSON
/apps/{name}          one app, target or group as JSON
/apps/{name}/metrics  its metrics only
/-/healthy            200 while the process runs
/-/ready              200, or 503 during start and shutdown and while storage rejects pushes
/health               200, or 503 during shutdown, without text
/ping                 PONG and the time

On the listener that accepts pushes (push.listen):

/metrics/job/{job}    PUT, POST, DELETE: push or delete a group, as with Pushgateway
/api/v1/groups        list of pushed groups
/create, /update      POST: add to aggregated values, as JSON or text
/apps/{name}          DELETE: remove an app
/webhook, /slack      POST: receive a notification; /webhooks lists them
/time, /echo          the time; the request as it was received
"
);

/// The index page and the health checks.
#[derive(Debug)]
pub struct Status {
    /// Cancelled when shutdown begins.
    leaving: CancellationToken,
    /// The text of `/`, with the prefix of paths.
    index: String,
    journal: Journal,
    telemetry: Arc<Telemetry>,
}

impl Status {
    /// Creates the output. `prefix` is the prefix of paths in links.
    pub fn new(prefix: &str, context: &Context) -> Arc<Self> {
        let index = ["\n/", ", /", "; /"]
            .iter()
            .fold(INDEX.to_owned(), |text, before| {
                let slash = before.len() - 1;
                text.replace(before, &format!("{}{prefix}/", &before[..slash]))
            });
        Arc::new(Status {
            index,
            leaving: context.leaving.clone(),
            journal: context.journal.clone(),
            telemetry: Arc::clone(&context.telemetry),
        })
    }

    /// The routes of the output.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        let [healthy, ready, health, as_json @ ..] = self.checks();
        let elsewhere = ["/-/healthy", "/-/ready"];
        let mut routes = vec![
            self.read("index", "/", |it, _| {
                Box::pin(async { reply::text(StatusCode::OK, it.index.clone()) })
            }),
            healthy,
            ready,
            health,
        ];
        for (route, here) in as_json.into_iter().zip(elsewhere) {
            let route = route.on_push_listener().without_options();
            routes.push(route.elsewhere(here));
        }
        routes
    }

    /// The health checks, for a listener that has all of them.
    pub fn health_routes(self: &Arc<Self>) -> Vec<Route> {
        self.checks().to_vec()
    }

    fn checks(self: &Arc<Self>) -> [Route; 5] {
        [
            self.read("healthy", "/-/healthy", |_, _| {
                Box::pin(async { reply::text(StatusCode::OK, "OK\n") })
            }),
            self.read("ready", "/-/ready", |it, _| Box::pin(async { it.ready() })),
            self.read("health", "/health", |it, _| Box::pin(async { it.health() })),
            self.read("healthy", "/healthy", |it, _| {
                Box::pin(async { it.alive() })
            }),
            self.read("ready", "/ready", |it, _| Box::pin(async { it.alive() })),
        ]
    }

    fn read(
        self: &Arc<Self>,
        name: &'static str,
        pattern: &'static str,
        handle: HandlerFn<Self>,
    ) -> Route {
        Route::read(name, pattern, ANY_PARAMETER, self, handle)
    }

    /// `/-/ready`: 200, or 503 during shutdown, while pushes are rejected because they cannot
    /// be stored, and after the start until each target has been polled once. Storage is
    /// restored before anything is served.
    fn ready(&self) -> Reply {
        let unready = |text: String| reply::text(StatusCode::SERVICE_UNAVAILABLE, text + "\n");
        if self.leaving.is_cancelled() {
            return unready("shutting down".to_owned());
        }
        let failure = self.journal.failure();
        if let Some(failure) = failure.as_ref().filter(|_| self.journal.rejects()) {
            return unready(failure.to_string());
        }
        let telemetry = &self.telemetry;
        if let Some(waiting) = telemetry.targets.untried(telemetry.started, Now::read()) {
            return unready(waiting);
        }
        let text = failure.map_or_else(|| "OK".to_owned(), |failure| failure.to_string());
        reply::text(StatusCode::OK, text + "\n")
    }

    /// `/health`: 200, or 503 during shutdown, with an empty body, as in metrics-server.
    fn health(&self) -> Reply {
        reply::text(self.status(), "")
    }

    /// `/healthy` and `/ready`, as in prom-aggregation-gateway.
    fn alive(&self) -> Reply {
        let value = json!({
            "name": "exporter-proxy",
            "alive": !self.leaving.is_cancelled(),
            "version": env!("CARGO_PKG_VERSION"),
            "commitSHA": "",
        });
        reply::json_with(self.status(), &value)
    }

    /// 200, or 503 during shutdown.
    fn status(&self) -> StatusCode {
        match self.leaving.is_cancelled() {
            true => StatusCode::SERVICE_UNAVAILABLE,
            false => StatusCode::OK,
        }
    }
}
