//! HTTPS, with HTTP/1.1 and HTTP/2: scrapes, pushes, limits, and plain HTTP beside it.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use tempfile::{TempDir, tempdir};

use crate::harness::certificates::{Authority, Pair, TlsConnection, connect};
use crate::harness::{Proxy, eventually, free_address, http_request};
use crate::support::{logged, read_answer, resident};

/// A proxy with plain HTTP and HTTPS for scrapes and for pushes.
struct Bench {
    proxy: Proxy,
    authority: Authority,
    /// `127.0.0.1:port` of HTTPS for scrapes, ...
    scrapes: String,
    /// ... and for pushes.
    pushes: String,
    dir: TempDir,
}

fn bench(config: &str) -> Bench {
    let dir = tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let server = authority.issue("server");
    bench_with(config, dir, authority, &server, "")
}

/// Like [`bench`], with a certificate, and further keys in the `tls` tables.
fn bench_with(
    config: &str,
    dir: TempDir,
    authority: Authority,
    server: &Pair,
    more: &str,
) -> Bench {
    let tls = format!("{}{more}", server.settings());
    let listen = format!("[\"127.0.0.1:0\", {{ address = \"127.0.0.1:0\", tls = {{ {tls} }} }}]");
    let settings = [
        ("EXPORTER_SCRAPE_EXPOSE_ENDPOINT", &*listen),
        ("PUSH_LISTEN", &*listen),
    ];
    let proxy = Proxy::start_with(config, &settings);
    let log = proxy.log();
    let after = |words: &str| {
        let (_, rest) = log.split_once(words).expect("an address");
        rest[..rest.find(['/', '\n']).unwrap()].to_owned()
    };
    Bench {
        scrapes: after("serving https://"),
        pushes: after("accepting pushes on https://"),
        proxy,
        authority,
        dir,
    }
}

impl Bench {
    /// The output of curl, which trusts the authority.
    fn curl(&self, arguments: &[&str]) -> String {
        let output = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--no-progress-meter",
                "--cacert",
            ])
            .arg(&self.authority.ca)
            .args(arguments)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn scrape_url(&self) -> String {
        format!("https://{}/metrics", self.scrapes)
    }

    fn push_url(&self) -> String {
        format!("https://{}/metrics/job/j", self.pushes)
    }

    /// A connection to an HTTPS port with a protocol.
    fn connect(&self, address: &str, protocol: &[u8]) -> TlsConnection {
        let mut client = self.authority.client(None);
        client.alpn_protocols = vec![protocol.to_vec()];
        connect(&client, address).unwrap()
    }

    fn open(&self) -> f64 {
        let name = "exporter_proxy_connections_open";
        // Only this family: a test may limit the time to read a page.
        let page = self.proxy.get(&format!("/metrics?name[]={name}")).text();
        let sample = format!("{name}{{listener=\"push\"}} ");
        let mut values = page.lines().filter_map(|line| line.strip_prefix(&sample));
        values.next().expect("a value").parse().unwrap()
    }

    fn handshakes(&self, listener: &str, result: &str) -> f64 {
        let labels = format!("listener=\"{listener}\",result=\"{result}\"");
        let series = format!("exporter_proxy_tls_handshakes_total{{{labels}}}");
        self.proxy.sample(&series).unwrap_or(0.0)
    }
}

const STATUS: &str = "%{http_version} %{http_code}";

#[test]
fn both_versions_of_http_push_and_scrape_over_tls_beside_plain_http() {
    let bench = bench("");
    for (version, word) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let body = format!("pushed{{v=\"{word}\"}} 1\n");
        let push = ["--data-binary", &body, "-X", "POST", &bench.push_url()];
        let answer = bench.curl(&[&[version, "-w", STATUS][..], &push].concat());
        assert_eq!(answer, format!("{word} 200"));
        let answer = bench.curl(&[version, "-w", STATUS, &bench.scrape_url()]);
        assert!(answer.contains(&format!("v=\"{word}\"")), "{answer}");
        assert!(answer.ends_with(&format!("\n{word} 200")), "{answer}");
    }
    assert_eq!(
        bench
            .proxy
            .push("PUT", "/metrics/job/plain", "m 1\n")
            .status,
        200
    );
    assert!(bench.proxy.metrics().contains("m{"));
    assert_eq!(bench.handshakes("http", "ok"), 2.0);
    assert_eq!(bench.handshakes("push", "ok"), 2.0);
    let expiry = "exporter_proxy_tls_certificate_expiry_timestamp_seconds{setting=";
    for setting in ["exporter.scrape_expose_endpoint[1]", "push.listen[1]"] {
        assert!(
            bench
                .proxy
                .sample(&format!("{expiry}\"{setting}\"}}"))
                .is_some()
        );
    }
}

