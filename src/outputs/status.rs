//! The index page, and health checks.

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::clock::Now;
use crate::context::Context;
use crate::http::reply::{self, Reply};
use crate::http::router::{ANY_METHOD, ANY_PARAMETER, Route};
use crate::storage::Journal;
use crate::telemetry::dates;

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
/-/ready              200, or 503 during shutdown and while storage rejects pushes
/health               the same without text
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
    /// The text of `/`.
    index: String,
    journal: Journal,
}

impl Status {
    /// Creates the output. `prefix` is the begin of paths in links.
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
        })
    }

    /// The routes of the output.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        let read = |name, pattern, handle| Route::read(name, pattern, ANY_PARAMETER, self, handle);
        let pushes = |route: Route| route.on_push_listener().without_options();
        vec![
            read("index", "/", |it, _| {
                Box::pin(async { reply::text(StatusCode::OK, it.index.clone()) })
            }),
            read("healthy", "/-/healthy", |_, _| {
                Box::pin(async { reply::text(StatusCode::OK, "OK\n") })
            }),
            read("ready", "/-/ready", |it, _| Box::pin(async { it.ready() })),
            read("health", "/health", |it, _| Box::pin(async { it.health() })),
            pushes(read("healthy", "/healthy", |it, _| {
                Box::pin(async { it.alive() })
            }))
            .elsewhere("/-/healthy"),
            pushes(read("ready", "/ready", |it, _| {
                Box::pin(async { it.alive() })
            }))
            .elsewhere("/-/ready"),
            read("ping", "/ping", |_, _| Box::pin(async { ping() })),
            pushes(read("ping", "/ping", |_, _| Box::pin(async { ping() })).methods(ANY_METHOD)),
        ]
    }

    /// `/-/ready`: 200, or 503 during shutdown and while pushes are rejected because they
    /// cannot be stored.
    fn ready(&self) -> Reply {
        match (self.leaving.is_cancelled(), self.journal.failure()) {
            (true, _) => reply::text(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n"),
            (false, None) => reply::text(StatusCode::OK, "OK\n"),
            (false, Some(failure)) => {
                let status = match self.journal.rejects() {
                    true => StatusCode::SERVICE_UNAVAILABLE,
                    false => StatusCode::OK,
                };
                reply::text(status, format!("{failure}\n"))
            }
        }
    }

    /// `/health`: the same with an empty body, as in metrics-server.
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

/// `/ping`, as in pingpong.
fn ping() -> Reply {
    let now = dates::utc(Now::read().wall);
    reply::text(StatusCode::OK, format!("PONG - {now}\n"))
}
