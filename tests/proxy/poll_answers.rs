//! Answers of polled exporters: their compression, their ends and their formats.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::tempdir;

use crate::harness::{Proxy, eventually};
use crate::poll_failures::self_signed;
use crate::support::{detail, text_of};
use crate::upstream::{Reply, Upstream, reply};

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn target(url: &str, settings: &str) -> String {
    format!(
        "[poll_external]\npoll_interval = \"50ms\"\nclient_timeout = \"50s\"\n\
         [[poll_external.targets]]\nname = \"t\"\nurl = \"{url}\"\n{settings}\n"
    )
}

/// Waits for the text or for the last problem.
fn outcome(proxy: &Proxy) -> Result<String, String> {
    eventually(
        || {
            let detail = detail(proxy, "t")?;
            if let Some(problem) = detail["last_problem"]["reason"].as_str() {
                return Some(Err(problem.to_owned()));
            }
            let fresh = detail["state"] == "fresh";
            fresh.then(|| Ok(text_of(proxy, "t").unwrap_or_default()))
        },
        Option::is_some,
    )
    .unwrap()
}

/// The outcome of an answer with gzip.
fn packed(body: Vec<u8>) -> Result<String, String> {
    let upstream =
        Upstream::start(move |_| reply("200 OK", &[("Content-Encoding", "gzip")], &body));
    let url = format!("http://{}/", upstream.address);
    outcome(&Proxy::start(&target(&url, "")))
}

#[test]
fn a_gzip_answer_of_several_members_is_read_to_its_end() {
    let both = [gzip("m1 1\n"), gzip("m2 2\n")].concat();
    assert_eq!(packed(both), Ok("m1 1\nm2 2\n".to_owned()));
}

#[test]
fn a_gzip_response_that_is_cut_or_continues_is_rejected() {
    let both = [gzip("m1 1\n"), gzip("m2 2\n")].concat();
    let in_second = both[..both.len() - 3].to_vec();
    let problem = packed(in_second).unwrap_err();
    assert!(problem.starts_with("malformed: "), "{problem}");
    for more in [&[0; 16][..], b"m3 3\n"] {
        let problem = packed([&both[..], more].concat()).unwrap_err();
        assert!(problem.starts_with("malformed: "), "{problem}");
    }
}

#[test]
fn a_small_answer_that_becomes_a_large_text_is_read_in_every_mode() {
    let filler = "# nothing to see here, and that a thousand times\n".repeat(4000);
    let text = format!("{filler}m 1\n");
    let open = format!(
        "# TYPE m gauge\n# HELP m {}\nm 1\n# EOF\n",
        "h".repeat(200 << 10)
    );
    let types = ["text/plain; version=0.0.4", "application/openmetrics-text"];
    for mode in ["verbatim", "merged"] {
        for (content_type, text) in types.into_iter().zip([&text, &open]) {
            let body = gzip(text);
            assert!(body.len() < 16 << 10, "{}", body.len());
            let upstream = Upstream::start(move |_| {
                let headers = [("Content-Encoding", "gzip"), ("Content-Type", content_type)];
                reply("200 OK", &headers, &body)
            });
            let url = format!("http://{}/", upstream.address);
            let config = format!("[exposition]\nmode = \"{mode}\"\n{}", target(&url, ""));
            let text = outcome(&Proxy::start(&config)).unwrap();
            assert!(text.ends_with("\nm 1\n"), "{mode}, {content_type}");
        }
    }
}

#[test]
fn a_push_of_several_gzip_members_is_read_whole_or_rejected() {
    let proxy = Proxy::start("");
    let push = |body: &[u8]| {
        let headers = [("Content-Encoding", "gzip")];
        proxy
            .push_with("PUT", "/metrics/job/members", &headers, body)
            .status
    };
    let both = [gzip("m1 1\n"), gzip("m2 2\n")].concat();
    assert_eq!(push(&both), 200);
    let metrics = proxy.metrics();
    for sample in [
        "\nm1{instance=\"\",job=\"members\"} 1\n",
        "\nm2{instance=\"\",job=\"members\"} 2\n",
    ] {
        assert!(metrics.contains(sample), "{metrics}");
    }
    assert_eq!(push(&both[..both.len() - 3]), 400);
    assert_eq!(push(&[&both[..], &[0; 16]].concat()), 400);
}

#[test]
fn a_response_in_an_unknown_coding_is_rejected() {
    let upstream = Upstream::start(|_| reply("200 OK", &[("Content-Encoding", "br")], b"m 1\n"));
    let url = format!("http://{}/", upstream.address);
    let problem = outcome(&Proxy::start(&target(&url, ""))).unwrap_err();
    assert!(problem.starts_with("unsupported_media: "), "{problem}");
}

