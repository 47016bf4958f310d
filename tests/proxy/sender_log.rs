//! Log lines that senders can cause: a limited number, one line each, and without quotes of what
//! they send.

use std::io::Write;
use std::net::TcpStream;

use crate::harness::{Proxy, eventually};
use crate::support::{Sender, logged, names};

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Lines of the log after those of the start.
fn lines(proxy: &Proxy) -> Vec<String> {
    let log = proxy.log();
    let (_, rest) = log.split_once("] ready\n").unwrap();
    rest.lines().map(str::to_owned).collect()
}

/// Sends the same request many times over one connection, without reading.
fn flood(address: &str, request: &str, times: usize) {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let reads = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    for _ in 0..times / 100 {
        stream.write_all(request.repeat(100).as_bytes()).unwrap();
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    reads.join().unwrap().unwrap();
}

fn request(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

#[test]
fn rejected_pushes_and_webhooks_at_full_speed_leave_few_lines_and_a_count() {
    const TIMES: usize = 3000;
    let json = "Content-Type: application/json\r\n";
    for (request, words, series) in [
        (
            request("/metrics/job/x", "", "bad{"),
            "rejected requests not logged",
            "exporter_proxy_pushes_total{method=\"post\",result=\"invalid_text\"}",
        ),
        (
            request("/webhook", json, "{\"alerts\":[]}"),
            "webhooks not logged",
            "exporter_proxy_http_requests_total{code=\"200\",handler=\"webhook\"}",
        ),
        (
            request("/slack", json, "nothing"),
            "rejected requests not logged",
            "exporter_proxy_webhooks_refused_total{kind=\"slack\",result=\"malformed\"}",
        ),
        (
            request("/metrics/job/x?x", "", ""),
            "rejected requests not logged",
            "exporter_proxy_pushes_total{method=\"post\",result=\"bad_parameter\"}",
        ),
    ] {
        let proxy = Proxy::start("");
        flood(&proxy.push, &request, TIMES);
        // All were answered and counted; the log says how many lines it left out.
        eventually(
            || proxy.sample(series),
            |count| *count == Some(TIMES as f64),
        );
        let reported = |proxy: &Proxy| -> usize {
            let lines = lines(proxy);
            let counts = lines.iter().filter_map(|line| {
                let (before, _) = line.split_once(words)?;
                let before = before.trim_end().trim_end_matches("more").trim_end();
                let number = before.rsplit([' ', '(']).next()?;
                Some(number.parse::<usize>().expect("a number"))
            });
            counts.sum()
        };
        let written = |proxy: &Proxy| {
            let lines = lines(proxy);
            let each = lines
                .iter()
                .filter(|line| line.contains(" from 127.0.0.1:"));
            each.count()
        };
        eventually(
            || (written(&proxy), reported(&proxy)),
            |(written, reported)| written + reported == TIMES,
        );
        assert!(written(&proxy) < 300, "{} lines", written(&proxy));
    }
}

#[test]
fn rejected_messages_and_operations_are_limited_too() {
    let proxy = Proxy::start("[operations]\ntcp = \"127.0.0.1:0\"\n");
    for _ in 0..200 {
        proxy.push_tcp(b"nonsense");
    }
    assert!(lines(&proxy).len() < 150, "{}", lines(&proxy).len());
    let log = proxy.log();
    let (_, rest) = log.split_once("operations on TCP socket ").unwrap();
    let mut operations = Sender::to(rest.lines().next().unwrap());
    operations.send("no operation at all\n".repeat(1000).as_bytes());
    operations.half_close();
    operations.read_to_end();
    eventually(
        || lines(&proxy).join("\n"),
        |log| log.contains("rejected operations not logged"),
    );
    assert!(lines(&proxy).len() < 300, "{}", lines(&proxy).len());
}

#[test]
fn what_was_sent_is_quoted_at_debug_alone() {
    let send = |proxy: &Proxy| {
        proxy.push("PUT", "/metrics/job/x", "a S3CR3T\n");
        proxy.push(
            "PUT",
            "/metrics/job/x",
            "a{b=\"S3CR3T\"} 1\na{b=\"S3CR3T\"} 1\n",
        );
        proxy.push("PUT", "/metrics/job/x?ttl=S3CR3T", "a 1\n");
        proxy.push_with(
            "POST",
            "/create",
            &[JSON],
            "[{\"name\":\"S3CR3T\",\"type\":\"S3CR3T\"}]",
        );
        proxy.push_with("POST", "/webhook", &[JSON], "{\"text\":\"S3CR3T\"}");
        proxy.push_tcp(b"{\"app\":\"S3CR3T\"}");
        proxy.push_tcp(b"{\"app\":S3CR3T}");
        proxy.push_with("GET", "/metrics", &[("X-Other", "S3CR3T")], "");
        logged(proxy, "rejected (", 6)
    };
    let config = "[exposition]\nvalidate = true\n";
    let log = send(&Proxy::start(config));
    assert!(!log.contains("S3CR3T"), "{log}");
    for reported in [
        "PUT /metrics/job/x from 127.0.0.1:",
        "rejected (invalid_text): group {job=\"x\"}, line 1, column 3: the text breaks the exposition format",
        "rejected (duplicate_series): group {job=\"x\"}, line 2, column 1: a series is exposed twice",
        "rejected (bad_parameter): invalid request parameter",
        "rejected (invalid_text): app \"app\", line 1, column 7: the text breaks",
    ] {
        assert!(log.contains(reported), "{reported}: {log}");
    }
    let debug = Proxy::launch(config, &[], |command| command.env("RUST_LOG", "debug"));
    let log = send(&debug);
    assert!(log.contains("S3CR3T"), "{log}");
}

#[test]
fn a_line_stays_one_and_shows_what_is_hidden() {
    const NAME: &str = "a\u{202e}b\u{200b}c\u{2028}d";
    let proxy = Proxy::launch("", &[], |command| command.env("RUST_LOG", "debug"));
    let path = format!("/metrics/job/{}", "x%0Ay%E2%80%AEz");
    proxy.push("PUT", &path, "bad{\n");
    let event =
        "{\"alerts\":[{\"labels\":{\"alertname\":\"n\\nn\u{202e}n\"}}],\n\"text\":\"t\\nt\"}";
    proxy.push_with("POST", "/webhook", &[JSON], event);
    proxy.push_tcp(serde_json::json!({ NAME: "m 1" }).to_string().as_bytes());
    assert_eq!(names(&proxy), [NAME], "JSON keeps what was sent");
    let log = logged(&proxy, "/webhook from", 2);
    for line in log.lines() {
        assert!(line.starts_with('['), "{line:?}");
    }
    let shown = proxy.get("/apps").text() + &proxy.get("/apps?wide=1").text() + &log;
    for hidden in ['\u{202e}', '\u{200b}', '\u{2028}'] {
        assert!(!shown.contains(hidden), "{hidden:?}");
    }
    assert!(shown.contains("a\\u{202e}b\\u{200b}c\\u{2028}d"), "{shown}");
}