#[test]
fn a_large_scrape_over_tls_has_the_bytes_of_a_plain_one() {
    let bench = bench("[exporter]\nown_metrics = false\n");
    let text: String = (0..100_000)
        .map(|n| format!("m{{n=\"{n}\"}} {n}\n"))
        .collect();
    assert_eq!(bench.proxy.push("PUT", "/metrics/job/j", text).status, 200);
    let plain = bench.proxy.metrics();
    for version in ["--http1.1", "--http2"] {
        assert!(
            bench.curl(&[version, &bench.scrape_url()]) == plain,
            "{version}"
        );
        let gzip = bench.curl(&[version, "--compressed", &bench.scrape_url()]);
        assert!(gzip == plain, "{version} --compressed");
        // Many requests at once on one connection.
        let url = bench.scrape_url();
        let mut parallel = vec![version, "--parallel"];
        parallel.extend([&*url; 8]);
        assert_eq!(bench.curl(&parallel).len(), 8 * plain.len());
    }
}

#[test]
fn a_large_push_over_http2_is_stored_and_limits_hold() {
    let bench = bench("[push]\nmax_body = \"4MiB\"\n");
    let text: String = (0..100_000)
        .map(|n| format!("m{{n=\"{n}\"}} {n}\n"))
        .collect();
    let push = |text: &str| {
        let file = bench.dir.path().join("body");
        std::fs::write(&file, text).unwrap();
        let body = format!("@{}", file.display());
        let url = bench.push_url();
        let arguments = [
            "--http2",
            "-w",
            STATUS,
            "-X",
            "PUT",
            "--data-binary",
            &body,
            &url,
        ];
        bench.curl(&arguments)
    };
    assert_eq!(push(&text), "2 200");
    let answer = push(&"m 1\n".repeat(2 << 20));
    assert!(answer.contains("push.max_body"), "{answer}");
    assert!(answer.contains("2 413"), "{answer}");
    assert!(push("m{ 1\n").ends_with("2 400"));
    assert!(bench.proxy.metrics().contains("n=\"99999\""));
}

#[test]
fn hosts_and_origins_are_checked_over_http2() {
    let bench = bench("");
    let host = [
        "--http2",
        "-w",
        STATUS,
        "-H",
        "Host: evil.example",
        &bench.scrape_url(),
    ];
    let answer = bench.curl(&host);
    assert!(answer.ends_with("2 403"), "{answer}");
    let page = [
        "--http2",
        "-w",
        STATUS,
        "-H",
        "Origin: https://evil.example",
        "-d",
        "m 1\n",
    ];
    let answer = bench.curl(&[&page[..], &[&*bench.push_url()]].concat());
    assert!(answer.ends_with("2 403"), "{answer}");
}

#[test]
fn clients_without_tls_get_a_reply_in_http() {
    let bench = bench("");
    let answer = http_request(&bench.scrapes, "GET", "/metrics", &[]);
    assert_eq!(answer.status, 400);
    let expected = "client sent an HTTP request to an HTTPS server: use https:// (exporter.scrape_expose_endpoint[1])\n";
    assert_eq!(answer.text(), expected);
    assert_eq!(bench.handshakes("http", "not_tls"), 1.0);
    let url = format!("https://{}/metrics", bench.proxy.http);
    let answer = bench.curl(&[&url]);
    assert!(answer.contains("wrong version number"), "{answer}");
    let words = "sent a TLS handshake, and this port has no TLS: use http://";
    logged(&bench.proxy, words, 1);
}

