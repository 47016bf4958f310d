//! Past a bound there is a clear error and a count, nothing is stored, and memory is released.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Proxy, capnp_message, eventually};
use crate::support::{Sender, names, received, rejected, resident, text_of};

/// A document of exactly `size` bytes for an app.
fn document(name: &str, size: usize) -> Vec<u8> {
    let frame = format!("{{\"{name}\":\"\"}}").len();
    let text = "x".repeat(size - frame);
    format!("{{\"{name}\":\"{text}\"}}").into_bytes()
}

#[test]
fn a_payload_may_have_max_payload_bytes_and_not_one_more() {
    let proxy = Proxy::start("[receiver]\nmax_payload = \"1KiB\"\n");
    assert_eq!(proxy.push_tcp(&document("fits", 1024)), "");
    let answer = proxy.push_tcp(&document("wrong", 1025));
    assert_eq!(
        answer,
        "error: the document exceeds the limit of 1024 bytes (receiver.max_payload)\n"
    );
    // Several documents together may be larger.
    let many = [document("a", 1000), document("b", 1000)].concat();
    assert_eq!(proxy.push_tcp(&many), "");

    // 1024 bytes: table and root 16, pointers 16, name 8, data 984.
    let message = capnp_message("capnp", &"x".repeat(983));
    assert_eq!(message.len(), 1024);
    assert_eq!(proxy.push_tcp(&message), "");
    let mut sender = Sender::connect(&proxy);
    sender.send(&capnp_message("wrong", &"x".repeat(984))[..8]);
    assert_eq!(sender.read_to_end(), "");

    assert_eq!(names(&proxy), ["a", "b", "capnp", "fits"]);
    assert_eq!(received(&proxy, "tcp", "json", "too_large"), 1.0);
    assert_eq!(received(&proxy, "tcp", "capnp", "too_large"), 1.0);
}

#[test]
fn a_document_without_an_end_is_rejected_at_the_limit() {
    let proxy = Proxy::start("[receiver]\nmax_payload = \"64KiB\"\n");
    let mut sender = Sender::connect(&proxy);
    sender.send(b"{\"wrong\":\"");
    sender.send(&vec![b'x'; 64 << 10]);
    let answer = sender.read_to_end();
    assert!(answer.contains("65536 bytes"), "{answer}");
    assert_eq!(names(&proxy), [""; 0]);
    assert_eq!(received(&proxy, "tcp", "json", "too_large"), 1.0);
}

#[test]
fn a_name_may_have_max_app_name_bytes() {
    let proxy = Proxy::start("[receiver]\nmax_app_name = 8\n");
    assert_eq!(proxy.push_tcp("{\"éééé\":\"m 1\"}".as_bytes()), "");
    let answer = proxy.push_tcp("{\"ok\":\"n 1\",\"ééééa\":\"m 1\"}".as_bytes());
    assert_eq!(
        answer,
        "error: an app's name of 9 bytes exceeds the limit of 8 bytes (receiver.max_app_name)\n"
    );
    assert_eq!(proxy.push_tcp(&capnp_message("123456789", "m 1")), "");
    assert_eq!(proxy.push_tcp(&capnp_message("12345678", "m 1")), "");
    assert_eq!(names(&proxy), ["12345678", "éééé"]);
    assert_eq!(received(&proxy, "tcp", "json", "bad_name"), 1.0);
    assert_eq!(received(&proxy, "tcp", "capnp", "bad_name"), 1.0);
}

