//! Sends events to Loki, and to other systems with its push API, such as VictoriaLogs.
//!
//! - [`config`]: the settings;
//! - [`line`]: the text of an entry;
//! - [`request`]: events as one request: streams by labels, in JSON or protobuf.

mod config;
mod line;
mod request;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};

pub use config::{Encoding, Settings, read};

use super::http::{HttpClient, content_type};
use super::stored::{STORED_EVENT, StoredForm};
use super::{Report, Sink, read_events};
use crate::event::StoredEvent;
use crate::telemetry::sender_log::LogEvent;
use request::RequestBuilder;

/// The header with the tenant.
const TENANT: HeaderName = HeaderName::from_static("x-scope-orgid");

/// Sends entries.
#[derive(Debug)]
pub struct LokiSink {
    settings: Settings,
    client: HttpClient,
}

impl LokiSink {
    /// A sink with these settings.
    ///
    /// # Errors
    ///
    /// The client cannot be created from the settings.
    pub fn new(settings: Settings) -> Result<Self, String> {
        let client = HttpClient::new(&settings.server)?;
        Ok(LokiSink { settings, client })
    }
}

impl Sink for LokiSink {
    type Item = StoredEvent;

    const STORED: Option<StoredForm<StoredEvent>> = Some(STORED_EVENT);

    const LOG_EVENT: LogEvent = LogEvent::Sink;

    fn size(event: &StoredEvent) -> usize {
        event.bytes().len()
    }

    fn name(&self) -> String {
        format!("events to {}", self.settings.server.url)
    }

    async fn send(&mut self, batch: &[StoredEvent]) -> Report {
        let events = match read_events(batch) {
            Ok(events) => events,
            Err(report) => return *report,
        };
        let mut builder = RequestBuilder::new(&self.settings);
        events.iter().for_each(|event| builder.add(event));
        let (media, body) = builder.finish();
        let mut headers = content_type(media);
        if let Some(tenant) = &self.settings.tenant
            && let Ok(tenant) = HeaderValue::from_str(tenant)
        {
            headers.insert(TENANT, tenant);
        }
        let url = self.settings.server.url.0.clone();
        self.client
            .post_batch(url, headers, Bytes::from(body), batch.len())
            .await
    }
}
