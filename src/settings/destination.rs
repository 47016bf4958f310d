//! Where lines are forwarded to: `tcp://host:port` or `udp://host:port`.

use std::fmt;

use serde::Serializer;

use super::document::Node;
use super::value::{Address, parse_address, text};

/// Transport and address of another program that takes lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A stream of lines.
    Tcp(Address),
    /// One datagram for each line.
    Udp(Address),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Tcp(address) => write!(f, "tcp://{address}"),
            Destination::Udp(address) => write!(f, "udp://{address}"),
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
    let parsed = written.split_once("://").and_then(|(scheme, rest)| {
        let address = parse_address(rest)?;
        match scheme {
            "tcp" => Some(Destination::Tcp(address)),
            "udp" => Some(Destination::Udp(address)),
            _ => None,
        }
    });
    parsed.map(Some).ok_or_else(|| {
        format!("must be \"tcp://host:port\", \"udp://host:port\" or \"\" (off), not {written:?}")
    })
}

/// Writes what [`destination`] reads.
///
/// # Errors
///
/// Those of the serializer.
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

    fn parse(written: &str) -> Result<Option<Destination>, String> {
        destination(&Node {
            value: Value::Text(written.to_owned()),
            place: Place::Variable("TEST".to_owned()),
        })
    }

    #[test]
    fn a_destination_has_a_transport_and_an_address() {
        let address = || Address::new("far", 9999);
        for (written, expected) in [
            ("", None),
            ("tcp://far:9999", Some(Destination::Tcp(address()))),
            ("udp://far:9999", Some(Destination::Udp(address()))),
        ] {
            let shown = expected.as_ref().map(ToString::to_string);
            assert_eq!(shown.unwrap_or_default(), written);
            assert_eq!(parse(written), Ok(expected), "{written}");
        }
        for wrong in ["far:9999", "http://far:9999", "tcp://far", "tcp:far:1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
