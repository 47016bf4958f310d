//! Polls of exporters that fail: the last text is kept for a while, the reason is shown everywhere,
//! and a recovery is noticed.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tempfile::tempdir;

use crate::harness::{Proxy, eventually, free_address};
use crate::support::{detail, logged, names, text_of};
use crate::upstream::{Reply, Upstream, ok, reply};

/// A target called `t` that is polled often and patiently, with further lines.
fn target(lines: &str) -> String {
    format!(
        "[poll_external]\npoll_other_scrape_endpoints = true\npoll_interval = \"50ms\"\n\
         client_timeout = \"20s\"\nmax_body = \"64KiB\"\n\
         [[poll_external.targets]]\nname = \"t\"\n{lines}\n"
    )
}

fn state(proxy: &Proxy) -> String {
    detail(proxy, "t").map_or_else(String::new, |detail| {
        detail["state"].as_str().expect("a state").to_owned()
    })
}

/// The last problem in the JSON; empty if there is none.
fn problem(proxy: &Proxy) -> String {
    let problem = detail(proxy, "t").map(|detail| detail["last_problem"]["reason"].clone());
    problem
        .and_then(|reason| reason.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn polls(proxy: &Proxy, result: &str) -> f64 {
    let series = format!("exporter_proxy_polls_total{{result=\"{result}\",target=\"t\"}}");
    proxy.sample(&series).unwrap_or(0.0)
}

/// Waits for a failure of that reason, and checks that it is reported everywhere.
fn await_failure(proxy: &Proxy, reason: &str, words: &str) {
    let reported = eventually(
        || problem(proxy),
        |reported| reported.starts_with(&format!("{reason}: ")),
    );
    assert!(reported.contains(words), "{reported}");
    // A poll is counted a little after its problem is shown.
    eventually(|| polls(proxy, reason), |polls| *polls >= 1.0);
    let success = proxy.sample("exporter_proxy_poll_success{target=\"t\"}");
    assert_eq!(success, Some(0.0));
    let wide = proxy.get("/apps?wide=1").text();
    assert!(wide.contains(&format!("{reason}: ")), "{wide}");
    let log = logged(proxy, &format!("): {reason}: "), 1);
    assert!(log.contains("WARN"), "{log}");
}

/// A failure, the reason under which it is counted, and words of its explanation.
type Failing = (fn() -> Reply, &'static str, &'static str);

/// The number of warnings in the log that are not about the settings.
fn problems(log: &str) -> usize {
    let is_problem = |line: &&str| line.contains("WARN") || line.contains("ERROR");
    let is_of_settings = |line: &&str| line.contains("config.toml:");
    let problems = log.lines().filter(is_problem);
    problems.filter(|line| !is_of_settings(line)).count()
}

#[test]
fn the_last_text_is_kept_through_every_kind_of_failure_and_a_recovery_is_seen() {
    let failing: [Failing; 9] = [
        (
            || reply("500 Internal Server Error", &[], b"m 2\n"),
            "status",
            "500",
        ),
        (|| reply("204 No Content", &[], b""), "status", "204"),
        (
            || reply("200 OK", &[], b"m \xff\n"),
            "invalid_utf8",
            "byte 2",
        ),
        (
            || reply("200 OK", &[], &[b'm'; (64 << 10) + 1]),
            "too_large",
            "65536 bytes (poll_external.max_body)",
        ),
        (
            || Reply::Hang(Vec::new()),
            "timeout",
            "no complete response within 500ms",
        ),
        (
            || Reply::Hang(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nm 2\n".to_vec()),
            "timeout",
            "no complete response within 500ms",
        ),
        (
            || reply("302 Found", &[("Location", "/again")], b""),
            "redirect",
            "redirect",
        ),
        (
            || Reply::Bytes(b"nonsense\r\n\r\n".to_vec()),
            "protocol",
            "",
        ),
        (
            || Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nm 2\n".to_vec()),
            "protocol",
            "",
        ),
    ];
    let upstream = Upstream::start(|_| ok("m 1\n"));
    let config = target(&format!("url = \"http://{}/\"", upstream.address));
    let proxy = Proxy::start(&config.replace("\"20s\"", "\"500ms\""));
    for (number, (fails, reason, words)) in failing.into_iter().enumerate() {
        // The text of this round, so that a text of an earlier round would be noticed.
        let text = format!("round {number}\n");
        let answered = text.clone();
        upstream.change(move |_| ok(&answered));
        eventually(|| text_of(&proxy, "t"), |seen| seen.as_ref() == Some(&text));
        eventually(|| state(&proxy), |state| state == "fresh");
        let before = polls(&proxy, reason);
        upstream.change(move |_| fails());
        eventually(|| polls(&proxy, reason), |count| *count > before);
        assert_eq!(state(&proxy), "stale", "{reason}");
        await_failure(&proxy, reason, words);
        assert_eq!(text_of(&proxy, "t"), Some(text), "{reason}");
    }
    upstream.change(|_| ok("m 9\n"));
    eventually(|| state(&proxy), |state| state == "fresh");
    let recovered = "target t answers again";
    let log = logged(&proxy, recovered, 9);
    // Two are expected to time out. On a busy machine others may do so, and recover.
    let timeouts = log.matches("): timeout: ").count();
    assert!(log.matches(recovered).count() <= 7 + timeouts, "{log}");
}

#[test]
fn a_redirect_loop_is_given_up_after_ten() {
    let upstream = Upstream::start(|_| reply("301 Moved", &[("Location", "/loop")], b""));
    let proxy = Proxy::start(&target(&format!(
        "url = \"http://{}/\"\ninterval = \"1h\"\ntimeout = \"50s\"",
        upstream.address
    )));
    await_failure(&proxy, "redirect", "too many redirects");
    assert_eq!(upstream.requests().len(), 11);
}

#[test]
fn a_packed_answer_is_bounded_by_what_it_unpacks_to() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::copy(
        &mut Read::take(std::io::repeat(b'#'), 1 << 20),
        &mut encoder,
    )
    .unwrap();
    let body = encoder.finish().unwrap();
    assert!(body.len() < 64 << 10);
    let upstream =
        Upstream::start(move |_| reply("200 OK", &[("Content-Encoding", "gzip")], &body));
    let proxy = Proxy::start(&target(&format!("url = \"http://{}/\"", upstream.address)));
    await_failure(&proxy, "too_large", "poll_external.max_body");
    assert_eq!(text_of(&proxy, "t").as_deref(), Some(""));
}

#[test]
fn a_target_that_stays_away_is_stale_then_withdrawn_and_back_when_it_answers() {
    let upstream = Upstream::at(&free_address(), |_| ok("m 1\n"));
    let address = upstream.address.clone();
    let proxy = Proxy::start(&target(&format!(
        "url = \"http://{address}/\"\nstale_after = \"3s\""
    )));
    let start = Instant::now();
    let before = polls(&proxy, "ok");
    // The second of these polls begins after `start`.
    eventually(|| polls(&proxy, "ok"), |polls| *polls >= before + 2.0);
    drop(upstream);
    eventually(|| state(&proxy), |state| state == "stale");
    let stale_for = Instant::now();
    assert!(proxy.metrics().ends_with("\nm 1\n"));
    await_failure(&proxy, "connect", "onnect");
    // Repeated failures do not keep the text longer.
    eventually(|| state(&proxy), |state| state == "withdrawn");
    assert!(start.elapsed() >= Duration::from_secs(3));
    assert!(stale_for.elapsed() < Duration::from_secs(15));
    assert!(!proxy.metrics().contains("\nm 1\n"));
    // It is still listed, since it is still polled.
    assert_eq!(names(&proxy), ["t"]);
    assert_eq!(text_of(&proxy, "t").as_deref(), Some(""));
    assert_eq!(proxy.sample("exporter_proxy_expired_total"), Some(1.0));
    let log = logged(&proxy, "target t withdrawn", 1);
    assert_eq!(log.matches("): connect: ").count(), 1, "{log}");
    // The listener may have been closed before it accepted the connection of a poll.
    let lost = log.matches("): protocol: ").count();
    assert!(lost <= 1 && problems(&log) == 1 + lost, "{log}");

    let _upstream = Upstream::at(&address, |_| ok("m 2\n"));
    eventually(
        || text_of(&proxy, "t"),
        |text| text.as_deref() == Some("m 2\n"),
    );
    assert_eq!(state(&proxy), "fresh");
    assert!(proxy.metrics().ends_with("\nm 2\n"));
}

#[test]
fn a_target_that_never_answered_is_failing_with_its_problem() {
    let address = free_address();
    let proxy = Proxy::start(&target(&format!("url = \"http://{address}/\"")));
    await_failure(&proxy, "connect", "refused");
    assert_eq!(
        problem(&proxy),
        format!("connect: {address}: connection refused")
    );
    assert_eq!(state(&proxy), "failing");
    let table = proxy.get("/apps").text();
    assert!(table.contains("never"), "{table}");
    let last = "exporter_proxy_poll_last_success_timestamp_seconds{target=\"t\"}";
    assert_eq!(proxy.sample(last), Some(0.0));
}

/// A self-signed certificate for 127.0.0.1, written to `file`.
pub fn self_signed(file: &Path) -> Arc<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(file, made.cert.pem()).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    Arc::new(config)
}

#[test]
fn a_certificate_of_an_unknown_authority_is_rejected() {
    let dir = tempdir().unwrap();
    let config = self_signed(&dir.path().join("ca.pem"));
    let upstream = Upstream::tls(config, |_| ok("m 1\n"));
    let proxy = Proxy::start(&target(&format!("url = \"https://{}/\"", upstream.address)));
    await_failure(&proxy, "tls", "certificate");
    assert_eq!(text_of(&proxy, "t").as_deref(), Some(""));
    // Nothing was sent to the untrusted server.
    assert_eq!(upstream.requests().len(), 0);

    eventually(|| polls(&proxy, "tls"), |polls| *polls >= 3.0);
    let log = proxy.log();
    assert_eq!(problems(&log), 1, "one line per problem: {log}");
}

#[test]
fn a_certificate_in_ca_file_is_trusted_and_no_other() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let upstream = Upstream::tls(self_signed(&file), |_| ok("m 1\n"));
    let other = Upstream::tls(self_signed(&dir.path().join("other.pem")), |_| ok("o 1\n"));
    let lines = |address: &str| {
        format!(
            "url = \"https://{address}/\"\nca_file = \"{}\"",
            file.display()
        )
    };
    let proxy = Proxy::start(&target(&lines(&upstream.address)));
    eventually(
        || text_of(&proxy, "t"),
        |text| text.as_deref() == Some("m 1\n"),
    );
    let proxy = Proxy::start(&target(&lines(&other.address)));
    await_failure(&proxy, "tls", "certificate");
    assert_eq!(other.requests().len(), 0);
}

