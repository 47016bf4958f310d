//! The settings of `[operations]`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::mapping::Mapping;
use super::statsd::{Field, TagStyles};
use crate::net::tls::{self, TlsSettings};
use crate::settings::Destination;
use crate::settings::destination::{destination, write_destination};
use crate::settings::document::{Node, Place, Value, parse_inline};
use crate::settings::listen::LONGEST_SOCKET_PATH;
use crate::settings::reader::Table;
use crate::settings::value::{
    Address, address, boolean, buffer_size, duration, integer, list, positive_duration, size, text,
    write_duration, write_size,
};

/// The settings. The limits on series and families are in `[push]`: aggregating pushes and
/// operations change the same families.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// The address of the UDP socket; off unless given. Every socket accepts both JSON
    /// messages and StatsD lines.
    #[serde(serialize_with = "write_address")]
    pub udp: Option<Address>,
    /// The address of the TCP listener; off unless given.
    #[serde(serialize_with = "write_address")]
    pub tcp: Option<Address>,
    /// Paths of Unix stream sockets. Their owner and mode are those of the receiver.
    pub unix_sockets: Vec<PathBuf>,
    /// Paths of Unix datagram sockets. Their owner and mode are those of the receiver.
    pub unix_datagram_sockets: Vec<PathBuf>,
    /// A file of labels to add to every series, as lines of `key=value`. It is read again
    /// when it changes.
    #[serde(serialize_with = "write_path")]
    pub extra_labels_file: Option<PathBuf>,
    /// Whether to add the labels `data_source` and `source_app` to every series.
    pub source_labels: bool,
    /// The time without a change after which a series expires; zero for never.
    #[serde(serialize_with = "write_duration")]
    pub ttl: Duration,
    /// The limit on the size of a message, in bytes.
    #[serde(serialize_with = "write_size")]
    pub max_message: usize,
    /// The limit on labels of a series.
    pub max_labels: usize,
    /// The limit on the length of family names, label names and label values, in bytes.
    #[serde(serialize_with = "write_size")]
    pub max_label_length: usize,
    /// The limit on open connections of each stream socket.
    pub concurrent_connections: usize,
    /// The time without data after which a connection is closed.
    #[serde(serialize_with = "write_duration")]
    pub idle_timeout: Duration,
    /// Bucket bounds for StatsD's timers, in seconds, and for its histograms and
    /// distributions, in their own unit.
    pub statsd_buckets: BucketBounds,
    /// The tag styles accepted in StatsD lines.
    pub statsd_tags: StatsdTags,
    /// DogStatsD fields that become labels.
    pub statsd_fields: StatsdFields,
    /// Whether DogStatsD events and service checks become metrics.
    pub statsd_events: bool,
    /// Rules that map StatsD names to families and labels, in statsd_exporter's format.
    #[serde(serialize_with = "write_mapping")]
    pub statsd_mapping: Option<MappingFile>,
    /// The limit on names whose rules are remembered; 0 remembers none.
    pub statsd_mapping_cache: usize,
    /// The limit on distinct values of a StatsD set.
    pub max_set_values: usize,
    /// Whether a sender on a Unix socket may stop the program.
    pub allow_shutdown: bool,
    /// How long the program keeps running after a shutdown request, with `/health`
    /// answering 503.
    #[serde(serialize_with = "write_duration")]
    pub shutdown_delay: Duration,
    /// Where operations are forwarded; `None` to keep values here.
    #[serde(serialize_with = "write_destination")]
    pub forward_to: Option<Destination>,
    /// Whether values are also kept here while operations are forwarded.
    pub forward_keep: bool,
    /// Whether StatsD lines are forwarded verbatim.
    pub forward_raw: bool,
    /// The limit on operations that wait to be forwarded, in bytes.
    #[serde(serialize_with = "write_size")]
    pub forward_queue: usize,
    /// TLS of the TCP listener; `None` for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSettings>,
    /// Labels to add to every series. They override the file's labels, and both override
    /// the sender's, except those of forwarded operations.
    pub extra_labels: BTreeMap<String, String>,
}

