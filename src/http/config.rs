//! The part of `[push]` for requests with a body.

use std::time::Duration;

use serde::Serialize;

use crate::settings::Table;
use crate::settings::document::Node;
use crate::settings::value::{
    buffer_size, positive_duration, size, text, write_duration, write_size,
};

/// Limits on bodies, and whose pages may send them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Bytes of one body, after decompression.
    #[serde(serialize_with = "write_size")]
    pub max_body: usize,
    /// Bytes of all bodies that are being read.
    #[serde(serialize_with = "write_size")]
    pub max_buffered: usize,
    /// The time a body has to arrive.
    #[serde(serialize_with = "write_duration")]
    pub body_timeout: Duration,
    /// Origins whose pages can push; `*` is every origin.
    pub cors_origins: Vec<String>,
    /// Names of a server on the loopback besides its addresses and `localhost`; `*`
    /// is every name.
    pub allowed_hosts: Vec<String>,
}

/// The longest list of origins or hosts: every request is compared with each.
const MOST_ORIGINS: usize = 1000;

/// Takes the settings of requests out of `[push]`.
pub fn read(table: &mut Table<'_>) -> Requests {
    let places = ["cors_origins", "allowed_hosts"].map(|key| table.place(key));
    let requests = Requests {
        max_body: table.take("max_body", 64 << 20, buffer_size),
        max_buffered: table.take("max_buffered", 256 << 20, size),
        body_timeout: table.take("body_timeout", Duration::from_secs(30), positive_duration),
        cors_origins: table.take_list("cors_origins", origin),
        allowed_hosts: table.take_list("allowed_hosts", host_name),
    };
    let lists = [
        ("cors_origins", "origins", requests.cors_origins.len()),
        ("allowed_hosts", "hosts", requests.allowed_hosts.len()),
    ];
    for ((key, items, length), place) in lists.into_iter().zip(places) {
        if let Some(place) = place
            && length > MOST_ORIGINS
        {
            let problem = format!(
                "`push.{key}` has {length} {items}; the limit is {MOST_ORIGINS}; use \"*\" for all"
            );
            table.fault(place, problem);
        }
    }
    requests
}

/// `*`, or a name as in `Host`, with or without a port.
fn host_name(node: &Node) -> Result<String, String> {
    let written = text(node)?;
    let (name, port) = written.split_once(':').unwrap_or((&written, "0"));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let right = written == "*"
        || (!name.is_empty() && name.chars().all(plain) && port.parse::<u16>().is_ok());
    match right {
        true => Ok(written.trim_end_matches('.').to_ascii_lowercase()),
        false => Err(format!(
            "must be a host name such as \"metrics.example.com\", or \"*\", not {written:?}"
        )),
    }
}

/// `*`, or a value of `Origin`: a scheme and a host, no path.
fn origin(node: &Node) -> Result<String, String> {
    let written = text(node)?;
    let right = written == "*"
        || written == "null"
        || written.split_once("://").is_some_and(|(scheme, host)| {
            let scheme_chars = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
            let plain = |c: char| c.is_ascii_graphic() && !"/?#@,".contains(c);
            !scheme.is_empty()
                && scheme.chars().all(scheme_chars)
                && !host.is_empty()
                && host.chars().all(plain)
        });
    if right {
        Ok(written.to_ascii_lowercase())
    } else {
        Err(format!(
            "must be an origin such as \"https://app.example.com\", or \"*\", not {written:?}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::document::{Place, Value};

    fn node(text: &str) -> Node {
        Node {
            value: Value::Text(text.to_owned()),
            place: Place::Variable("TEST".to_owned()),
        }
    }

    #[test]
    fn origins_are_what_browsers_send() {
        for right in [
            "*",
            "null",
            "https://a.example",
            "http://[::1]:8080",
            "HTTP://A.example",
        ] {
            assert_eq!(origin(&node(right)), Ok(right.to_ascii_lowercase()));
        }
        for wrong in [
            "",
            "a.example",
            "https://",
            "https://a/",
            "https://a/b",
            "://a",
            "https://a b",
        ] {
            assert!(origin(&node(wrong)).is_err(), "{wrong}");
        }
    }
}