#[test]
fn allow_invalid_certs_takes_any_certificate() {
    let dir = tempdir().unwrap();
    let config = self_signed(&dir.path().join("ca.pem"));
    let upstream = Upstream::tls(config, |_| ok("m 1\n"));
    let proxy = Proxy::start(&target(&format!(
        "url = \"https://{}/\"\nallow_invalid_certs = true",
        upstream.address
    )));
    eventually(
        || text_of(&proxy, "t"),
        |text| text.as_deref() == Some("m 1\n"),
    );
}

/// Starts the proxy on a machine without certificates.
fn without_certificates(config: &str) -> Proxy {
    Proxy::launch(config, &[], |command| {
        command
            .env("SSL_CERT_FILE", "/nonexistent")
            .env("SSL_CERT_DIR", "/nonexistent")
    })
}

#[test]
fn a_machine_without_certificates_polls_http_and_trusts_a_ca_file() {
    let upstream = Upstream::start(|_| ok("m 1\n"));
    let proxy = without_certificates(&target(&format!("url = \"http://{}/\"", upstream.address)));
    eventually(
        || text_of(&proxy, "t"),
        |text| text.as_deref() == Some("m 1\n"),
    );

    let dir = tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let secure = Upstream::tls(self_signed(&file), |_| ok("m 2\n"));
    let url = format!("url = \"https://{}/\"", secure.address);
    let proxy = without_certificates(&target(&format!("{url}\nca_file = \"{}\"", file.display())));
    eventually(
        || text_of(&proxy, "t"),
        |text| text.as_deref() == Some("m 2\n"),
    );
    let asked = secure.requests().len();
    assert!(asked > 0);
    let proxy = without_certificates(&target(&url));
    await_failure(&proxy, "tls", "certificate");
}

