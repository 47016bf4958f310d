//! HTTP endpoints that read: types, lengths, methods, limits on connections.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use nix::sys::socket::{setsockopt, sockopt};

use crate::harness::{Answer, PATIENCE, Proxy, capnp_message, eventually, http_request};
use crate::support::{Sender, is_utc_now, read_answer, received};

pub const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
pub const PLAIN: &str = "text/plain; charset=utf-8";
pub const JSON: &str = "application/json";

#[track_caller]
pub fn check_length(answer: &Answer) {
    let length = answer.body.len().to_string();
    assert_eq!(answer.header("content-length"), Some(&*length));
    assert_eq!(answer.header("transfer-encoding"), None);
}

#[test]
fn every_endpoint_answers_get_and_head_with_its_type_and_exact_length() {
    let proxy = Proxy::start("[exporter]\nown_metrics = false\n");
    proxy.push_tcp(b"{\"app\":\"m 1\"}");
    for (path, content_type, begins) in [
        ("/metrics", TEXT, "m 1\n"),
        ("/apps", PLAIN, "+--"),
        ("/apps?wide=1", PLAIN, "+--"),
        ("/apps?format=json", JSON, "{\"apps\":["),
        ("/apps/app", JSON, "{"),
        ("/apps/app/metrics", TEXT, "m 1\n"),
        ("/", PLAIN, "exporter-proxy "),
        ("/-/healthy", PLAIN, "OK\n"),
        ("/-/ready", PLAIN, "OK\n"),
        ("/ping", PLAIN, "PONG"),
    ] {
        let get = proxy.get(path);
        assert_eq!(get.status, 200, "{path}");
        assert_eq!(get.header("content-type"), Some(content_type), "{path}");
        check_length(&get);
        let body = get.text();
        assert!(body.starts_with(begins), "{path}: {body}");
        assert!(body.ends_with('\n'), "{path}: {body}");

        let head = proxy.request("HEAD", path, &[]);
        assert_eq!(head.status, 200, "{path}");
        assert_eq!(head.header("content-type"), Some(content_type), "{path}");
        assert_eq!(head.body, b"", "{path}");
        // Bodies that do not depend on the time.
        if !path.starts_with("/apps?") && path != "/apps/app" && path != "/ping" && path != "/apps"
        {
            assert_eq!(
                head.header("content-length"),
                get.header("content-length"),
                "{path}"
            );
        } else {
            let length: usize = head.header("content-length").unwrap().parse().unwrap();
            assert!(length > 0, "{path}");
        }
    }
}

#[test]
fn one_trailing_slash_and_an_empty_query_are_ignored() {
    let proxy = Proxy::start("[exporter]\nown_metrics = false\n");
    proxy.push_tcp(b"{\"app\":\"m 1\"}");
    for path in [
        "/metrics",
        "/apps/app/metrics",
        "/-/healthy",
        "/-/ready",
        "/apps/app",
        "/apps",
        "/ping",
    ] {
        let plain = proxy.get(path);
        for variant in [format!("{path}/"), format!("{path}?"), format!("{path}/?&")] {
            let answer = proxy.get(&variant);
            assert_eq!(answer.status, 200, "{variant}");
            assert_eq!(
                answer.header("content-type"),
                plain.header("content-type"),
                "{variant}"
            );
        }
        assert_eq!(proxy.get(&format!("{path}//")).status, 404, "{path}//");
    }
    assert_eq!(proxy.get("/metrics/?&").text(), "m 1\n");
    // Health checks accept any query.
    for path in ["/-/healthy?x=y", "/-/ready/?x", "/health?x", "/ping?x&x"] {
        assert_eq!(proxy.get(path).status, 200, "{path}");
    }
}

