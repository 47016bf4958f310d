//! Sends all series to Prometheus' remote write receivers, on an interval.
//!
//! ```text
//! store ─ snapshot ─▶ pages ─ changed lines ─▶ outs ─ due points ─▶ batches ─ request ─▶ queue
//! ```
//!
//! - [`config`]: the settings;
//! - [`collector`]: the task that collects on the interval;
//! - [`pages`]: which lines of the output changed, and the series of each;
//! - [`outs`]: the series that are sent: their last values, staleness markers;
//! - [`labeller`]: which series are sent, with which labels;
//! - [`batches`]: cuts requests;
//! - [`request`], [`symbols`]: requests of both protocols;
//! - [`running`]: how sinks and collectors start, change and end;
//! - [`item`]: a compressed request in the queue;
//! - [`convert`]: converts requests of protocol 2.0 to 1.0.
//!
//! An item of the queue is a whole request, which is never split: a server that refuses some of its
//! samples takes the others.

mod batches;
mod collector;
mod config;
mod convert;
mod item;
mod labeller;
mod outs;
mod pages;
mod request;
mod running;
mod symbols;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hyper::header::{CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};

pub use collector::Source;
pub use config::{Settings, read};
pub use request::Protocol;
pub use running::{NewRemoteWrite, RunningRemoteWrite};

use super::http::{Answer, HttpClient, content_type};
use super::stored::StoredForm;
use super::{Report, Sink, Verdict};
use crate::clock::{self, Now};
use crate::exposition::counted;
use crate::reason::Reason;
use crate::telemetry::SinkStats;
use crate::telemetry::sender_log::{self, About, LogEvent};
use item::{Counts, WriteItem};

/// The header with the version of the protocol.
const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");

/// The headers in which a server of protocol 2.0 says how much it wrote.
const WRITTEN: [&str; 3] = [
    "x-prometheus-remote-write-samples-written",
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
];

/// Sends requests.
#[derive(Debug)]
pub struct RemoteWriteSink {
    settings: Settings,
    client: HttpClient,
    stats: Arc<SinkStats>,
    /// Whether the server turned out not to know protocol 2.0.
    fallen_back: Arc<AtomicBool>,
    /// When a refused request was last logged.
    refusal_logged: Option<Instant>,
    /// When it was last logged that the server wrote less than it got.
    unwritten_logged: Option<Instant>,
}

/// The interval at which continued refusals are logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

impl Sink for RemoteWriteSink {
    type Item = WriteItem;

    const STORED: Option<StoredForm<WriteItem>> = Some(StoredForm {
        bytes: WriteItem::bytes,
        restore: WriteItem::from_bytes,
    });

    const LOG_EVENT: LogEvent = LogEvent::Sink;

    fn size(item: &WriteItem) -> usize {
        item.bytes().len()
    }

    fn name(&self) -> String {
        format!("remote write to {}", self.settings.server.url)
    }

    async fn send(&mut self, batch: &[WriteItem]) -> Report {
        // One request at a time: batches have one item.
        let Some(item) = batch.first() else {
            return Report::default();
        };
        if item.protocol() == Protocol::V2 && !self.has_fallen_back() {
            let report = match self.post(item).await {
                Ok(answer) if answer.status == StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                    log::info!(
                        target: LogEvent::Sink.target(),
                        "sink {}: the server does not know protocol 2.0; sending in 1.0 from now on",
                        self.stats.name
                    );
                    self.fallen_back.store(true, Ordering::Relaxed);
                    None
                }
                Ok(answer) => Some(self.judge(item, &answer)),
                Err(problem) => Some(Report::failed(0, problem)),
            };
            if let Some(report) = report {
                return report;
            }
        }
        let natives = self.settings.sends_natives(Protocol::V1);
        let Some(item) = item.to_v1(natives) else {
            // Nothing in it can be expressed in this protocol.
            return Report::taken(1);
        };
        match self.post(&item).await {
            Ok(answer) => self.judge(&item, &answer),
            Err(problem) => Report::failed(0, problem),
        }
    }
}

impl RemoteWriteSink {
    /// A sink with these settings. `fallen_back` is set once the server turns out not to know
    /// protocol 2.0.
    ///
    /// # Errors
    ///
    /// The client cannot be created from the settings.
    fn new(
        settings: Settings,
        stats: Arc<SinkStats>,
        fallen_back: Arc<AtomicBool>,
    ) -> Result<Self, String> {
        Ok(RemoteWriteSink {
            client: HttpClient::new(&settings.server)?,
            settings,
            stats,
            fallen_back,
            refusal_logged: None,
            unwritten_logged: None,
        })
    }

    fn has_fallen_back(&self) -> bool {
        self.fallen_back.load(Ordering::Relaxed)
    }

