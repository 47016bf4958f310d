//! Roles: who may do what, over HTTP and on the sockets.

mod bounds;
mod credentials;
mod routes;
mod sockets;

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use crate::harness::{Answer, Proxy, http_send};

/// The bcrypt hash of a password, at the lowest cost.
fn hash(password: &str) -> String {
    let hash = bcrypt::hash_with_salt(password, 4, [7; 16]).unwrap();
    hash.to_string()
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// A directory with a web configuration, in which each user has its name as the password,
/// and a token in the file of each name.
fn files(users: &[&str], tokens: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let users = users
        .iter()
        .map(|user| format!("  {user}: {}\n", hash(user)));
    let text = format!("basic_auth_users:\n{}", users.collect::<String>());
    fs::write(dir.path().join("web.yml"), text).unwrap();
    for token in tokens {
        fs::write(dir.path().join(token), format!("{token}\n")).unwrap();
    }
    dir
}

/// A proxy whose configuration names files of `dir` as `DIR/...`.
fn start(dir: &TempDir, config: &str) -> Proxy {
    Proxy::start(&config.replace("DIR", &dir.path().display().to_string()))
}

const ENTRIES: &str = "[push]\nenable_admin_api = true\nenable_lifecycle = true\n\
     [web]\nconfig_file = \"DIR/web.yml\"\n\
     [[web.access]]\nrole = \"read\"\nuser = \"reader\"\n\
     [[web.access]]\nrole = \"write\"\nuser = \"writer\"\n\
     [[web.access]]\nrole = [\"read\", \"write\"]\nuser = \"both\"\n\
     [[web.access]]\nrole = \"admin\"\nuser = \"admin\"\n\
     [[web.access]]\nrole = \"write\"\ntoken_file = \"DIR/bound\"\napps = [\"shop-*\"]\n\
     labels = { job = \"backup\" }\n\
     [[web.access]]\nrole = \"read\"\ntoken_file = \"DIR/scraper\"\n";

fn with_entries() -> (TempDir, Proxy) {
    let dir = files(
        &["reader", "writer", "both", "admin", "none"],
        &["bound", "scraper"],
    );
    let proxy = start(&dir, ENTRIES);
    (dir, proxy)
}

fn ask(address: &str, method: &str, path: &str, authorization: &str) -> Answer {
    ask_with(address, method, path, authorization, "m 1\n")
}

fn ask_with(address: &str, method: &str, path: &str, authorization: &str, body: &str) -> Answer {
    let header = [("Authorization", authorization)];
    let headers = if authorization.is_empty() {
        &header[..0]
    } else {
        &header[..]
    };
    http_send(address, method, path, headers, body.as_bytes())
}

fn metric(proxy: &Proxy, authorization: &str, series: &str) -> f64 {
    let metrics = ask(&proxy.http, "GET", "/metrics", authorization).text();
    let mut lines = metrics.lines();
    lines
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
        .unwrap_or(0.0)
}
