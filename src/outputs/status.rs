//! What is here, and whether it is well.

use hyper::StatusCode;
use serde_json::json;

use crate::clock::Now;
use crate::http::Server;
use crate::http::reply::{self, Reply};
use crate::telemetry::dates;

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

pub fn index() -> Reply {
    reply::text(StatusCode::OK, INDEX)
}

pub fn healthy() -> Reply {
    reply::text(StatusCode::OK, "OK\n")
}

/// Every listener is bound before any is served, so who can ask finds it
/// ready, until a shutdown begins.
pub fn ready(server: &Server) -> Reply {
    if server.leaving.is_cancelled() {
        return reply::text(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n");
    }
    reply::text(StatusCode::OK, "OK\n")
}

/// The same without words, as metrics-server has it.
pub fn health(server: &Server) -> Reply {
    let status = if server.leaving.is_cancelled() {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    reply::text(status, "")
}

/// The same for clients of prom-aggregation-gateway, as it words it.
pub fn alive(server: &Server) -> Reply {
    let alive = !server.leaving.is_cancelled();
    let status = match alive {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let value = json!({
        "name": "exporter-proxy",
        "alive": alive,
        "version": env!("CARGO_PKG_VERSION"),
        "commitSHA": "",
    });
    reply::json_with(status, &value)
}

pub fn ping() -> Reply {
    let now = dates::utc(Now::read().wall);
    reply::text(StatusCode::OK, format!("PONG - {now}\n"))
}
