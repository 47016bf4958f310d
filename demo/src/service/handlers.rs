//! The replies of the service.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use fastrand::Rng;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::{Method, Request, Response, StatusCode, Uri};
use serde::Serialize;
use tokio::time::timeout;

use super::delays::Delays;
use super::metrics::Metrics;
use super::routes::{self, Measured, Route};
use super::store::{self, Draft, Store};
use crate::people;

/// Delays of requests that read are below this, in milliseconds.
const READ_DELAY: u64 = 1000;

/// Delays of requests that create or change are below this, in milliseconds.
const WRITE_DELAY: u64 = 2000;

/// The limit on a body in bytes, far above the largest bucket.
const MAX_BODY: usize = 1 << 20;

/// The time for a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

type Reply = Response<Full<Bytes>>;

/// The service, shared by all connections.
#[derive(Debug)]
pub struct Service {
    store: Store,
    metrics: Metrics,
    delays: Delays,
}

impl Service {
    /// Creates the service with one person. `factor` multiplies the delays.
    pub fn new(mut rng: Rng, factor: f64) -> prometheus::Result<Self> {
        let store = Store::default();
        let first = people::Body::random(&mut rng);
        let draft = Draft {
            first_name: first.first_name.to_owned(),
            last_name: first.last_name.to_owned(),
            email: first.email,
            address: first.address.to_owned(),
        };
        store.create(draft, now()).expect("an empty store has room");
        Ok(Service {
            store,
            metrics: Metrics::new()?,
            delays: Delays::new(rng, factor),
        })
    }

    /// Samples the use of CPU and memory.
    pub fn sample_use(&self) {
        self.metrics.sample_use();
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>) -> Reply {
        let (head, body) = request.into_parts();
        match routes::find(&head.method, head.uri.path()) {
            Route::Measured(measured) => {
                let measurement = self.metrics.begin(measured);
                let result = self.answer_measured(measured, &head.uri, body).await;
                let reply = result.unwrap_or_else(|rejected| rejected.reply());
                measurement.finish(reply.status().as_u16());
                reply
            }
            Route::Metrics => self.exposition(),
            Route::Health => text(StatusCode::OK, "ok"),
            Route::Redirect(path) => redirect(&path, head.uri.query(), &head.method),
            Route::MethodNotAllowed(allowed) => {
                let mut reply = empty(StatusCode::METHOD_NOT_ALLOWED);
                let allowed = HeaderValue::from_static(allowed);
                reply.headers_mut().insert(ALLOW, allowed);
                reply
            }
            Route::NotFound => text(StatusCode::NOT_FOUND, "404 page not found"),
        }
    }

    async fn answer_measured(
        &self,
        measured: Measured<'_>,
        uri: &Uri,
        body: Incoming,
    ) -> Result<Reply, Rejected> {
        match measured {
            Measured::List => self.list(uri.query().unwrap_or_default()).await,
            Measured::Create => self.create(body).await,
            Measured::Get(id) => self.get(id).await,
            Measured::Update(id) => self.update(id, body).await,
            Measured::Delete(id) => self.delete(id),
        }
    }

