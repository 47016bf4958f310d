//! Bodies of pushes: encodings, sizes, times and memory.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::harness::{Proxy, eventually};
use crate::push::{QUIET, push, text};
use crate::support::{Sender, in_time, read_answer};

#[test]
fn an_undeclared_encoding_gets_an_error_that_names_the_header() {
    let proxy = Proxy::start(QUIET);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(b"m 1\n").unwrap();
    let zstd = b"\x28\xb5\x2f\xfd\x04\x00".to_vec();
    let snappy = b"\xff\x06\x00\x00sNaPpY".to_vec();
    for (body, coding) in [
        (gzip.finish().unwrap(), "gzip"),
        (zstd, "zstd"),
        (snappy, "snappy"),
    ] {
        for path in ["/metrics/job/x", "/metrics?mode=aggregate", "/api/v1/batch"] {
            let answer = proxy.push("POST", path, &body);
            assert_eq!(answer.status, 415, "{path}");
            let reported = format!(
                "the body is {coding}, but the request has no Content-Encoding; send \"Content-Encoding: {coding}\"\n"
            );
            assert_eq!(answer.text(), reported, "{path}");
        }
        let identity = [("Content-Encoding", "identity")];
        let answer = proxy.push_with("POST", "/metrics/job/x", &identity, &body);
        assert_eq!(answer.status, 415, "{coding}");
        let reported = format!("the body is {coding}, but its Content-Encoding is \"identity\"; ");
        assert!(answer.text().starts_with(&reported), "{}", answer.text());
    }
    // `curl -d @file` joins two lines like this.
    for path in ["/metrics/job/x", "/metrics?mode=aggregate"] {
        let answer = proxy.push("POST", path, "# TYPE a gaugea 1");
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.text().contains("--data-binary"), "{}", answer.text());
        let answer = proxy.push("POST", path, "# TYPE a gauge\na one\n");
        assert!(
            !answer.text().contains("--data-binary"),
            "{}",
            answer.text()
        );
    }
    assert_eq!(proxy.metrics(), "");
}

#[test]
fn bodies_have_limits_of_size_and_time_and_small_errors_keep_the_connection() {
    let proxy = Proxy::start("[push]\nmax_body = 1000\n");
    let large = format!("m 1 {}\n", " ".repeat(2000));
    let answer = proxy.push("PUT", "/metrics/job/x", &large);
    assert_eq!(answer.status, 413);
    assert_eq!(
        answer.text(),
        "the body has more than 1000 bytes (push.max_body)\n"
    );
    // The same limit applies to a body without a length.
    let mut chunked = Sender::to(&proxy.push);
    chunked.send(
        b"PUT /metrics/job/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    chunked.send(format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len()).as_bytes());
    assert_eq!(read_answer(&mut chunked.0, true).unwrap().status, 413);
    // It also applies to a body that becomes large when decompressed.
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(large.as_bytes()).unwrap();
    let gzip = [("Content-Encoding", "gzip")];
    let answer = proxy.push_with("PUT", "/metrics/job/x", &gzip, packed.finish().unwrap());
    assert_eq!(answer.status, 413, "{}", answer.text());
    let unknown = proxy.push_with(
        "PUT",
        "/metrics/job/x",
        &[("Content-Encoding", "br")],
        "m 1\n",
    );
    assert_eq!(unknown.status, 415);

    let hasty = Proxy::start("[push]\nbody_timeout = \"300ms\"\n");
    let start = Instant::now();
    let mut slow = Sender::to(&hasty.push);
    slow.send(b"PUT /metrics/job/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nm 1");
    let answer = read_answer(&mut slow.0, true).unwrap();
    assert_eq!(answer.status, 408);
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(slow.0.read(&mut [0]).unwrap(), 0);

    let mut stream = Sender::to(&proxy.push).0;
    for (path, body, status) in [
        ("job/x/a", "m 1\n", 400),
        ("job/x", "m{\n", 400),
        ("foo/x", "m 1\n", 404),
        ("job/x", "m 1\n", 200),
        ("job/x", "m 2", 200),
    ] {
        write!(
            stream,
            "PUT /metrics/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        assert_eq!(
            read_answer(&mut stream, true).unwrap().status,
            status,
            "{path}"
        );
    }
}

#[test]
fn a_sender_of_far_too_much_still_reads_the_answer() {
    let proxy = Proxy::start("[push]\nmax_body = 1000\n");
    let large = "m 1\n".repeat(1 << 20);
    let mut sent = 0.0;
    for length in [
        format!("Content-Length: {}\r\n\r\n{large}", large.len()),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
            large.len()
        ),
    ] {
        let request = format!("PUT /metrics/job/x HTTP/1.1\r\nHost: localhost\r\n{length}");
        // The proxy discards for one second.
        let answer = in_time(Duration::from_millis(900), || {
            sent += 1.0;
            let mut sender = Sender::to(&proxy.push);
            sender.0.write_all(request.as_bytes())?;
            read_answer(&mut sender.0, true).ok_or(ErrorKind::ConnectionReset.into())
        });
        assert_eq!(answer.status, 413);
    }
    let mut waiting = Sender::to(&proxy.push);
    waiting.send(b"PUT /metrics/job/x HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n");
    assert_eq!(read_answer(&mut waiting.0, true).unwrap().status, 413);
    assert_eq!(
        proxy.sample("exporter_proxy_pushes_total{method=\"put\",result=\"too_large\"}"),
        Some(sent + 1.0)
    );
}

