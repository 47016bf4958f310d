//! `[profiling]`: the destination and the labels of CPU profiles of the proxy.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::outputs::sinks::QueueConfig;
use crate::outputs::sinks::http::HttpSettings;
use crate::settings::document::Node;
use crate::settings::reader::Table;
use crate::settings::value::{duration, text, write_duration};

/// The default name of the application.
const NAME: &str = "exporter-proxy";

/// Limit on the length of the application's name, of labels and of their values, in bytes.
const MAX_TEXT: usize = 128;

/// Limit on the number of labels.
const MAX_LABELS: usize = 30;

/// The length of a profile, and its limits.
const INTERVAL: Duration = Duration::from_secs(15);
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);

/// Limit on the bytes of waiting profiles: some hours of them.
const MAX_QUEUE: usize = 16 << 20;

/// How long a profile waits. Pyroscope takes no older ones.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// The settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// The name of the application.
    pub name: String,
    /// The length of each profile.
    #[serde(serialize_with = "write_duration")]
    pub interval: Duration,
    /// The server.
    #[serde(flatten)]
    pub server: HttpSettings,
    /// Labels of all profiles.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Takes the table out of the table of all settings; `None` if it is not written.
pub fn take(root: &mut Table<'_>) -> Option<Settings> {
    let (mut table, place) = root.optional_table("profiling")?;
    if !cfg!(feature = "profiling") {
        let problem = "`profiling`: this program was built without the feature `profiling`";
        table.fault(place.clone(), problem);
    }
    if table.place("url").is_none() {
        table.fault(place, "`profiling` needs a `url`");
    }
    let name = table.take("name", NAME.to_owned(), |node| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
        named(
            node,
            plain,
            "letters, digits, \".\", \"-\", \"_\" and \"/\"",
        )
    });
    let interval = table.take("interval", INTERVAL, interval);
    let server = HttpSettings::take(&mut table);
    let mut labels = BTreeMap::new();
    for (label, value, place) in table.take_texts("labels") {
        match problem(&label, &value, labels.len()) {
            Some(problem) => table.fault(place, format!("`profiling.labels` {problem}")),
            None => drop(labels.insert(label, value)),
        }
    }
    table.finish();
    Some(Settings {
        name,
        interval,
        server: server?,
        labels,
    })
}

/// The limits of the queue.
pub fn queue() -> QueueConfig {
    QueueConfig {
        max_queue: MAX_QUEUE,
        max_age: MAX_AGE,
        batch_items: 1,
        batch_bytes: MAX_QUEUE,
        batch_wait: Duration::ZERO,
    }
}

fn named(node: &Node, plain: fn(char) -> bool, allowed: &str) -> Result<String, String> {
    let name = text(node)?;
    match (1..=MAX_TEXT).contains(&name.len()) && name.chars().all(plain) {
        true => Ok(name),
        false => Err(format!("must have 1 to {MAX_TEXT} {allowed}, not {name:?}")),
    }
}

fn interval(node: &Node) -> Result<Duration, String> {
    let length = duration(node)?;
    match (SHORTEST..=LONGEST).contains(&length) {
        true => Ok(length),
        false => Err(format!(
            "must be from \"1s\" to \"10m\", not {}",
            node.value.describe()
        )),
    }
}

/// The problem with a label. Labels are a part of the name that is sent.
fn problem(label: &str, value: &str, before: usize) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = (1..=MAX_TEXT).contains(&label.len())
        && label.chars().all(plain)
        && !label.starts_with(|c: char| c.is_ascii_digit());
    if !is_name {
        return Some(format!(
            "must have names of letters, digits and \"_\", not {label:?}"
        ));
    }
    let is_value = (1..=MAX_TEXT).contains(&value.len())
        && !value.contains(|c: char| matches!(c, ',' | '{' | '}' | '=' | '"') || c.is_control());
    if !is_value {
        return Some(format!(
            "must have values of 1 to {MAX_TEXT} bytes without \",\", \"=\", quotes and braces, not \
             {value:?}"
        ));
    }
    (before >= MAX_LABELS).then(|| format!("must have at most {MAX_LABELS} labels"))
}
