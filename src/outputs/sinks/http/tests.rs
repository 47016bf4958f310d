use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use url::Url;

use super::*;
use crate::http_client::{Credentials, credentials::BasicAuth};
use crate::outputs::sinks::{Report, Verdict};
use crate::reason::Reason;
use crate::settings::Secret;

fn answer(status: u16, body: &'static str) -> Answer {
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        retry_after: Some(Duration::from_secs(9)),
        headers: HeaderMap::new(),
        body: Bytes::from_static(body.as_bytes()),
    }
}

#[test]
fn a_status_takes_repeats_or_refuses_the_batch() {
    for status in [200, 204] {
        assert_eq!(answer(status, "").judge(2).verdicts, [Verdict::Taken; 2]);
    }
    for status in [301, 401, 403, 404, 408, 429, 500, 503, 599] {
        let report = answer(status, "wait").judge(2);
        assert_eq!(report.verdicts, [], "{status}");
        assert!(report.failure.unwrap().contains(&status.to_string()));
        assert_eq!(report.retry_after, Some(Duration::from_secs(9)));
        assert_eq!(report.refusal, None);
    }
    for (status, reason) in [
        (400, Reason::Refused),
        (413, Reason::TooLarge),
        (422, Reason::Refused),
    ] {
        let report = answer(status, "no\n  good\x1b").judge(2);
        let refusal = report.refusal.unwrap();
        assert_eq!((refusal.reason, refusal.whole), (reason, true));
        assert_eq!(report.failure, None);
        assert_eq!(refusal.answer, "no good\\u{1b}");
        let whole = answer(status, "no\n good").describe_whole();
        assert_eq!(whole, format!("{}: no good", refusal.message));
        assert_eq!(answer(status, "").describe_whole(), refusal.message);
        assert!(!refusal.message.contains("good"));
    }
}

/// A server that gives one answer, and the request that it got.
fn server(answer: &'static str) -> (Url, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/push", listener.local_addr().unwrap());
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        while !request.ends_with(b"the body") {
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "the request ends early");
            request.extend_from_slice(&buffer[..read]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(request).unwrap()
    });
    (url.parse().unwrap(), thread)
}

fn settings(url: &Url) -> HttpSettings {
    HttpSettings {
        url: ServerUrl(url.clone()),
        timeout: Duration::from_secs(20),
        proxy_url: None,
        proxy_from_environment: false,
        credentials: Credentials::default(),
        tls: ServerTls::default(),
    }
}

async fn post(settings: &HttpSettings) -> Report {
    let client = HttpClient::new(settings).unwrap();
    let body = Bytes::from_static(b"the body");
    let headers = content_type("text/plain");
    let url = settings.url.0.clone();
    client.post_batch(url, headers, body, 1).await
}

#[tokio::test]
async fn a_request_has_the_configured_credentials() {
    let (url, sent) = server("HTTP/1.1 204 No Content\r\n\r\n");
    let mut settings = settings(&url);
    settings.credentials.basic_auth = Some(BasicAuth {
        username: "ada".to_owned(),
        password: Some(Secret::new("pw".to_owned())),
        password_file: None,
    });
    let secret = Secret::new("team".to_owned());
    let headers = &mut settings.credentials.headers;
    headers.insert("X-Scope-OrgID".to_owned(), secret);
    let report = post(&settings).await;
    assert_eq!(report.verdicts, [Verdict::Taken]);
    let sent = sent.join().unwrap().to_ascii_lowercase();
    assert!(sent.starts_with("post /push http/1.1\r\n"), "{sent}");
    for header in [
        "authorization: basic ywrhonb3\r\n",
        "x-scope-orgid: team\r\n",
        "content-type: text/plain\r\n",
    ] {
        assert!(sent.contains(header), "{sent}");
    }
}

#[tokio::test]
async fn a_server_can_ask_to_wait_in_seconds_or_until_a_date() {
    for (value, expected) in [
        ("7", Some(Duration::from_secs(7))),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None),
        ("soon", None),
    ] {
        let text =
            format!("HTTP/1.1 429 Slow\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n");
        let (url, sent) = server(text.leak());
        let report = post(&settings(&url)).await;
        sent.join().unwrap();
        assert_eq!(report.retry_after, expected, "{value}");
    }
    let far = "HTTP/1.1 503 Later\r\nRetry-After: Tue, 31 Dec 2999 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n";
    let (url, sent) = server(far);
    let report = post(&settings(&url)).await;
    sent.join().unwrap();
    assert!(report.retry_after.unwrap() > Duration::from_secs(1 << 30));
}

#[tokio::test]
async fn a_server_that_is_away_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let report = post(&settings(&url.parse().unwrap())).await;
    assert_eq!(report.verdicts, []);
    assert_eq!(report.failure.unwrap(), "connection refused");
}