    async fn list(&self, query: &str) -> Result<Reply, Rejected> {
        let start = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("start="))
            .filter(|start| !start.is_empty());
        let start = start.map_or(Ok(0), str::parse);
        let start = start.map_err(|_| Rejected::Invalid("start is not the number of a person"))?;
        let persons = self.store.list(start);
        self.delays.wait(READ_DELAY).await;
        Ok(json(StatusCode::OK, &persons))
    }

    async fn get(&self, id: &str) -> Result<Reply, Rejected> {
        let person = self.store.get(id).ok_or_else(|| {
            self.metrics.not_found.inc();
            Rejected::NotFound
        })?;
        self.delays.wait(READ_DELAY).await;
        Ok(json(StatusCode::OK, &person))
    }

    async fn create(&self, body: Incoming) -> Result<Reply, Rejected> {
        let body = read(body).await?;
        self.metrics.payload_sizes.observe(body.len() as f64);
        let draft = draft(&body)?;
        if draft.first_name.is_empty() || draft.last_name.is_empty() {
            return Err(Rejected::Invalid("first_name or last_name is empty"));
        }
        let person = self.store.create(draft, now())?;
        self.metrics.created.inc();
        self.delays.wait(WRITE_DELAY).await;
        Ok(json(StatusCode::CREATED, &person))
    }

    async fn update(&self, id: &str, body: Incoming) -> Result<Reply, Rejected> {
        let draft = draft(&read(body).await?)?;
        let person = self.store.update(id, draft, now()).ok_or_else(|| {
            self.metrics.not_found.inc();
            Rejected::NotFound
        })?;
        self.delays.wait(WRITE_DELAY).await;
        Ok(json(StatusCode::OK, &person))
    }

    fn delete(&self, id: &str) -> Result<Reply, Rejected> {
        if !self.store.delete(id) {
            return Err(Rejected::NotFound);
        }
        self.metrics.deleted.inc();
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// `/metrics`.
    fn exposition(&self) -> Reply {
        match self.metrics.text(self.store.len()) {
            Ok(text) => {
                let mut reply = Response::new(Full::from(text));
                let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                reply.headers_mut().insert(CONTENT_TYPE, format);
                reply
            }
            Err(problem) => text(StatusCode::INTERNAL_SERVER_ERROR, &problem.to_string()),
        }
    }
}

/// Why a request is rejected.
#[derive(Debug, thiserror::Error)]
enum Rejected {
    #[error("{0}")]
    Invalid(&'static str),
    #[error("the body is not a person in JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the body is incomplete")]
    Incomplete,
    #[error("the body did not arrive within {BODY_TIMEOUT:?}")]
    Late,
    #[error("the body has more than {MAX_BODY} bytes")]
    TooLarge,
    #[error("there is no such person")]
    NotFound,
    #[error(transparent)]
    Full(#[from] store::Full),
}

impl Rejected {
    fn reply(&self) -> Reply {
        let status = match self {
            Rejected::Invalid(_) | Rejected::Json(_) | Rejected::Incomplete => {
                StatusCode::BAD_REQUEST
            }
            Rejected::Late => StatusCode::REQUEST_TIMEOUT,
            Rejected::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Rejected::NotFound => StatusCode::NOT_FOUND,
            Rejected::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
        };
        text(status, &self.to_string())
    }
}

/// Parses a person.
///
/// # Errors
///
/// It is not a JSON object, or has values that are not text.
fn draft(body: &[u8]) -> Result<Draft, Rejected> {
    // Serde reads structs from arrays, too.
    match body.trim_ascii_start().first() {
        Some(b'{') | None => Ok(serde_json::from_slice(body)?),
        Some(_) => Err(Rejected::Invalid(
            "the body is not a person in JSON: it must be an object",
        )),
    }
}

/// Reads a body.
///
/// # Errors
///
/// It is too large, late or cut off.
async fn read(body: Incoming) -> Result<Bytes, Rejected> {
    match timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(problem)) if problem.is::<LengthLimitError>() => Err(Rejected::TooLarge),
        Ok(Err(_)) => Err(Rejected::Incomplete),
        Err(_) => Err(Rejected::Late),
    }
}

/// The time in RFC 3339, in seconds, UTC.
fn now() -> String {
    DateTime::<Utc>::from(SystemTime::now()).to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = status;
    reply
}

/// A line of text.
fn text(status: StatusCode, line: &str) -> Reply {
    const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
    let mut reply = Response::new(Full::from(format!("{line}\n")));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, PLAIN);
    reply
}

/// JSON, with a line feed at the end.
fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    let mut body = serde_json::to_vec(value).expect("persons can be written as JSON");
    body.push(b'\n');
    let mut reply = Response::new(Full::from(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, JSON);
    reply
}

/// Redirects the client to a path of this service.
fn redirect(path: &str, query: Option<&str>, method: &Method) -> Reply {
    let location = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut reply = match *method {
        Method::GET | Method::HEAD => text(StatusCode::MOVED_PERMANENTLY, &location),
        _ => empty(StatusCode::MOVED_PERMANENTLY),
    };
    // Parts of a valid URI make a valid header.
    if let Ok(location) = HeaderValue::from_str(&location) {
        reply.headers_mut().insert(LOCATION, location);
    }
    reply
}
