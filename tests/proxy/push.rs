//! Pushes over HTTP, by Pushgateway's protocol.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::harness::{PATIENCE, Proxy, eventually, http_request, http_send};
use crate::support::{Sender, logged, read_answer};

const QUIET: &str = "[exporter]\nown_metrics = false\n";

/// What is exposed, the times of groups aside.
fn text(proxy: &Proxy) -> String {
    let times = |line: &&str| {
        line.contains("push_time_seconds") || line.contains("push_failure_time_seconds")
    };
    let all = proxy.metrics();
    all.lines()
        .filter(|line| !times(line))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[track_caller]
fn push(proxy: &Proxy, method: &str, path: &str, body: &str) {
    let answer = proxy.push(method, path, body);
    let expected = if method == "DELETE" { 202 } else { 200 };
    assert_eq!(answer.status, expected, "{}", answer.text());
    assert_eq!(answer.text(), "");
}

fn now() -> f64 {
    let passed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    passed.unwrap().as_secs_f64()
}

#[test]
fn groups_are_replaced_added_to_and_removed() {
    let proxy = Proxy::start(QUIET);
    push(
        &proxy,
        "PUT",
        "/metrics/job/x/zone/a%2Fb",
        "m{zone=\"mine\",b=\"1\"} 1\nn 2\n",
    );
    assert_eq!(
        text(&proxy),
        "# TYPE m untyped\nm{b=\"1\",instance=\"\",job=\"x\",zone=\"a/b\"} 1\n\
         # TYPE n untyped\nn{instance=\"\",job=\"x\",zone=\"a/b\"} 2\n"
    );
    push(&proxy, "POST", "/metrics/job/x/zone/a%2Fb", "n 3");
    assert!(text(&proxy).contains("m{b=\"1\"") && text(&proxy).contains("} 3\n"));
    push(&proxy, "PUT", "/metrics/job/x/zone/a%2Fb", "o 4\n");
    assert_eq!(
        text(&proxy),
        "# TYPE o untyped\no{instance=\"\",job=\"x\",zone=\"a/b\"} 4\n"
    );
    push(&proxy, "DELETE", "/metrics/job/x/zone@base64/YS9i", "");
    assert_eq!(proxy.metrics(), "");
    push(&proxy, "DELETE", "/metrics/job/nobody", "");
}

#[test]
fn histograms_of_groups_are_whole_and_their_bounds_are_numbers() {
    let proxy = Proxy::start(QUIET);
    let pythons = "# TYPE h histogram\nh_bucket{le=\"1.0\"} 2\nh_count 3\nh_sum 4.5\n";
    push(&proxy, "PUT", "/metrics/job/x/a/1", pythons);
    let whole = "# TYPE h histogram\n\
                 h_bucket{a=\"1\",instance=\"\",job=\"x\",le=\"1\"} 2\n\
                 h_bucket{a=\"1\",instance=\"\",job=\"x\",le=\"+Inf\"} 3\n\
                 h_sum{a=\"1\",instance=\"\",job=\"x\"} 4.5\n\
                 h_count{a=\"1\",instance=\"\",job=\"x\"} 3\n";
    assert_eq!(text(&proxy), whole);
    // Another group cannot have the same series by another spelling.
    let others = "# TYPE h histogram\nh_bucket{a=\"1\",le=\"1e0\"} 2\n";
    let answer = proxy.push("PUT", "/metrics/job/x", others);
    assert_eq!(answer.status, 400, "{}", answer.text());
    for (body, words) in [
        (
            "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"1.0\"} 2\n",
            "has one le twice: 1 and 1.0 are one number",
        ),
        ("# TYPE h histogram\nh 2\n", "is not part of a histogram"),
    ] {
        let answer = proxy.push("PUT", "/metrics/job/x/a/1", body);
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.text().contains(words), "{}", answer.text());
    }
    assert_eq!(text(&proxy), whole);
    // Where there is no help, the API says none.
    let list = proxy.push("GET", "/api/v1/metrics", "").json();
    let group = list["data"].as_array().unwrap().iter();
    let mut group = group.filter(|group| group["labels"]["a"] == "1");
    let family = &group.next().unwrap()["h"];
    assert_eq!(family["type"], "HISTOGRAM");
    assert!(family.get("help").is_none(), "{family}");
}

