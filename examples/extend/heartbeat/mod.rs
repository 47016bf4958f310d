//! An input: `POST /heartbeat/{job}` counts that a job ran.

mod config;

use std::fmt;
use std::sync::Arc;

use exporter_proxy::clock::Now;
use exporter_proxy::context::Context;
use exporter_proxy::exposition::{Kind, LabelText};
use exporter_proxy::http::reply::{self, Reply};
use exporter_proxy::http::request::Request;
use exporter_proxy::http::router::Route;
use exporter_proxy::ingest::Rejection;
use exporter_proxy::reason::Reason;
use exporter_proxy::registry::{Batch, Change, Update};
use exporter_proxy::store::Store;
use hyper::StatusCode;

pub use config::Config;

/// Told of each job that ran. Returns whether it was noted.
type Notify = Arc<dyn Fn(String) -> bool + Send + Sync>;

/// Counts heartbeats.
pub struct Heartbeats {
    config: Config,
    store: Arc<Store>,
    notify: Notify,
}

impl fmt::Debug for Heartbeats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heartbeats")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Heartbeats {
    /// The input, ready to serve its route.
    pub fn new(config: Config, notify: Notify, context: &Context) -> Arc<Self> {
        Arc::new(Heartbeats {
            config,
            store: Arc::clone(&context.store),
            notify,
        })
    }

    /// Its route. 404, 405, checks of parameters and counting follow from it.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        vec![Route::write(
            "heartbeat",
            "POST",
            "/heartbeat/{job}",
            "",
            self,
            |it, request| Box::pin(async { it.beat(request) }),
        )]
    }

    fn beat(&self, request: &Request) -> Reply {
        let job = &request.captured;
        let batch = match self.batch(job) {
            Ok(batch) => batch,
            Err(rejection) => return request.reject(&rejection, 0),
        };
        if let Err(rejection) = self.store.operate(batch, Now::read()) {
            return request.reject(&rejection.into(), 0);
        }
        request.count_success(0);
        match (self.notify)(job.clone()) {
            true => reply::empty(StatusCode::ACCEPTED),
            false => reply::text(StatusCode::ACCEPTED, "counted; the sink is full\n"),
        }
    }

    /// The translation: one addition to one series.
    fn batch(&self, job: &str) -> Result<Batch, Rejection> {
        let labels = LabelText::from_plain([("job", job)])
            .map_err(|problem| Rejection::new(Reason::BadLabels, &problem.to_string()))?;
        Ok(Batch {
            updates: vec![Update {
                family: Arc::from(&*self.config.family),
                kind: Kind::Counter,
                help: Some(Arc::from("Times that the job ran.")),
                labels,
                ttl: None,
                change: Change::Add(1.0),
            }],
            ..Batch::default()
        })
    }
}
