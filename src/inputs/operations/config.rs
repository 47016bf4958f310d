//! `[operations]`: sockets for programs that say "add one" and keep no values.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::settings::document::{Node, Value, parse_inline};
use crate::settings::listen::LONGEST_SOCKET_PATH;
use crate::settings::reader::Table;
use crate::settings::value::{
    Address, address, boolean, buffer_size, duration, integer, list, parse_address,
    positive_duration, size, text, write_duration, write_size,
};

/// How many series and families there may be is said by `[push]`: aggregating
/// pushes and operations change the same living families.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Where operations are taken; nowhere unless given. Each socket takes
    /// messages of JSON and lines of StatsD.
    #[serde(serialize_with = "write_address")]
    pub udp: Option<Address>,
    #[serde(serialize_with = "write_address")]
    pub tcp: Option<Address>,
    /// Stream sockets, with the receiver's owner and mode.
    pub unix_sockets: Vec<PathBuf>,
    pub unix_datagram_sockets: Vec<PathBuf>,
    /// Lines of `key=value`, put on every series, and read again on change.
    #[serde(serialize_with = "write_path")]
    pub extra_labels_file: Option<PathBuf>,
    /// Whether `data_source` and `source_app` are put on every series.
    pub source_labels: bool,
    /// Forget a series that was not changed for so long; zero is never.
    #[serde(serialize_with = "write_duration")]
    pub ttl: Duration,
    /// Bytes of one message.
    #[serde(serialize_with = "write_size")]
    pub max_message: usize,
    /// Labels of one series.
    pub max_labels: usize,
    /// Bytes of a family's name, and of a label's name and value.
    #[serde(serialize_with = "write_size")]
    pub max_label_length: usize,
    /// Connections at once, on each of the stream sockets.
    pub concurrent_connections: usize,
    /// For a connection to send nothing at all.
    #[serde(serialize_with = "write_duration")]
    pub idle_timeout: Duration,
    /// Bounds of the histograms that StatsD's timers and distributions make,
    /// in seconds as far as they are times.
    pub statsd_buckets: Bounds,
    /// Distinct values that are remembered of one of StatsD's sets.
    pub max_set_values: usize,
    /// Whether who sends at a Unix socket may stop the program.
    pub allow_shutdown: bool,
    /// For how long everything goes on, and `/health` says 503, once the
    /// program is told to stop.
    #[serde(serialize_with = "write_duration")]
    pub shutdown_delay: Duration,
    /// Send operations on instead of keeping values here.
    pub forward_to: ForwardTo,
    /// Bytes of operations that wait to be sent on.
    #[serde(serialize_with = "write_size")]
    pub forward_queue: usize,
    /// Put on every series. These go before those of the file, and both before
    /// the sender's.
    pub extra_labels: BTreeMap<String, String>,
}

impl Config {
    /// Whether operations are taken at any socket.
    pub fn is_on(&self) -> bool {
        self.udp.is_some()
            || self.tcp.is_some()
            || !self.unix_sockets.is_empty()
            || !self.unix_datagram_sockets.is_empty()
    }
}

/// Where operations are sent on to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardTo {
    /// Nowhere: values are kept here.
    Off,
    /// One datagram for each, as metrics-server does. What is lost is lost.
    Udp(Address),
    /// A stream of lines, kept and sent again where the connection breaks.
    Tcp(Address),
}

impl Serialize for ForwardTo {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            ForwardTo::Off => to.serialize_str(""),
            ForwardTo::Udp(address) => to.collect_str(&format_args!("udp://{address}")),
            ForwardTo::Tcp(address) => to.collect_str(&format_args!("tcp://{address}")),
        }
    }
}

/// Upper bounds of a histogram: finite and ascending.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bounds(pub Vec<f64>);

// None of them is NaN.
impl Eq for Bounds {}

/// What Prometheus' client libraries use where nothing else is said.
const USUAL_BOUNDS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Bounds of a histogram of StatsD: each costs a line for each series.
const MOST_BOUNDS: usize = 200;

/// Sockets of one kind: each has tasks and files of its own.
const MOST_SOCKETS: usize = 1000;