#[test]
fn protobuf_and_compressed_bodies_are_accepted() {
    let proxy = Proxy::start(QUIET);
    let protobuf = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
    // One message: a name, a type, a metric with a gauge.
    let mut body = vec![18, 0x0a, 1, b'm', 0x18, 1, 0x22, 11, 0x12, 9, 9];
    body.extend_from_slice(&1.5_f64.to_le_bytes());
    let send = |headers: &[(&str, &str)], body: &[u8]| {
        proxy.push_with("PUT", "/metrics/job/x", headers, body)
    };
    let answer = send(&[("Content-Type", protobuf)], &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        text(&proxy),
        "# TYPE m gauge\nm{instance=\"\",job=\"x\"} 1.5\n"
    );
    let cut = send(&[("Content-Type", protobuf)], &body[..9]);
    assert_eq!(cut.status, 400);
    assert!(
        cut.text().starts_with("group {job=\"x\"}, family 1"),
        "{}",
        cut.text()
    );
    let other = protobuf.replace("delimited", "text");
    assert_eq!(send(&[("Content-Type", &other)], &body).status, 415);

    // Large when decompressed, so that another thread reads it.
    let lines: String = (0..50_000)
        .map(|n| format!("n{{n=\"{n}\"}} {n}\n"))
        .collect();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(lines.as_bytes()).unwrap();
    let answer = send(&[("Content-Encoding", "GZIP")], &packed.finish().unwrap());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(text(&proxy).lines().count(), 50_001);
    let bad = send(&[("Content-Encoding", "gzip")], b"m 1\n");
    assert_eq!(bad.status, 400);
    assert!(bad.text().contains("not valid gzip"), "{}", bad.text());
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it() {
    let proxy = Proxy::start(QUIET);
    let mut stream = Sender::to(&proxy.push).0;
    stream
        .write_all(b"PUT /metrics/job/x HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        .unwrap();
    let go_on = read_answer(&mut stream, false).unwrap();
    assert_eq!(go_on.status, 100);
    stream.write_all(b"m 1\n").unwrap();
    assert_eq!(read_answer(&mut stream, true).unwrap().status, 200);
    assert!(text(&proxy).contains("m{"));
}

#[test]
fn all_bodies_together_have_a_limit() {
    let proxy = Proxy::start("[push]\nmax_buffered = 10\n");
    let mut first = Sender::to(&proxy.push).0;
    first
        .write_all(
            b"PUT /metrics/job/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nmetric 1",
        )
        .unwrap();
    eventually(
        || proxy.sample("exporter_proxy_push_buffered_bytes"),
        |bytes| *bytes == Some(8.0),
    );
    let rejected = proxy.push("PUT", "/metrics/job/y", "m 1\n");
    let retry = rejected.header("retry-after");
    assert_eq!((rejected.status, retry), (503, Some("1")));
    first.write_all(b"\n").unwrap();
    assert_eq!(read_answer(&mut first, true).unwrap().status, 200);
    push(&proxy, "PUT", "/metrics/job/y", "n 1\n");
}

#[test]
fn a_large_body_is_stored_whole_or_not_at_all() {
    let proxy = Proxy::start(QUIET);
    let lines: String = (0..50_000)
        .map(|n| format!("m{{n=\"{n}\"}} {n}\n"))
        .collect();
    push(&proxy, "PUT", "/metrics/job/x", &lines);
    assert_eq!(text(&proxy).lines().count(), 50_001);
    let answer = proxy.push("PUT", "/metrics/job/x", format!("{lines}n{{\n"));
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("line 50001, column 3"),
        "{}",
        answer.text()
    );
    assert_eq!(text(&proxy).lines().count(), 50_001);
}
