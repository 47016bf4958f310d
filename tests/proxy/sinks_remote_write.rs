//! Series to stand-ins for receivers of remote write, which decode and check what they get. The
//! cases are those of the protocol's compliance tests for senders.

#[path = "../../src/outputs/sinks/remote_write/tests/decoded.rs"]
mod decoded;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::tempdir;

use self::decoded::{Sample, decode_v1, decode_v2};
use crate::harness::certificates::{Authority, Pair};
use crate::harness::{Proxy, eventually, free_address};
use crate::sinks::listed;
use crate::support::logged;
use crate::upstream::{Reply, Request, Upstream, reply};

const STALE: u64 = 0x7ff0_0000_0000_0002;

/// A received sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// `name{a="b"}`, without escapes.
    pub series: String,
    value: f64,
    timestamp: i64,
}

impl Point {
    pub fn is_stale(&self) -> bool {
        self.value.to_bits() == STALE
    }
}

/// Checks the headers of a request, and returns its samples in order.
fn points(request: &Request) -> Vec<Point> {
    assert_eq!(request.header("content-encoding"), Some("snappy"));
    let agent = request.header("user-agent").unwrap();
    assert!(agent.starts_with("exporter-proxy/"), "{agent}");
    let version = request.header("x-prometheus-remote-write-version");
    let series = match request.header("content-type").unwrap() {
        "application/x-protobuf" => {
            assert_eq!(version, Some("0.1.0"));
            decode_v1(&request.body).0
        }
        "application/x-protobuf;proto=io.prometheus.write.v2.Request" => {
            assert_eq!(version, Some("2.0.0"));
            decode_v2(&request.body)
        }
        other => panic!("the media type is {other}"),
    };
    let series = series.into_iter();
    series
        .flat_map(|it| {
            let point = move |sample: Sample| Point {
                series: it.series.clone(),
                value: sample.value,
                timestamp: sample.timestamp,
            };
            it.samples.into_iter().map(point)
        })
        .collect()
}

/// All samples of a server, in the order of their arrival.
pub fn received(server: &Upstream) -> Vec<Point> {
    server.requests().iter().flat_map(points).collect()
}

/// The values of a series, in the order of their arrival.
pub fn values(server: &Upstream, series: &str) -> Vec<f64> {
    let points = received(server).into_iter();
    let points = points.filter(|point| point.series == series && !point.is_stale());
    points.map(|point| point.value).collect()
}

/// Checks that each series has each time once, and that times ascend.
#[track_caller]
pub fn assert_in_order(points: &[Point]) {
    let mut last = BTreeMap::new();
    for point in points {
        if let Some(before) = last.insert(&point.series, point.timestamp) {
            assert!(before < point.timestamp, "{point:?} comes after {before}");
        }
    }
}

/// A proxy that sends the group of the job `a` each 100 ms.
fn to(server: &str, more: &str) -> Proxy {
    // Without the push times that the proxy adds to each group.
    let selector = "{job=\\\"a\\\",__name__!~\\\"push_.*\\\"}";
    Proxy::start(&format!(
        "[sinks.to]\ntype = \"remote_write\"\nurl = \"{server}/write\"\ninterval = \"100ms\"\n\
         match = [\"{selector}\"]\n{more}"
    ))
}

fn http(server: &Upstream) -> String {
    format!("http://{}", server.address)
}

