//! Sends events as documents to OpenSearch or Elasticsearch.
//!
//! - [`config`]: the settings;
//! - [`index`]: the name of the index of a document;
//! - [`bulk`]: documents as a request to `_bulk`, and the answer to it.
//!
//! A document gets its identity on arrival and is only ever created. So a request that is sent
//! twice adds nothing the second time.

mod bulk;
mod config;
mod index;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use hyper::Method;
use serde_json::json;
use url::Url;

pub use config::{Settings, Template, read};

use super::http::{HttpClient, content_type};
use super::stored::{STORED_EVENT, StoredForm};
use super::{Report, Sink, read_events};
use crate::event::StoredEvent;
use crate::telemetry::sender_log::LogEvent;

/// The parts of an answer that the sink reads.
const FILTER: &str = "errors,items.*.status,items.*.error.type,items.*.error.reason";

/// Limit on the size of an answer: a few hundred bytes for each document.
const MAX_ANSWER: usize = 64 << 20;

/// Sends documents.
#[derive(Debug)]
pub struct OpenSearchSink {
    settings: Settings,
    client: HttpClient,
    /// Whether the template still has to be created.
    needs_template: bool,
}

impl Sink for OpenSearchSink {
    type Item = StoredEvent;

    const STORED: Option<StoredForm<StoredEvent>> = Some(STORED_EVENT);

    const LOG_EVENT: LogEvent = LogEvent::Sink;

    fn size(event: &StoredEvent) -> usize {
        event.bytes().len()
    }

    fn name(&self) -> String {
        format!("documents to {}", self.settings.server.url)
    }

    async fn send(&mut self, batch: &[StoredEvent]) -> Report {
        let events = match read_events(batch) {
            Ok(events) => events,
            Err(report) => return *report,
        };
        if self.needs_template {
            if let Err(problem) = self.put_template().await {
                return Report::failed(0, problem);
            }
            self.needs_template = false;
        }
        let body = bulk::body(&self.settings, &events);
        let mut url = self.url(&["_bulk"]);
        url.query_pairs_mut().append_pair("filter_path", FILTER);
        let headers = content_type("application/x-ndjson");
        let sent = self
            .client
            .send(Method::POST, url, headers, Bytes::from(body), MAX_ANSWER);
        match sent.await {
            Ok(answer) if answer.status.is_success() => bulk::judge(&answer.body, batch.len()),
            Ok(answer) => answer.judge(batch.len()),
            Err(problem) => Report::failed(0, problem),
        }
    }
}

impl OpenSearchSink {
    /// A sink with these settings.
    ///
    /// # Errors
    ///
    /// The client cannot be created from the settings.
    pub fn new(settings: Settings) -> Result<Self, String> {
        Ok(OpenSearchSink {
            client: HttpClient::new(&settings.server)?,
            needs_template: settings.template.is_some(),
            settings,
        })
    }

    /// The URL of the server with more segments.
    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.settings.server.url.0.clone();
        // It fails only for URLs without a host.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// Creates or replaces the index template.
    async fn put_template(&self) -> Result<(), String> {
        let Some(template) = &self.settings.template else {
            return Ok(());
        };
        let url = self.url(&["_index_template", &template.name]);
        let body = json!({
            "index_patterns": template.patterns,
            "template": {
                "settings": {
                    "number_of_shards": template.shards,
                    "number_of_replicas": template.replicas,
                },
                "mappings": {
                    "properties": {
                        "timestamp": {
                            "type": "date",
                            "format": "yyyy-MM-dd HH:mm:ss||yyyy-MM-dd||epoch_millis||\
                                       strict_date_optional_time_nanos",
                        },
                        "value": { "type": "double" },
                    },
                },
            },
        });
        let headers = content_type("application/json");
        let body = Bytes::from(body.to_string());
        let sent = self.client.send(Method::PUT, url, headers, body, 0);
        let answer = sent.await?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(format!(
                "cannot create the index template: {}",
                answer.describe_whole()
            )),
        }
    }
}
