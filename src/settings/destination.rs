//! Where lines are forwarded to: a host and a port, or a Unix socket.

use std::fmt;
use std::path::PathBuf;

use serde::Serializer;

use super::document::Node;
use super::listen::LONGEST_SOCKET_PATH;
use super::value::{Address, parse_address, text};

/// Transport and address of another program that takes lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A stream of lines.
    Tcp(Address),
    /// One datagram for each line.
    Udp(Address),
    /// A stream of lines to a Unix socket.
    Unix(PathBuf),
    /// One datagram for each line, to a Unix datagram socket.
    UnixDatagram(PathBuf),
}

/// How destinations are written.
pub const FORMS: &str =
    r#""tcp://host:port", "udp://host:port", "unix:///path" or "unixgram:///path""#;

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Tcp(address) => write!(f, "tcp://{address}"),
            Destination::Udp(address) => write!(f, "udp://{address}"),
            Destination::Unix(path) => write!(f, "unix://{}", path.display()),
            Destination::UnixDatagram(path) => write!(f, "unixgram://{}", path.display()),
        }
    }
}

/// Reads a destination; `None` for an empty text.
///
/// # Errors
///
/// What the setting must be instead, for the end of a sentence.
pub fn destination(node: &Node) -> Result<Option<Destination>, String> {
    let written = text(node)?;
    if written.is_empty() {
        return Ok(None);
    }
    parse(&written)
        .map(Some)
        .ok_or_else(|| format!("must be {FORMS}, or \"\" (off), not {written:?}"))
}

/// Reads a destination that is required.
///
/// # Errors
///
/// What the setting must be instead, for the end of a sentence.
pub fn required_destination(node: &Node) -> Result<Destination, String> {
    let written = text(node)?;
    parse(&written).ok_or_else(|| format!("must be {FORMS}, not {written:?}"))
}

fn parse(written: &str) -> Option<Destination> {
    let (scheme, rest) = written.split_once("://")?;
    match scheme {
        "tcp" => parse_address(rest).map(Destination::Tcp),
        "udp" => parse_address(rest).map(Destination::Udp),
        "unix" => socket_path(rest).map(Destination::Unix),
        "unixgram" => socket_path(rest).map(Destination::UnixDatagram),
        _ => None,
    }
}

/// An absolute path that is short enough for a Unix socket.
fn socket_path(written: &str) -> Option<PathBuf> {
    let fits = written.starts_with('/') && written.len() <= LONGEST_SOCKET_PATH;
    fits.then(|| PathBuf::from(written))
}

/// Writes what [`destination`] reads.
///
/// # Errors
///
/// An error of the serializer.
pub fn write_destination<S: Serializer>(
    destination: &Option<Destination>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match destination {
        Some(destination) => to.collect_str(destination),
        None => to.serialize_str(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::document::{Place, Value};

    fn node(written: &str) -> Node {
        Node {
            value: Value::Text(written.to_owned()),
            place: Place::Variable("TEST".to_owned()),
        }
    }

    #[test]
    fn a_destination_has_a_transport_and_an_address() {
        let address = || Address::new("far", 9999);
        let path = || PathBuf::from("/run/a.sock");
        for (written, expected) in [
            ("", None),
            ("tcp://far:9999", Some(Destination::Tcp(address()))),
            ("udp://far:9999", Some(Destination::Udp(address()))),
            ("unix:///run/a.sock", Some(Destination::Unix(path()))),
            (
                "unixgram:///run/a.sock",
                Some(Destination::UnixDatagram(path())),
            ),
        ] {
            let shown = expected.as_ref().map(ToString::to_string);
            assert_eq!(shown.unwrap_or_default(), written);
            assert_eq!(destination(&node(written)), Ok(expected), "{written}");
        }
        let long = format!("unix:///{}", "a".repeat(LONGEST_SOCKET_PATH));
        for wrong in [
            "far:9999",
            "http://far:9999",
            "tcp://far",
            "tcp:far:1",
            "unix://",
            "unix://a.sock",
            "unix:/a",
            &long,
        ] {
            let problem = destination(&node(wrong)).unwrap_err();
            let expected = format!("must be {FORMS}, or \"\" (off), not {wrong:?}");
            assert_eq!(problem, expected);
        }
        for wrong in ["", "far:9999", &long] {
            let problem = required_destination(&node(wrong)).unwrap_err();
            assert_eq!(problem, format!("must be {FORMS}, not {wrong:?}"));
        }
    }
}
