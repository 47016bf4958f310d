//! The settings of `[push]` for request bodies, origins and hosts.

use std::time::Duration;

use serde::Serialize;

use crate::settings::Table;
use crate::settings::document::Node;
use crate::settings::value::{
    buffer_size, positive_duration, size, text, write_duration, write_size,
};

/// Limits on request bodies, and the allowed origins and hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// The limit on one body after decompression, in bytes.
    #[serde(serialize_with = "write_size")]
    pub max_body: usize,
    /// The limit on all bodies in memory, in bytes.
    #[serde(serialize_with = "write_size")]
    pub max_buffered: usize,
    /// The time limit for a body to arrive.
    #[serde(serialize_with = "write_duration")]
    pub body_timeout: Duration,
    /// Origins whose pages can push, in lower case; `*` allows every origin.
    pub cors_origins: Vec<String>,
    /// Host names of a loopback listener, besides `localhost` and its addresses; `*`
    /// allows every name.
    pub allowed_hosts: Vec<String>,
}

/// The limit on the length of each list. Every request is compared with each item.
const MAX_LIST_ITEMS: usize = 1000;

/// Reads the settings from `[push]`.
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
            && length > MAX_LIST_ITEMS
        {
            let problem = format!(
                "`push.{key}` has {length} {items}; the limit is {MAX_LIST_ITEMS}; use \"*\" for all"
            );
            table.fault(place, problem);
        }
    }
    requests
}

/// Parses `*`, or a value of `Host`: a name with an optional port.
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

/// Parses `*`, or a value of `Origin`: `null`, or a scheme and a host without a path.
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
    fn origins_have_a_scheme_and_no_path() {
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