pub fn read(mut table: Table<'_>) -> Config {
    let places = [
        "tcp",
        "udp",
        "unix_sockets",
        "unix_datagram_sockets",
        "forward_to",
    ]
    .map(|key| table.place(key));
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
        statsd_buckets: table.take("statsd_buckets", Bounds(USUAL_BOUNDS.to_vec()), bounds),
        max_set_values: table.take("max_set_values", 10_000, integer(1, 1_000_000)),
        allow_shutdown: table.take("allow_shutdown", false, boolean),
        shutdown_delay: table.take("shutdown_delay", Duration::ZERO, duration),
        forward_to: table.take("forward_to", ForwardTo::Off, forward_to),
        forward_queue: table.take("forward_queue", 16 << 20, size),
        extra_labels: table.take("extra_labels", BTreeMap::new(), labels),
    };
    let [tcp, udp, streams, datagrams, forward] = places;
    for (key, place, sockets) in [
        ("unix_sockets", &streams, &operations.unix_sockets),
        (
            "unix_datagram_sockets",
            &datagrams,
            &operations.unix_datagram_sockets,
        ),
    ] {
        if let Some(place) = place
            && sockets.len() > MOST_SOCKETS
        {
            let problem = format!(
                "`operations.{key}` has {} sockets; the limit is {MOST_SOCKETS}",
                sockets.len()
            );
            table.fault(place.clone(), problem);
        }
    }
    let own = match &operations.forward_to {
        ForwardTo::Tcp(to) if tcp.is_some() && operations.tcp.as_ref() == Some(to) => {
            Some(("tcp", to))
        }
        ForwardTo::Udp(to) if udp.is_some() && operations.udp.as_ref() == Some(to) => {
            Some(("udp", to))
        }
        _ => None,
    };
    if let Some(place) = forward
        && let Some((key, to)) = own
    {
        let problem = format!(
            "`operations.forward_to` = {key}://{to} is this program's own `operations.{key}`; \
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
            "is {length} bytes long; the path of a Unix socket has at most {LONGEST_SOCKET_PATH}"
        )),
    }
}

fn forward_to(node: &Node) -> Result<ForwardTo, String> {
    let written = text(node)?;
    let wrong = || {
        format!(
            "must be \"tcp://host:port\" or \"udp://host:port\", or \"\" to keep operations here, not {written:?}"
        )
    };
    if written.is_empty() {
        return Ok(ForwardTo::Off);
    }
    let (scheme, rest) = written.split_once("://").ok_or_else(wrong)?;
    let address = parse_address(rest).ok_or_else(wrong)?;
    match scheme {
        "tcp" => Ok(ForwardTo::Tcp(address)),
        "udp" => Ok(ForwardTo::Udp(address)),
        _ => Err(wrong()),
    }
}

fn bounds(node: &Node) -> Result<Bounds, String> {
    let mut bounds = Vec::new();
    for item in list(node)? {
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
    if bounds.is_empty() || bounds.len() > MOST_BOUNDS {
        return Err(format!(
            "must have 1 to {MOST_BOUNDS} bounds, not {}",
            bounds.len()
        ));
    }
    if let Some(pair) = bounds.windows(2).find(|pair| pair[0] >= pair[1]) {
        let (before, after) = (pair[0], pair[1]);
        return Err(format!(
            "must be in ascending order, but {after} follows {before}"
        ));
    }
    Ok(Bounds(bounds))
}

/// A table of names and texts. A variable may hold such a table as TOML has it,
/// or `name=value` with commas between.
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
    fn operations_are_sent_on_by_tcp_or_udp() {
        let address = || Address::new("far", 9999);
        for (written, expected) in [
            ("", ForwardTo::Off),
            ("tcp://far:9999", ForwardTo::Tcp(address())),
            ("udp://far:9999", ForwardTo::Udp(address())),
        ] {
            assert_eq!(forward_to(&variable(written)), Ok(expected), "{written}");
        }
        for wrong in ["far:9999", "http://far:9999", "tcp://far", "tcp:far:1"] {
            assert!(forward_to(&variable(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn labels_come_from_a_variable_too() {
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
    fn bounds_ascend() {
        assert_eq!(bounds(&variable("1, 2.5")), Ok(Bounds(vec![1.0, 2.5])));
        for wrong in ["", "2,1", "1,1", "1,inf", "NaN", "[\"x\"]"] {
            assert!(bounds(&variable(wrong)).is_err(), "{wrong}");
        }
    }
}
