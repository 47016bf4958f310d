//! TLS on the receiver and on the sockets for operations: successful and failing handshakes,
//! certificates of clients, and certificates that change.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::{TempDir, tempdir};

use crate::harness::certificates::{Authority, Pair, connect, exchange};
use crate::harness::{Proxy, capnp_message, eventually};
use crate::support::{Sender, in_time, logged, text_of};

/// A directory with an authority and a certificate for the loopback.
fn certificates() -> (TempDir, Authority, Pair) {
    let dir = tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let server = authority.issue("server");
    (dir, authority, server)
}

/// A proxy whose receiver has TLS, with further keys in its table.
fn receiver(server: &Pair, more: &str) -> Proxy {
    let settings = server.settings();
    Proxy::start(&format!("[receiver]\ntls = {{ {settings}{more} }}\n"))
}

/// The keys that demand certificates of an authority.
fn demanding(authority: &Authority) -> String {
    let ca = authority.ca.display();
    format!(", client_auth_type = \"RequireAndVerifyClientCert\", client_ca_file = \"{ca}\"")
}

/// Handshakes of a listener with a result.
fn handshakes(proxy: &Proxy, listener: &str, result: &str) -> f64 {
    let labels = format!("listener=\"{listener}\",result=\"{result}\"");
    let series = format!("exporter_proxy_tls_handshakes_total{{{labels}}}");
    proxy.sample(&series).unwrap_or(0.0)
}

#[track_caller]
fn failed(proxy: &Proxy, result: &str, times: f64) {
    eventually(|| handshakes(proxy, "tcp", result), |count| *count == times);
}

#[test]
fn apps_send_over_tls_in_both_formats() {
    let (_dir, authority, server) = certificates();
    let proxy = receiver(&server, "");
    let client = authority.client(None);
    let message = capnp_message("binary", "m 1");
    assert_eq!(exchange(&client, &proxy.tcp, &message).unwrap(), "");
    assert_eq!(
        exchange(&client, &proxy.tcp, b"{\"text\":\"m 2\"}").unwrap(),
        ""
    );
    let answer = exchange(&client, &proxy.tcp, b"{\"text\":1}").unwrap();
    assert!(
        answer.starts_with("error: document 1, ") || answer.starts_with("error: "),
        "{answer}"
    );
    assert_eq!(text_of(&proxy, "binary").as_deref(), Some("m 1\n"));
    assert_eq!(text_of(&proxy, "text").as_deref(), Some("m 2\n"));
    assert_eq!(handshakes(&proxy, "tcp", "ok"), 3.0);
    let expiry =
        "exporter_proxy_tls_certificate_expiry_timestamp_seconds{setting=\"receiver.tls\"}";
    assert!(proxy.sample(expiry).unwrap() > 2e9);
}

#[test]
fn a_large_message_arrives_over_tls() {
    let (_dir, authority, server) = certificates();
    let proxy = receiver(&server, "");
    let text = "m 1\n".repeat(1 << 20);
    let message = capnp_message("large", &text);
    let answer = exchange(&authority.client(None), &proxy.tcp, &message);
    assert_eq!(answer.unwrap(), "");
    assert_eq!(text_of(&proxy, "large").unwrap().len(), text.len());
}

#[test]
fn operations_are_taken_over_tls() {
    let (_dir, authority, server) = certificates();
    let proxy = Proxy::start(&format!(
        "[operations]\ntcp = \"127.0.0.1:0\"\ntls = {{ {} }}\n",
        server.settings()
    ));
    let log = proxy.log();
    let (_, rest) = log.split_once("operations on TCP socket ").unwrap();
    let (address, rest) = rest.split_once(' ').unwrap();
    assert!(rest.starts_with("with TLS\n"), "{log}");
    let client = authority.client(None);
    let answer = exchange(&client, address, b"hits_total:2|c\nbad\n").unwrap();
    assert!(answer.starts_with("error: message 2: "), "{answer}");
    eventually(|| proxy.sample("hits_total"), |value| *value == Some(2.0));
    let mut plain = Sender::to(address);
    plain.send(b"hits_total:2|c\n");
    assert_eq!(
        plain.read_to_end(),
        "error: this port expects TLS (operations.tls)\n"
    );
    assert_eq!(handshakes(&proxy, "operations_tcp", "not_tls"), 1.0);
}

#[test]
fn clients_without_tls_get_an_error_that_says_what_the_port_expects() {
    let (_dir, _, server) = certificates();
    let proxy = receiver(&server, "");
    for bytes in [&b"{\"app\":\"m 1\"}"[..], &capnp_message("app", "m 1")] {
        let answer = proxy.push_tcp(bytes);
        assert_eq!(answer, "error: this port expects TLS (receiver.tls)\n");
    }
    failed(&proxy, "not_tls", 2.0);
    let line = "tcp: TLS handshake with 127.0.0.1:";
    let log = logged(&proxy, line, 2);
    let why = " failed (not_tls): the client does not use TLS (receiver.tls)";
    assert_eq!(log.matches(why).count(), 2, "{log}");
}

