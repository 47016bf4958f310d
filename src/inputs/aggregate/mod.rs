//! Aggregating pushes, which are added to aggregated families as in
//! prom-aggregation-gateway: to `/metrics` or `/metrics/<label>/<value>...` with
//! `?mode=aggregate`, or to every such path with `push.mode = "aggregate"`.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};

use super::parameters::{self, count_addition, when_aggregating};
use crate::clock::Now;
use crate::context::Context;
use crate::http::reply::{self, Reply};
use crate::http::request::Request;
use crate::http::router::Route;
use crate::http::work;
use crate::ingest::bounds::check_group;
use crate::ingest::config::PushMode;
use crate::ingest::{Admission, Body, Group, Rejection, SeriesSelection};
use crate::reason::Reason;
use crate::store::Store;
use crate::telemetry::PushMethod;

/// Adds pushes to aggregated families, and removes series from them.
#[derive(Debug)]
pub struct Aggregate {
    admission: Arc<Admission>,
    store: Arc<Store>,
    mode: PushMode,
    utf8_names: bool,
}

impl Aggregate {
    /// Creates the input. `mode` is `push.mode`, and `utf8_names`
    /// `push.enable_utf8_names`.
    pub fn new(mode: PushMode, utf8_names: bool, context: &Context) -> Arc<Self> {
        Arc::new(Aggregate {
            admission: Arc::clone(&context.admission),
            store: Arc::clone(&context.store),
            mode,
            utf8_names,
        })
    }

    /// The routes of the input.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        const LABELS: &str = "/metrics[/{*labels}]";
        let when = when_aggregating(self.mode);
        vec![
            Route::write(
                "push",
                "PUT, POST",
                LABELS,
                "mode ttl",
                self,
                |it, request| Box::pin(it.add(request)),
            )
            .counted(PushMethod::Aggregate)
            .checks_scope()
            .when("aggregating", Arc::clone(&when)),
            Route::write("delete", "DELETE", LABELS, "mode", self, |it, request| {
                Box::pin(it.remove(request))
            })
            .counted(PushMethod::Delete)
            .checks_scope()
            .when("aggregating", when),
        ]
    }

    fn labels(&self, request: &Request) -> Result<Group, Rejection> {
        Group::from_labels_path(&request.captured, self.utf8_names)
    }

    /// Adds a push. The replies are those of prom-aggregation-gateway.
    async fn add(&self, request: &mut Request) -> Reply {
        let parsed = self.labels(request);
        let parsed = parsed.and_then(|labels| Ok((labels, parameters::addition(request)?)));
        let (labels, addition) = match parsed {
            Ok((labels, addition)) => (Arc::new(labels), addition),
            Err(rejection) => return reject(request, &rejection, 0),
        };
        let body = match request.read_body().await {
            Ok(body) => body,
            Err(reply) => return reply,
        };
        let bytes = body.len();
        let add = {
            let (admission, store) = (Arc::clone(&self.admission), Arc::clone(&self.store));
            let labels = Arc::clone(&labels);
            move |body: Body<'_>| admission.add(&store, &labels, body, &addition, Now::read())
        };
        let core = (&self.admission, &*self.store);
        match work::with_labels(request, core, &labels, body, add).await {
            Ok(outcome) => {
                let mut reply = reply::empty(StatusCode::ACCEPTED);
                count_addition(request, &self.admission, outcome, bytes, &mut reply);
                reply
            }
            Err(rejection) => reject(request, &rejection, bytes),
        }
    }

    /// Removes the aggregated series that have the labels of the path.
    async fn remove(&self, request: &mut Request) -> Reply {
        let labels = match self.labels(request) {
            Ok(labels) => labels,
            Err(rejection) => return request.reject(&rejection, 0),
        };
        // An empty value matches all series without the label.
        if labels.labels().values().all(String::is_empty) {
            let message = "name at least one label and its value, as in /metrics/job/x; DELETE \
                           /api/v1/series?match[]={} removes all aggregated series";
            return request.reject(&Rejection::new(Reason::BadParameter, message), 0);
        }
        if let Err(rejection) = check_group(&request.scope, &labels) {
            return request.reject(&rejection, 0);
        }
        let selection = SeriesSelection::Labels(labels);
        let removed = match work::remove_series(request, &self.store, selection, false).await {
            Ok(removed) => removed,
            Err(reply) => return reply,
        };
        request.count_success(0);
        if removed.count == 0 {
            let problem = "no aggregated series has these labels\n";
            return reply::text(StatusCode::NOT_FOUND, problem);
        }
        reply::empty(StatusCode::ACCEPTED)
    }
}

fn reject(request: &Request, rejection: &Rejection, bytes: usize) -> Reply {
    let mut reply = request.reject(rejection, bytes);
    let nosniff = HeaderValue::from_static("nosniff");
    reply.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, nosniff);
    reply
}