impl Config {
    /// The setting of this program's own socket that `destination` names, if it names one.
    pub fn own_socket(&self, destination: &Destination) -> Option<&'static str> {
        let (own, key) = match destination {
            Destination::Tcp(to) => (self.tcp.as_ref() == Some(to), "tcp"),
            Destination::Udp(to) => (self.udp.as_ref() == Some(to), "udp"),
            Destination::Unix(to) => (self.unix_sockets.contains(to), "unix_sockets"),
            Destination::UnixDatagram(to) => {
                let own = self.unix_datagram_sockets.contains(to);
                (own, "unix_datagram_sockets")
            }
        };
        own.then_some(key)
    }

    /// Whether any socket is configured.
    pub fn is_on(&self) -> bool {
        self.udp.is_some()
            || self.tcp.is_some()
            || !self.unix_sockets.is_empty()
            || !self.unix_datagram_sockets.is_empty()
    }
}

/// A file with rules for StatsD names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingFile {
    /// The path.
    pub path: PathBuf,
    /// Its parsed content.
    pub mapping: Arc<Mapping>,
}

/// The tag styles accepted in StatsD lines, a word for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatsdTags(pub TagStyles);

impl Serialize for StatsdTags {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut styles = self.0;
        to.collect_seq(
            TAG_STYLES
                .iter()
                .filter(|(_, style)| *style(&mut styles))
                .map(|it| it.0),
        )
    }
}

/// Selects the field of a tag style.
type StyleField = fn(&mut TagStyles) -> &mut bool;

/// The tag styles by their words.
const TAG_STYLES: [(&str, StyleField); 4] = [
    ("dogstatsd", |styles| &mut styles.dogstatsd),
    ("influxdb", |styles| &mut styles.influxdb),
    ("librato", |styles| &mut styles.librato),
    ("signalfx", |styles| &mut styles.signalfx),
];

/// DogStatsD fields that become labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatsdFields(pub Vec<Field>);

impl Serialize for StatsdFields {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(|field| field.as_str()))
    }
}

/// The limit on the size of a mapping file, in bytes.
const MAX_MAPPING: u64 = 4 << 20;

/// Upper bounds of a histogram's buckets: finite and ascending.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BucketBounds(pub Vec<f64>);

// No bound is NaN.
impl Eq for BucketBounds {}

/// The default buckets of Prometheus' client libraries.
pub(super) const DEFAULT_BOUNDS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The limit on bounds of a StatsD histogram: each bound is a line of every series.
const MAX_BOUNDS: usize = 200;

/// The limit on sockets of one kind: each takes tasks and file descriptors.
const MAX_SOCKETS: usize = 1000;

/// Reads the table. Errors are collected in it.
pub fn read(mut table: Table<'_>) -> Config {
    let places = ["unix_sockets", "unix_datagram_sockets", "forward_to"];
    let places = places.map(|key| table.place(key));
    let tls_place = table.place("tls");
    let operations = Config {
        udp: table.take("udp", None, optional_address),
        tcp: table.take("tcp", None, optional_address),
        unix_sockets: table.take_list("unix_sockets", socket_path),
        unix_datagram_sockets: table.take_list("unix_datagram_sockets", socket_path),
        extra_labels_file: table.take("extra_labels_file", None, optional_path),
        source_labels: table.take("source_labels", false, boolean),
        ttl: table.take("ttl", Duration::ZERO, duration),
        max_message: table.take("max_message", 64 << 10, buffer_size),
        max_labels: table.take("max_labels", 64, integer(1, 1000)),
        max_label_length: table.take("max_label_length", 4 << 10, buffer_size),
        concurrent_connections: table.take("concurrent_connections", 1024, integer(1, 1_000_000)),
        idle_timeout: table.take("idle_timeout", Duration::from_secs(3600), positive_duration),
        statsd_buckets: table.take(
            "statsd_buckets",
            BucketBounds(DEFAULT_BOUNDS.to_vec()),
            bounds,
        ),
        statsd_tags: table.take("statsd_tags", StatsdTags(TagStyles::ALL), tag_styles),
        statsd_fields: table.take("statsd_fields", StatsdFields::default(), fields),
        statsd_events: table.take("statsd_events", false, boolean),
        statsd_mapping: take_mapping(&mut table),
        statsd_mapping_cache: table.take("statsd_mapping_cache", 10_000, integer(0, 10_000_000)),
        max_set_values: table.take("max_set_values", 10_000, integer(1, 1_000_000)),
        allow_shutdown: table.take("allow_shutdown", false, boolean),
        shutdown_delay: table.take("shutdown_delay", Duration::ZERO, duration),
        forward_to: table.take("forward_to", None, destination),
        forward_keep: table.take("forward_keep", false, boolean),
        forward_raw: table.take("forward_raw", false, boolean),
        forward_queue: table.take("forward_queue", 16 << 20, size),
        tls: tls::settings::take(&mut table, "tls"),
        extra_labels: table.take("extra_labels", BTreeMap::new(), labels),
    };
    if let Some(place) = tls_place
        && operations.tls.is_some()
        && operations.tcp.is_none()
    {
        let problem = "`operations.tls` has no effect: `operations.tcp` is off; set an address";
        table.fault(place, problem);
    }
    let [streams, datagrams, forward] = places;
    for (key, place, sockets) in [
        ("unix_sockets", &streams, &operations.unix_sockets),
        (
            "unix_datagram_sockets",
            &datagrams,
            &operations.unix_datagram_sockets,
        ),
    ] {
        if let Some(place) = place
            && sockets.len() > MAX_SOCKETS
        {
            let problem = format!(
                "`operations.{key}` has {} sockets; the limit is {MAX_SOCKETS}",
                sockets.len()
            );
            table.fault(place.clone(), problem);
        }
    }
    if let (Some(place), Some(to)) = (forward, &operations.forward_to)
        && let Some(key) = operations.own_socket(to)
    {
        let problem = format!(
            "`operations.forward_to` = {to} is this program's own `operations.{key}`; \
             forward to another address"
        );
        table.fault(place, problem);
    }
    table.finish();
    operations
}

