//! The HTTP endpoints that read.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;

use crate::harness::{Answer, PATIENCE, Proxy, capnp_message, eventually, http_request};
use crate::support::{Sender, app_path, read_answer, received};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

#[track_caller]
fn check_length(answer: &Answer) {
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
    let refused = "exporter_proxy_http_requests_total{code=\"405\",handler=\"metrics\"}";
    assert_eq!(proxy.sample(refused), Some(6.0));
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
    let told = answer.text();
    for part in ["/metrics/job/<job>", "?mode=aggregate"] {
        assert!(told.contains(part), "{told}");
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
        ("exporter_proxy_connections_open{listener=\"tcp\"}", 0.0),
        (
            "exporter_proxy_received_bytes_total{format=\"json\",receiver=\"tcp\",result=\"ok\"}",
            13.0,
        ),
    ] {
        assert_eq!(proxy.sample(series), Some(value), "{series}");
    }
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

/// Whether a text is `YYYY-MM-DD HH:MM:SS[.fraction] UTC`, of this minute.
fn is_utc_now(text: &str) -> bool {
    let Some(time) = text.strip_suffix(" UTC") else {
        return false;
    };
    let (whole, fraction) = time.split_once('.').unwrap_or((time, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let Ok(parsed) = chrono::NaiveDateTime::parse_from_str(whole, "%Y-%m-%d %H:%M:%S") else {
        return false;
    };
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64;
    whole.len() == 19
        && matches!(fraction.len(), 0 | 3 | 6 | 9)
        && digits(fraction)
        && (now - parsed.and_utc().timestamp()).abs() < 60
}

/// The cells of the rows of a table. Asserts that a rule surrounds every row.
fn rows(table: &str) -> Vec<Vec<String>> {
    let is_rule = |line: &str| {
        line.starts_with('+') && line.ends_with('+') && line.chars().all(|c| c == '+' || c == '-')
    };
    let lines: Vec<&str> = table.lines().collect();
    assert!(is_rule(lines[0]), "{table}");
    assert!(is_rule(lines[lines.len() - 1]), "{table}");
    assert_eq!(lines.len() % 2, 1, "{table}");
    let mut rows = Vec::new();
    for pair in lines[..lines.len() - 1].chunks(2) {
        // The corners of the rules are the borders of the columns.
        assert_eq!(pair[0], lines[0], "{table}");
        let row = pair[1]
            .strip_prefix('|')
            .and_then(|row| row.strip_suffix('|'));
        let row = row.unwrap_or_else(|| panic!("no row: {}", pair[1]));
        rows.push(row.split('|').map(|cell| cell.trim().to_owned()).collect());
    }
    rows
}

/// The line of the outer table with the time, and the inner table.
fn unnest(page: &str) -> (String, String) {
    let lines: Vec<&str> = page.lines().collect();
    let rule = lines[0];
    assert!(rule.starts_with('+') && rule[1..rule.len() - 1].bytes().all(|byte| byte == b'-'));
    assert_eq!(lines[2], rule, "{page}");
    assert_eq!(*lines.last().unwrap(), rule, "{page}");
    let inside = |line: &str| {
        let inside = line
            .strip_prefix("| ")
            .and_then(|line| line.strip_suffix(" |"));
        inside
            .unwrap_or_else(|| panic!("{line}"))
            .trim_end()
            .to_owned()
    };
    let table: Vec<String> = lines[3..lines.len() - 1]
        .iter()
        .map(|line| inside(line))
        .collect();
    (inside(lines[1]), table.join("\n"))
}

#[test]
fn apps_is_a_table_in_a_table_of_three_columns_with_utc_times() {
    let proxy = Proxy::start("");
    let (time, table) = unnest(&proxy.get("/apps").text());
    assert!(
        is_utc_now(time.strip_prefix("Current time: ").unwrap()),
        "{time}"
    );
    let head = "| App Name | Last Update Time (UTC) | Source |";
    assert_eq!(table.lines().nth(1), Some(head));
    // A table without rows has the rules of the header and of its end.
    assert_eq!(table.lines().count(), 4, "{table}");

    proxy.push_unix(b"{\"second\":\"m 1\"}");
    proxy.push_tcp("{\"erste é\":\"m 1\"}".as_bytes());
    let (_, table) = unnest(&proxy.get("/apps").text());
    let rows = rows(&table);
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0], ["App Name", "Last Update Time (UTC)", "Source"]);
    let socket = proxy.unix.display().to_string();
    for (row, name, source) in [
        (&rows[1], "erste é", &proxy.tcp),
        (&rows[2], "second", &socket),
    ] {
        assert_eq!(row.len(), 3);
        assert_eq!((&*row[0], &row[2]), (name, source));
        assert!(is_utc_now(&row[1]), "{}", row[1]);
    }
}

#[test]
fn the_wide_table_adds_url_peer_age_size_samples_state_problem_and_findings() {
    let proxy = Proxy::start("");
    proxy.push_tcp(b"{\"app\":\"# c\\nm 1\\n\\nn 1\"}");
    proxy.push_unix(b"{\"local\":\"m 1\"}");
    let (_, table) = unnest(&proxy.get("/apps?wide=1").text());
    let rows = rows(&table);
    assert_eq!(
        rows[0],
        [
            "App Name",
            "Last Update Time (UTC)",
            "Source",
            "URL",
            "Peer",
            "Age",
            "Bytes",
            "Samples",
            "State",
            "Last Problem",
            "Findings"
        ]
    );
    let app = &rows[1];
    assert_eq!((&*app[0], &app[2]), ("app", &proxy.tcp));
    assert_eq!(app[3], "-");
    assert!(
        app[4].starts_with("127.0.0.1:") && app[4] != proxy.tcp,
        "{app:?}"
    );
    let age: u64 = app[5].strip_suffix('s').unwrap().parse().unwrap();
    assert!(age < 30, "{app:?}");
    assert_eq!(app[6..], ["13", "2", "fresh", "-", "-"]);
    let peer = &rows[2][4];
    let pid = std::process::id();
    assert!(peer.starts_with(&format!("pid {pid}, uid ")), "{peer}");
    let (_, narrow) = unnest(&proxy.get("/apps?wide=0").text());
    assert!(!narrow.contains("Samples"), "{narrow}");
    for (query, told) in [
        ("wide=yes", "wide must be 0 or 1, not \"yes\"\n"),
        ("format=xml", "format must be json or text, not \"xml\"\n"),
    ] {
        let answer = proxy.get(&format!("/apps?{query}"));
        assert_eq!((answer.status, answer.text()), (400, told.to_owned()));
    }
}

#[test]
fn apps_is_json_on_request() {
    let proxy = Proxy::start("");
    proxy.push_tcp(b"{\"b\":\"m 1\\nn 2\",\"a\":\"\"}");
    let by_header = proxy.request("GET", "/apps", &[("Accept", "application/json")]);
    let by_query = proxy.get("/apps?format=json");
    for answer in [by_header, by_query] {
        assert_eq!(answer.header("content-type"), Some(JSON));
        let list = answer.json();
        let time = list["time"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{time}");
        let apps = list["apps"].as_array().unwrap();
        assert_eq!(apps.len(), 2);
        assert_eq!(
            (&apps[0]["name"], &apps[1]["name"]),
            (&"a".into(), &"b".into())
        );
        let b = &apps[1];
        assert_eq!(b["kind"], "app");
        assert_eq!(b["state"], "fresh");
        assert_eq!(b["source"], *proxy.tcp);
        assert!(b["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
        assert_eq!((&b["bytes"], &b["samples"]), (&8.into(), &2.into()));
        assert!(b["age_seconds"].as_f64().unwrap() < 30.0);
        assert!(b["last_update"].as_str().unwrap().ends_with('Z'));
        assert!(b["last_problem"].is_null());
    }
    let browser = [("Accept", "text/html,*/*;q=0.8")];
    let table = proxy.request("GET", "/apps", &browser);
    assert_eq!(table.header("content-type"), Some(PLAIN));
}

#[test]
fn an_app_of_any_name_has_paths_with_its_percent_encoded_name() {
    let proxy = Proxy::start("");
    for name in [
        "a/b",
        "with space",
        "per%cent",
        "é😀",
        "?q=1#f",
        "+",
        ".",
        "\"quoted\"",
    ] {
        let document = serde_json::json!({ name: format!("m{{of={name:?}}} 1") });
        proxy.push_tcp(document.to_string().as_bytes());
        let path = app_path(name);
        let detail = proxy.get(&path).json();
        assert_eq!(detail["name"], name, "{path}");
        let text = proxy.get(&format!("{path}/metrics"));
        assert_eq!(text.header("content-type"), Some(TEXT), "{path}");
        check_length(&text);
        assert_eq!(text.text(), format!("m{{of={name:?}}} 1\n"), "{path}");
    }
    // Encoding of letters is optional.
    proxy.push_tcp(b"{\"plain\":\"p 1\"}");
    assert_eq!(proxy.get("/apps/plain/metrics").text(), "p 1\n");
    assert_eq!(proxy.get("/apps/%70lain/metrics").text(), "p 1\n");
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
    let proxy = Proxy::start("[exporter]\nheader_timeout = \"300ms\"\n");
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
    assert!(start.elapsed() >= Duration::from_millis(300));
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
        "[exporter]\nwrite_timeout = \"1s\"\nown_metrics = false\n[receiver]\nmax_payload = \"64MiB\"\n",
    );
    let open = || {
        // A scrape would not show the count, so it is read from the system.
        let fds = std::fs::read_dir(format!("/proc/{}/fd", proxy.pid())).unwrap();
        fds.count()
    };
    let before = open();
    // More than the socket buffers on both sides hold.
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
        "[exporter]\nwrite_timeout = \"1s\"\nown_metrics = false\n[receiver]\nmax_payload = \"64MiB\"\n",
    );
    let text = format!("m 1 {}\n", " ".repeat(24 << 20));
    proxy.push_tcp(&capnp_message("big", &text));
    let mut stream = never_reads(&proxy);
    let start = Instant::now();
    let mut received = 0;
    let mut buffer = vec![0; 1 << 20];
    // Reading takes longer than the timeout, with shorter pauses.
    while received < text.len() {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "it broke off after {received} bytes");
        received += read;
        thread::sleep(Duration::from_millis(50));
    }
    assert!(start.elapsed() > Duration::from_secs(1));
}