#[test]
fn a_token_file_that_never_answers_fails_the_poll_and_does_not_hold_up_the_stop() {
    let dir = tempdir().unwrap();
    let fifo = dir.path().join("token");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let mut proxy = Proxy::start(&format!(
        "[exporter]\nshutdown_timeout = \"1h\"\n\
         [[poll_external.targets]]\nname = \"t\"\nurl = \"http://127.0.0.1:1/\"\ntimeout = 0.1\ninterval = 0.1\n\
         bearer_token_file = \"{}\"\n",
        fifo.display()
    ));
    let problem = eventually(|| problem(&proxy), |problem| !problem.is_empty());
    assert!(problem.starts_with("timeout: "), "{problem}");
    proxy.signal("TERM");
    let reported = Instant::now();
    assert!(proxy.wait().success());
    assert!(reported.elapsed() < Duration::from_secs(20));
}

#[test]
fn an_unknown_host_and_a_server_without_tls_get_short_reasons() {
    let patient = "timeout = \"50s\"";
    let proxy = Proxy::start(&target(&format!(
        "url = \"http://nowhere.invalid/\"\n{patient}"
    )));
    await_failure(&proxy, "dns", "dns: nowhere.invalid:80: ");
    assert_eq!(
        problem(&proxy).matches(": ").count(),
        2,
        "{}",
        problem(&proxy)
    );

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let answers = [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""]
            .into_iter()
            .cycle();
        for (stream, answer) in listener.incoming().zip(answers) {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        }
    });
    let url = format!("url = \"https://{address}/\"\n{patient}");
    let proxy = Proxy::start(&target(&url));
    let closed = format!("tls: {address}: the connection was closed during the handshake");
    eventually(|| problem(&proxy), |problem| *problem == closed);
    eventually(
        || problem(&proxy),
        |problem| problem.contains("should the URL be http://?"),
    );
    let reported = format!("tls: {address}: the server does not speak TLS (");
    eventually(|| problem(&proxy), |problem| problem.starts_with(&reported));

    let proxy = Proxy::start(&target("url = \"unix:///nowhere.sock:/metrics\""));
    await_failure(&proxy, "connect", "connect: /nowhere.sock: no such file");
}
