//! DogStatsD's messages other than plain lines, and lines that are also forwarded.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, UdpSocket};

use crate::harness::{PATIENCE, Proxy, eventually};
use crate::operations::bench;
use crate::reload::reload;

/// A packet of a stream: its length, and its bytes.
fn packet(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_le_bytes();
    [&length[..], text.as_bytes()].concat()
}

#[test]
fn packets_of_unix_streams_are_like_datagrams() {
    let bench = bench("max_message = \"70KiB\"\n");
    let long = format!("long:1|c\n{}", "long:1|c\n".repeat(7000));
    let packets = [
        packet("a:1|c\nb:2|c"),
        packet(""),
        packet("a:1|"),
        packet("a:5|c\n"),
        packet(&long),
        packet("a:10|c"),
    ]
    .concat();
    let answer = bench.send(&packets);
    assert_eq!(answer.lines().count(), 1, "{answer}");
    assert!(
        answer.starts_with("error: message 3: the type must be"),
        "{answer}"
    );
    bench.comes_to("a", 16.0);
    bench.comes_to("b", 2.0);
    bench.comes_to("long", 7001.0);
    // In pieces of one byte.
    let mut stream = bench.connect();
    for byte in packets.iter().take(60) {
        stream.write_all(&[*byte]).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    bench.comes_to("a", 22.0);
    assert!(
        answer.contains("the stream ends within a packet"),
        "{answer}"
    );
    assert_eq!(bench.results("unix", "truncated"), 1.0);
    // Messages that are shorter than a length field.
    assert_eq!(bench.send(b"{}").lines().count(), 1);
    assert_eq!(bench.send(b""), "");
    assert_eq!(bench.send(b"\n\n"), "");
}

#[test]
fn a_packet_above_the_limit_ends_the_connection() {
    let bench = bench("max_message = \"1KiB\"\n");
    let answer = bench.send(&packet(&"a:1|c\n".repeat(200)));
    assert!(
        answer
            .contains("the packet has 1200 bytes, and the limit is 1024 (operations.max_message)"),
        "{answer}"
    );
    assert_eq!(bench.results("unix", "too_large"), 1.0);
    assert_eq!(bench.proxy.sample("a"), None);
}

#[test]
fn fields_are_labels_where_that_is_asked() {
    let line = b"a:1|c|#k:v|@0.5|c:ci-1|T1656581400|e:it-false|card:low\nb:1|c\nc:1|c|c:2|c|#k:v\n";
    let without = bench("");
    assert_eq!(without.send(line), "");
    without.comes_to("a{k=\"v\"}", 2.0);
    let with = bench(
        "statsd_fields = [\"container_id\", \"external_data\", \"cardinality\", \"timestamp\"]\n",
    );
    assert_eq!(with.send(line), "");
    with.comes_to(
        "a{cardinality=\"low\",container_id=\"ci-1\",external_data=\"it-false\",k=\"v\",timestamp=\"1656581400\"}",
        2.0,
    );
    with.comes_to("b", 1.0);
    with.comes_to("c{container_id=\"2\",k=\"v\"}", 1.0);
}

#[test]
fn events_and_checks_are_metrics_where_that_is_asked() {
    let lines = b"_e{5,4}:title|text|t:error|#env:prod\n_e{5,4}:other|text|t:error|#env:prod\n_sc|db up|2|#env:prod|m:it is: down\n_sc|db up|9\n";
    let without = bench("");
    assert_eq!(without.send(lines).lines().count(), 4);
    assert_eq!(without.results("unix", "unsupported"), 4.0);
    let with = bench("statsd_events = true\n");
    let answer = with.send(lines);
    assert!(
        answer.starts_with("error: message 4: expected _sc|name|status"),
        "{answer}"
    );
    with.comes_to(
        "dogstatsd_events_total{alert_type=\"error\",env=\"prod\",priority=\"normal\"}",
        2.0,
    );
    with.comes_to(
        "dogstatsd_service_check_status{check=\"db up\",env=\"prod\"}",
        2.0,
    );
    let page = with.proxy.metrics();
    assert!(
        page.contains("# TYPE dogstatsd_service_check_status gauge\n"),
        "{page}"
    );
}

/// The lines that arrive, up to `last`.
fn arrived(socket: &UdpSocket, last: &str) -> Vec<String> {
    let (mut lines, mut buffer) = (Vec::new(), [0; 65536]);
    loop {
        let length = socket.recv(&mut buffer).expect("a datagram");
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        lines.extend(text.lines().map(str::to_owned));
        if lines.iter().any(|line| line == last) {
            return lines;
        }
    }
}

#[test]
fn operations_are_also_kept_and_lines_copied_as_the_settings_say_now() {
    let next = UdpSocket::bind("127.0.0.1:0").unwrap();
    next.set_read_timeout(Some(PATIENCE)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("o.sock");
    let config = |more: &str| {
        format!(
            "[push]\nlisten = \"127.0.0.1:0\"\nenable_lifecycle = true\n\
             [operations]\nunix_sockets = [{socket:?}]\nforward_to = \"udp://{}\"\n{more}",
            next.local_addr().unwrap()
        )
    };
    let proxy = Proxy::start(&config("forward_raw = true\n"));
    let send = |lines: &str| {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        stream.write_all(lines.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let lines = "a.b:1|c|@0.5|#k:v\nt:1|c:5|ms|#k:v\nu:ann|s\n{\"name\":\"j\",\"op\":\"inc\",\"value\":1}\n";
    assert_eq!(
        send(&format!("{lines}bad:x|c\nend:1|c\n")).lines().count(),
        1
    );
    let seen = arrived(&next, "end:1|c");
    assert_eq!(
        seen[..4],
        ["a.b:1|c|@0.5|#k:v", "t:1|c|#k:v", "t:5|ms|#k:v", "u:ann|s"]
    );
    assert!(seen[4].starts_with("{\"name\":\"j\","), "{seen:?}");
    assert_eq!(proxy.sample("a_b{k=\"v\"}"), None);

    reload(&proxy, &config("forward_raw = true\nforward_keep = true\n"));
    // A line that is rejected here, because its type differs, is not sent on.
    assert_eq!(
        send(&format!("{lines}a.b:1|g|#k:v\nend:1|c\n"))
            .lines()
            .count(),
        2
    );
    let seen = arrived(&next, "end:1|c");
    let count = |line: &str| seen.iter().filter(|seen| *seen == line).count();
    assert_eq!(count("a.b:1|c|@0.5|#k:v"), 1, "{seen:?}");
    assert_eq!(count("u:ann|s"), 1, "{seen:?}");
    assert_eq!(count("a.b:1|g|#k:v"), 0, "{seen:?}");
    for (series, value) in [("a_b{k=\"v\"}", 2.0), ("u", 1.0), ("j", 1.0), ("end", 1.0)] {
        assert_eq!(proxy.sample(series), Some(value), "{series}");
    }

    reload(&proxy, &config("forward_keep = true\n"));
    assert_eq!(send("a.b:1|c|#k:v\n"), "");
    let mut buffer = [0; 65536];
    let length = next.recv(&mut buffer).unwrap();
    let text = std::str::from_utf8(&buffer[..length]).unwrap();
    assert!(
        text.starts_with("{\"name\":\"a_b\",\"labels\":{\"k\":\"v\""),
        "{text}"
    );
    assert_eq!(proxy.sample("a_b{k=\"v\"}"), Some(3.0));

    reload(&proxy, &config(""));
    assert_eq!(send("a.b:1|c|#k:v\n"), "");
    next.recv(&mut buffer).unwrap();
    assert_eq!(proxy.sample("a_b{k=\"v\"}"), Some(3.0));
}

#[test]
fn summaries_are_sent_on_as_histograms() {
    let next = bench("");
    let first = bench(&format!(
        "statsd_mapping = \"/dev/null\"\nforward_keep = true\nforward_to = \"tcp://{}\"\n",
        next.tcp
    ));
    assert_eq!(first.send(b"work:200|ms\n"), "");
    let is_near = |value: &Option<f64>| value.is_some_and(|value| (value - 0.2).abs() < 0.005);
    eventually(|| first.proxy.sample("work{quantile=\"0.5\"}"), is_near);
    let sent_on = || {
        let page = next.proxy.metrics();
        let bucket = page
            .lines()
            .find(|line| line.starts_with("work_bucket{") && line.contains("le=\"0.25\""));
        bucket.map(|line| line.ends_with(" 1"))
    };
    eventually(sent_on, |seen| *seen == Some(true));
}