    async fn post(&self, item: &WriteItem) -> Result<Answer, String> {
        let (media, version) = match item.protocol() {
            Protocol::V1 => ("application/x-protobuf", "0.1.0"),
            Protocol::V2 => (
                "application/x-protobuf;proto=io.prometheus.write.v2.Request",
                "2.0.0",
            ),
        };
        let mut headers = content_type(media);
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
        headers.insert(VERSION, HeaderValue::from_static(version));
        let url = self.settings.server.url.0.clone();
        self.client
            .send(Method::POST, url, headers, item.body(), 0)
            .await
    }

    /// The meaning of the answer. As the protocol demands, 429 is the only status from 400 to 499
    /// that is tried again.
    fn judge(&mut self, item: &WriteItem, answer: &Answer) -> Report {
        let status = answer.status;
        if status.is_success() {
            return match item.protocol() {
                Protocol::V1 => Report::taken(1),
                Protocol::V2 => self.compare(item.counts(), answer),
            };
        }
        if !status.is_client_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return answer.judge(1);
        }
        // Only protocol 2.0 says how much was written nevertheless.
        if let Some(written) = written(&answer.headers) {
            self.note_written(item.counts(), written);
        }
        let reason = match status {
            StatusCode::PAYLOAD_TOO_LARGE => Reason::TooLarge,
            _ => Reason::Refused,
        };
        let message = answer.describe();
        self.refuse(item.counts(), reason, &message, &answer.explanation())
    }

    /// Compares what was sent with what a server of protocol 2.0 says it wrote.
    fn compare(&mut self, sent: Counts, answer: &Answer) -> Report {
        match written(&answer.headers) {
            Some(written) => {
                self.note_written(sent, written);
                Report::taken(1)
            }
            None if sent == Counts::default() => Report::taken(1),
            None => {
                self.note_written(sent, Counts::default());
                let problem = format!(
                    "the server answered {} and does not say what it took, so it took nothing; if \
                     it knows protocol 1.0 only, set protocol = \"1.0\"",
                    answer.status
                );
                self.refuse(sent, Reason::Refused, &problem, "")
            }
        }
    }

    /// Gives up a request that the server will never take. Logs here and not in the worker, since
    /// most refusals continue at each interval.
    fn refuse(&mut self, sent: Counts, reason: Reason, message: &str, answer: &str) -> Report {
        let shown = match answer {
            "" => message.to_owned(),
            answer => format!("{message}: {answer}"),
        };
        self.stats.note_refusal(Now::read(), &shown);
        if is_due(&mut self.refusal_logged) {
            let name = &self.stats.name;
            let samples = sent.samples + sent.histograms;
            let samples = counted(samples as usize, "sample", "samples");
            let about = About::NOTHING.named("sink", name).reason(reason);
            sender_log::write(
                LogEvent::Sink,
                about,
                format_args!("sink {name}: a request with {samples} is refused: {message}"),
            );
            if !answer.is_empty() {
                let details = format_args!("sink {name}: {shown}");
                sender_log::write_details(LogEvent::Sink, about, details);
            }
        }
        Report {
            verdicts: vec![Verdict::Refused(reason)],
            ..Report::default()
        }
    }

    fn note_written(&mut self, sent: Counts, written: Counts) {
        let missing = u64::from(sent.samples.saturating_sub(written.samples))
            + u64::from(sent.histograms.saturating_sub(written.histograms))
            + u64::from(sent.exemplars.saturating_sub(written.exemplars));
        if missing == 0 {
            return;
        }
        self.stats.remote_write.unwritten.add(missing);
        if is_due(&mut self.unwritten_logged) {
            sender_log::write(
                LogEvent::Sink,
                About::NOTHING.named("sink", &self.stats.name),
                format_args!(
                    "sink {}: of {} samples, {} histograms and {} exemplars, the server took {}, {} and {}",
                    self.stats.name,
                    sent.samples,
                    sent.histograms,
                    sent.exemplars,
                    written.samples,
                    written.histograms,
                    written.exemplars
                ),
            );
        }
    }
}

/// Whether something is to be logged again; records that it is.
fn is_due(logged: &mut Option<Instant>) -> bool {
    let now = clock::tick();
    let is_due = logged.is_none_or(|at| now.saturating_duration_since(at) >= LOG_INTERVAL);
    if is_due {
        *logged = Some(now);
    }
    is_due
}

/// What the server says it wrote, with zero for what it does not mention; `None` if it says
/// nothing.
fn written(headers: &HeaderMap) -> Option<Counts> {
    let counts = WRITTEN.map(|name| {
        let value = headers.get(name)?.to_str().ok()?;
        value.trim().parse::<u32>().ok()
    });
    let [samples, histograms, exemplars] = counts;
    counts.iter().any(Option::is_some).then(|| Counts {
        samples: samples.unwrap_or_default(),
        histograms: histograms.unwrap_or_default(),
        exemplars: exemplars.unwrap_or_default(),
    })
}
