//! The types of settings, and how each is written.
//!
//! A function here parses one type from a [`Node`]. Its error completes a sentence that
//! begins with the name of the setting.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::document::{Node, Value, parse_inline};

/// A text.
pub fn text(node: &Node) -> Result<String, String> {
    match &node.value {
        Value::Text(text) | Value::Variable(text) => Ok(text.clone()),
        other => Err(format!("must be text in quotes, not {}", other.describe())),
    }
}

/// `true` or `false`.
pub fn boolean(node: &Node) -> Result<bool, String> {
    match &node.value {
        Value::Boolean(value) => Ok(*value),
        Value::Variable(text) if text == "true" => Ok(true),
        Value::Variable(text) if text == "false" => Ok(false),
        other => Err(format!("must be true or false, not {}", other.describe())),
    }
}

/// A whole number from `least` to `most`.
pub fn integer(least: usize, most: usize) -> impl Fn(&Node) -> Result<usize, String> {
    move |node| {
        let number = match &node.value {
            Value::Integer(number) => usize::try_from(*number).ok(),
            Value::Variable(text) => text.trim().parse().ok(),
            _ => None,
        };
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| {
                format!(
                    "must be a whole number from {least} to {most}, not {}",
                    node.value.describe()
                )
            })
    }
}

/// One of the named choices.
pub fn choice<T: Copy>(
    choices: &'static [(&'static str, T)],
) -> impl Fn(&Node) -> Result<T, String> {
    move |node| {
        let written = text(node)?;
        choices
            .iter()
            .find(|(name, _)| *name == written)
            .map(|(_, value)| *value)
            .ok_or_else(|| {
                let names: Vec<String> = choices
                    .iter()
                    .map(|(name, _)| format!("{name:?}"))
                    .collect();
                format!("must be one of {}, not {written:?}", names.join(", "))
            })
    }
}

/// The items of a list. An environment variable can have a TOML list, or items separated
/// by commas.
pub fn list(node: Node) -> Result<Vec<Node>, String> {
    match node.value {
        Value::List(items) => Ok(items),
        Value::Variable(text) if text.trim_start().starts_with('[') => {
            match parse_inline(&node.place, &text)? {
                Value::List(items) => Ok(items),
                other => Err(format!("must be a list, not {}", other.describe())),
            }
        }
        Value::Variable(text) => Ok(text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| Node {
                value: Value::Text(item.to_owned()),
                place: node.place.clone(),
            })
            .collect()),
        other => Err(format!("must be a list, not {}", other.describe())),
    }
}

/// A duration: a number of seconds, or a text such as `"500ms"` or `"1m30s"`.
pub fn duration(node: &Node) -> Result<Duration, String> {
    let parsed = match &node.value {
        Value::Integer(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
        Value::Float(seconds) => Duration::try_from_secs_f64(*seconds).ok(),
        Value::Text(text) | Value::Variable(text) => duration_of(text.trim()),
        _ => None,
    };
    parsed
        .filter(|duration| *duration <= MAX_DURATION)
        .ok_or_else(|| {
            format!(
                "must be a number of seconds or text such as \"500ms\", \"10s\" or \"1h30m\" \
             (at most \"100y\"), not {}",
                node.value.describe()
            )
        })
}

/// A duration above zero.
pub fn positive_duration(node: &Node) -> Result<Duration, String> {
    let value = duration(node)?;
    if value.is_zero() {
        return Err(format!(
            "must be longer than zero, not {}",
            node.value.describe()
        ));
    }
    Ok(value)
}

/// The maximum of all durations. It keeps additions to the clock from overflowing.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Units in milliseconds, longest first.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 24 * 60 * 60 * 1000),
    ("w", 7 * 24 * 60 * 60 * 1000),
    ("d", 24 * 60 * 60 * 1000),
    ("h", 60 * 60 * 1000),
    ("m", 60 * 1000),
    ("s", 1000),
    ("ms", 1),
];

/// Parses a duration as in settings, for parameters of requests: `"10m"`, or a number of
/// seconds. `None` if it is invalid, or longer than 100 years.
pub fn duration_of(text: &str) -> Option<Duration> {
    parse_duration(text).filter(|duration| *duration <= MAX_DURATION)
}

/// Parses Prometheus' notation: numbers with units, such as `1h30m` or `500ms`. A number
/// without a unit is seconds, and can have a fraction.
fn parse_duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_end = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (_, scale) = UNITS.iter().find(|(unit, _)| *unit == &rest[..unit_end])?;
        total = total.checked_add(number.checked_mul(*scale)?)?;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then(|| Duration::from_millis(total))
}

/// Writes a duration such that [`duration`] reads the same one.
pub fn write_duration<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    match u128::from(duration.subsec_nanos()) % 1_000_000 {
        0 => to.serialize_str(&duration_text(*duration)),
        _ => to.serialize_f64(duration.as_secs_f64()),
    }
}

/// A duration in Prometheus' notation, in whole milliseconds: `1h30m`.
pub fn duration_text(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    let mut text = String::new();
    for (unit, scale) in UNITS.iter().skip(2) {
        let scale = u128::from(*scale);
        if rest >= scale {
            text.push_str(&format!("{}{unit}", rest / scale));
            rest %= scale;
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

/// Writes an optional size.
pub fn write_size_option<S: Serializer>(bytes: &Option<usize>, to: S) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => write_size(bytes, to),
        None => to.serialize_none(),
    }
}

/// Writes an optional duration.
pub fn write_duration_option<S: Serializer>(
    duration: &Option<Duration>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => write_duration(duration, to),
        None => to.serialize_none(),
    }
}

