//! Targets that demand a client certificate, and secrets in files.

use std::fs;

use tempfile::tempdir;

use crate::harness::certificates::{Authority, Pair};
use crate::harness::{Proxy, eventually};
use crate::support::{detail, text_of};
use crate::upstream::{Upstream, ok};

/// A proxy that polls one target named `t`.
fn polling(lines: &str) -> Proxy {
    Proxy::start(&format!(
        "[poll_external]\npoll_interval = \"50ms\"\n\
         [[poll_external.targets]]\nname = \"t\"\n{lines}\n"
    ))
}

/// A target with a certificate for `names`, which demands a client certificate.
fn target(authority: &Authority, names: &[&str]) -> (Proxy, String) {
    let server = authority.issue_for("server", names, |_| {});
    let listen = format!(
        "[\"127.0.0.1:0\", {{ address = \"127.0.0.1:0\", tls = {{ {}, client_ca_file = \"{}\", \
         client_auth_type = \"RequireAndVerifyClientCert\" }} }}]",
        server.settings(),
        authority.ca.display()
    );
    let settings = [("EXPORTER_SCRAPE_EXPOSE_ENDPOINT", &*listen)];
    let proxy = Proxy::start_with("[exporter]\nown_metrics = false\n", &settings);
    proxy.push_tcp(b"{\"app\":\"m 1\"}");
    let log = proxy.log();
    let (_, rest) = log.split_once("serving https://").unwrap();
    let (address, _) = rest.split_once('/').unwrap();
    let address = address.to_owned();
    (proxy, address)
}

fn lines(address: &str, authority: &Authority, own: Option<&Pair>, more: &str) -> String {
    let ca = authority.ca.display();
    let own = own.map_or(String::new(), |own| own.settings() + ", ");
    format!("url = \"https://{address}/metrics\"\ntls = {{ {own}ca_file = \"{ca}\"{more} }}")
}

/// Waits for a failed poll whose reason contains `words`.
#[track_caller]
fn fails(proxy: &Proxy, words: &str) {
    eventually(
        || detail(proxy, "t").unwrap()["last_problem"]["reason"].to_string(),
        |reason| reason.contains(words),
    );
}

#[test]
fn a_target_gets_the_certificate_of_the_proxy() {
    let dir = tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let (_target, address) = target(&authority, &["127.0.0.1"]);
    let own = authority.issue("client");
    let proxy = polling(&lines(&address, &authority, Some(&own), ""));
    eventually(
        || text_of(&proxy, "t"),
        |text| text.as_deref() == Some("m 1\n"),
    );
    let proxy = polling(&lines(&address, &authority, None, ""));
    fails(&proxy, "CertificateRequired");
}

#[test]
fn the_certificate_of_a_target_can_have_another_name_than_its_url() {
    let dir = tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let (_target, address) = target(&authority, &["db.internal"]);
    let own = authority.issue("client");
    let named = |name: &str| format!(", server_name = \"{name}\"");
    let proxy = polling(&lines(
        &address,
        &authority,
        Some(&own),
        &named("db.internal"),
    ));
    eventually(
        || text_of(&proxy, "t"),
        |text| text.as_deref() == Some("m 1\n"),
    );
    for more in [named("other.internal"), String::new()] {
        let proxy = polling(&lines(&address, &authority, Some(&own), &more));
        fails(&proxy, "not valid for name");
    }
    let any = ", insecure_skip_verify = true";
    let proxy = polling(&lines(&address, &authority, Some(&own), any));
    eventually(
        || text_of(&proxy, "t"),
        |text| text.as_deref() == Some("m 1\n"),
    );
}

#[test]
fn passwords_and_headers_in_files_are_read_for_every_poll() {
    let upstream = Upstream::start(|request| {
        let header = |name| request.header(name).unwrap_or("none").to_owned();
        let (auth, key) = (header("authorization"), header("x-api-key"));
        ok(&format!("asked{{auth=\"{auth}\",key=\"{key}\"}} 1\n"))
    });
    let dir = tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("password"), "one\n").unwrap();
    fs::write(path("key"), "k1\n").unwrap();
    let proxy = polling(&format!(
        "url = \"http://{}/\"\nheader_files = {{ X-Api-Key = \"{}\" }}\n\
         basic_auth = {{ username = \"me\", password_file = \"{}\" }}",
        upstream.address,
        path("key"),
        path("password")
    ));
    let asked = |auth: &str, key: &str| {
        let text = format!("asked{{auth=\"Basic {auth}\",key=\"{key}\"}} 1\n");
        eventually(
            || text_of(&proxy, "t"),
            |found| found.as_deref() == Some(&*text),
        );
    };
    asked("bWU6b25l", "k1");
    fs::write(path("password"), "two").unwrap();
    fs::write(path("key"), "k2").unwrap();
    asked("bWU6dHdv", "k2");
    fs::remove_file(path("password")).unwrap();
    fails(&proxy, "basic_auth.password_file");
}