#[test]
fn paths_that_name_no_group_are_told() {
    let proxy = Proxy::start(QUIET);
    for (path, status, words) in [
        ("/metrics/job/%zz", 400, "two hexadecimal digits"),
        ("/metrics/job/x%2", 400, "two hexadecimal digits"),
        ("/metrics/", 404, "a push goes to /metrics/job/<job>"),
        ("/metrics", 405, ""),
    ] {
        let answer = proxy.push("PUT", path, "m 1\n");
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.text().contains(words), "{}", answer.text());
    }
    assert_eq!(
        http_request(&proxy.http, "GET", "/metrics/", &[]).status,
        200
    );
    assert_eq!(proxy.metrics(), "");
}

#[test]
fn a_body_that_is_not_what_it_seems_is_told_how_to_be_sent() {
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
            let told = format!(
                "the body is {coding}, but the request has no Content-Encoding; send \"Content-Encoding: {coding}\"\n"
            );
            assert_eq!(answer.text(), told, "{path}");
        }
        let identity = [("Content-Encoding", "identity")];
        let answer = proxy.push_with("POST", "/metrics/job/x", &identity, &body);
        assert_eq!(answer.status, 415, "{coding}");
        let told = format!("the body is {coding}, but its Content-Encoding is \"identity\"; ");
        assert!(answer.text().starts_with(&told), "{}", answer.text());
    }
    // What `curl -d @file` makes of two lines.
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
fn times_of_success_and_failure_are_shown_for_each_group() {
    let proxy = Proxy::start(QUIET);
    let success = "push_time_seconds{instance=\"i\",job=\"x\"}";
    let failure = "push_failure_time_seconds{instance=\"i\",job=\"x\"}";
    let path = "/metrics/job/x/instance/i";
    let before = now();
    assert_eq!(proxy.push("PUT", path, "m 1 5\n").status, 400);
    let failed = proxy.sample(failure).unwrap();
    assert!((before - 1.0..=now() + 1.0).contains(&failed), "{failed}");
    assert_eq!(proxy.sample(success), Some(0.0));
    push(&proxy, "PUT", path, "push_time_seconds 1\nm 1\n");
    let pushed = proxy.sample(success).unwrap();
    assert!((failed..=now() + 1.0).contains(&pushed), "{pushed}");
    assert_eq!(proxy.sample(failure), Some(failed));
    assert_eq!(
        text(&proxy),
        "# TYPE m untyped\nm{instance=\"i\",job=\"x\"} 1\n"
    );
    // An empty POST only updates the time.
    push(&proxy, "POST", path, "");
    assert!(proxy.sample(success).unwrap() >= pushed);
    assert!(text(&proxy).contains("m{"));
}

