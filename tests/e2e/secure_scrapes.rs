//! Prometheus scraping over HTTPS with every kind of credentials, and with wrong ones.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::certificates::{Authority, Pair};
use crate::harness::{Proxy, eventually, http_request};
use crate::readers::{expect_query, prometheus};
use crate::tools::{Server, Tool, here};

/// A proxy below `/proxy` that serves only HTTPS, to `alice`, to the bearer of a token, and to the
/// client `scraper.example`.
struct Secured {
    proxy: Proxy,
    authority: Authority,
    dir: TempDir,
}

impl Secured {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority::new(dir.path(), "ca");
        authority.issue("server");
        let hash = bcrypt::hash_with_salt("secret", 4, [7; 16]).expect("a hash");
        let write = |name: &str, text: &str| {
            let file = dir.path().join(name);
            fs::write(&file, text).expect("it is written");
            file.display().to_string()
        };
        let web = write(
            "web.yml",
            &format!(
                "basic_auth_users:\n  alice: {hash}\ntls_server_config:\n  cert_file: server.crt\n  \
                 key_file: server.key\n  client_ca_file: ca.crt\n  client_auth_type: VerifyClientCertIfGiven\n"
            ),
        );
        let token = write("token", "t0ken\n");
        let proxy = Proxy::start(&format!(
            "[web]\nconfig_file = \"{web}\"\nroute_prefix = \"/proxy\"\n\
             [[web.access]]\nrole = \"read\"\nuser = \"alice\"\n\
             [[web.access]]\nrole = \"read\"\ntoken_file = \"{token}\"\n\
             [[web.access]]\nrole = \"read\"\nclient_name = \"scraper.example\"\n"
        ));
        assert_eq!(proxy.push_tcp(b"{\"app\":\"m 7\"}"), "");
        Secured {
            proxy,
            authority,
            dir,
        }
    }

    /// A scrape configuration with a `tls_config` and further lines.
    fn job(&self, name: &str, tls: &str, more: &str) -> String {
        let (ca, address) = (self.authority.ca.display(), &self.proxy.http);
        let lines: String = more.lines().map(|line| format!("  {line}\n")).collect();
        format!(
            "- job_name: {name}\n  scheme: https\n  static_configs:\n  - targets: [\"{address}\"]\n  \
             tls_config: {{ ca_file: {ca}, server_name: localhost{tls} }}\n{lines}"
        )
    }
}

const PATH: &str = "metrics_path: /proxy/metrics\n";
const BASIC: &str = "basic_auth: { username: alice, password: secret }\n";

fn client_certificate(pair: &Pair) -> String {
    let (cert, key) = (pair.cert.display(), pair.key.display());
    format!(", cert_file: {cert}, key_file: {key}")
}

/// Waits until the last scrape of a job has this outcome. A scrape may take too long on a busy
/// machine, so an earlier one may have had another.
#[track_caller]
fn expect_outcome(prometheus: &Server, job: &str, health: &str, error: &str) {
    let look = || {
        let answer = http_request(&prometheus.address, "GET", "/api/v1/targets", &[]);
        if answer.status != 200 {
            return None; // It is not ready.
        }
        let targets = answer.json()["data"]["activeTargets"].take();
        let of_job = |target: &&Value| target["labels"]["job"] == job;
        let target = targets.as_array()?.iter().find(of_job)?;
        let text = |key: &str| target[key].as_str().unwrap_or_default().to_owned();
        Some((text("health"), text("lastError")))
    };
    eventually(
        || (job, look()),
        |(_, seen)| {
            seen.as_ref().is_some_and(|(now, last_error)| {
                now == health
                    && last_error.contains(error)
                    && last_error.is_empty() == error.is_empty()
            })
        },
    );
}

#[test]
fn prometheus_scrapes_with_each_kind_of_credentials_over_both_versions_of_http() {
    if !here(&[Tool::Prometheus]) {
        return;
    }
    let secured = Secured::start();
    let own = secured
        .authority
        .issue_for("scraper", &["scraper.example"], |_| {});
    let own = client_certificate(&own);
    let token = "authorization: { credentials: t0ken }\n";
    let token_file = format!(
        "bearer_token_file: {}\n",
        secured.dir.path().join("token").display()
    );
    let kinds = [
        ("basic", "", BASIC),
        ("bearer", "", token),
        ("bearer-file", "", &token_file),
        ("certificate", &*own, ""),
    ];
    let (mut jobs, mut names) = (String::new(), Vec::new());
    for (name, tls, credentials) in kinds {
        for http2 in [true, false] {
            let more = format!("{PATH}{credentials}enable_http2: {http2}\n");
            let name = format!("{name}-{http2}");
            jobs += &secured.job(&name, tls, &more);
            names.push(name);
        }
    }
    let prometheus = prometheus(&jobs, &[]);
    for name in names {
        expect_outcome(&prometheus, &name, "up", "");
        expect_query(&prometheus, &format!("m{{job=\"{name}\"}}"), "7");
        expect_query(&prometheus, &format!("up{{job=\"{name}\"}}"), "1");
    }
}

#[test]
fn prometheus_names_what_is_wrong_with_its_credentials() {
    if !here(&[Tool::Prometheus]) {
        return;
    }
    let secured = Secured::start();
    let authority = &secured.authority;
    let other = Authority::new(secured.dir.path(), "other");
    let stranger = authority.issue_for("stranger", &["stranger.example"], |_| {});
    let foreign = other.issue_for("foreign", &["scraper.example"], |_| {});
    // These two are throttled after some failures, so they are asked seldom, and looked at first.
    let seldom = format!("{PATH}scrape_interval: 3s\n");
    let wrong_password = format!("{seldom}basic_auth: {{ username: alice, password: wrong }}\n");
    let wrong_token = format!("{seldom}authorization: {{ credentials: wrong }}\n");
    let unauthorized = "HTTP status 401 Unauthorized";
    let cases = [
        ("password", "", &*wrong_password, unauthorized),
        ("token", "", &wrong_token, unauthorized),
        ("none", "", PATH, unauthorized),
        ("name", &client_certificate(&stranger), PATH, unauthorized),
        (
            "foreign",
            &client_certificate(&foreign),
            PATH,
            "remote error: tls: unknown certificate authority",
        ),
        ("prefix", "", BASIC, "HTTP status 404 Not Found"),
        (
            "plain",
            "",
            &format!("{PATH}{BASIC}scheme: http\n"),
            "HTTP status 400 Bad Request",
        ),
        (
            "server",
            ", server_name: elsewhere",
            PATH,
            "certificate is valid for localhost, not elsewhere",
        ),
    ];
    let mut jobs = String::new();
    for (name, tls, more, _) in &cases {
        let job = secured.job(name, tls, more);
        jobs += &match *name {
            "plain" => job.replacen("  scheme: https\n", "", 1),
            "server" => job.replacen("server_name: localhost, ", "", 1),
            _ => job,
        };
    }
    let prometheus = prometheus(&jobs, &[]);
    for (name, _, _, error) in cases {
        expect_outcome(&prometheus, name, "down", error);
        expect_query(&prometheus, &format!("up{{job=\"{name}\"}}"), "0");
    }
}
