//! `/ping`, `/time` and `/echo` on the push listener, as in pingpong.

use std::time::SystemTime;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

use crate::harness::Proxy;

/// Asserts that a line has the current time.
#[track_caller]
fn is_now(line: &str) {
    let time = line.strip_prefix("The time is: ").expect("its beginning");
    let time = time.strip_suffix(" UTC").expect("its zone");
    let time = NaiveDateTime::parse_from_str(time, "%a, %d %b %Y %H:%M:%S").expect("a time");
    let passed = DateTime::<Utc>::from(SystemTime::now()) - time.and_utc();
    assert!(passed.abs() < TimeDelta::minutes(2), "{line}");
}

#[test]
fn ping_and_time_accept_any_method() {
    let proxy = Proxy::start("");
    for method in ["GET", "POST", "PUT", "DELETE"] {
        let ping = proxy.push(method, "/ping?instance=x", "body");
        assert_eq!(ping.status, 200, "{method}");
        let text = ping.text();
        assert!(
            text.starts_with("PONG - ") && text.ends_with('\n'),
            "{text}"
        );
        let time = proxy.push(method, "/time", "").text();
        assert_eq!(time.matches('\n').count(), 1);
        is_now(time.trim_end());
    }
}

#[test]
fn an_echo_shows_the_request_without_its_secrets() {
    let proxy = Proxy::start("");
    let headers = [
        ("Authorization", "Bearer S3CR3T"),
        ("Proxy-Authorization", "Basic S3CR3T"),
        ("Cookie", "session=S3CR3T; b=S3CR3T"),
        ("X-Api-Key", "S3CR3T"),
        ("X-Auth-Token", "S3CR3T"),
        ("Referer", "http://me:S3CR3T@host/page?token=S3CR3T&x=1"),
        ("Accept", "text/*"),
    ];
    let path = "/echo?a=1&api_key=S3CR3T&password=S3CR3T";
    let answer = proxy.push_with("PATCH", path, &headers, "user=me&secret=S3CR3T");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let text = answer.text();
    assert!(!text.contains("S3CR3T"), "{text}");
    let mut lines = text.lines();
    assert_eq!(
        lines.next(),
        Some("PATCH /echo?a=1&api_key=***&password=*** HTTP/1.1")
    );
    for line in [
        "authorization: ***",
        "cookie: ***",
        "x-api-key: ***",
        "referer: http://***@host/page?token=***&x=1",
        "accept: text/*",
        "",
        "user=me&secret=***",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
    }
    is_now(lines.last().unwrap());
}

#[test]
fn an_echo_shows_any_body() {
    let proxy = Proxy::start("");
    let echo = |body: &[u8]| proxy.push("POST", "/echo/", body).text();
    assert!(
        echo(b"line 1\r\n\x1b[31m\xff").contains("\n\nline 1\\r\n\\u{1b}[31m\\xff\nThe time is: ")
    );
    let json = echo(br#"{"routing_key": "S3CR3T", "credentials": {"user": 7}, "a": "<b>"}"#);
    assert!(
        !json.contains("S3CR3T") && json.contains("\"user\":\"***\""),
        "{json}"
    );
    assert!(json.contains("<b>"), "{json}");
    let large = echo(&[b'x'; 100_000]);
    assert!(large.contains("(a body of 100000 bytes; up to 65536 are shown)"));
    assert!(large.len() < 1000);
    let get = proxy.push("GET", "/echo", "").text();
    assert!(get.starts_with("GET /echo HTTP/1.1\n"), "{get}");
}

#[test]
fn an_echo_has_the_body_limit_of_pushes() {
    let proxy = Proxy::start("[push]\nmax_body = 1000\n");
    let answer = proxy.push("POST", "/echo", [b'x'; 1001]);
    assert_eq!(answer.status, 413, "{}", answer.text());
}