/// The outcome of raw bytes over TLS, if the connection is then closed without `close_notify`.
fn over_tls(answer: &'static [u8]) -> Result<String, String> {
    let dir = tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let upstream = Upstream::tls(self_signed(&file), |_| Reply::Bytes(answer.to_vec()));
    let url = format!("https://{}/", upstream.address);
    let trust = format!("ca_file = \"{}\"", file.display());
    outcome(&Proxy::start(&target(&url, &trust)))
}

#[test]
fn an_answer_that_ends_with_its_tls_connection_is_whole() {
    assert_eq!(
        over_tls(b"HTTP/1.0 200 OK\r\n\r\nm 1\n"),
        Ok("m 1\n".to_owned())
    );
    assert_eq!(
        over_tls(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nm 1\nn 1\n"),
        Ok("m 1\nn 1\n".to_owned())
    );
}

#[test]
fn a_response_that_is_shorter_than_its_length_is_rejected() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nm 1\n"[..],
        b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nm 1\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nm 1\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nm 1\n\r\n0\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
    ] {
        let problem = over_tls(answer).unwrap_err();
        let reported = "the connection was closed before the response was complete";
        assert!(
            problem.starts_with("protocol: 127.0.0.1:") && problem.ends_with(reported),
            "{problem}"
        );
    }
}

const OPEN_METRICS: &str =
    "# TYPE a counter\n# HELP a h\na_total 1 # {t=\"x\"} 1\na_created 5\n# EOF\n";

/// The outcome of an answer with this type.
fn typed(content_type: &'static str, body: &'static str, settings: &str) -> (Proxy, Upstream) {
    let upstream = Upstream::start(move |_| {
        reply("200 OK", &[("Content-Type", content_type)], body.as_bytes())
    });
    let url = format!("http://{}/", upstream.address);
    let config = format!("{settings}{}", target(&url, ""));
    (Proxy::start(&config), upstream)
}

#[test]
fn open_metrics_becomes_text_in_verbatim_mode() {
    let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let (proxy, _upstream) = typed(openmetrics, OPEN_METRICS, "");
    let text = "# HELP a_total h\n# TYPE a_total counter\na_total 1\n";
    assert_eq!(outcome(&proxy), Ok(text.to_owned()));
    assert!(proxy.metrics().ends_with(text), "{}", proxy.metrics());
    // The texts of others are not changed.
    proxy.push_tcp(b"{\"app\":\"# EOF\\nm 1 # x\"}");
    assert!(proxy.metrics().contains("\n# EOF\nm 1 # x\n"));
}

#[test]
fn truncated_openmetrics_is_rejected_with_the_name_of_the_target() {
    for settings in ["", "[exposition]\nmode = \"merged\"\n"] {
        let cut = "# TYPE a counter\na_total 1\n";
        let (proxy, _upstream) = typed("application/openmetrics-text", cut, settings);
        let problem = outcome(&proxy).unwrap_err();
        assert!(
            problem.starts_with("invalid_text: target \"t\", line 2, column "),
            "{problem}"
        );
        assert!(!proxy.metrics().contains("a_total 1\n"));
    }
}

#[test]
fn an_explicit_text_type_decides() {
    let text = "# TYPE a untyped\na 1\n# EOF\n";
    for (settings, shown) in [
        ("", text),
        (
            "[exposition]\nmode = \"merged\"\n",
            "# TYPE a untyped\na 1\n",
        ),
    ] {
        let (proxy, _upstream) = typed("text/plain; version=0.0.4", text, settings);
        assert_eq!(outcome(&proxy), Ok(shown.to_owned()));
    }
}

#[test]
fn protobuf_that_was_not_requested_is_rejected() {
    let protobuf = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
    let (proxy, _upstream) = typed(protobuf, "\n", "");
    let problem = outcome(&proxy).unwrap_err();
    assert!(problem.starts_with("unsupported_media: "), "{problem}");
}

#[test]
fn a_rejected_response_is_reported_for_the_target() {
    let (proxy, _upstream) = typed(
        "text/plain",
        "m{a=\"b\" 1\n",
        "[exposition]\nmode = \"merged\"\n",
    );
    let problem = outcome(&proxy).unwrap_err();
    assert!(
        problem.starts_with("invalid_text: target \"t\", line 1, column "),
        "{problem}"
    );
    assert!(!proxy.log().contains("app \"t\""), "{}", proxy.log());
}
