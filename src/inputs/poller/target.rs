//! The task of one target: polls, stores, and logs changes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use super::error::ScrapeError;
use super::fetch::{Fetched, Fetcher};
use crate::clock::Now;
use crate::context::Context;
use crate::exposition::{InputFormat, sample_lines};
use crate::ingest::{Admission, Rejection};
use crate::net::{BlockingPool, INLINE_BYTES};
use crate::peer::{Origin, Peer};
use crate::reason::Reason;
use crate::store::{Change, Producer, SectionId, Store, Write};
use crate::telemetry::{TargetStats, sender_log};

/// A target with its section and statistics.
#[derive(Debug)]
pub struct PolledTarget {
    fetcher: Fetcher,
    stats: Arc<TargetStats>,
    admission: Arc<Admission>,
    store: Arc<Store>,
    pool: BlockingPool,
    id: SectionId,
    source: Arc<str>,
    /// The result of the last poll: only changes are logged.
    last: Option<Result<(), Reason>>,
}

impl PolledTarget {
    pub fn new(fetcher: Fetcher, pool: BlockingPool, context: &Context) -> Self {
        let target = &fetcher.target;
        PolledTarget {
            stats: context.telemetry.add_target(&target.name),
            admission: Arc::clone(&context.admission),
            store: Arc::clone(&context.store),
            pool,
            id: SectionId::new(&target.name, Producer::Target),
            source: Arc::from(format!("external_poll: {}", target.url.authority())),
            fetcher,
            last: None,
        }
    }

    /// Lists the target in the store before its first response.
    pub fn list(&self) {
        let expect = Change::Expect {
            id: self.id.clone(),
            origin: self.origin(Peer::Unknown),
            url: Arc::from(self.fetcher.target.url.to_string()),
        };
        // The store never rejects a change without text.
        let _ = self.store.apply(Write::one(expect), Now::read());
    }

    /// Polls the target until the program stops, first after `offset`.
    pub async fn run(mut self, offset: Duration, stop: CancellationToken) {
        let interval = self.fetcher.target.interval;
        let mut ticks = interval_at(Instant::now() + offset, interval);
        // After a poll that took longer than the interval, polls stay on schedule.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let polls = async {
            loop {
                ticks.tick().await;
                // Boxed, so that a target takes little memory between its polls.
                Box::pin(self.poll()).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = polls => {}
        }
    }

    async fn poll(&mut self) {
        let started = Instant::now();
        let limit = self.fetcher.target.timeout;
        let fetched = timeout(limit, self.fetcher.fetch())
            .await
            .unwrap_or_else(|_| Err(ScrapeError::timed_out(limit)));
        let now = Now::read();
        let stored = match fetched {
            Ok(fetched) => self.store(fetched, now).await,
            Err(error) => Err(error),
        };
        let result = stored.as_ref().map_err(|error| error.reason).copied();
        if let Err(error) = &stored {
            let fail = Change::Fail {
                id: self.id.clone(),
                origin: self.origin(Peer::Unknown),
                problem: error.to_string(),
                keep: Some(self.fetcher.target.stale_after),
            };
            // The store never rejects a failure.
            let _ = self.store.apply(Write::one(fail), now);
        }
        self.stats.record(result, started.elapsed(), now);
        self.log(&stored);
        self.last = Some(result);
    }

    /// Admits and stores a text. A large text that must be parsed is parsed off the
    /// serving threads.
    async fn store(&self, fetched: Fetched, now: Now) -> Result<(), ScrapeError> {
        let Fetched { text, format, peer } = fetched;
        let is_parsed = self.admission.parses_texts() || format == Some(InputFormat::OpenMetrics);
        let is_large = text.len() > INLINE_BYTES;
        let (admission, store) = (Arc::clone(&self.admission), Arc::clone(&self.store));
        let (id, origin) = (self.id.clone(), self.origin(peer));
        let store = move || {
            let samples = sample_lines(text.as_str().as_bytes());
            let replace = Change::Replace {
                content: admission.admit(&id, text, format)?,
                id,
                origin,
                lifetime: None,
            };
            store.apply(Write::one(replace), now)?;
            Ok(samples)
        };
        let stored: Result<usize, Rejection> = if is_parsed && is_large {
            self.pool.run(store).await.map_err(|error| {
                let message = format!("the response cannot be processed: {error}");
                ScrapeError::new(Reason::Closed, &message)
            })?
        } else {
            store()
        };
        self.stats.record_samples(stored?);
        Ok(())
    }

    fn origin(&self, peer: Peer) -> Origin {
        Origin {
            source: Arc::clone(&self.source),
            peer,
            user: None,
        }
    }

    /// Logs one line when the target begins to fail, fails for another reason, or
    /// recovers. Other polls are logged at `debug`.
    fn log(&self, stored: &Result<(), ScrapeError>) {
        let target = &self.fetcher.target;
        let name = &target.name;
        match stored {
            Err(error) if self.last == Some(Err(error.reason)) => {
                log::debug!("target {name}: {error}");
            }
            Err(error) => {
                // What a target sent is quoted only at `debug`.
                let public = match error.quotes {
                    true => sender_log::without_excerpts(error.reason, &error.message),
                    false => error.message.as_str().into(),
                };
                log::warn!("target {name} ({}): {}: {public}", target.url, error.reason);
                if *public != *error.message {
                    log::debug!("target {name}: {error}");
                }
            }
            Ok(()) if matches!(self.last, Some(Err(_))) => {
                log::info!("target {name} answers again");
            }
            Ok(()) => log::debug!("target {name} answered"),
        }
    }
}
