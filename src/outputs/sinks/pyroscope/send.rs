//! The sink: sends each profile as a form.

use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::config::Settings;
use crate::outputs::sinks::http::HttpClient;
use crate::outputs::sinks::{PushError, QueueHandle, Report, Sink};
use crate::profiler::{FREQUENCY, PROFILER, Profile};
use crate::telemetry::sender_log::{self, About, LogEvent};

/// Separates the parts of the form. A compressed profile cannot contain this by accident.
pub(super) const BOUNDARY: &str = "exporter-proxy-profile-3f1c9ad27b6e4f0d";

/// The wait after a profile that could not be recorded.
const PAUSE: Duration = Duration::from_secs(60);

/// Sends profiles.
#[derive(Debug)]
pub struct PyroscopeSink {
    settings: Settings,
    client: HttpClient,
}

impl PyroscopeSink {
    /// A sink with these settings.
    ///
    /// # Errors
    ///
    /// The client cannot be created from the settings.
    pub fn new(settings: Settings) -> Result<Self, String> {
        Ok(PyroscopeSink {
            client: HttpClient::new(&settings.server)?,
            settings,
        })
    }
}

impl Sink for PyroscopeSink {
    type Item = Profile;

    const LOG_EVENT: LogEvent = LogEvent::Sink;

    fn size(profile: &Profile) -> usize {
        profile.body.len()
    }

    fn name(&self) -> String {
        format!("profiles to {}", self.settings.server.url)
    }

    async fn send(&mut self, batch: &[Profile]) -> Report {
        // Batches have one profile each.
        let Some(profile) = batch.first() else {
            return Report::default();
        };
        let mut headers = HeaderMap::new();
        let form = format!("multipart/form-data; boundary={BOUNDARY}");
        if let Ok(form) = HeaderValue::from_str(&form) {
            headers.insert(CONTENT_TYPE, form);
        }
        let url = url(&self.settings, profile);
        self.client.post_batch(url, headers, body(profile), 1).await
    }
}

/// The URL for a profile.
pub(super) fn url(settings: &Settings, profile: &Profile) -> Url {
    let mut url = settings.server.url.0.clone();
    let is_complete = url.path().trim_end_matches('/').ends_with("/ingest");
    // It fails only for URLs without a host.
    if !is_complete && let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push("ingest");
    }
    let since = profile.start.duration_since(SystemTime::UNIX_EPOCH);
    let start = since.unwrap_or_default();
    // Rounded up, so that a short profile has a second, too.
    let until = (start + profile.duration).as_secs_f64().ceil() as u64;
    let labels = settings.labels.iter();
    let labels: Vec<String> = labels
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let name = format!("{}{{{}}}", settings.name, labels.join(","));
    url.query_pairs_mut()
        .append_pair("name", &name)
        .append_pair("from", &start.as_secs().to_string())
        .append_pair("until", &until.to_string())
        .append_pair("format", "pprof")
        .append_pair("sampleRate", &FREQUENCY.to_string())
        .append_pair("spyName", "exporter-proxy");
    url
}

/// The form with a profile.
pub(super) fn body(profile: &Profile) -> Bytes {
    let mut body = BytesMut::new();
    body.put_slice(
        format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"profile\"; \
             filename=\"profile.pprof\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        )
        .as_bytes(),
    );
    body.put_slice(&profile.body);
    body.put_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    body.freeze()
}

/// Records profiles of the length `interval` and hands them to the queue, until `stop` is
/// cancelled or the sink has ended.
pub async fn record(queue: QueueHandle<Profile>, interval: Duration, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let end = async {
            tokio::select! {
                () = sleep(interval) => {}
                () = stop.cancelled() => {}
            }
        };
        let pause = match PROFILER.record_in_background(end).await {
            Ok(profile) => match queue.push(vec![profile]) {
                // Profiles that do not fit are counted.
                Ok(()) | Err(PushError::Full) => continue,
                Err(PushError::Stopped) => return,
            },
            Err(problem) => {
                let about = About::NOTHING.named("sink", "profiling");
                sender_log::write(
                    LogEvent::Sink,
                    about,
                    format_args!("sink profiling: {problem}"),
                );
                PAUSE
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
}
