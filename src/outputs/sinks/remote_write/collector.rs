//! The task that collects all series on an interval.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::batches::{BatchLimits, Batches, Push};
use super::labeller::Labeller;
use super::outs::{Outs, Round, Tally};
use super::pages::Pages;
use super::request::Protocol;
use crate::clock::{self, Now};
use crate::ingest::selector::Selectors;
use crate::outputs::own_metrics::OwnMetrics;
use crate::store::{Snapshot, Store};
use crate::telemetry::SinkStats;
use crate::telemetry::sender_log::{self, LogEvent};

/// Time between two requests with the metadata of all families in protocol 1.0, as in
/// Prometheus.
const METADATA_INTERVAL: Duration = Duration::from_secs(60);

/// Collects series, and makes requests of them.
#[derive(Debug)]
pub struct Collector {
    store: Arc<Store>,
    /// The proxy's own metrics, if they are exposed.
    own_metrics: Option<OwnMetrics>,
    stats: Arc<SinkStats>,
    settings: Settings,
    protocol: Protocol,
    /// Set once the server turns out not to know protocol 2.0.
    fallen_back: Arc<AtomicBool>,
    outs: Outs,
    pages: Pages,
    /// The time of the last round.
    last: i64,
    /// When metadata is due in protocol 1.0.
    metadata_due: i64,
    /// Whether a request of the last round found no room.
    lost: bool,
}

/// The metrics that a collector sends.
#[derive(Debug)]
pub struct Source {
    /// The store with the series.
    pub store: Arc<Store>,
    /// The proxy's own metrics, which are updated before each collection.
    pub own_metrics: Option<OwnMetrics>,
}

impl Collector {
    /// A collector that has sent nothing yet.
    ///
    /// # Errors
    ///
    /// A selector is not valid.
    pub fn new(
        settings: Settings,
        limits: BatchLimits,
        source: Source,
        stats: Arc<SinkStats>,
        fallen_back: Arc<AtomicBool>,
        push: Push,
    ) -> Result<Self, String> {
        let selectors = settings.selectors.iter();
        let selectors = selectors.map(|text| Selectors::for_setting(text));
        let labeller = Labeller {
            selectors: selectors.collect::<Result<_, _>>()?,
            external_labels: settings.external_labels.clone(),
            relabel: settings.rules(),
        };
        let resend = settings.resend_unchanged;
        let resend = (!resend.is_zero()).then(|| millis(resend));
        let batches = Batches::new(settings.protocol, limits, push);
        let outs = Outs::new(labeller, resend, settings.metadata, batches);
        Ok(Collector {
            store: source.store,
            own_metrics: source.own_metrics,
            stats,
            protocol: settings.protocol,
            settings,
            fallen_back,
            outs,
            pages: Pages::new(),
            last: 0,
            metadata_due: 0,
            lost: false,
        })
    }

    /// Collects everything that is due.
    pub fn collect(&mut self, now: Now) {
        let start = clock::tick();
        if self.protocol == Protocol::V2 && self.fallen_back.load(Ordering::Relaxed) {
            self.fall_back();
        }
        if let Some(own_metrics) = &self.own_metrics {
            own_metrics.update();
        }
        let natives = self.settings.sends_natives(self.protocol);
        let snapshot = self.snapshot(natives, now);
        let round = self.next_round(now);
        if self.outs.take_orphaned() {
            self.pages.forget(&mut self.outs);
            self.outs.take_orphaned();
        }
        self.pages.collect(&snapshot, &mut self.outs, round);
        self.pages.collect_natives(&snapshot, &mut self.outs, round);
        let is_due = round.now >= self.metadata_due;
        if self.settings.metadata && self.protocol == Protocol::V1 && is_due {
            self.metadata_due = round.now + millis(METADATA_INTERVAL);
            let outs = &mut self.outs;
            self.pages
                .each_family(&snapshot, |head| outs.send_metadata(head));
        }
        self.lost = !self.outs.finish(round.now, natives);
        self.count();
        self.stats.remote_write.note_collection(start.elapsed());
    }

    /// Sends markers for all series, since no more samples will be sent.
    pub fn end(&mut self, now: Now) {
        let round = self.next_round(now);
        self.outs.end_all();
        let natives = self.settings.sends_natives(self.protocol);
        self.outs.finish(round.now, natives);
        self.count();
    }

    /// Sends in protocol 1.0 from now on.
    pub(super) fn fall_back(&mut self) {
        self.protocol = Protocol::V1;
        self.outs.fall_back();
    }

    /// A snapshot in which each family occurs once.
    fn snapshot(&self, natives: bool, now: Now) -> Snapshot {
        let snapshot = match natives {
            true => self.store.snapshot_with_natives(),
            false => self.store.snapshot(),
        };
        match snapshot.is_merged() {
            true => snapshot,
            false => self.store.families_snapshot(natives, now),
        }
    }

    /// Begins a round. Its time is always later than the last one: the server would refuse samples
    /// that are not newer.
    fn next_round(&mut self, now: Now) -> Round {
        let time = now.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last = millis(time).max(self.last + 1);
        Round {
            now: self.last,
            tolerance: millis(self.settings.interval) / 2,
            all: self.lost,
        }
    }

    fn count(&mut self) {
        let Tally {
            samples,
            histograms,
            exemplars,
            stale,
            repeated,
            nameless,
        } = std::mem::take(&mut self.outs.tally);
        let stats = &self.stats.remote_write;
        stats.samples.add(samples);
        stats.histograms.add(histograms);
        stats.exemplars.add(exemplars);
        stats.stale_markers.add(stale);
        stats.repeated_series.add(repeated);
        stats.nameless_series.add(nameless);
        stats.set_series(self.outs.len());
        if repeated > 0 {
            log::debug!(
                target: LogEvent::Sink.target(),
                "sink {}: {repeated} more series have the labels of another one; they are not sent",
                self.stats.name
            );
        }
    }

    /// Collects on the interval until `stop` is cancelled, then once more, and ends all series.
    /// Collecting runs on a thread for blocking work.
    pub async fn run(mut self, stop: CancellationToken) {
        let name = self.stats.name.clone();
        let mut ticks = interval(self.settings.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let stopping = tokio::select! {
                biased;
                () = stop.cancelled() => true,
                _ = ticks.tick() => false,
            };
            let collecting = spawn_blocking(move || {
                self.collect(Now::read());
                if stopping {
                    self.end(Now::read());
                }
                self
            });
            self = match collecting.await {
                Ok(collector) => collector,
                Err(problem) => {
                    sender_log::internal_error(format_args!(
                        "sink {name}: series cannot be collected for remote write, which ends: {problem}"
                    ));
                    return;
                }
            };
            if stopping {
                return;
            }
        }
    }
}

#[cfg(test)]
impl Collector {
    pub fn stats(&self) -> &crate::telemetry::RemoteWriteStats {
        &self.stats.remote_write
    }

    pub fn outs(&self) -> &Outs {
        &self.outs
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
