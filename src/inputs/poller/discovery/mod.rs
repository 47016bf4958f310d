//! Finds targets to poll: in files, in lists on HTTP servers, and in DNS.
//!
//! Each discovery has a task. Its targets are the last ones that it found: a failed update
//! leaves them unchanged.
//!
//! - [`lists`]: lists of targets as JSON and YAML; [`found`]: the meaning of an entry's
//!   labels.
//! - [`files`], [`http`]: sources of lists; [`dns`]: addresses of names; [`textfiles`]:
//!   files with metrics.
//! - [`names`]: the names of found targets.

mod dns;
mod files;
pub mod found;
mod http;
pub mod lists;
pub mod names;
#[cfg(test)]
mod tests;
mod textfiles;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use self::dns::DnsNames;
use self::files::FileLists;
use self::found::{Findings, Room};
use self::http::HttpList;
use self::textfiles::Textfiles;
use super::clients::SharedClient;
use super::config::discovery::Discovery;
use super::config::target::Target;
use super::error::ScrapeError;
use super::fetch::{Fetcher, Purpose};
use crate::net::BlockingPool;

/// The interval between looks at files.
const FILE_INTERVAL: Duration = Duration::from_secs(1);

/// The source of a discovery's targets.
#[derive(Debug)]
pub enum Source {
    /// Files.
    Files(Box<FileLists>),
    /// A list on an HTTP server.
    Http(Box<HttpList>),
    /// DNS names.
    Dns(Box<DnsNames>),
    /// Files with metrics.
    Textfiles(Box<Textfiles>),
}

/// The outcome of a look.
#[derive(Debug, Default)]
pub struct Look {
    /// The findings, if they differ from the last ones.
    pub findings: Option<Findings>,
    /// Whether the update succeeded; `None` if there was nothing to read.
    pub result: Option<Result<(), ScrapeError>>,
}

impl Look {
    /// A failed update. The last findings stay.
    fn failed(error: ScrapeError) -> Self {
        Look {
            findings: None,
            result: Some(Err(error)),
        }
    }
}

/// Settings for fetching lists from HTTP servers.
#[derive(Debug)]
pub struct ListFetcher {
    pub client: Arc<SharedClient>,
    /// Threads for processing large lists.
    pub pool: BlockingPool,
}

impl ListFetcher {
    fn fetcher(self, list: Target, max_body: usize) -> Fetcher {
        Fetcher {
            target: Arc::new(list),
            client: self.client,
            keep: false,
            max_body,
            pool: self.pool,
            purpose: Purpose::List,
        }
    }
}

impl Source {
    /// The source of a discovery, whose setting is `name`. `list` says how to fetch lists
    /// from HTTP servers. Lists may have `max_body` bytes, and there is `room` for their
    /// targets. `before` are findings in the same place with other settings, which stay
    /// until they are found again.
    pub fn new(
        name: &str,
        discovery: &Discovery,
        list: ListFetcher,
        max_body: usize,
        room: Room,
        before: &Findings,
    ) -> Self {
        match discovery {
            Discovery::File(file_sd) => {
                let files = FileLists::new(name, file_sd, max_body, room, before);
                Source::Files(Box::new(files))
            }
            Discovery::Http(http_sd) => {
                let fetcher = list.fetcher(http_sd.as_target(name), max_body);
                Source::Http(Box::new(HttpList::new(name, http_sd, fetcher, room)))
            }
            Discovery::Dns(dns_sd) => Source::Dns(Box::new(DnsNames::new(name, dns_sd, before))),
            Discovery::Textfile(config) => {
                Source::Textfiles(Box::new(Textfiles::new(name, config)))
            }
        }
    }

    /// The schedule of looks, the first of them at once.
    pub fn ticks(&self) -> Interval {
        let interval = match self {
            Source::Files(_) | Source::Textfiles(_) => FILE_INTERVAL,
            Source::Http(list) => list.interval(),
            Source::Dns(names) => names.interval(),
        };
        let mut ticks = interval_at(Instant::now(), interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    /// Looks for targets.
    pub async fn look(&mut self) -> Look {
        match self {
            Source::Files(files) => files.look().await,
            Source::Http(list) => list.look().await,
            Source::Dns(names) => names.look().await,
            Source::Textfiles(files) => files.look().await,
        }
    }
}