/// A size in bytes: a number, or a text such as `"16MiB"` (powers of 1024) or `"16MB"`
/// (powers of 1000).
pub fn size(node: &Node) -> Result<usize, String> {
    let parsed = match &node.value {
        Value::Integer(bytes) => usize::try_from(*bytes).ok(),
        Value::Text(text) | Value::Variable(text) => parse_size(text.trim()),
        _ => None,
    };
    parsed.filter(|bytes| *bytes > 0).ok_or_else(|| {
        format!(
            "must be a size above zero, as a number of bytes or text such as \"16MiB\", not {}",
            node.value.describe()
        )
    })
}

const SIZE_UNITS: [(&str, usize); 8] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

fn parse_size(text: &str) -> Option<usize> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: usize = text[..digits].parse().ok()?;
    let unit = text[digits..].trim_start();
    let (_, scale) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*scale)
}

/// The size of a buffer, in bytes: at most 1 GiB.
pub fn buffer_size(node: &Node) -> Result<usize, String> {
    let bytes = size(node)?;
    if bytes > 1 << 30 {
        return Err(format!(
            "must be at most \"1GiB\", not {}",
            node.value.describe()
        ));
    }
    Ok(bytes)
}

/// A limit on memory for a buffer; 0 means no limit of its own.
///
/// # Errors
///
/// Returns what it must be.
pub fn buffer_limit(node: &Node) -> Result<Option<usize>, String> {
    let is_zero = match &node.value {
        Value::Integer(bytes) => *bytes == 0,
        Value::Text(text) | Value::Variable(text) => parse_size(text.trim()) == Some(0),
        _ => false,
    };
    (!is_zero).then(|| buffer_size(node)).transpose()
}

/// Writes a size in the largest unit that divides it.
pub fn write_size<S: Serializer>(bytes: &usize, to: S) -> Result<S::Ok, S::Error> {
    let unit = SIZE_UNITS[2..5]
        .iter()
        .rev()
        .find(|(_, scale)| *bytes >= *scale && bytes.is_multiple_of(*scale));
    match unit {
        Some((name, scale)) => to.serialize_str(&format!("{}{name}", bytes / scale)),
        None => to.serialize_u64(*bytes as u64),
    }
}

/// An address to listen at: a host name or IP address, and a port. Without a host, as in
/// `:6555`, it is every address of the machine. It is shown as it is written.
#[derive(Debug, Clone)]
pub struct Address {
    host: String,
    /// The port; 0 if the system chooses it.
    pub port: u16,
}

impl PartialEq for Address {
    fn eq(&self, other: &Address) -> bool {
        (self.host(), self.port) == (other.host(), other.port)
    }
}

impl Eq for Address {}

impl Address {
    /// An address of `host`, which is empty for every address.
    pub fn new(host: &str, port: u16) -> Self {
        Address {
            host: host.to_owned(),
            port,
        }
    }

    /// The host to bind.
    pub fn host(&self) -> &str {
        match self.host.as_str() {
            "" => "0.0.0.0",
            host => host,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// `host:port`, `[v6]:port`, or `:port` for every address of the machine.
pub fn address(node: &Node) -> Result<Address, String> {
    let written = text(node)?;
    parse_address(&written).ok_or_else(|| {
        format!("must be host:port such as \"127.0.0.1:6554\" or \"[::1]:6554\", not {written:?}")
    })
}

/// Parses an address as [`address`] does; `None` if it is invalid.
pub fn parse_address(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let host = match host.strip_prefix('[') {
        Some(bracketed) => {
            let host = bracketed.strip_suffix(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            host
        }
        None => host,
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    // Without brackets, the beginning of the port of an IPv6 address is not clear.
    let bracketed = text.starts_with('[');
    (bracketed || host.chars().all(plain)).then(|| Address::new(host, port))
}

/// A secret text. It is shown as `***` wherever it is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: String) -> Self {
        Secret(text)
    }

    /// Whether it is an empty text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The secret itself, to send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Secret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_prometheus_notation() {
        for (text, millis) in [
            ("500ms", 500),
            ("5s", 5_000),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("2d", 172_800_000),
            ("0", 0),
            ("1.5", 1_500),
        ] {
            assert_eq!(
                parse_duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for wrong in [
            "",
            "s",
            "5 s",
            "5x",
            "-1",
            "1m-3s",
            "NaN",
            "99999999999999999999h",
        ] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_written_duration_reads_back() {
        #[derive(Serialize)]
        struct Holder(#[serde(serialize_with = "write_duration")] Duration);
        for millis in [0, 1, 999, 1_000, 90_061_001, 172_800_000] {
            let duration = Duration::from_millis(millis);
            let text = serde_json::to_value(Holder(duration)).unwrap();
            assert_eq!(
                parse_duration(text.as_str().unwrap()),
                Some(duration),
                "{text}"
            );
        }
    }

    #[test]
    fn sizes_are_bytes_or_have_a_unit() {
        for (text, bytes) in [
            ("16MiB", 16 << 20),
            ("1KB", 1000),
            ("7", 7),
            ("2 GiB", 2 << 30),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for wrong in ["", "MiB", "-1", "1.5MiB", "1mib", "99999999999GiB"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn addresses_can_be_names() {
        for (text, host, port) in [
            ("127.0.0.1:6554", "127.0.0.1", 6554),
            ("localhost:0", "localhost", 0),
            ("[::1]:80", "::1", 80),
            (":6555", "0.0.0.0", 6555),
        ] {
            assert_eq!(
                parse_address(text),
                Some(Address::new(host, port)),
                "{text}"
            );
            assert_eq!(parse_address(text).unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "6555",
            "host",
            "host:",
            "host:70000",
            "::1:80",
            "[host]:1",
            "a b:1",
        ] {
            assert_eq!(parse_address(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
    }
}