#[test]
fn unknown_paths_get_one_line() {
    let proxy = Proxy::start("");
    proxy.push_tcp(b"{\"app\":\"m 1\"}");
    for path in [
        "/nothing",
        "/Metrics",
        "/metrics/app",
        "/-/",
        "/apps/nobody",
        "/apps/nobody/metrics",
        "/apps/app/text",
        "/apps/a%0Ab",
    ] {
        let answer = proxy.get(path);
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.header("content-type"), Some(PLAIN), "{path}");
        check_length(&answer);
        let body = answer.text();
        assert!(body.starts_with("not found: "), "{path}: {body}");
        assert!(body.ends_with('\n') && body.lines().count() == 1, "{body}");
        let head = proxy.request("HEAD", path, &[]);
        assert_eq!((head.status, &*head.body), (404, &b""[..]), "{path}");
    }
    let push_only = proxy.get("/webhooks").text();
    let there = format!("it is served at http://{} (push.listen)", proxy.push);
    assert_eq!(push_only, format!("not found: /webhooks: {there}\n"));
    for (path, here) in [("/healthy", "/-/healthy"), ("/ready", "/-/ready")] {
        let advice = format!("not found: {path}: use {here} here; {there}\n");
        assert_eq!(proxy.get(path).text(), advice);
    }
    let answer = proxy.get("/apps/%ff");
    assert_eq!(answer.status, 400);
    assert_eq!(answer.text(), "the decoded path is not UTF-8\n");
}

#[test]
fn other_methods_get_405_with_the_allowed_ones() {
    let proxy = Proxy::start("");
    proxy.push_tcp(b"{\"app\":\"m 1\"}");
    for path in [
        "/metrics",
        "/apps",
        "/apps/app",
        "/apps/app/metrics",
        "/",
        "/-/ready",
        "/ping",
    ] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"] {
            let advice = match (path, method) {
                ("/ping", _) => format!("; it is served at http://{} (push.listen)", proxy.push),
                (_, "POST" | "PUT" | "DELETE") => {
                    format!(
                        "; pushes are accepted at http://{} (push.listen)",
                        proxy.push
                    )
                }
                _ => String::new(),
            };
            let answer = proxy.request(method, path, &[("Content-Length", "0")]);
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{method} {path}");
            check_length(&answer);
            assert_eq!(
                answer.text(),
                format!("{method} is not allowed here; allowed: GET, HEAD{advice}\n")
            );
        }
    }
    // The app still exists, and the rejected requests are counted.
    assert_eq!(proxy.get("/apps/app").status, 200);
    let rejected = "exporter_proxy_http_requests_total{code=\"405\",handler=\"metrics\"}";
    assert_eq!(proxy.sample(rejected), Some(6.0));
}

#[test]
fn a_head_may_have_64_kib() {
    let proxy = Proxy::start("");
    for (length, status) in [(60 << 10, 200), (256 << 10, 431)] {
        let long = "x".repeat(length);
        let answer = proxy.request("GET", "/ping", &[("X-Long", &long)]);
        assert_eq!(answer.status, status, "{length}");
    }
}

#[test]
fn a_push_without_a_group_gets_advice() {
    let proxy = Proxy::start("");
    let answer = proxy.push("POST", "/metrics", "m 1\n");
    assert_eq!(answer.status, 405);
    let reported = answer.text();
    for part in ["/metrics/job/<job>", "?mode=aggregate"] {
        assert!(reported.contains(part), "{reported}");
    }
}

#[test]
fn gzip_is_sent_to_clients_that_accept_it() {
    let proxy = Proxy::start("[exporter]\nown_metrics = false\n");
    let lines: Vec<String> = (0..1000).map(|n| format!("m{{n=\"{n}\"}} 1")).collect();
    let text = lines.join("\n") + "\n";
    proxy.push_tcp(&serde_json::to_vec(&serde_json::json!({ "app": lines })).unwrap());

    let packed = proxy.request("GET", "/metrics", &[("Accept-Encoding", "gzip, deflate")]);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert_eq!(packed.header("content-type"), Some(TEXT));
    assert_eq!(packed.header("vary"), Some("Accept, Accept-Encoding"));
    check_length(&packed);
    assert!(packed.body.len() < text.len() / 2);
    let mut unpacked = String::new();
    GzDecoder::new(&*packed.body)
        .read_to_string(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, text);

    let head = proxy.request("HEAD", "/metrics", &[("Accept-Encoding", "gzip")]);
    assert_eq!(head.header("content-encoding"), Some("gzip"));
    assert_eq!(
        head.header("content-length"),
        packed.header("content-length")
    );
    assert_eq!(head.body, b"");

    for accepted in ["identity", "br", "gzip;q=0", ""] {
        let plain = proxy.request("GET", "/metrics", &[("Accept-Encoding", accepted)]);
        assert_eq!(plain.header("content-encoding"), None, "{accepted}");
        assert_eq!(
            plain.header("vary"),
            Some("Accept, Accept-Encoding"),
            "{accepted}"
        );
        assert_eq!(plain.text(), text, "{accepted}");
    }
}