#[test]
fn what_is_refused_is_told_with_its_place_counted_and_logged() {
    let proxy = Proxy::start("");
    push(
        &proxy,
        "PUT",
        "/metrics/job/y",
        "# TYPE taken gauge\ntaken 1\n",
    );
    for (path, body, status, words, result) in [
        (
            "job/x",
            "m 1\nn 2 3\n",
            400,
            "group {job=\"x\"}, line 2, column 5: expected no timestamp, found 3",
            "timestamp",
        ),
        (
            "job/x",
            "m{a=\"1\" 2\n",
            400,
            "group {job=\"x\"}, line 1, column 9: ",
            "invalid_text",
        ),
        (
            "job/x",
            "m 1\nm 2\n",
            400,
            "line 2, column 1: expected each series once",
            "duplicate_series",
        ),
        (
            "job/x",
            "# TYPE taken counter\ntaken 1\n",
            400,
            "family taken is a counter here, and a gauge in group {job=\"y\"}",
            "kind_conflict",
        ),
        (
            "job/x",
            "# TYPE taken gauge\ntaken{job=\"y\"} 1\n# TYPE taken_sum summary\ntaken_sum_sum 1\n# TYPE exporter_proxy_apps gauge\nexporter_proxy_apps 1\n",
            400,
            "name of the proxy's own",
            "reserved_name",
        ),
        (
            "job/x/a",
            "",
            400,
            "no value for the label \"a\"",
            "bad_labels",
        ),
        (
            "job/x?ttl=soon",
            "m 1\n",
            400,
            "ttl must be a number of seconds",
            "bad_parameter",
        ),
    ] {
        let before = text(&proxy);
        let answer = proxy.push("PUT", &format!("/metrics/{path}"), body);
        assert_eq!(answer.status, status, "{path}");
        let message = answer.text();
        assert!(message.contains(words), "{message}");
        assert!(
            message.ends_with('\n') && message.lines().count() == 1,
            "{message}"
        );
        let apps = |text: &str| {
            text.lines()
                .filter(|l| !l.contains("exporter_proxy_"))
                .count()
        };
        assert_eq!(apps(&text(&proxy)), apps(&before), "{path}");
        let counted = format!("exporter_proxy_pushes_total{{method=\"put\",result=\"{result}\"}}");
        assert_eq!(proxy.sample(&counted), Some(1.0), "{result}");
        logged(&proxy, &format!("rejected ({result})"), 1);
    }
    assert_eq!(
        proxy.sample("exporter_proxy_pushes_total{method=\"put\",result=\"ok\"}"),
        Some(1.0)
    );
    assert_eq!(proxy.sample("exporter_proxy_groups"), Some(2.0));
    assert!(proxy.sample("exporter_proxy_push_body_bytes_total{method=\"put\"}") > Some(27.0));
}