#[test]
fn a_client_that_sends_tls_to_a_plain_port_is_rejected_with_a_hint() {
    let (_dir, authority, _) = certificates();
    let proxy = Proxy::start("");
    let error = connect(&authority.client(None), &proxy.tcp).unwrap_err();
    assert!(!error.to_string().is_empty());
    logged(
        &proxy,
        "the client sends TLS, and this port has none (receiver.tls)",
        1,
    );
}

#[test]
fn slow_and_vanished_clients_do_not_keep_their_connections() {
    let (_dir, authority, server) = certificates();
    let settings = server.settings();
    let proxy = Proxy::start(&format!(
        "[exporter]\ntls_handshake_timeout = \"2s\"\n[receiver]\ntls = {{ {settings} }}\n"
    ));
    let mut silent = TcpStream::connect(&proxy.tcp).unwrap();
    let mut partial = TcpStream::connect(&proxy.tcp).unwrap();
    // The beginning of a record of 256 bytes.
    partial.write_all(&[22, 3, 1, 1, 0, 1]).unwrap();
    let gone = TcpStream::connect(&proxy.tcp).unwrap();
    drop(gone);
    // Others are served meanwhile.
    let client = authority.client(None);
    let mut attempts = 0.0;
    let answer = in_time(Duration::from_millis(1900), || {
        attempts += 1.0;
        exchange(&client, &proxy.tcp, b"{\"app\":\"m 1\"}")
    });
    assert_eq!(answer, "");
    for stream in [&mut silent, &mut partial] {
        let mut rest = Vec::new();
        // A reset also counts as an end.
        let _ = stream.read_to_end(&mut rest);
    }
    failed(&proxy, "timeout", 1.0 + attempts);
    failed(&proxy, "closed", 1.0);
    logged(
        &proxy,
        "not done within 2s (exporter.tls_handshake_timeout)",
        2,
    );
    let open = "exporter_proxy_connections_open{listener=\"tcp\"}";
    eventually(|| proxy.sample(open), |open| *open == Some(0.0));
}

#[test]
fn garbage_in_a_handshake_is_rejected() {
    let (_dir, _, server) = certificates();
    let proxy = receiver(&server, "");
    let mut stream = TcpStream::connect(&proxy.tcp).unwrap();
    stream.write_all(&[22, 3, 1, 0, 4, 9, 9, 9, 9]).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    failed(&proxy, "protocol", 1.0);
}