#[test]
fn without_own_metrics_only_the_texts_of_apps_are_served_in_order_of_name() {
    let proxy = Proxy::start("[exporter]\nown_metrics = false\n");
    assert_eq!(proxy.metrics(), "");
    proxy.push_tcp(b"{\"b\":\"# HELP b B\\n\\nb 1\",\"c\":\"\"}");
    proxy.push_unix(b"{\"a\":[\"a 1\"]}");
    proxy.push_tcp(&capnp_message("B", "B 1\n"));
    assert_eq!(proxy.metrics(), "B 1\na 1\n# HELP b B\n\nb 1\n");
}

#[test]
fn own_metrics_come_first_and_count_events() {
    let proxy = Proxy::start("");
    proxy.push_tcp(b"{\"app\":\"m 1\"}");
    proxy.metrics();
    let metrics = proxy.metrics();
    assert!(metrics.ends_with("\nm 1\n"), "{metrics}");
    let own = &metrics[..metrics.len() - 4];
    for line in own.lines() {
        let name = line
            .trim_start_matches("# HELP ")
            .trim_start_matches("# TYPE ");
        assert!(name.starts_with("exporter_proxy_"), "{line}");
    }
    let version = env!("CARGO_PKG_VERSION");
    for (series, value) in [
        (
            &*format!("exporter_proxy_build_info{{version=\"{version}\"}}"),
            1.0,
        ),
        ("exporter_proxy_apps", 1.0),
        ("exporter_proxy_exposition_size_bytes", 4.0),
        (
            "exporter_proxy_connections_accepted_total{listener=\"tcp\"}",
            1.0,
        ),
        (
            "exporter_proxy_received_bytes_total{format=\"json\",receiver=\"tcp\",result=\"ok\"}",
            13.0,
        ),
    ] {
        assert_eq!(proxy.sample(series), Some(value), "{series}");
    }
    // The sender sees the end of the connection before it is no longer counted.
    let open = "exporter_proxy_connections_open{listener=\"tcp\"}";
    eventually(|| proxy.sample(open), |count| *count == Some(0.0));
    let scrapes = "exporter_proxy_scrapes_total{encoding=\"identity\"}";
    let before = proxy.sample(scrapes).unwrap();
    assert_eq!(proxy.sample(scrapes), Some(before + 1.0));
    for series in [
        "exporter_proxy_process_cpu_seconds_total",
        "exporter_proxy_process_resident_memory_bytes",
        "exporter_proxy_process_open_fds",
        "exporter_proxy_process_start_time_seconds",
        "exporter_proxy_app_last_update_timestamp_seconds{app=\"app\"}",
    ] {
        assert!(proxy.sample(series) > Some(0.0), "{series}");
    }
    assert_eq!(received(&proxy, "unix", "json", "ok"), 0.0);
}

#[test]
fn the_index_names_the_endpoints_and_ping_has_the_time() {
    let proxy = Proxy::start("");
    let index = proxy.get("/").text();
    for path in [
        "/metrics ",
        "/apps ",
        "/apps/{name} ",
        "/apps/{name}/metrics ",
        "/-/healthy ",
        "/-/ready ",
        "/ping ",
    ] {
        assert!(index.contains(&format!("\n{path}")), "{path}: {index}");
    }
    let ping = proxy.get("/ping").text();
    let time = ping
        .strip_prefix("PONG - ")
        .and_then(|rest| rest.strip_suffix('\n'));
    assert!(is_utc_now(time.unwrap()), "{ping}");
}

#[test]
fn one_connection_serves_sequential_and_pipelined_requests() {
    let proxy = Proxy::start("[exporter]\nown_metrics = false\n");
    proxy.push_tcp(b"{\"app\":\"m 1\"}");
    let mut stream = Sender::to(&proxy.http).0;
    for _ in 0..3 {
        for (method, path, status, body) in [
            ("GET", "/metrics", 200, "m 1\n"),
            ("HEAD", "/metrics", 200, ""),
            ("GET", "/nothing", 404, "not found: /nothing\n"),
            ("GET", "/-/healthy", 200, "OK\n"),
        ] {
            write!(
                stream,
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            )
            .unwrap();
            let answer = read_answer(&mut stream, method != "HEAD").unwrap();
            assert_eq!(answer.status, status, "{path}");
            assert_eq!(answer.text(), body, "{path}");
        }
    }
    let many = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(5);
    stream.write_all(many.as_bytes()).unwrap();
    for _ in 0..5 {
        assert_eq!(read_answer(&mut stream, true).unwrap().text(), "m 1\n");
    }
    // An HTTP/1.0 client gets a reply, and its connection is closed.
    let mut old = Sender::to(&proxy.http);
    old.send(b"GET /metrics HTTP/1.0\r\n\r\n");
    let answer = old.read_to_end();
    assert!(answer.ends_with("\r\n\r\nm 1\n"), "{answer}");
}

