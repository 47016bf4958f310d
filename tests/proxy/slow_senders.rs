//! Senders of the original may pause for as long as they like and send slowly: no time limit makes
//! them lose anything.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Proxy, capnp_message, eventually};
use crate::support::{Sender, rejected, text_of};

#[test]
fn by_default_a_message_may_take_longer_than_ten_seconds() {
    let proxy = Proxy::start("");
    let mut json = Sender::connect(&proxy);
    let mut capnp = Sender::connect(&proxy);
    let message = capnp_message("capnp", "m 1\n");
    json.send(b"{\"json\":\"m ");
    capnp.send(&message[..20]);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(11) {
        thread::sleep(Duration::from_secs(1));
        json.send(b"1");
    }
    json.send(b"\"}");
    capnp.send(&message[20..]);
    for name in ["json", "capnp"] {
        eventually(|| text_of(&proxy, name), Option::is_some);
    }
    assert_eq!(rejected(&proxy), []);
}

#[test]
fn zero_is_no_time_limit() {
    let proxy = Proxy::start("[receiver]\nidle_timeout = 0\nmessage_timeout = 0\n");
    let mut sender = Sender::connect(&proxy);
    for number in 1..=3 {
        sender.send(b"{\"app\":");
        thread::sleep(Duration::from_millis(100));
        sender.send(format!("\"m {number}\"}}").as_bytes());
        let text = Some(format!("m {number}\n"));
        eventually(|| text_of(&proxy, "app"), |seen| *seen == text);
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(rejected(&proxy), []);
}

#[test]
fn an_idle_sender_makes_room_when_all_connections_are_in_use() {
    let proxy = Proxy::start("[exporter]\nconcurrent_requests = 1\n");
    let mut idle = Sender::connect(&proxy);
    idle.send(b"{\"idle\":\"m 1\"}");
    eventually(|| text_of(&proxy, "idle"), Option::is_some);
    proxy.push_tcp(b"{\"next\":\"m 1\"}");
    eventually(|| text_of(&proxy, "next"), Option::is_some);
    assert_eq!(idle.read_to_end(), "");
}