#[test]
fn new_apps_beyond_max_apps_are_rejected_and_known_ones_continue() {
    let proxy = Proxy::start("[receiver]\nmax_apps = 3\n");
    assert_eq!(proxy.push_tcp(b"{\"a\":\"a 1\",\"b\":\"b 1\"}"), "");
    // Two new apps do not fit, so neither is stored, nor is the text of the known app.
    let answer = proxy.push_tcp(b"{\"a\":\"a 2\",\"c\":\"c 1\",\"d\":\"d 1\"}");
    assert!(
        answer.starts_with(
            "error: cannot add app \"c\" and 1 more together: with them the limit of 3 apps is exceeded"
        ),
        "{answer}"
    );
    assert!(answer.contains("receiver.max_apps"), "{answer}");
    assert_eq!(names(&proxy), ["a", "b"]);
    assert_eq!(text_of(&proxy, "a").as_deref(), Some("a 1\n"));

    assert_eq!(proxy.push_tcp(b"{\"c\":\"c 1\",\"c\":\"c 2\"}"), "");
    assert_eq!(proxy.push_tcp(&capnp_message("d", "d 1")), "");
    assert_eq!(proxy.push_tcp(b"{\"a\":\"a 3\",\"b\":\"b 3\"}"), "");
    assert_eq!(names(&proxy), ["a", "b", "c"]);
    assert_eq!(text_of(&proxy, "a").as_deref(), Some("a 3\n"));
    assert_eq!(received(&proxy, "tcp", "json", "too_many_apps"), 1.0);
    assert_eq!(received(&proxy, "tcp", "capnp", "too_many_apps"), 1.0);
}

#[test]
fn unfinished_messages_of_all_connections_share_max_buffered() {
    let proxy = Proxy::start("[receiver]\nmax_buffered = \"64KiB\"\n");
    let mut held = document("held", 60 << 10);
    let last = held.pop().unwrap();
    let mut holder = Sender::connect(&proxy);
    holder.send(&held);
    let buffered = || proxy.sample("exporter_proxy_receive_buffered_bytes");
    eventually(buffered, |bytes| *bytes == Some(held.len() as f64));
    let unfinished = document("wrong", 8 << 10);
    let mut sender = Sender::connect(&proxy);
    sender.send(&unfinished[..unfinished.len() - 1]);
    sender.half_close();
    let answer = sender.read_to_end();
    assert_eq!(
        answer,
        "error: all memory for incomplete messages is in use (receiver.max_buffered); try again later\n"
    );
    assert_eq!(received(&proxy, "tcp", "json", "no_buffer"), 1.0);
    assert_eq!(names(&proxy), [""; 0]);

    // A message that has begun can be finished, and its memory is then free again.
    holder.send(&[last]);
    eventually(|| names(&proxy), |names| *names == ["held"]);
    eventually(buffered, |bytes| *bytes == Some(0.0));
    let mut next = document("next", 60 << 10);
    let last = next.pop().unwrap();
    let mut sender = Sender::connect(&proxy);
    sender.send(&next);
    sender.send(&[last]);
    eventually(|| names(&proxy), |names| *names == ["held", "next"]);
    assert_eq!(received(&proxy, "tcp", "json", "no_buffer"), 1.0);
}

#[test]
fn memory_of_a_sender_that_leaves_is_free_for_the_next() {
    let proxy = Proxy::start("[receiver]\nmax_buffered = \"64KiB\"\n");
    for round in 0..20 {
        let mut sender = Sender::connect(&proxy);
        sender.send(&document("unfinished", 60 << 10)[..50 << 10]);
        sender.half_close();
        let answer = sender.read_to_end();
        assert!(answer.contains("ends too early"), "{round}: {answer}");
    }
    assert_eq!(received(&proxy, "tcp", "json", "truncated"), 20.0);
    assert_eq!(received(&proxy, "tcp", "json", "no_buffer"), 0.0);
}