fn write_address<S: Serializer>(address: &Option<Address>, to: S) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => address.serialize(to),
        None => to.serialize_str(""),
    }
}

fn write_path<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => to.collect_str(&path.display()),
        None => to.serialize_str(""),
    }
}

fn is_empty(node: &Node) -> bool {
    matches!(&node.value, Value::Text(text) | Value::Variable(text) if text.is_empty())
}

fn optional_address(node: &Node) -> Result<Option<Address>, String> {
    if is_empty(node) {
        return Ok(None);
    }
    address(node).map(Some)
}

fn optional_path(node: &Node) -> Result<Option<PathBuf>, String> {
    let path = text(node)?;
    Ok((!path.is_empty()).then(|| PathBuf::from(path)))
}

fn socket_path(node: &Node) -> Result<PathBuf, String> {
    let path = text(node)?;
    match path.len() {
        0 => Err("must be the path of a Unix socket, not \"\"".to_owned()),
        1..=LONGEST_SOCKET_PATH => Ok(PathBuf::from(path)),
        length => Err(format!(
            "is {length} bytes long; the limit for the path of a Unix socket is {LONGEST_SOCKET_PATH}"
        )),
    }
}

fn write_mapping<S: Serializer>(file: &Option<MappingFile>, to: S) -> Result<S::Ok, S::Error> {
    match file {
        Some(file) => to.collect_str(&file.path.display()),
        None => to.serialize_str(""),
    }
}

/// Reads the mapping file. Errors are reported with their positions in that file.
fn take_mapping(table: &mut Table<'_>) -> Option<MappingFile> {
    let read = |node: &Node| {
        let Some(path) = optional_path(node)? else {
            return Ok(None);
        };
        let mut text = String::new();
        let read =
            File::open(&path).and_then(|file| file.take(MAX_MAPPING + 1).read_to_string(&mut text));
        match read {
            Ok(_) if text.len() as u64 > MAX_MAPPING => Err(format!(
                "{} has more than {MAX_MAPPING} bytes",
                path.display()
            )),
            Ok(_) => Ok(Some((path, text))),
            Err(problem) => Err(format!("{} cannot be read: {problem}", path.display())),
        }
    };
    let (path, text) = table.take("statsd_mapping", None, read)?;
    match Mapping::parse(&text) {
        Ok(mapping) => Some(MappingFile {
            path,
            mapping: Arc::new(mapping),
        }),
        Err(problems) => {
            for problem in problems {
                let (line, column) = problem.at.unwrap_or((1, 1));
                let place = Place::File {
                    name: Arc::from(path.to_string_lossy()),
                    line,
                    column,
                };
                table.fault(place, problem.message);
            }
            None
        }
    }
}

fn tag_styles(node: &Node) -> Result<StatsdTags, String> {
    let mut styles = TagStyles {
        dogstatsd: false,
        influxdb: false,
        librato: false,
        signalfx: false,
    };
    for item in list(node.clone())? {
        let word = text(&item)?;
        let Some((_, style)) = TAG_STYLES.iter().find(|(own, _)| *own == word) else {
            let words = TAG_STYLES.map(|it| it.0).join(", ");
            return Err(format!("must be a list of {words}, not {word:?}"));
        };
        *style(&mut styles) = true;
    }
    Ok(StatsdTags(styles))
}