#[test]
fn the_web_configuration_can_have_certificates_inline() {
    let dir = tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let (server, own) = (authority.issue("server"), authority.issue("client"));
    let pem = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        text.replace('\n', "\n    ")
    };
    let text = format!(
        "tls_server_config:\n  cert: |\n    {}\n  key: |\n    {}\n  client_ca: |\n    {}\n  \
         client_auth_type: RequireAndVerifyClientCert\n",
        pem(&server.cert),
        pem(&server.key),
        pem(&authority.ca)
    );
    let file = dir.path().join("web.yml");
    std::fs::write(&file, text).unwrap();
    let proxy = Proxy::start(&format!("[web]\nconfig_file = {file:?}\n"));
    let mut connection = connect(&authority.client(Some(&own)), &proxy.http).unwrap();
    write!(
        connection,
        "GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    .unwrap();
    assert_eq!(read_answer(&mut connection, true).unwrap().status, 200);
    let mut refused = connect(&authority.client(None), &proxy.http).unwrap();
    let _ = write!(
        refused,
        "GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n"
    );
    assert!(read_answer(&mut refused, true).is_none());
}

#[test]
fn clients_without_a_certificate_are_kept_out() {
    let dir = tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let server = authority.issue("server");
    let own = authority.issue_for("client", &["client.example"], |_| {});
    let ca = authority.ca.display();
    let more =
        format!(", client_auth_type = \"RequireAndVerifyClientCert\", client_ca_file = \"{ca}\"");
    let bench = bench_with("", dir, authority, &server, &more);
    let path = |path: &Path| path.display().to_string();
    let (cert, key) = (path(&own.cert), path(&own.key));
    for version in ["--http1.1", "--http2"] {
        let url = bench.scrape_url();
        let answer = bench.curl(&[version, "-w", STATUS, &url]);
        // curl reports the alert, or a closed connection.
        assert!(answer.contains(" 000curl: ("), "{answer}");
        let with = [version, "-w", STATUS, "--cert", &cert, "--key", &key, &url];
        let answer = bench.curl(&with);
        assert!(answer.ends_with(" 200"), "{answer}");
    }
    eventually(
        || bench.handshakes("http", "no_certificate"),
        |count| *count == 2.0,
    );
}

/// The beginning of an HTTP/2 connection, with the settings of the client.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header block: `GET` or `POST` of a path over https, for `localhost`.
fn request(method: u8, path: &str) -> Vec<u8> {
    let mut block = vec![0x80 | method, 0x87, 0x01, 9];
    block.extend(b"localhost");
    block.extend([0x04, path.len() as u8]);
    block.extend(path.as_bytes());
    block
}

const GET: u8 = 2;
const POST: u8 = 3;

/// Reads until the other side closes.
fn drain(mut stream: impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    // A reset, or an end without `close_notify`, also counts as an end.
    let _ = stream.read_to_end(&mut all);
    all
}

#[test]
fn idle_and_slow_connections_with_http2_are_closed() {
    let bench = bench("[exporter]\nheader_timeout = \"2s\"\n");
    let begin = |bytes: &[u8]| {
        let mut stream = bench.connect(&bench.pushes, b"h2");
        // On a busy machine it may already be closed.
        let _ = stream.write_all(bytes).and_then(|()| stream.flush());
        stream
    };
    // No preface; no request; half a header block; an answered request.
    let half = frame(1, 0, 1, &request(GET, "/-/healthy")[..4]);
    let whole = frame(1, 5, 1, &request(GET, "/-/healthy"));
    let streams = [
        begin(b""),
        begin(PREFACE),
        begin(&[PREFACE, &half].concat()),
        begin(&[PREFACE, &whole].concat()),
    ];
    eventually(|| bench.open(), |open| *open == 0.0);
    for stream in streams {
        drain(stream);
    }
}