fn push(proxy: &Proxy, text: &str) {
    let answer = proxy.push("PUT", "/metrics/job/a", text);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn no_content() -> Reply {
    reply("204 No Content", &[], b"")
}

/// The answer of a server of protocol 2.0 that has written these numbers of samples.
fn written(samples: usize) -> Reply {
    let samples = samples.to_string();
    let header = ("X-Prometheus-Remote-Write-Samples-Written", &*samples);
    reply("204 No Content", &[header], b"")
}

fn count(proxy: &Proxy, result: &str) -> f64 {
    let series = format!("exporter_proxy_sink_items_total{{result=\"{result}\",sink=\"to\"}}");
    proxy.sample(&series).unwrap_or_default()
}

#[test]
fn both_protocols_send_all_series_on_the_interval() {
    for protocol in ["1.0", "2.0"] {
        let server = Upstream::start(|request| written(points(request).len()));
        let settings = format!(
            "protocol = \"{protocol}\"\nheaders = {{ X-Scope-OrgID = \"team\" }}\nexternal_labels = {{ cluster = \"c\" }}\n\
             relabel = [{{ action = \"labeldrop\", regex = \"job\" }}]\n"
        );
        let proxy = to(&http(&server), &settings);
        push(
            &proxy,
            "# TYPE up gauge\nup{z=\"1\",b=\"é \\\"x\\\"\"} 1\nup 0\n",
        );
        let series = r#"up{b="é "x"",cluster="c",z="1"}"#;
        eventually(|| values(&server, series).len(), |count| *count >= 3);
        push(
            &proxy,
            "# TYPE up gauge\nup{z=\"1\",b=\"é \\\"x\\\"\"} NaN\nup 5\n",
        );
        eventually(
            || values(&server, r#"up{cluster="c"}"#),
            |it| it.last() == Some(&5.0),
        );
        eventually(|| values(&server, series), |it| it.last().unwrap().is_nan());
        assert_in_order(&received(&server));
        let requests = server.requests();
        assert_eq!(requests[0].path, "/write");
        assert_eq!(requests[0].header("x-scope-orgid"), Some("team"));
        let is_v2 = requests[0].header("x-prometheus-remote-write-version") == Some("2.0.0");
        assert_eq!(is_v2, protocol == "2.0");
        assert_eq!(listed(&proxy, "to")["state"], "working");
        let own = |name: &str| {
            let name = format!("exporter_proxy_remote_write_{name}");
            proxy.sample(&name).unwrap()
        };
        assert_eq!(own("series{sink=\"to\"}"), 2.0);
        assert_eq!(own("unwritten_total{sink=\"to\"}"), 0.0);
        assert!(own("points_total{sink=\"to\",type=\"sample\"}") >= 6.0);
        assert!(own("collection_seconds{sink=\"to\"}") > 0.0);
    }
}

#[test]
fn own_metrics_and_verbatim_apps_are_sent_too() {
    let server = Upstream::start(|_| no_content());
    let proxy = Proxy::start(&format!(
        "[sinks.to]\ntype = \"remote_write\"\nurl = \"{}\"\ninterval = \"100ms\"\n",
        http(&server)
    ));
    assert_eq!(
        proxy.push_tcp(b"{\"shop\":\"orders_total{kind=\\\"new\\\"} 3\"}"),
        ""
    );
    eventually(
        || values(&server, r#"orders_total{kind="new"}"#).len(),
        |count| *count > 0,
    );
    eventually(
        || values(&server, "exporter_proxy_apps"),
        |it| it.last() == Some(&1.0),
    );
}

#[test]
fn a_series_that_goes_and_all_at_shutdown_get_a_marker() {
    for protocol in ["1.0", "2.0"] {
        let server = Upstream::start(|request| written(points(request).len()));
        let mut proxy = to(&http(&server), &format!("protocol = \"{protocol}\"\n"));
        push(&proxy, "a 1\nb 2\n");
        eventually(
            || values(&server, r#"a{job="a"}"#).len(),
            |count| *count > 1,
        );
        push(&proxy, "b 2\n");
        let stale = |series: &str| {
            let points = received(&server).into_iter();
            points
                .filter(|it| it.is_stale() && it.series == series)
                .count()
        };
        eventually(|| stale(r#"a{job="a"}"#), |count| *count == 1);
        assert_eq!(stale(r#"b{job="a"}"#), 0);
        push(&proxy, "b 7\n");
        proxy.signal("TERM");
        assert!(proxy.wait().success());
        // Samples pushed just before are sent, too.
        assert_eq!(values(&server, r#"b{job="a"}"#).last(), Some(&7.0));
        let last = received(&server).pop().unwrap();
        assert_eq!(
            (last.series.as_str(), last.is_stale()),
            (r#"b{job="a"}"#, true)
        );
        assert_eq!(stale(r#"a{job="a"}"#), 1);
        assert_in_order(&received(&server));
    }
}

#[test]
fn refused_requests_are_not_repeated() {
    for status in [
        "400 Bad Request",
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "409 Conflict",
        "413 Payload Too Large",
        "422 Unprocessable Entity",
    ] {
        let asked = Arc::new(AtomicUsize::new(0));
        let nth = Arc::clone(&asked);
        let server = Upstream::start(move |_| match nth.fetch_add(1, Ordering::SeqCst) {
            0 => reply(status, &[], b"out of order\n"),
            _ => no_content(),
        });
        let proxy = to(&http(&server), "");
        push(&proxy, "a 1\n");
        eventually(
            || values(&server, r#"a{job="a"}"#).len(),
            |count| *count >= 3,
        );
        // A repeated request would have the first one's time again.
        assert_in_order(&received(&server));
        let reason = if status.starts_with("413") {
            "too_large"
        } else {
            "refused"
        };
        assert_eq!(count(&proxy, reason), 1.0, "{status}");
        let error = listed(&proxy, "to")["last_error"]["message"].clone();
        assert!(error.as_str().unwrap().contains(status), "{error}");
        let line =
            format!("sink to: a request with 1 sample is refused: the server answered {status}");
        logged(&proxy, &line, 1);
    }
}

#[test]
fn failures_are_repeated_in_order() {
    for status in [
        "429 Too Many Requests",
        "500 Internal Server Error",
        "502 Bad Gateway",
        "503 Service Unavailable",
    ] {
        let asked = Arc::new(AtomicUsize::new(0));
        let nth = Arc::clone(&asked);
        let server = Upstream::start(move |_| match nth.fetch_add(1, Ordering::SeqCst) {
            0 => reply(status, &[("Retry-After", "1")], b""),
            1 => reply(status, &[], b""),
            _ => no_content(),
        });
        let begun = Instant::now();
        let proxy = to(&http(&server), "");
        push(&proxy, "a 1\n");
        eventually(
            || values(&server, r#"a{job="a"}"#).len(),
            |count| *count >= 5,
        );
        assert!(begun.elapsed() >= Duration::from_secs(1), "{status}");
        let requests = server.requests();
        assert_eq!(requests[0].body, requests[1].body, "{status}");
        assert_eq!(requests[0].body, requests[2].body, "{status}");
        let taken: Vec<Point> = requests[2..].iter().flat_map(points).collect();
        assert_in_order(&taken);
        let failures = proxy.sample("exporter_proxy_sink_failures_total{sink=\"to\"}");
        assert_eq!(failures, Some(2.0));
        assert_eq!(count(&proxy, "refused"), 0.0);
    }
}

#[test]
fn a_server_that_does_not_know_protocol_2_gets_1_and_loses_nothing() {
    let server = Upstream::start(|request| match request.header("content-type") {
        Some("application/x-protobuf") => no_content(),
        _ => reply("415 Unsupported Media Type", &[], b"only 1.0\n"),
    });
    let proxy = to(&http(&server), "protocol = \"2.0\"\n");
    push(&proxy, "a 1\nb{c=\"d\"} 2\n");
    eventually(
        || values(&server, r#"a{job="a"}"#).len(),
        |count| *count >= 5,
    );
    let requests = server.requests();
    let is_v2 =
        |request: &&Request| request.header("x-prometheus-remote-write-version") == Some("2.0.0");
    // The choice is remembered.
    assert_eq!(requests.iter().filter(is_v2).count(), 1);
    assert_eq!(points(&requests[0]), points(&requests[1]));
    let taken: Vec<Point> = requests[1..].iter().flat_map(points).collect();
    assert_in_order(&taken);
    assert_eq!(count(&proxy, "refused"), 0.0);
    push(&proxy, "a 1\n");
    eventually(
        || {
            received(&server)
                .into_iter()
                .any(|it| it.is_stale() && it.series == r#"b{c="d",job="a"}"#)
        },
        |seen| *seen,
    );
    logged(&proxy, "the server does not know protocol 2.0", 1);
}

#[test]
fn what_a_server_says_it_took_is_compared() {
    let server = Upstream::start(|request| written(points(request).len() - 1));
    let proxy = to(&http(&server), "protocol = \"2.0\"\n");
    push(&proxy, "a 1\nb 1\n");
    let unwritten = "exporter_proxy_remote_write_unwritten_total{sink=\"to\"}";
    eventually(
        || proxy.sample(unwritten),
        |it| it.is_some_and(|it| it >= 1.0),
    );
    assert_eq!(count(&proxy, "refused"), 0.0);
    logged(
        &proxy,
        "of 2 samples, 0 histograms and 0 exemplars, the server took 1, 0 and 0",
        1,
    );
    // A server that says nothing wrote nothing. That is no reason for another protocol.
    server.change(|_| no_content());
    eventually(|| count(&proxy, "refused"), |it| *it >= 2.0);
    let requests = server.requests();
    let version = |it: &Request| {
        it.header("x-prometheus-remote-write-version")
            .map(str::to_owned)
    };
    assert!(
        requests
            .iter()
            .all(|it| version(it).as_deref() == Some("2.0.0"))
    );
    let error = listed(&proxy, "to")["last_error"]["message"].clone();
    assert!(
        error.as_str().unwrap().contains("set protocol = \"1.0\""),
        "{error}"
    );
    // With protocol 1.0, no server says how much it wrote.
    let server = Upstream::start(|_| no_content());
    let proxy = to(&http(&server), "");
    push(&proxy, "a 1\n");
    eventually(|| count(&proxy, "ok"), |it| *it >= 2.0);
    assert_eq!(count(&proxy, "refused"), 0.0);
}

#[test]
fn samples_wait_for_a_server_that_is_away() {
    let address = free_address();
    let proxy = to(&format!("http://{address}"), "");
    push(&proxy, "a 1\n");
    eventually(
        || listed(&proxy, "to")["state"].clone(),
        |it| it == "failing",
    );
    push(&proxy, "a 2\n");
    let queued = "exporter_proxy_sink_queued_items{sink=\"to\"}";
    let before = proxy.sample(queued).unwrap();
    let waiting = eventually(|| proxy.sample(queued), |it| *it >= Some(before + 3.0));
    push(&proxy, "a 3\n");
    let server = Upstream::at(&address, |_| no_content());
    let seen = eventually(
        || values(&server, r#"a{job="a"}"#),
        |it| it.last() == Some(&3.0),
    );
    assert!(seen.len() as f64 > waiting.unwrap(), "{seen:?}");
    assert!(seen.contains(&2.0) && seen.is_sorted(), "{seen:?}");
    assert_in_order(&received(&server));
}

#[test]
fn a_full_queue_drops_new_requests_and_recovers() {
    let address = free_address();
    let settings = "max_queue = \"2KiB\"\nbatch_bytes = \"1KiB\"\nresend_unchanged = \"2m\"\n";
    let proxy = to(&format!("http://{address}"), settings);
    // Changing values fill the queue.
    let dropped = || count(&proxy, "no_buffer");
    let mut value = 0;
    while dropped() < 3.0 {
        push(&proxy, &format!("a {value}\nb 1\n"));
        value += 1;
        assert!(value < 1000, "the queue fills");
        std::thread::sleep(Duration::from_millis(50));
    }
    let queued = "exporter_proxy_sink_queued_bytes{sink=\"to\"}";
    assert!(proxy.sample(queued).unwrap() <= 2048.0);
    push(&proxy, "c 5\n");
    let server = Upstream::at(&address, |_| no_content());
    eventually(
        || values(&server, r#"c{job="a"}"#).len(),
        |count| *count >= 1,
    );
    // The marker that found no room is sent later.
    let stale = || {
        let points = received(&server).into_iter().filter(Point::is_stale);
        points.map(|it| it.series).collect::<Vec<_>>()
    };
    eventually(stale, |it| it.iter().any(|it| it == r#"a{job="a"}"#));
    assert_in_order(&received(&server));
}

#[test]
fn a_slow_server_delays_neither_pushes_nor_scrapes() {
    let server = Upstream::start(|_| Reply::Hang(Vec::new()));
    let proxy = to(&http(&server), "");
    push(&proxy, "a 1\n");
    let begun = Instant::now();
    for value in 0..20 {
        push(&proxy, &format!("a {value}\n"));
        assert_eq!(
            proxy.sample("a{instance=\"\",job=\"a\"}"),
            Some(f64::from(value))
        );
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
}

fn tls(pair: &Pair) -> ServerConfig {
    let chain = vec![CertificateDer::from_pem_file(&pair.cert).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap()
}

#[test]
fn a_receiver_with_tls_is_verified() {
    let dir = tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let pair = authority.issue("server");
    let server = Upstream::tls(Arc::new(tls(&pair)), |_| no_content());
    let url = format!("https://{}", server.address);
    let password = dir.path().join("password");
    fs::write(&password, "s3cret\n").unwrap();
    let known = to(
        &url,
        &format!(
            "basic_auth = {{ username = \"me\", password_file = \"{}\" }}\ntls = {{ ca_file = \"{}\" }}\n",
            password.display(),
            authority.ca.display()
        ),
    );
    push(&known, "a 1\n");
    eventually(
        || values(&server, r#"a{job="a"}"#).len(),
        |count| *count >= 1,
    );
    let authorization = server.requests()[0]
        .header("authorization")
        .map(str::to_owned);
    assert_eq!(authorization.as_deref(), Some("Basic bWU6czNjcmV0"));
    let unknown = to(&url, "");
    push(&unknown, "a 1\n");
    eventually(
        || listed(&unknown, "to")["state"].clone(),
        |it| it == "failing",
    );
}