#[test]
fn bytes_that_are_not_http_get_400_and_close_the_connection() {
    let proxy = Proxy::start("");
    let mut sender = Sender::to(&proxy.http);
    sender.send(b"{\"app\":\"m 1\"}\r\n\r\n");
    let answer = sender.read_to_end();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn incomplete_heads_and_idle_connections_time_out() {
    let proxy = Proxy::start("[exporter]\nheader_timeout = \"3s\"\n");
    let start = Instant::now();
    let mut half = Sender::to(&proxy.http);
    half.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
    let mut silent = Sender::to(&proxy.http);
    let mut idle = Sender::to(&proxy.http);
    idle.send(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(read_answer(&mut idle.0, true).is_some());
    for sender in [&mut half, &mut silent, &mut idle] {
        sender.read_to_end();
    }
    assert!(start.elapsed() >= Duration::from_secs(3));
    assert!(start.elapsed() < PATIENCE);
}

/// Requests `/metrics` and does not read the reply.
fn never_reads(proxy: &Proxy) -> TcpStream {
    let mut stream = TcpStream::connect(&proxy.http).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    stream
}

#[test]
fn clients_that_never_read_delay_nobody_and_are_closed_after_write_timeout() {
    let proxy = Proxy::start(
        "[exporter]\nwrite_timeout = \"3s\"\nown_metrics = false\n[receiver]\nmax_payload = \"64MiB\"\n",
    );
    let open = || {
        // A scrape would not show the count, so the test reads it from the system.
        let fds = std::fs::read_dir(format!("/proc/{}/fd", proxy.pid())).unwrap();
        fds.count()
    };
    let before = open();
    // More than the socket buffers of both sides can hold.
    let text = format!("m 1 {}\n", " ".repeat(24 << 20));
    proxy.push_tcp(&capnp_message("big", &text));
    let stuck: Vec<TcpStream> = (0..8).map(|_| never_reads(&proxy)).collect();
    eventually(open, |now| *now >= before + 8);
    let answer = http_request(&proxy.http, "GET", "/metrics", &[]);
    assert_eq!(answer.body.len(), text.len());
    assert_eq!(proxy.push_tcp(b"{\"small\":\"s 1\"}"), "");
    assert_eq!(proxy.get("/apps/small/metrics").text(), "s 1\n");

    eventually(open, |now| *now <= before);
    for mut stream in stuck {
        // The reply ends after the bytes that the buffers held.
        let mut received = Vec::new();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.read_to_end(&mut received);
        assert!(received.len() < text.len(), "{}", received.len());
    }
}

#[test]
fn a_client_that_reads_slowly_but_steadily_gets_everything() {
    let proxy = Proxy::start(
        "[exporter]\nwrite_timeout = \"3s\"\nown_metrics = false\n[receiver]\nmax_payload = \"64MiB\"\n",
    );
    let text = format!("m 1 {}\n", " ".repeat(24 << 20));
    proxy.push_tcp(&capnp_message("big", &text));
    let start = Instant::now();
    let mut stream = never_reads(&proxy);
    // A small buffer, so that the proxy writes for as long as the client reads.
    setsockopt(&stream, sockopt::RcvBuf, &(512 << 10)).unwrap();
    let mut received = 0;
    let mut buffer = vec![0; 1 << 20];
    // Reading takes longer than the timeout, with shorter pauses.
    while received < text.len() {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "it broke off after {received} bytes");
        received += read;
        let due = Duration::from_millis(3800).mul_f64(received as f64 / text.len() as f64);
        thread::sleep(due.saturating_sub(start.elapsed()));
    }
    assert!(start.elapsed() > Duration::from_secs(3));
}
