//! Sinks with the real systems that they send to. `scripts/test --sinks` installs these and runs
//! the tests.

#![allow(clippy::unwrap_used, reason = "a test that panics is one that fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests read clocks, wait and pass environments"
)]

#[path = "../harness/mod.rs"]
mod harness;
mod opensearch;
mod victoria_logs;

#[cfg(feature = "cql")]
mod cassandra;
#[cfg(feature = "cql")]
mod cql;
#[cfg(feature = "cql-tls")]
mod cql_tls;
mod remote_write;

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{Shutdown, TcpStream};

use harness::{PATIENCE, Proxy};

/// The configuration of a proxy with a socket for operations.
fn config(sinks: &str) -> String {
    format!("[operations]\ntcp = \"127.0.0.1:0\"\n{sinks}")
}

/// A proxy with a socket for operations, and that socket.
fn proxy(sinks: &str) -> (Proxy, String) {
    let proxy = Proxy::start(&config(sinks));
    let log = proxy.log();
    let (_, rest) = log.split_once("operations on TCP socket ").unwrap();
    let address = rest.lines().next().unwrap().to_owned();
    (proxy, address)
}

/// Reloads a proxy with other sinks.
#[cfg(feature = "cql")]
fn reload(proxy: &Proxy, sinks: &str) {
    std::fs::write(proxy.dir.path().join("config.toml"), config(sinks)).unwrap();
    let answer = proxy.push("POST", "/-/reload", "");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Sends messages, and returns the answer.
fn send(address: &str, text: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn messages(op: &str, app: &str, values: std::ops::Range<usize>) -> String {
    let mut text = String::new();
    for value in values {
        let _ = writeln!(
            text,
            "{{\"name\":\"e\",\"op\":\"{op}\",\"value\":{value},\"labels\":{{\"app\":\"{app}\",\"a-b\":\"x \\\"y\\\"\"}}}}"
        );
    }
    text
}