#[test]
fn a_message_must_arrive_whole_within_message_timeout() {
    let proxy = Proxy::start("[receiver]\nmessage_timeout = \"300ms\"\n");
    let start = Instant::now();
    let mut sender = Sender::connect(&proxy);
    sender.send(b"{\"app\":\"m 1\"}{\"wrong\":\"w 1");
    let answer = sender.read_to_end();
    assert_eq!(
        answer,
        "error: document 2, the message did not arrive completely within 300ms (receiver.message_timeout)\n"
    );
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(received(&proxy, "tcp", "json", "timeout"), 1.0);

    let mut sender = Sender::connect(&proxy);
    sender.send(&capnp_message("wrong", "w 1")[..20]);
    assert_eq!(sender.read_to_end(), "");
    assert_eq!(received(&proxy, "tcp", "capnp", "timeout"), 1.0);
    assert_eq!(names(&proxy), ["app"]);
}

#[test]
fn sending_a_little_now_and_then_does_not_buy_more_time() {
    let proxy = Proxy::start("[receiver]\nmessage_timeout = \"300ms\"\n");
    let mut sender = Sender::connect(&proxy);
    sender.send(b"{\"wrong\":\"");
    // Until the receiver closes, and resets the connection at the next byte.
    eventually(
        || {
            thread::sleep(Duration::from_millis(20));
            sender.0.write_all(b"x").is_err()
        },
        |failed| *failed,
    );
    assert_eq!(received(&proxy, "tcp", "json", "timeout"), 1.0);
    assert_eq!(names(&proxy), [""; 0]);
}

#[test]
fn the_time_for_a_message_begins_anew_with_each_message() {
    let proxy = Proxy::start("[receiver]\nmessage_timeout = \"4s\"\n");
    let mut sender = Sender::connect(&proxy);
    let start = Instant::now();
    let mut number = 0;
    // Longer than the time for one message, and never between two messages.
    sender.send(b"{\"app\":");
    while start.elapsed() < Duration::from_secs(5) {
        number += 1;
        sender.send(format!("\"m {number}\"}}{{\"app\":").as_bytes());
        eventually(
            || text_of(&proxy, "app"),
            |seen| *seen == Some(format!("m {number}\n")),
        );
    }
    assert_eq!(rejected(&proxy), []);
}

#[test]
fn a_silent_connection_is_closed_after_idle_timeout_without_an_error() {
    let proxy = Proxy::start("[receiver]\nidle_timeout = \"3s\"\n");
    let mut silent = Sender::connect(&proxy);
    let mut between = Sender::connect(&proxy);
    between.send(b"{\"app\":\"m 1\"}\n");
    let mut capnp = Sender::connect(&proxy);
    capnp.send(&capnp_message("other", "n 1"));
    for sender in [&mut silent, &mut between, &mut capnp] {
        assert_eq!(sender.read_to_end(), "");
    }
    assert_eq!(names(&proxy), ["app", "other"]);
    assert_eq!(rejected(&proxy), []);
    eventually(
        || proxy.sample("exporter_proxy_connections_open{listener=\"tcp\"}"),
        |open| *open == Some(0.0),
    );
}

#[test]
fn memory_is_given_back_after_many_oversized_attempts() {
    /// Memory that all attempts together may leave behind. They send 400 MiB, of which 16
    /// connections hold 2 MiB each at a time.
    const LEFT_BEHIND: u64 = 48 << 20;

    let proxy = Proxy::start("[receiver]\nmax_payload = \"2MiB\"\n");
    let oversized = document("wrong", (2 << 20) + 1);
    let answer = proxy.push_tcp(&oversized);
    assert!(answer.contains("receiver.max_payload"), "{answer}");
    let before = resident(proxy.pid());
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..12 {
                    let answer = proxy.push_tcp(&oversized);
                    assert!(answer.contains("receiver.max_payload"), "{answer}");
                }
            });
        }
    });
    assert_eq!(
        received(&proxy, "tcp", "json", "too_large"),
        1.0 + 16.0 * 12.0
    );
    // The allocator returns memory as requests go on.
    let left = || {
        proxy.metrics();
        resident(proxy.pid()).saturating_sub(before)
    };
    eventually(left, |left| *left < LEFT_BEHIND);
    assert_eq!(names(&proxy), [""; 0]);
}
