//! What is here, and whether it is well.

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::clock::Now;
use crate::context::Context;
use crate::http::reply::{self, Reply};
use crate::http::router::{ANY_METHOD, ANY_PARAMETER, Route};
use crate::telemetry::dates;

/// What `/` shows.
const INDEX: &str = concat!(
    "exporter-proxy ",
    env!("CARGO_PKG_VERSION"),
    "

/metrics              everything, for Prometheus
/metrics?app=A        one app; ?name[]=F one family; each as often as needed
/apps                 who sent what, from where, when
/apps?wide=1          the same with peer, age, bytes, samples, state, last problem
/apps?format=json     the same as JSON
/apps/{name}          one app or target as JSON
/apps/{name}/metrics  its text alone
/-/healthy            200 while the process serves
/-/ready              200 until it is told to stop
/health               200, or 503 once it is told to stop
/ping                 PONG and the time

Where pushes are taken (push.listen):

/metrics/job/{job}    PUT, POST, DELETE: as with Pushgateway
/api/v1/groups        what was pushed
/create, /update      POST: counts, as JSON or text
/apps/{name}          DELETE: removes an app
/webhook, /slack      POST: webhooks; /webhooks shows which came
/time, /echo          the time; the request as it came
"
);

/// The index, and whether the program lives and is ready.
#[derive(Debug)]
pub struct Status {
    /// Cancelled when shutdown is near.
    leaving: CancellationToken,
}

impl Status {
    /// The output, ready to serve its routes.
    pub fn new(context: &Context) -> Arc<Self> {
        Arc::new(Status {
            leaving: context.leaving.clone(),
        })
    }

    /// Its routes.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        let read = |name, pattern, handle| Route::read(name, pattern, ANY_PARAMETER, self, handle);
        let pushes = |route: Route| route.on_push_listener().without_options();
        vec![
            read("index", "/", |_, _| {
                Box::pin(async { reply::text(StatusCode::OK, INDEX) })
            }),
            read("healthy", "/-/healthy", |_, _| {
                Box::pin(async { reply::text(StatusCode::OK, "OK\n") })
            }),
            read("ready", "/-/ready", |it, _| Box::pin(async { it.ready() })),
            read("health", "/health", |it, _| Box::pin(async { it.health() })),
            pushes(read("healthy", "/healthy", |it, _| {
                Box::pin(async { it.alive() })
            })),
            pushes(read("ready", "/ready", |it, _| {
                Box::pin(async { it.alive() })
            })),
            read("ping", "/ping", |_, _| Box::pin(async { ping() })),
            pushes(read("ping", "/ping", |_, _| Box::pin(async { ping() })).methods(ANY_METHOD)),
        ]
    }

    /// `/-/ready`: 200 until shutdown is near.
    fn ready(&self) -> Reply {
        match self.leaving.is_cancelled() {
            true => reply::text(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n"),
            false => reply::text(StatusCode::OK, "OK\n"),
        }
    }

    /// `/health`: the same with an empty body, as metrics-server has it.
    fn health(&self) -> Reply {
        reply::text(self.status(), "")
    }

    /// `/healthy` and `/ready`, as prom-aggregation-gateway has them.
    fn alive(&self) -> Reply {
        let value = json!({
            "name": "exporter-proxy",
            "alive": !self.leaving.is_cancelled(),
            "version": env!("CARGO_PKG_VERSION"),
            "commitSHA": "",
        });
        reply::json_with(self.status(), &value)
    }

    fn status(&self) -> StatusCode {
        match self.leaving.is_cancelled() {
            true => StatusCode::SERVICE_UNAVAILABLE,
            false => StatusCode::OK,
        }
    }
}

/// `/ping`, as pingpong has it.
fn ping() -> Reply {
    let now = dates::utc(Now::read().wall);
    reply::text(StatusCode::OK, format!("PONG - {now}\n"))
}
