//! TLS with openssl, curl and a load balancer, and targets of exporter-toolkit.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::{Output, Stdio};

use proxy_header::{ProxiedAddress, ProxyHeader};
use tempfile::{TempDir, tempdir};

use crate::harness::certificates::{Authority, Pair, exchange_on, handshake};
use crate::harness::{Proxy, eventually};
use crate::tools::{Server, Tool, command, here, logged_address};

/// A directory with an authority and a certificate for the loopback.
fn certificates() -> (TempDir, Authority, Pair) {
    let dir = tempdir().expect("a temporary directory");
    let authority = Authority::new(dir.path(), "ca");
    let server = authority.issue("server");
    (dir, authority, server)
}

/// The keys that demand certificates of an authority.
fn demanding(authority: &Authority) -> String {
    let ca = authority.ca.display();
    format!(", client_auth_type = \"RequireAndVerifyClientCert\", client_ca_file = \"{ca}\"")
}

/// A proxy whose receiver has TLS, with further keys in its table.
fn receiver(server: &Pair, more: &str) -> Proxy {
    let settings = server.settings();
    Proxy::start(&format!("[receiver]\ntls = {{ {settings}{more} }}\n"))
}

/// Sends an app with `openssl s_client`, and returns its output and whether it succeeded.
///
/// It stays connected until the app is stored, since it reads no alert once its input has ended.
fn s_client(authority: &Authority, proxy: &Proxy, arguments: &[&str], app: &str) -> (bool, String) {
    let mut openssl = command(Tool::Openssl);
    openssl
        .args([
            "s_client",
            "-connect",
            &proxy.tcp,
            "-servername",
            "localhost",
        ])
        .args(["-verify_return_error", "-verify_hostname", "localhost"])
        .arg("-CAfile")
        .arg(&authority.ca)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = openssl.spawn().expect("openssl starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // openssl may have ended already.
    let _ = writeln!(stdin, "{{\"{app}\":\"m{{app=\\\"{app}\\\"}} 1\"}}");
    eventually(
        || has_app(proxy, app) || child.try_wait().expect("it is ours").is_some(),
        |done| *done,
    );
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

fn has_app(proxy: &Proxy, app: &str) -> bool {
    proxy.get(&format!("/apps/{app}")).status == 200
}

/// The settings of a receiver, the arguments of a client, and what the client prints. A client
/// that is rejected stores nothing.
const NEGOTIATIONS: &[(&str, &str, bool, &str)] = &[
    ("", "-tls1_3", true, "New, TLSv1.3, Cipher is TLS_"),
    ("", "-tls1_2", true, "New, TLSv1.2, Cipher is ECDHE-ECDSA-"),
    // openssl itself allows the old versions and suites only at level 0.
    (
        "",
        "-tls1_1 -cipher DEFAULT@SECLEVEL=0",
        false,
        "alert handshake failure",
    ),
    (
        "",
        "-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA@SECLEVEL=0",
        false,
        "alert handshake failure",
    ),
    (
        ", min_version = \"TLS13\"",
        "-tls1_2",
        false,
        "alert protocol version",
    ),
    (
        ", max_version = \"TLS12\"",
        "-tls1_3",
        false,
        "alert protocol version",
    ),
    (
        ", max_version = \"TLS12\"",
        "",
        true,
        "New, TLSv1.2, Cipher is ECDHE-ECDSA-",
    ),
    (
        ", cipher_suites = [\"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\"]",
        "-tls1_2",
        true,
        "Cipher is ECDHE-ECDSA-AES256-GCM-SHA384",
    ),
    (
        ", cipher_suites = [\"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\"]",
        "-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256",
        false,
        "alert handshake failure",
    ),
    (
        ", curve_preferences = [\"CurveP384\"]",
        "",
        true,
        "Server Temp Key: ECDH, secp384r1",
    ),
    (
        ", curve_preferences = [\"CurveP384\"]",
        "-groups X25519",
        false,
        "alert handshake failure",
    ),
];

#[test]
fn openssl_negotiates_what_the_settings_allow() {
    if !here(&[Tool::Openssl]) {
        return;
    }
    let (_dir, authority, server) = certificates();
    for &(settings, arguments, accepted, words) in NEGOTIATIONS {
        let proxy = receiver(&server, settings);
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let (ended_well, text) = s_client(&authority, &proxy, &arguments, "a");
        let case = format!("{settings} {arguments:?}: {text}");
        assert!(text.contains(words), "{case}");
        if accepted {
            assert!(
                ended_well && text.contains("Verify return code: 0 (ok)"),
                "{case}"
            );
            assert!(has_app(&proxy, "a"), "{case}");
        } else {
            assert!(!ended_well && !has_app(&proxy, "a"), "{case}");
        }
    }
}

#[test]
fn openssl_is_asked_for_a_certificate() {
    if !here(&[Tool::Openssl]) {
        return;
    }
    let (dir, authority, server) = certificates();
    let proxy = receiver(&server, &demanding(&authority));
    let other = Authority::new(dir.path(), "other");
    let (own, foreign) = (authority.issue("own"), other.issue("foreign"));
    let arguments = |pair: &Pair, version: &str| {
        let (cert, key) = (pair.cert.display(), pair.key.display());
        format!("-cert {cert} -key {key} {version}")
    };
    for version in ["-tls1_2", "-tls1_3"] {
        // The proxy names the authority, so that clients with many certificates can choose.
        let send = |arguments: &str, app: &str| {
            let arguments: Vec<&str> = arguments.split_whitespace().collect();
            let (_, text) = s_client(&authority, &proxy, &arguments, app);
            assert!(
                text.contains("Acceptable client certificate CA names\nCN = ca\n"),
                "{text}"
            );
            text
        };
        send(&arguments(&own, version), version);
        assert!(has_app(&proxy, version));
        let text = send(version, "none");
        assert!(
            text.contains("alert certificate required") || text.contains("alert handshake failure"),
            "{text}"
        );
        let text = send(&arguments(&foreign, version), "foreign");
        assert!(text.contains("alert unknown ca"), "{text}");
    }
    assert!(!has_app(&proxy, "none") && !has_app(&proxy, "foreign"));
    for result in ["no_certificate", "bad_certificate"] {
        let labels = format!("listener=\"tcp\",result=\"{result}\"");
        let series = format!("exporter_proxy_tls_handshakes_total{{{labels}}}");
        // A handshake is counted just after the alert is sent.
        eventually(
            || (result, proxy.sample(&series)),
            |(_, count)| *count == Some(2.0),
        );
    }
}

/// curl's result for a URL.
fn curl(arguments: &[&str]) -> Output {
    let mut curl = command(Tool::Curl);
    curl.args([
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{http_version} %{http_code}",
    ]);
    curl.args(arguments).output().expect("curl runs")
}

#[test]
fn curl_pushes_and_scrapes_with_a_client_certificate() {
    if !here(&[Tool::Curl]) {
        return;
    }
    let (dir, authority, server) = certificates();
    let table = format!(
        "{{ address = \"127.0.0.1:0\", tls = {{ {}{} }} }}",
        server.settings(),
        demanding(&authority)
    );
    let settings = [
        ("EXPORTER_SCRAPE_EXPOSE_ENDPOINT", &*table),
        ("PUSH_LISTEN", &table),
    ];
    let proxy = Proxy::start_with("", &settings);
    let path = |file: &std::path::Path| file.display().to_string();
    let own = authority.issue("own");
    let other = Authority::new(dir.path(), "other");
    let (ca, other_ca, cert, key) = (
        path(&authority.ca),
        path(&other.ca),
        path(&own.cert),
        path(&own.key),
    );
    let trusting = ["--cacert", &*ca];
    let with_own = [&trusting[..], &["--cert", &cert, "--key", &key]].concat();
    let scrape = format!("https://{}/metrics", proxy.http);
    let push = format!("https://{}/metrics/job/backup", proxy.push);
    for (version, shown) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for request in [&["--data-binary", "m 1\n", &*push][..], &[&*scrape]] {
            let output = curl(&[&with_own, &[version][..], request].concat());
            let expected = format!("{shown} 200");
            assert_eq!(
                String::from_utf8_lossy(&output.stdout),
                expected,
                "{output:?}"
            );
        }
        // The alert comes after curl has finished the handshake of TLS 1.3, so its exit code varies.
        let none = curl(&[&trusting[..], &[version, &scrape]].concat());
        assert!(!none.status.success(), "{none:?}");
        let status = String::from_utf8_lossy(&none.stdout).into_owned();
        assert!(status.ends_with(" 000"), "{none:?}");
        // 60: the client does not trust the certificate of the proxy.
        let distrusting = curl(&[
            "--cacert", &other_ca, "--cert", &cert, "--key", &key, version, &scrape,
        ]);
        assert_eq!(distrusting.status.code(), Some(60), "{distrusting:?}");
    }
}

#[test]
fn a_load_balancer_names_the_client_before_the_handshake() {
    let (_dir, authority, server) = certificates();
    let own = authority.issue("own");
    let proxy = receiver(
        &server,
        &format!(
            "{} }}\nproxy_protocol = [\"127.0.0.1\"]\n# {{",
            demanding(&authority)
        ),
    );
    let client: SocketAddr = "[2001:db8::7]:1234".parse().expect("an address");
    let mut header = Vec::new();
    ProxyHeader::with_address(ProxiedAddress::stream(client, client))
        .encode_v2(&mut header)
        .expect("a header");
    let mut stream = TcpStream::connect(&proxy.tcp).expect("the receiver accepts");
    stream.write_all(&header).expect("the header is sent");
    let stream = handshake(&authority.client(Some(&own)), stream).expect("a handshake");
    let answer = exchange_on(stream, b"{\"a\":\"m 1\"}").expect("an answer");
    assert_eq!(answer, "");
    let detail = proxy.get("/apps/a").json();
    assert_eq!(detail["peer"], client.to_string(), "{detail}");
    // A handshake is not a header.
    let stream = TcpStream::connect(&proxy.tcp).expect("the receiver accepts");
    assert!(handshake(&authority.client(Some(&own)), stream).is_err());
}

/// node_exporter with TLS that demands a certificate for clients, and a password.
fn secured_exporter(dir: &TempDir, authority: &Authority) -> Server {
    authority.issue_for("node", &["node.internal"], |_| {});
    let hash = bcrypt::hash_with_salt("secret", 4, [7; 16]).expect("a hash");
    let file = dir.path().join("web.yml");
    let text = format!(
        "tls_server_config:\n  cert_file: node.crt\n  key_file: node.key\n  client_ca_file: ca.crt\n  \
         client_auth_type: RequireAndVerifyClientCert\nbasic_auth_users:\n  proxy: {hash}\n"
    );
    fs::write(&file, text).expect("it is written");
    Server::start(
        command(Tool::NodeExporter)
            .arg("--web.listen-address=127.0.0.1:0")
            .arg(format!("--web.config.file={}", file.display())),
        logged_address,
    )
}

#[test]
fn an_exporter_of_exporter_toolkit_gets_a_certificate_and_a_password() {
    if !here(&[Tool::NodeExporter]) {
        return;
    }
    let (dir, authority, _) = certificates();
    let exporter = secured_exporter(&dir, &authority);
    let own = authority.issue("own").settings();
    let password = dir.path().join("password");
    fs::write(&password, "secret\n").expect("it is written");
    let target = |name: &str, tls: &str, auth: &str| {
        let (url, ca) = (&exporter.address, authority.ca.display());
        format!(
            "[[poll_external.targets]]\nname = \"{name}\"\nurl = \"https://{url}/metrics\"\ninterval = \"500ms\"\n\
             timeout = \"20s\"\ntls = {{ ca_file = \"{ca}\", server_name = \"node.internal\"{tls} }}\n{auth}\n"
        )
    };
    let own = format!(", {own}");
    let auth = format!(
        "basic_auth = {{ username = \"proxy\", password_file = \"{}\" }}",
        password.display()
    );
    let proxy = Proxy::start(
        &[
            target("right", &own, &auth),
            target("no-password", &own, ""),
            target("no-certificate", "", &auth),
            target("other-name", &own, &auth).replace("node.internal", "db.internal"),
        ]
        .concat(),
    );
    let success =
        |name: &str| proxy.sample(&format!("exporter_proxy_poll_success{{target=\"{name}\"}}"));
    eventually(|| success("right"), |value| *value == Some(1.0));
    assert!(proxy.metrics().contains("\nnode_exporter_build_info{"));
    for (name, words) in [
        ("no-password", "401"),
        ("no-certificate", "received fatal alert"),
        ("other-name", "not valid for name"),
    ] {
        let problem =
            || proxy.get(&format!("/apps/{name}")).json()["last_problem"]["reason"].to_string();
        eventually(problem, |problem| problem.contains(words));
        // It is set just after the problem.
        eventually(|| success(name), |value| *value == Some(0.0));
    }
    // A new password needs no restart.
    fs::write(&password, "wrong\n").expect("it is written");
    eventually(|| success("right"), |value| *value == Some(0.0));
    fs::write(&password, "secret\n").expect("it is written");
    eventually(|| success("right"), |value| *value == Some(1.0));
}
