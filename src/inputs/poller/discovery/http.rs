//! `http_sd`: requests lists from HTTP servers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use xxhash_rust::xxh3::xxh3_128;

use super::Look;
use super::found::{Findings, FoundReader, Room, found_in};
use super::lists::{self, ListFormat};
use crate::exposition::Text;
use crate::inputs::poller::config::discovery::HttpSd;
use crate::inputs::poller::error::ScrapeError;
use crate::inputs::poller::fetch::Fetcher;
use crate::net::INLINE_BYTES;
use crate::reason::Reason;

/// A list on an HTTP server.
#[derive(Debug)]
pub struct HttpList {
    config: Arc<HttpSd>,
    fetcher: Fetcher,
    room: Room,
    found_in: Arc<str>,
    /// A hash of the last list.
    last: Option<u128>,
}

impl HttpList {
    pub fn new(name: &str, config: &Arc<HttpSd>, fetcher: Fetcher, room: Room) -> Self {
        HttpList {
            config: Arc::clone(config),
            fetcher,
            room,
            found_in: found_in(name, &config.url),
            last: None,
        }
    }

    /// The time from one request to the next.
    pub fn interval(&self) -> Duration {
        self.config.refresh_interval
    }

    /// Requests the list.
    pub async fn look(&mut self) -> Look {
        let limit = self.config.timeout;
        let fetched = match timeout(limit, self.fetcher.fetch()).await {
            Ok(Ok(fetched)) => fetched,
            Ok(Err(error)) => return Look::failed(error),
            Err(_) => {
                let message = format!("no complete response within {limit:?} (timeout)");
                return Look::failed(ScrapeError::new(Reason::Timeout, &message));
            }
        };
        let hash = xxh3_128(fetched.text.bytes());
        let mut look = Look {
            findings: None,
            result: Some(Ok(())),
        };
        if self.last != Some(hash) {
            match self.read(fetched.text).await {
                Ok(findings) => {
                    look.findings = Some(findings);
                    self.last = Some(hash);
                }
                Err(error) => look.result = Some(Err(error)),
            }
        }
        look
    }

    async fn read(&self, text: Text) -> Result<Findings, ScrapeError> {
        let (is_large, room) = (text.len() > INLINE_BYTES, self.room);
        let (config, found_in) = (Arc::clone(&self.config), Arc::clone(&self.found_in));
        let read = move || {
            let reader =
                FoundReader::with_meta(&config.targets, "__meta_url", config.url.to_string());
            lists::read(text.as_str(), ListFormat::Json, &reader, &found_in, room)
        };
        let list = match is_large {
            true => self.fetcher.pool.run(read).await.map_err(|error| {
                ScrapeError::new(Reason::Closed, &format!("the list cannot be read: {error}"))
            })?,
            false => read(),
        };
        list.map_err(|problem| {
            let message = format!("the response is not a list of targets: {problem}");
            ScrapeError::new(Reason::Malformed, &message)
        })
    }
}
