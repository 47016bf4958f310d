//! Pushes that are added to living families: `/metrics{/<label>/<value>}`,
//! prom-aggregation-gateway's paths, which Gravel shares, and Pushgateway's.

use std::sync::Arc;

use hyper::Method as HttpMethod;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};

use super::push::config::Config as PushConfig;
use super::push::http::{Call, after, with_body};
use crate::clock::Now;
use crate::http::query;
use crate::http::reply::{self, Reply};
use crate::ingest::config::PushMode;
use crate::ingest::{Addition, Body, Fault, Group, Intake, LONGEST_KEY, Once};
use crate::outputs::api::series;
use crate::reason::Reason;
use crate::store::Store;
use crate::telemetry::PushMethod;

/// What such pushes are counted as.
const METHOD: PushMethod = PushMethod::Aggregate;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Tells that a push was counted before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What a push does: what its query asks for, or the setting.
pub fn mode(query: &str, config: &PushConfig) -> Result<PushMode, Fault> {
    match query::value(query, "mode").as_deref() {
        None => Ok(config.mode),
        Some("replace") => Ok(PushMode::Replace),
        Some("aggregate") => Ok(PushMode::Aggregate),
        Some(other) => {
            let message = format!("mode is \"replace\" or \"aggregate\", not {other:?}");
            Err(Fault::new(Reason::BadParameter, &message))
        }
    }
}

/// Whether a request to a path of pushes is one to add, or to remove what was
/// added.
pub fn is_meant(method: &HttpMethod, query: &str, config: &PushConfig) -> bool {
    matches!(
        *method,
        HttpMethod::PUT | HttpMethod::POST | HttpMethod::DELETE
    ) && matches!(mode(query, config), Ok(PushMode::Aggregate))
}

/// Adds a push with the labels of that path, what follows `/metrics/`, or
/// removes the series that have them.
pub async fn answer(call: &Call<'_>, path: &str, body: Incoming) -> Reply {
    let utf8_names = call.pushes.intake.config.enable_utf8_names;
    let labels = Group::of_labels_path(path, utf8_names).map_err(Fault::from);
    if *call.method != HttpMethod::DELETE {
        return add(call, labels, body).await;
    }
    let reply = match labels {
        Ok(labels) => series::remove_labelled(call, labels).await,
        Err(fault) => call.refuse(PushMethod::Delete, &fault, 0),
    };
    after(reply, body).await
}

async fn add(call: &Call<'_>, labels: Result<Group, Fault>, body: Incoming) -> Reply {
    let asked = labels.and_then(|labels| Ok((labels, addition(call)?)));
    let (labels, addition) = match asked {
        Ok(asked) => asked,
        Err(fault) => return after(told(call, Err(fault), 0), body).await,
    };
    match call.read(METHOD, body).await {
        Ok(body) => {
            let bytes = body.len();
            let labels = Arc::new(labels);
            let put_on = Arc::clone(&labels);
            let add = move |intake: &Intake, store: &Store, body: Body<'_>| {
                intake.add(store, &put_on, body, &addition, Now::read())
            };
            let added = with_body(call, &labels, body, add).await;
            told(call, added, bytes)
        }
        Err(reply) => reply,
    }
}

pub fn addition(call: &Call<'_>) -> Result<Addition, Fault> {
    let key = match call.headers.get(IDEMPOTENCY_KEY) {
        None => None,
        Some(key) => {
            let key = key.to_str().unwrap_or_default();
            if key.is_empty() || key.len() > LONGEST_KEY {
                let message = format!(
                    "an Idempotency-Key has 1 to {LONGEST_KEY} characters, all of them ASCII"
                );
                return Err(Fault::new(Reason::BadParameter, &message));
            }
            Some(key.to_owned())
        }
    };
    Ok(Addition {
        ttl: call.ttl()?,
        key,
    })
}

/// The answer to a push, as prom-aggregation-gateway gives it.
fn told(call: &Call<'_>, added: Result<Once, Fault>, bytes: usize) -> Reply {
    match added {
        Ok(once) => {
            let mut reply = reply::empty(StatusCode::ACCEPTED);
            mark(call, METHOD, once, bytes, &mut reply);
            reply
        }
        Err(fault) => {
            let mut reply = call.refuse(METHOD, &fault, bytes);
            let nosniff = HeaderValue::from_static("nosniff");
            reply.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, nosniff);
            reply
        }
    }
}

/// Counts an accepted push, and marks the reply to a repeated one.
pub fn mark(call: &Call<'_>, method: PushMethod, once: Once, bytes: usize, reply: &mut Reply) {
    let pushes = &call.server.telemetry.pushes;
    let (keys, forgotten) = call.pushes.intake.key_counts();
    pushes.keys.set(keys);
    pushes.forgotten_keys.raise_to(forgotten);
    pushes.count(method, Ok(()), bytes);
    if once == Once::Repeated {
        pushes.repeated.add(1);
        let yes = HeaderValue::from_static("true");
        reply.headers_mut().insert(REPLAYED, yes);
    }
}