#[test]
fn clients_that_do_not_read_a_reply_over_http2_are_closed() {
    let bench = bench("[exporter]\nwrite_timeout = \"500ms\"\n");
    let text: String = (0..100_000)
        .map(|n| format!("m{{n=\"{n}\"}} {n}\n"))
        .collect();
    assert_eq!(bench.proxy.push("PUT", "/metrics/job/j", text).status, 200);
    let mut stream = bench.connect(&bench.pushes, b"h2");
    // The client never widens its window of 64 KiB.
    let scrape = frame(1, 5, 1, &request(GET, "/metrics"));
    stream.write_all(&[PREFACE, &scrape].concat()).unwrap();
    stream.flush().unwrap();
    let received = drain(stream).len();
    assert!((60_000..200_000).contains(&received), "{received}");
    eventually(|| bench.open(), |open| *open == 0.0);
}

#[test]
fn streams_and_bodies_of_a_connection_are_bounded() {
    let bench = bench("[push]\nbody_timeout = \"2s\"\n");
    let before = resident(bench.proxy.pid());
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = bench.connect(&bench.pushes, b"h2");
        let mut bytes = PREFACE.to_vec();
        // More requests than the proxy allows, each with a part of its body.
        for id in (1..400).step_by(2) {
            bytes.extend(frame(1, 4, id, &request(POST, "/metrics/job/j")));
            bytes.extend(frame(0, 0, id, &[b'#'; 16_000]));
        }
        // The proxy may close meanwhile.
        let _ = stream.write_all(&bytes);
        let _ = stream.flush();
        streams.push(stream);
    }
    let grown = resident(bench.proxy.pid()).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown}");
    for stream in streams {
        let _ = stream.sock.shutdown(std::net::Shutdown::Write);
    }
    eventually(|| bench.open(), |open| *open == 0.0);
    let buffered = "exporter_proxy_push_buffered_bytes";
    eventually(|| bench.proxy.sample(buffered), |bytes| *bytes == Some(0.0));
}

#[test]
fn resets_in_a_row_end_a_connection_with_http2() {
    let bench = bench("");
    let mut stream = bench.connect(&bench.pushes, b"h2");
    let mut bytes = PREFACE.to_vec();
    for id in (1..20_001).step_by(2) {
        bytes.extend(frame(1, 5, id, &request(GET, "/metrics")));
        bytes.extend(frame(3, 0, id, &[0, 0, 0, 8]));
    }
    let _ = stream.write_all(&bytes);
    let _ = stream.flush();
    eventually(|| bench.open(), |open| *open == 0.0);
    assert_eq!(bench.proxy.get("/-/healthy").status, 200);
}

#[test]
fn a_stop_lets_requests_over_http2_finish() {
    let mut bench = bench("");
    let mut stream = bench.connect(&bench.pushes, b"h2");
    let begin = frame(1, 4, 1, &request(POST, "/metrics/job/j"));
    stream.write_all(&[PREFACE, &begin].concat()).unwrap();
    stream.flush().unwrap();
    eventually(|| bench.open(), |open| *open == 1.0);
    bench.proxy.signal("TERM");
    logged(&bench.proxy, "stopping", 1);
    stream.write_all(&frame(0, 1, 1, b"m 1\n")).unwrap();
    stream.flush().unwrap();
    let received = drain(stream);
    // Headers that end the stream; `:status: 200` is their first byte.
    let answered = [1, 5, 0, 0, 0, 1, 0x88];
    assert!(received.windows(7).any(|it| it == answered), "{received:?}");
    assert!(bench.proxy.wait().success());
}

#[test]
fn one_port_serves_scrapes_and_pushes_over_tls() {
    let dir = tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let tls = authority.issue("server").settings();
    let address = free_address();
    let shared = format!("{{ address = \"{address}\", tls = {{ {tls} }} }}");
    let settings = [
        (
            "EXPORTER_SCRAPE_EXPOSE_ENDPOINT",
            &*format!("[\"127.0.0.1:0\", {shared}]"),
        ),
        ("PUSH_LISTEN", &*shared),
    ];
    let proxy = Proxy::start_with("", &settings);
    let mut client = authority.client(None);
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut stream = connect(&client, &address).unwrap();
    let push = "PUT /metrics/job/j HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nm 1\n";
    stream.write_all(push.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stream, true).unwrap().status, 200);
    let scrape = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(scrape.as_bytes()).unwrap();
    assert!(
        read_answer(&mut stream, true)
            .unwrap()
            .text()
            .contains("m{")
    );
    assert!(proxy.metrics().contains("job=\"j\""));
}