#[test]
fn clients_reject_a_certificate_that_they_do_not_trust() {
    let (dir, authority, server) = certificates();
    let proxy = receiver(&server, "");
    let other = Authority::new(dir.path(), "other");
    let error = connect(&other.client(None), &proxy.tcp).unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    failed(&proxy, "rejected_by_client", 1.0);
    let expired = authority.issue_for("expired", &["localhost"], |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let proxy = receiver(&expired, "");
    let error = connect(&authority.client(None), &proxy.tcp).unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
}

#[test]
fn certificates_of_clients_are_verified() {
    let (dir, authority, server) = certificates();
    let proxy = receiver(&server, &demanding(&authority));
    let send =
        |own: Option<&Pair>| exchange(&authority.client(own), &proxy.tcp, b"{\"app\":\"m 1\"}");
    let own = authority.issue_for("client", &["client.example"], |_| {});
    assert_eq!(send(Some(&own)).unwrap(), "");
    assert!(send(None).is_err());
    failed(&proxy, "no_certificate", 1.0);
    let other = Authority::new(dir.path(), "other").issue("stranger");
    assert!(send(Some(&other)).is_err());
    failed(&proxy, "bad_certificate", 1.0);
    let expired = authority.issue_for("expired", &["client.example"], |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    assert!(send(Some(&expired)).is_err());
    failed(&proxy, "bad_certificate", 2.0);
    assert_eq!(handshakes(&proxy, "tcp", "ok"), 1.0);
}

#[test]
fn clients_can_send_and_then_read_why_they_are_turned_away() {
    let (dir, authority, server) = certificates();
    let proxy = receiver(&server, &demanding(&authority));
    let other = Authority::new(dir.path(), "other").issue("stranger");
    let mut attempts = 0.0;
    // The proxy reads for one second.
    in_time(Duration::from_millis(900), || {
        attempts += 1.0;
        // To the client the handshake is complete. On a closed connection the second write fails.
        let mut client = connect(&authority.client(Some(&other)), &proxy.tcp)?;
        for part in [&b"{\"app\":"[..], b"\"m 1\"}"] {
            client.write_all(part)?;
            client.flush()?;
            std::thread::sleep(Duration::from_millis(50));
        }
        match client.read(&mut [0]) {
            Err(error) if error.to_string().contains("UnknownCA") => Ok(()),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    });
    failed(&proxy, "bad_certificate", attempts);
}

#[test]
fn certificates_of_clients_must_have_an_allowed_name() {
    let (_dir, authority, server) = certificates();
    let names = ", client_allowed_sans = [\"good.example\", \"10.1.2.3\"]";
    let proxy = receiver(&server, &(demanding(&authority) + names));
    for (name, allowed) in [
        ("good.example", true),
        ("10.1.2.3", true),
        ("bad.example", false),
        ("10.1.2.4", false),
    ] {
        let own = authority.issue_for("client", &[name], |_| {});
        let client = authority.client(Some(&own));
        let sent = exchange(&client, &proxy.tcp, b"{\"app\":\"m 1\"}");
        assert_eq!(sent.is_ok(), allowed, "{name}");
    }
    failed(&proxy, "bad_certificate", 2.0);
    logged(
        &proxy,
        "the certificate has none of the names in client_allowed_sans",
        2,
    );
}

#[test]
fn other_types_of_client_authentication_do_as_go_does() {
    let (dir, authority, server) = certificates();
    let stranger = Authority::new(dir.path(), "other").issue("stranger");
    let ca = format!(", client_ca_file = \"{}\"", authority.ca.display());
    for (kind, ca, none, unknown) in [
        ("RequestClientCert", "", true, true),
        ("RequireAnyClientCert", "", false, true),
        ("VerifyClientCertIfGiven", &*ca, true, false),
    ] {
        let proxy = receiver(&server, &format!(", client_auth_type = \"{kind}\"{ca}"));
        for (own, accepted) in [(None, none), (Some(&stranger), unknown)] {
            let client = authority.client(own);
            let sent = exchange(&client, &proxy.tcp, b"{\"app\":\"m 1\"}");
            assert_eq!(sent.is_ok(), accepted, "{kind} {own:?}");
        }
    }
}

#[test]
fn versions_suites_and_curves_can_be_limited() {
    let (_dir, _, server) = certificates();
    let limits = ", max_version = \"TLS12\", curve_preferences = [\"CurveP384\"], \
                  cipher_suites = [\"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\"]";
    let proxy = receiver(&server, limits);
    let connected = |arguments: &[&str]| {
        let mut all = vec!["s_client", "-brief", "-connect", &proxy.tcp];
        all.extend_from_slice(arguments);
        let mut openssl = Command::new("openssl");
        let output = openssl.args(all).stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let text = connected(&[]);
    assert!(text.contains("Protocol version: TLSv1.2"), "{text}");
    assert!(text.contains("ECDHE-ECDSA-AES256-GCM-SHA384"), "{text}");
    assert!(text.contains("secp384r1"), "{text}");
    let text = connected(&["-tls1_3"]);
    assert!(text.contains("alert protocol version"), "{text}");
    let text = connected(&["-curves", "X25519"]);
    assert!(text.contains("alert handshake failure"), "{text}");
    failed(&proxy, "unsupported", 2.0);
}

#[test]
fn changed_files_are_used_while_connections_stay() {
    let (dir, authority, server) = certificates();
    let proxy = receiver(&server, "");
    let mut stays = connect(&authority.client(None), &proxy.tcp).unwrap();
    let next = Authority::new(dir.path(), "next");
    let reached = |authority: &Authority| connect(&authority.client(None), &proxy.tcp).is_ok();
    let metric = |name: &str| {
        let series = format!("exporter_proxy_tls_certificate_{name}");
        proxy.sample(&series).unwrap()
    };
    let ok = || metric("files_ok{setting=\"receiver.tls\"}");
    let reloads = |result: &str| {
        metric(&format!(
            "reloads_total{{result=\"{result}\",setting=\"receiver.tls\"}}"
        ))
    };
    assert_eq!((ok(), reloads("ok")), (1.0, 0.0));

    // Files that do not belong together change nothing.
    let key = std::fs::read(&server.key).unwrap();
    next.issue("server");
    let new_key = std::fs::read(&server.key).unwrap();
    std::fs::write(&server.key, &key).unwrap();
    eventually(|| (reached(&authority), ok()), |seen| *seen == (true, 0.0));
    assert_eq!(reloads("bad_setting"), 1.0);
    let problem = "receiver.tls: the changed certificate files cannot be used";
    assert_eq!(logged(&proxy, problem, 1).matches(problem).count(), 1);

    std::fs::write(&server.key, new_key).unwrap();
    eventually(|| reached(&next), |reached| *reached);
    assert!(!reached(&authority));
    assert_eq!((ok(), reloads("ok")), (1.0, 1.0));
    stays.write_all(b"{\"stayed\":\"m 1\"}").unwrap();
    stays.flush().unwrap();
    eventually(|| text_of(&proxy, "stayed"), Option::is_some);
}

#[test]
fn handshakes_end_when_the_proxy_stops() {
    let (_dir, _, server) = certificates();
    let mut proxy = Proxy::start(&format!("[receiver]\ntls = {{ {} }}\n", server.settings()));
    let _silent = TcpStream::connect(&proxy.tcp).unwrap();
    let open = "exporter_proxy_connections_open{listener=\"tcp\"}";
    eventually(|| proxy.sample(open), |open| *open == Some(1.0));
    proxy.signal("TERM");
    assert!(proxy.wait().success());
    assert!(!proxy.log().contains("cut off"), "{}", proxy.log());
}