#[test]
fn unknown_paths_and_methods_are_told_as_pushgateway_does() {
    let proxy = Proxy::start(QUIET);
    for (method, path, status) in [
        ("PUT", "/metrics", 405),
        ("PUT", "/metrics/job", 404),
        ("PUT", "/metrics/foo/bar", 404),
        ("GET", "/metrics/foo/bar", 404),
        ("GET", "/metrics/job/x", 405),
        ("PATCH", "/metrics/job/x", 405),
        ("OPTIONS", "/metrics/job/x", 200),
        ("PUT", "/metrics/job/", 400),
        ("PUT", "/metrics/job//a/b", 400),
        ("DELETE", "/metrics/job/x/a", 400),
        ("PUT", "/metrics/job/%ff", 400),
        ("PUT", "/api/v1/admin/wipe", 404),
        ("GET", "/api/v1/nothing", 404),
        ("PUT", "/api/v1/metrics", 405),
        ("GET", "/-/quit", 405),
        ("PUT", "/-/quit", 403),
        ("POST", "/-/ready", 405),
        ("GET", "/-/healthy", 200),
        // Slashes too many, where no value can stand.
        ("PUT", "//metrics//job/x", 200),
        ("PUT", "/metrics/job/x/", 200),
    ] {
        let answer = proxy.push(method, path, "");
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        if status == 405 {
            assert!(answer.header("allow").is_some(), "{method} {path}");
        }
    }
    assert_eq!(
        proxy.get("/apps?format=json").json()["apps"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn only_the_push_address_takes_pushes_and_it_serves_all_reads() {
    let proxy = Proxy::start(QUIET);
    for (method, path, status) in [
        ("PUT", "/metrics/job/x", 404),
        ("GET", "/api/v1/metrics", 404),
        ("PUT", "/-/quit", 404),
    ] {
        assert_eq!(
            http_send(&proxy.http, method, path, &[], b"m 1\n").status,
            status
        );
    }
    push(&proxy, "PUT", "/metrics/job/x", "m 1\n");
    for path in ["/metrics", "/apps/%7Bjob%3D%22x%22%7D", "/", "/-/ready"] {
        assert_eq!(
            http_request(&proxy.push, "GET", path, &[]).status,
            200,
            "{path}"
        );
    }
    let off = Proxy::start_with(QUIET, &[("PUSH_LISTEN", "")]);
    assert_eq!(off.push, "");
    assert!(!off.log().contains("accepting pushes"));
}

#[test]
fn one_port_serves_scrapes_and_pushes_where_both_name_it() {
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let settings = [
        ("EXPORTER_SCRAPE_EXPOSE_ENDPOINT", &*address),
        ("PUSH_LISTEN", &*address),
    ];
    let proxy = Proxy::start_with(QUIET, &settings);
    assert_eq!((&proxy.push, &proxy.http), (&address, &address));
    push(&proxy, "PUT", "/metrics/job/x", "m 1\n");
    assert!(proxy.metrics().contains("m{instance=\"\",job=\"x\"} 1\n"));
}

#[test]
fn a_unix_socket_takes_pushes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("push.sock").display().to_string();
    let mut proxy = Proxy::start_with(QUIET, &[("PUSH_LISTEN", &path)]);
    assert_eq!(proxy.push, path);
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(
            b"PUT /metrics/job/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nm 1\n",
        )
        .unwrap();
    assert_eq!(read_answer(&mut stream, true).unwrap().status, 200);
    assert!(proxy.metrics().contains("m{instance"));
    drop(stream);
    proxy.signal("TERM");
    assert!(proxy.wait().success());
    assert!(!std::path::Path::new(&path).exists());
}

#[test]
fn bodies_are_bounded_in_size_and_time_and_small_faults_keep_the_connection() {
    let proxy = Proxy::start("[push]\nmax_body = 1000\nbody_timeout = \"300ms\"\n");
    let large = format!("m 1 {}\n", " ".repeat(2000));
    let answer = proxy.push("PUT", "/metrics/job/x", &large);
    assert_eq!(answer.status, 413);
    assert_eq!(
        answer.text(),
        "the body has more than 1000 bytes (push.max_body)\n"
    );
    // The same where its length is not told before.
    let mut chunked = Sender::to(&proxy.push);
    chunked.send(
        b"PUT /metrics/job/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    chunked.send(format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len()).as_bytes());
    assert_eq!(read_answer(&mut chunked.0, true).unwrap().status, 413);
    // And where it is small until it is unpacked.
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

    let start = Instant::now();
    let mut slow = Sender::to(&proxy.push);
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
fn who_sends_far_too_much_still_reads_the_answer() {
    let proxy = Proxy::start("[push]\nmax_body = 1000\n");
    let large = "m 1\n".repeat(1 << 20);
    for length in [
        format!("Content-Length: {}\r\n\r\n{large}", large.len()),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
            large.len()
        ),
    ] {
        let mut sender = Sender::to(&proxy.push);
        sender
            .send(format!("PUT /metrics/job/x HTTP/1.1\r\nHost: localhost\r\n{length}").as_bytes());
        assert_eq!(read_answer(&mut sender.0, true).unwrap().status, 413);
    }
    let mut waiting = Sender::to(&proxy.push);
    waiting.send(b"PUT /metrics/job/x HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n");
    assert_eq!(read_answer(&mut waiting.0, true).unwrap().status, 413);
    assert_eq!(
        proxy.sample("exporter_proxy_pushes_total{method=\"put\",result=\"too_large\"}"),
        Some(3.0)
    );
}

#[test]
fn protobuf_and_compressed_bodies_are_taken() {
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

    // Large once it is unpacked, so that another thread reads it.
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
fn names_of_labels_may_be_escaped_where_that_is_set() {
    let proxy = Proxy::start("[exporter]\nown_metrics = false\n[push]\nenable_utf8_names = true\n");
    push(&proxy, "PUT", "/metrics/job/x/U__my_2e_label/1", "m 1\n");
    let any_name = [("Accept", "text/plain;version=1.0.0;escaping=allow-utf-8")];
    let shown = proxy.request("GET", "/metrics", &any_name).text();
    let series = "m{instance=\"\",job=\"x\",\"my.label\"=\"1\"} 1\n";
    assert!(shown.contains(series), "{shown}");
    let list = http_request(&proxy.push, "GET", "/api/v1/metrics", &[]).json();
    assert_eq!(list["data"][0]["labels"]["my.label"], "1");
}

#[test]
fn a_client_that_waits_for_100_continue_is_told_to_go_on() {
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
fn bodies_of_all_together_are_bounded() {
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
    let refused = proxy.push("PUT", "/metrics/job/y", "m 1\n");
    let retry = refused.header("retry-after");
    assert_eq!((refused.status, retry), (503, Some("1")));
    first.write_all(b"\n").unwrap();
    assert_eq!(read_answer(&mut first, true).unwrap().status, 200);
    push(&proxy, "PUT", "/metrics/job/y", "n 1\n");
}

#[test]
fn a_large_body_is_taken_whole_or_not_at_all() {
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

#[test]
fn groups_are_merged_in_every_mode_and_checked_against_apps_where_these_are() {
    let verbatim = Proxy::start(QUIET);
    verbatim.push_tcp(b"{\"app\":\"# TYPE m counter\\nm 1\"}");
    push(&verbatim, "PUT", "/metrics/job/x", "# TYPE m gauge\nm 1\n");
    push(&verbatim, "PUT", "/metrics/job/y", "# TYPE m gauge\nm 2\n");
    assert_eq!(
        text(&verbatim),
        "# TYPE m gauge\nm{instance=\"\",job=\"x\"} 1\nm{instance=\"\",job=\"y\"} 2\n# TYPE m counter\nm 1\n"
    );

    let merged = Proxy::start("[exporter]\nown_metrics = false\n[exposition]\nmode = \"merged\"\n");
    merged.push_tcp(b"{\"app\":\"# TYPE m gauge\\nm{job=\\\"x\\\"} 1\"}");
    let answer = merged.push("PUT", "/metrics/job/x", "# TYPE m gauge\nm 1\n");
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("is exposed elsewhere already"),
        "{}",
        answer.text()
    );
    push(
        &merged,
        "PUT",
        "/metrics/job/x",
        "# TYPE m gauge\nm{a=\"1\"} 2\n",
    );
    assert_eq!(
        text(&merged),
        "# TYPE m gauge\nm{job=\"x\"} 1\nm{a=\"1\",instance=\"\",job=\"x\"} 2\n"
    );
}

#[test]
fn groups_not_pushed_for_their_time_are_withdrawn() {
    let proxy = Proxy::start("[exporter]\nown_metrics = false\n[push]\ngroup_ttl = \"1s\"\n");
    push(&proxy, "PUT", "/metrics/job/gone", "g 1\n");
    push(&proxy, "PUT", "/metrics/job/kept?ttl=1h", "k 1\n");
    push(&proxy, "PUT", "/metrics/job/ever?ttl=0", "e 1\n");
    logged(
        &proxy,
        "group {job=\"gone\"} withdrawn: not heard from in time",
        1,
    );
    assert_eq!(
        text(&proxy)
            .lines()
            .filter(|line| !line.starts_with('#'))
            .count(),
        2
    );
    assert!(!proxy.metrics().contains("gone"));
}

#[test]
fn groups_are_bounded_in_number() {
    let proxy = Proxy::start("[push]\nmax_groups = 1\n");
    push(&proxy, "PUT", "/metrics/job/x", "m 1\n");
    let answer = proxy.push("PUT", "/metrics/job/y", "m 1\n");
    assert_eq!(answer.status, 503);
    assert!(
        answer
            .text()
            .contains("the limit of 1 group is reached (push.max_groups)"),
        "{}",
        answer.text()
    );
    push(&proxy, "POST", "/metrics/job/x", "m 2\n");
    push(&proxy, "DELETE", "/metrics/job/x", "");
    push(&proxy, "PUT", "/metrics/job/y", "m 1\n");
}
