//! The settings of the type `remote_write`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::request::Protocol;
use crate::ingest::selector::Selectors;
use crate::outputs::sinks::QueueConfig;
use crate::outputs::sinks::http::HttpSettings;
use crate::relabel::{self, NAME_LABEL, Rules, RulesFile};
use crate::settings::document::Node;
use crate::settings::reader::Table;
use crate::settings::value::{boolean, choice, duration, positive_duration, text, write_duration};

/// The settings of a sink for Prometheus' remote write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// The server.
    #[serde(flatten)]
    pub server: HttpSettings,
    /// The version of the protocol.
    pub protocol: Protocol,
    /// Time between two collections of all series.
    #[serde(serialize_with = "write_duration")]
    pub interval: Duration,
    /// Selectors of series, one of which must match; empty for all series.
    #[serde(rename = "match")]
    pub selectors: Vec<String>,
    /// Labels for series that do not have them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub external_labels: BTreeMap<String, String>,
    /// Rules that are applied after the external labels.
    #[serde(skip_serializing_if = "Rules::is_empty")]
    pub relabel: Rules,
    /// A file with rules that are applied before `relabel`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relabel_file: Option<RulesFile>,
    /// Whether type, help and unit of families are sent.
    pub metadata: bool,
    /// Whether native histograms and their exemplars are sent. By default only in protocol 2.0,
    /// since 1.0 does not mention them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub native_histograms: Option<bool>,
    /// How often an unchanged value is sent; zero for each interval.
    #[serde(serialize_with = "write_duration")]
    pub resend_unchanged: Duration,
}

/// Prometheus' default for scrapes is a minute, that of its examples 15 seconds.
const INTERVAL: Duration = Duration::from_secs(15);

/// Prometheus considers a series stale five minutes after its last sample. To allow for one
/// retried request in between, a value must come more often than every second minute.
const MAX_RESEND: Duration = Duration::from_secs(120);

/// Limit on the number of selectors. Each is compared with each new series.
const MAX_SELECTORS: usize = 64;

/// Headers that belong to the protocol.
const PROTOCOL_HEADERS: [&str; 4] = [
    "content-encoding",
    "content-type",
    "user-agent",
    "x-prometheus-remote-write-version",
];

impl Settings {
    /// All rules in the order in which they are applied.
    pub fn rules(&self) -> Rules {
        match &self.relabel_file {
            Some(file) => file.rules.followed_by(&self.relabel),
            None => self.relabel.clone(),
        }
    }

    /// Whether native histograms are sent in a version of the protocol.
    pub fn sends_natives(&self, protocol: Protocol) -> bool {
        self.native_histograms.unwrap_or(protocol == Protocol::V2)
    }
}

/// Reads the table of a sink.
pub fn read(mut table: Table<'_>) -> Option<(Settings, QueueConfig)> {
    const DEFAULT_QUEUE: QueueConfig = QueueConfig {
        max_queue: 64 << 20,
        max_age: Duration::from_secs(3600),
        batch_items: 10_000,
        batch_bytes: 4 << 20,
        batch_wait: Duration::ZERO,
    };
    let versions = &[("1.0", Protocol::V1), ("2.0", Protocol::V2)];
    let places = ["headers", "header_files", "match", "resend_unchanged"];
    let [headers, header_files, matching, resend] = places.map(|key| table.place(key));
    let name = table.name().to_owned();
    let server = HttpSettings::take(&mut table);
    let settings = (
        table.take("protocol", Protocol::default(), choice(versions)),
        table.take("interval", INTERVAL, positive_duration),
        table.take_list("match", selector),
        external_labels(&mut table),
    );
    let (protocol, interval, selectors, external_labels) = settings;
    let relabel = relabel::take(&mut table, "relabel");
    let relabel_file = relabel::take_file(&mut table, "relabel_file");
    let metadata = table.take("metadata", true, boolean);
    let native_histograms = table.take_option("native_histograms", boolean);
    let resend_unchanged = table.take("resend_unchanged", Duration::ZERO, resend_time);
    let queue = QueueConfig::take(&mut table, DEFAULT_QUEUE);
    if let Some(server) = &server {
        let written = server.credentials.headers.keys();
        let from_files = server.credentials.header_files.keys();
        let written = written.map(|header| (header, &headers));
        let from_files = from_files.map(|header| (header, &header_files));
        for (header, place) in written.chain(from_files) {
            let is_header = |known: &&str| known.eq_ignore_ascii_case(header);
            if PROTOCOL_HEADERS.iter().any(is_header)
                && let Some(place) = place.clone()
            {
                let problem = format!("`{name}` cannot set the header {header}: the protocol does");
                table.fault(place, problem);
            }
        }
    }
    if let Some(place) = matching.filter(|_| selectors.len() > MAX_SELECTORS) {
        let count = selectors.len();
        let problem = format!("`{name}.match` has {count} selectors; the limit is {MAX_SELECTORS}");
        table.fault(place, problem);
    }
    if let Some(place) = resend
        && !resend_unchanged.is_zero()
        && resend_unchanged < interval
    {
        let problem = format!(
            "`{name}.resend_unchanged` ({resend_unchanged:?}) is shorter than `{name}.interval` \
             ({interval:?}); raise it, or leave it out to send all values each time"
        );
        table.fault(place, problem);
    }
    table.finish();
    let settings = Settings {
        server: server?,
        protocol,
        interval,
        selectors,
        external_labels,
        relabel,
        relabel_file,
        metadata,
        native_histograms,
        resend_unchanged,
    };
    Some((settings, queue))
}

fn selector(node: &Node) -> Result<String, String> {
    let selector = text(node)?;
    Selectors::for_setting(&selector)?;
    Ok(selector)
}

fn resend_time(node: &Node) -> Result<Duration, String> {
    let time = duration(node)?;
    match time <= MAX_RESEND {
        true => Ok(time),
        false => Err(format!(
            "must be at most {MAX_RESEND:?}, not {time:?}: Prometheus takes a series for stale five \
             minutes after its last sample"
        )),
    }
}

/// The labels in `external_labels`.
fn external_labels(table: &mut Table<'_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (name, value, place) in table.take_texts("external_labels") {
        let problem = match (&*name, &*value) {
            ("", _) => "has no name",
            (NAME_LABEL, _) => "is the name of the metric; a rule in `relabel` can change it",
            (_, "") => "has no value, which is as if it did not exist",
            _ => {
                labels.insert(name, value);
                continue;
            }
        };
        let path = table.name();
        table.fault(
            place,
            format!("`{path}.external_labels`: {name:?} {problem}"),
        );
    }
    labels
}
