//! Clients with basic authentication: curl, Pushgateway's Python client, and pushes as
//! prom-aggregation-gateway accepts them.

use std::fs;

use tempfile::TempDir;

use crate::harness::Proxy;
use crate::tools::{Tool, command, here, root};

/// A proxy with the user `alice`, whose password is `secret`.
fn proxy(config: &str) -> (TempDir, Proxy) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let hash = bcrypt::hash_with_salt("secret", 4, [7; 16]).expect("a hash");
    let file = dir.path().join("web.yml");
    fs::write(&file, format!("basic_auth_users:\n  alice: {hash}\n")).expect("it is written");
    let file = file.display().to_string();
    let web = format!("{config}[web]\nconfig_file = {file:?}\n");
    (dir, Proxy::start(&web))
}

/// The status that curl gets.
fn curl(arguments: &[&str]) -> String {
    let mut curl = command(Tool::Curl);
    curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]);
    let output = curl.args(arguments).output().expect("curl runs");
    String::from_utf8(output.stdout).expect("a status")
}

#[test]
fn curl_pushes_and_scrapes_with_a_password() {
    if !here(&[Tool::Curl]) {
        return;
    }
    let (_dir, proxy) = proxy("");
    let url = format!("http://{}/metrics/job/backup", proxy.push);
    let push = |user: &[&str]| curl(&[user, &["--data-binary", "m 1\n", &url]].concat());
    assert_eq!(push(&[]), "401");
    assert_eq!(push(&["-u", "alice:wrong"]), "401");
    assert_eq!(push(&["-u", "alice:secret"]), "200");
    // The credentials can be part of the address.
    let with_user = format!("http://alice:secret@{}/metrics", proxy.http);
    assert_eq!(curl(&[&with_user]), "200");
    assert_eq!(curl(&[&format!("http://{}/metrics", proxy.http)]), "401");
}

#[test]
fn curl_pushes_as_to_prom_aggregation_gateway() {
    if !here(&[Tool::Curl]) {
        return;
    }
    let (_dir, proxy) = proxy("[push]\nmode = \"aggregate\"\n");
    for path in ["metrics", "metrics/", "metrics/job/pages"] {
        let url = format!("http://{}/{path}", proxy.push);
        let body = ["--data-binary", "hits_total 1\n", &url];
        assert_eq!(curl(&body), "401", "{path}");
        let user = ["-u", "alice:secret"];
        assert_eq!(curl(&[&user[..], &body[..]].concat()), "202", "{path}");
    }
}

#[test]
fn python_pushes_with_a_handler_for_basic_authentication() {
    if !here(&[Tool::PrometheusClient, Tool::Curl]) {
        return;
    }
    let (_dir, proxy) = proxy("");
    let push = |verb: &str, password: &str| {
        let mut job = command(Tool::PrometheusClient);
        job.arg(root().join("tests/clients/python/push.py"))
            .args([&*proxy.push, verb, "batch", "plain", "backup", "site=a/b"])
            .env("GATEWAY_USER", "alice")
            .env("GATEWAY_PASSWORD", password);
        job.output().expect("the job starts")
    };
    let rejected = push("push", "wrong");
    let problem = String::from_utf8_lossy(&rejected.stderr);
    assert!(
        !rejected.status.success() && problem.contains("401"),
        "{problem}"
    );
    for verb in ["push", "add", "delete"] {
        let pushed = push(verb, "secret");
        let problem = String::from_utf8_lossy(&pushed.stderr);
        assert!(pushed.status.success(), "{verb}: {problem}");
    }
}
