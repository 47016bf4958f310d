//! `GET /api/v1/sd`: each app, target and group as a separate target, in the format of
//! Prometheus' `http_sd_configs`.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HOST;
use hyper::http::uri::Authority;
use serde_json::{Map, Value, json};

use crate::exposition::{label_pairs, plain_name, unescape};
use crate::http::reply::{self, Reply};
use crate::http::request::Request;
use crate::http_client::{INSTANCE_HEADER, instance};
use crate::ingest::Group;
use crate::outputs::base64_name;
use crate::outputs::batches::{PAGE_SECTIONS, SectionBatches};
use crate::outputs::kind;
use crate::store::{Producer, Section, SectionId, SectionState, Store};
use crate::telemetry::Telemetry;

/// Where Prometheus scrapes the targets.
struct Place {
    /// `host:port` as the client reaches it.
    address: String,
    scheme: &'static str,
    /// The prefix of paths.
    prefix: String,
}

/// Lists apps, targets and groups. Targets that have not been polled yet are left out, except
/// those that are polled only by scrapes.
pub async fn list(store: &Arc<Store>, request: &Request) -> Reply {
    let kinds = match kind::all_of_query(request.query()) {
        Ok(kinds) => kinds,
        Err(problem) => return reply::api_error(StatusCode::BAD_REQUEST, "bad_data", &problem),
    };
    let asks_itself = request.headers().get(INSTANCE_HEADER);
    if asks_itself.is_some_and(|it| it == instance()) {
        let problem = "a discovery of this proxy requests its own list (poll_external.http_sd): each \
                       target that it finds would be one more entry";
        return reply::api_error(StatusCode::LOOP_DETECTED, "bad_data", problem);
    }
    let place = Place::of(request);
    let totals = store.totals();
    let short = totals.states.all() <= PAGE_SECTIONS;
    let telemetry = Arc::clone(&request.server.telemetry);
    let mut first = true;
    let mut entries = Entries::new(telemetry, place);
    let items = SectionBatches::new(store, usize::MAX).map(move |sections| {
        let mut chunk = Vec::new();
        for (id, section) in &sections {
            let is_early =
                section.state == SectionState::Waiting && !entries.is_polled_by_scrapes(id);
            if !kinds.contains(&id.producer) || is_early {
                continue;
            }
            chunk.extend_from_slice(if first { b"" } else { b"," });
            first = false;
            let entry = entries.entry(id, section);
            serde_json::to_writer(&mut chunk, &entry).expect("a JSON value can be written");
        }
        Bytes::from(chunk)
    });
    let head = Bytes::from_static(b"[");
    let chunks = [head].into_iter().chain(items);
    let chunks = Box::new(chunks.chain([Bytes::from_static(b"]\n")]));
    reply::list(&request.server.pools.lists, short, true, chunks).await
}

impl Place {
    /// The place in `web.external_url`, or else the one that the client has used.
    fn of(request: &Request) -> Self {
        let server = &request.server;
        let front = &server.front;
        let is_secure = match front.origin() {
            Some(origin) => origin.starts_with("https:"),
            None => server.is_secure,
        };
        let written = request.headers().get(HOST).and_then(|it| it.to_str().ok());
        let authority = request.head.uri.authority().map(Authority::as_str);
        let address = front.host().or(authority).or(written);
        Place {
            address: address.unwrap_or(&server.source).to_owned(),
            scheme: if is_secure { "https" } else { "http" },
            prefix: front.link_prefix().to_owned(),
        }
    }
}

/// Makes the entries of the list.
struct Entries {
    telemetry: Arc<Telemetry>,
    place: Place,
}

impl Entries {
    fn new(telemetry: Arc<Telemetry>, place: Place) -> Self {
        Entries { telemetry, place }
    }

    fn is_polled_by_scrapes(&self, id: &SectionId) -> bool {
        let stats = self.telemetry.targets.get(&id.name);
        stats.is_some_and(|stats| stats.info().interval.is_none())
    }

    fn entry(&mut self, id: &SectionId, section: &Section) -> Value {
        let mut labels = self.own_labels(id);
        let kind = id.producer.as_str();
        for (name, value) in [
            ("__scheme__", self.place.scheme),
            ("__metrics_path__", &*path(&self.place.prefix, &id.name)),
            ("__param_kind", kind),
            ("__meta_exporter_proxy_kind", kind),
            ("__meta_exporter_proxy_name", &id.name),
            ("__meta_exporter_proxy_source", &section.origin.source),
        ] {
            labels.insert(name.to_owned(), json!(value));
        }
        json!({ "targets": [self.place.address], "labels": labels })
    }

    /// The labels that set an entry apart from others.
    fn own_labels(&self, id: &SectionId) -> Map<String, Value> {
        let mut labels = Map::new();
        match id.producer {
            Producer::Group => {
                let group = Group::from_key(&id.name);
                for (name, value) in group.iter().flat_map(Group::labels) {
                    // An empty label is no label, and Prometheus takes only plain names.
                    if !value.is_empty() {
                        labels.insert(plain_name(name).into_owned(), json!(value));
                    }
                }
            }
            producer => {
                let stats = self.telemetry.targets.get(&id.name);
                let info = stats.filter(|_| producer == Producer::Target);
                let given = info.map(|stats| stats.info());
                let given = given
                    .iter()
                    .flat_map(|info| label_pairs(info.labels.as_str()));
                for label in given {
                    let value = unescape(label.value);
                    labels.insert(label.name.to_owned(), json!(value));
                }
                labels.insert(producer.as_str().to_owned(), json!(*id.name));
            }
        }
        labels
    }
}

/// The path of the metrics of a section. A name that clients could encode in different ways is
/// written in base64.
fn path(prefix: &str, name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    match name.chars().all(is_plain) && !matches!(name, "" | "." | "..") {
        true => format!("{prefix}/apps/{name}/metrics"),
        false => format!(
            "{prefix}/apps@base64/{}/metrics",
            base64_name::encoded(name)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_the_same_encoded_and_not() {
        for (name, expected) in [
            ("billing", "/p/apps/billing/metrics"),
            ("a-b_c.d", "/p/apps/a-b_c.d/metrics"),
            ("..", "/p/apps@base64/Li4/metrics"),
            ("a b", "/p/apps@base64/YSBi/metrics"),
            ("h:1/a", "/p/apps@base64/aDoxL2E/metrics"),
        ] {
            assert_eq!(path("/p", name), expected);
        }
    }
}