fn fields(node: &Node) -> Result<StatsdFields, String> {
    let mut fields = Vec::new();
    for item in list(node.clone())? {
        let word = text(&item)?;
        let Some(field) = Field::ALL.into_iter().find(|field| field.as_str() == word) else {
            let words = Field::ALL.map(Field::as_str).join(", ");
            return Err(format!("must be a list of {words}, not {word:?}"));
        };
        if !fields.contains(&field) {
            fields.push(field);
        }
    }
    Ok(StatsdFields(fields))
}

fn bounds(node: &Node) -> Result<BucketBounds, String> {
    let mut bounds = Vec::new();
    for item in list(node.clone())? {
        let bound = match &item.value {
            Value::Integer(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            Value::Text(text) | Value::Variable(text) => text.trim().parse().ok(),
            _ => None,
        };
        let Some(bound) = bound.filter(|bound: &f64| bound.is_finite()) else {
            let found = item.value.describe();
            return Err(format!("must be a list of finite numbers, not {found}"));
        };
        bounds.push(bound);
    }
    if bounds.is_empty() || bounds.len() > MAX_BOUNDS {
        return Err(format!(
            "must have 1 to {MAX_BOUNDS} bounds, not {}",
            bounds.len()
        ));
    }
    if let Some(pair) = bounds.windows(2).find(|pair| pair[0] >= pair[1]) {
        let (before, after) = (pair[0], pair[1]);
        return Err(format!(
            "must be in ascending order, but {after} follows {before}"
        ));
    }
    Ok(BucketBounds(bounds))
}

/// Reads a table of label names and values. An environment variable may hold the table in
/// TOML, or as `name=value` pairs separated by commas.
fn labels(node: &Node) -> Result<BTreeMap<String, String>, String> {
    let table = match &node.value {
        Value::Table(table) => table.clone(),
        Value::Variable(text) if text.trim_start().starts_with('{') => {
            match parse_inline(&node.place, text)? {
                Value::Table(table) => table,
                other => return Err(format!("must be a table, not {}", other.sort())),
            }
        }
        Value::Variable(written) => {
            return written
                .split(',')
                .filter(|pair| !pair.trim().is_empty())
                .map(|pair| {
                    let (name, value) = pair
                        .split_once('=')
                        .ok_or_else(|| format!("must be name=value, not {pair:?}"))?;
                    label(name.trim(), value.trim())
                })
                .collect();
        }
        other => return Err(format!("must be a table, not {}", other.sort())),
    };
    table
        .iter()
        .map(|(name, entry)| {
            let value = text(&entry.node).map_err(|problem| format!("label {name:?} {problem}"))?;
            label(name, &value)
        })
        .collect()
}

fn label(name: &str, value: &str) -> Result<(String, String), String> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty();
    if !plain || name.starts_with("__") || name == "le" {
        return Err(format!(
            "must have label names such as \"site\" (\"le\" and \"__*\" are reserved), not {name:?}"
        ));
    }
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::document::Place;

    fn variable(text: &str) -> Node {
        Node {
            value: Value::Variable(text.to_owned()),
            place: Place::Variable("TEST".to_owned()),
        }
    }

    #[test]
    fn labels_can_be_given_in_a_variable() {
        let expected = BTreeMap::from([
            ("a".to_owned(), "1".to_owned()),
            ("b".to_owned(), "x:y=z".to_owned()),
        ]);
        for written in ["a=1,b=x:y=z", "{ a = \"1\", b = \"x:y=z\" }"] {
            assert_eq!(labels(&variable(written)), Ok(expected.clone()));
        }
        for wrong in ["a", "1a=b", "le=1", "__a=b", "=b", "{ a = 1 }"] {
            assert!(labels(&variable(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bounds_must_be_finite_and_ascending() {
        assert_eq!(
            bounds(&variable("1, 2.5")),
            Ok(BucketBounds(vec![1.0, 2.5]))
        );
        for wrong in ["", "2,1", "1,1", "1,inf", "NaN", "[\"x\"]"] {
            assert!(bounds(&variable(wrong)).is_err(), "{wrong}");
        }
    }
}
