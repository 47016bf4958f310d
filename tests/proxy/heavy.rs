//! Limits apply to decompressed bodies, and memory is shared so that small bodies and messages
//! find room beside large ones.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::harness::{Proxy, capnp_message, eventually};
use crate::support::{Sender, names, text_of, until_fast_enough};

fn gzipped(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn buffered(proxy: &Proxy) -> Option<f64> {
    proxy.sample("exporter_proxy_push_buffered_bytes")
}

const GZIP: [(&str, &str); 1] = [("Content-Encoding", "gzip")];

#[test]
fn compressed_bodies_are_taken_at_every_size_and_path() {
    let proxy = Proxy::start("");
    let filler = "# c\n".repeat(1 << 16);
    for (name, text) in [
        ("small", "m 1\n".to_owned()),
        ("long", format!("{filler}m 1\n")),
    ] {
        let body = gzipped(text.as_bytes());
        for (method, path) in [
            ("PUT", format!("/metrics/job/{name}")),
            ("POST", format!("/metrics/job/{name}_post")),
            ("POST", format!("/metrics/job/{name}_added?mode=aggregate")),
            ("POST", format!("/api/v1/validate/job/{name}_valid")),
        ] {
            let answer = proxy.push_with(method, &path, &GZIP, &body);
            assert!(answer.status < 300, "{path}: {}", answer.text());
        }
        let group = format!("{{\"labels\":{{\"job\":\"{name}_batch\"}},\"metrics\":\"m 1\\n\"}}");
        let batch = format!("{{\"groups\":[{group}{}]}}", " ".repeat(text.len()));
        let answer = proxy.push_with("POST", "/api/v1/batch", &GZIP, gzipped(batch.as_bytes()));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let hook = format!("{{\"alerts\":[]{}}}", " ".repeat(text.len()));
        let headers = [GZIP[0], ("Content-Type", "application/json")];
        let answer = proxy.push_with("POST", "/webhook", &headers, gzipped(hook.as_bytes()));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let created = format!("{filler}created_{name} 1\n");
        let headers = [GZIP[0], ("Content-Type", "text/plain")];
        let answer = proxy.push_with("POST", "/create", &headers, gzipped(created.as_bytes()));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(buffered(&proxy), Some(0.0));
}

#[test]
fn what_a_body_decompresses_to_counts_against_max_buffered() {
    let proxy = Proxy::start("[push]\nmax_buffered = \"1MiB\"\n");
    let bomb = gzipped("# comment\n".repeat(1 << 20).as_bytes());
    assert!(bomb.len() < 128 << 10);
    for path in ["/metrics/job/x", "/api/v1/batch"] {
        let method = if path.contains("job") { "PUT" } else { "POST" };
        let answer = proxy.push_with(method, path, &GZIP, &bomb);
        assert_eq!(answer.status, 503, "{path}");
        assert!(
            answer.text().contains("push.max_buffered"),
            "{}",
            answer.text()
        );
    }
    assert_eq!(buffered(&proxy), Some(0.0));
    let answer = proxy.push_with("PUT", "/metrics/job/x", &GZIP, gzipped(b"m 1\n"));
    assert_eq!(answer.status, 200);
}

#[test]
fn a_batch_ends_at_the_first_group_that_is_wrong_or_too_many() {
    let proxy = Proxy::start("");
    let many = "{\"labels\":{\"job\":\"x\"}},".repeat(200_000);
    let answer = proxy.push("POST", "/api/v1/batch", format!("{{\"groups\":[{many}"));
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("groups[1]: group"),
        "{}",
        answer.text()
    );
    let mut different = String::from("{\"groups\":[");
    for number in 0..=100_000 {
        different.push_str(&format!("{{\"labels\":{{\"job\":\"{number}\"}}}},"));
    }
    // It need not even be complete.
    let answer = proxy.push("POST", "/api/v1/batch", different);
    assert_eq!(answer.status, 413);
    assert!(
        answer.text().contains("at most 100000 groups"),
        "{}",
        answer.text()
    );
    for (wrong, said) in [
        ("{}", "missing field `groups`"),
        ("{\"group\":[]}", "unknown field `group`"),
        ("{\"groups\":[],\"groups\":[]}", "duplicate field `groups`"),
        ("{\"groups\":{}}", "a list of groups"),
        ("[]", "an object with groups"),
        ("{\"groups\":[]} x", "trailing characters"),
    ] {
        let answer = proxy.push("POST", "/api/v1/batch", wrong);
        assert_eq!(answer.status, 400, "{wrong}");
        assert!(answer.text().contains(said), "{wrong}: {}", answer.text());
    }
    assert_eq!(
        proxy
            .push("POST", "/api/v1/batch", "{\"groups\":[]}")
            .status,
        200
    );
}

/// Bodies and messages that stall for at most this long are not cut off yet.
const NOT_CUT_OFF: Duration = Duration::from_secs(5);

/// Begins a body of that length, and sends a part of it.
fn stalled(address: &str, length: usize, sent: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "PUT /metrics/job/stalled HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&vec![b'#'; sent]).unwrap();
    stream
}

#[test]
fn small_bodies_find_room_beside_large_ones_that_stall_and_those_are_cut_off() {
    until_fast_enough(|| {
        let proxy = Proxy::start("[push]\nmax_buffered = \"8MiB\"\n");
        let start = Instant::now();
        let is_late = || start.elapsed() > NOT_CUT_OFF;
        let large = [0, 1].map(|_| stalled(&proxy.push, 4 << 20, 3 << 20));
        let all = (6 << 20) as f64;
        eventually(
            || buffered(&proxy),
            |bytes| *bytes == Some(all) || is_late(),
        );
        // A large body cannot use the reserve.
        let text = format!("{}m 1\n", "# c\n".repeat(300_000));
        let rejected = proxy.push("PUT", "/metrics/job/large", &text);
        if is_late() {
            return false;
        }
        assert_eq!(rejected.status, 503, "{}", rejected.text());
        let small = proxy.push("PUT", "/metrics/job/small", "m 1\n");
        assert_eq!(small.status, 200);
        // One or both are cut off: without one, there is memory enough.
        let rejected =
            || proxy.sample("exporter_proxy_pushes_total{method=\"put\",result=\"timeout\"}");
        eventually(rejected, |count| *count >= Some(1.0));
        drop(large);
        eventually(|| buffered(&proxy), |bytes| *bytes == Some(0.0));
        assert_eq!(proxy.push("PUT", "/metrics/job/large", &text).status, 200);
        true
    });
}

#[test]
fn a_large_body_that_is_slow_is_waited_for_while_there_is_memory() {
    let proxy = Proxy::start("");
    let mut stream = stalled(&proxy.push, 200 << 10, 100 << 10);
    std::thread::sleep(Duration::from_secs(4));
    stream.write_all(&vec![b'\n'; 100 << 10]).unwrap();
    let mut head = [0; 15];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
}

#[test]
fn small_messages_find_room_beside_large_ones_that_stall_and_those_are_cut_off() {
    until_fast_enough(|| {
        let proxy =
            Proxy::start("[receiver]\nmax_buffered = \"4MiB\"\nmessage_timeout = \"10m\"\n");
        let start = Instant::now();
        let is_late = || start.elapsed() > NOT_CUT_OFF;
        let begin = |bytes: usize| {
            let mut sender = Sender::connect(&proxy);
            sender.send(b"{\"large\":\"");
            sender.send(&vec![b'#'; bytes]);
            sender
        };
        let mut large = begin(3 << 20);
        let received = || proxy.sample("exporter_proxy_receive_buffered_bytes");
        eventually(received, |bytes| {
            *bytes > Some((3 << 20) as f64) || is_late()
        });
        let mut second = begin(1 << 20);
        // Its end is of interest only if it is not rejected before. It may be closed already.
        let _ = second.0.shutdown(Shutdown::Write);
        let rejected = second.read_to_end();
        // It comes in two parts, so that the proxy has to keep the first.
        let mut small = Sender::connect(&proxy);
        small.send(b"{\"small\":\"m 1");
        small.send(&[b' '; 32 << 10]);
        small.send(b"\"}");
        eventually(|| names(&proxy), |names| *names == ["small"]);
        if is_late() {
            return false;
        }
        assert!(rejected.contains("receiver.max_buffered"), "{rejected}");
        let cut_off = large.read_to_end();
        assert!(cut_off.contains("arrives too slowly"), "{cut_off}");
        eventually(received, |bytes| *bytes == Some(0.0));
        true
    });
}

#[test]
fn large_messages_are_stored_in_their_order_where_texts_are_read() {
    let proxy = Proxy::start("[exposition]\nmode = \"merged\"\n");
    let text = |value: usize, lines: usize| {
        let lines = (0..lines).map(|line| format!("m{{line=\\\"{line}\\\"}} {value}\\n"));
        lines.collect::<String>()
    };
    let mut stream = Vec::new();
    for (value, lines) in [
        (1, 1),
        (2, 20_000),
        (3, 20_000),
        (4, 1),
        (5, 30_000),
        (6, 2),
    ] {
        stream.extend(format!("{{\"a\":\"{}\"}}", text(value, lines)).into_bytes());
    }
    assert_eq!(proxy.push_tcp(&stream), "");
    let last = "# TYPE m untyped\nm{line=\"0\"} 6\nm{line=\"1\"} 6\n";
    assert_eq!(text_of(&proxy, "a").as_deref(), Some(last));
    let long = text(7, 20_000).replace("\\n", "\n").replace("\\\"", "\"");
    let messages = [
        capnp_message("b", &long.replace('m', "b")),
        capnp_message("c", "c 1\n"),
        capnp_message("wrong", &format!("{long}wrong{{")),
        capnp_message("never", "d 1\n"),
    ];
    assert_eq!(proxy.push_tcp(&messages.concat()), "");
    assert_eq!(names(&proxy), ["a", "b", "c"]);
    let answer = proxy.push_tcp(format!("{{\"d\":\"{}d{{\"}}", text(8, 20_000)).as_bytes());
    assert!(answer.starts_with("error: app \"d\""), "{answer}");
    let buffered = || proxy.sample("exporter_proxy_receive_buffered_bytes");
    eventually(buffered, |bytes| *bytes == Some(0.0));
}
