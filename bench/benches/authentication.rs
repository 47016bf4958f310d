//! The cost of a request with credentials whose password is remembered.
//!
//! Prints medians over several rounds as Markdown.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bench::figures::median;
use exporter_proxy::peer::Peer;
use exporter_proxy::security::config::{Entry, Who};
use exporter_proxy::security::{Access, Caller, ListenerKind, Role, Web, hash_password};
use hyper::header::HeaderValue;
use tokio::runtime::Builder;

const ROUNDS: usize = 15;
const REQUESTS: u32 = 10_000;

fn main() {
    if !bench::is_measuring() {
        return;
    }
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let hash = hash_password("secret").expect("a hash");
    let users: String = (0..100)
        .map(|user| format!("  user{user}: {hash}\n"))
        .collect();
    let file = dir.path().join("web.yml");
    fs::write(&file, format!("basic_auth_users:\n{users}")).expect("it is written");
    let token = dir.path().join("token");
    fs::write(&token, "a-token-of-a-usual-length-0123456789\n").expect("it is written");
    let entry = |who| Entry {
        roles: vec![Role::Write],
        who,
        listeners: Vec::new(),
        apps: Vec::new(),
        labels: Default::default(),
    };
    let users = (0..100).map(|user| entry(Who::User(format!("user{user}"))));
    let web = Web {
        config_file: Some(file),
        access: users.chain([entry(Who::TokenFile(token))]).collect(),
    };
    let access = Access::new(&web, &Arc::default()).expect("the files are right");
    let caller = Caller {
        listener: ListenerKind::Http,
        peer: Peer::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 1))),
        gid: None,
        identity: None,
    };
    println!("| What | Time a request |\n| --- | --- |");
    for (what, header) in [
        ("password that is remembered", "Basic dXNlcjk5OnNlY3JldA=="),
        ("token", "Bearer a-token-of-a-usual-length-0123456789"),
    ] {
        let header = HeaderValue::from_static(header);
        let rounds = (0..ROUNDS).map(|_| {
            runtime.block_on(async {
                let start = Instant::now();
                for _ in 0..REQUESTS {
                    let decided = access.authorize(Role::Write, &caller, Some(&header)).await;
                    decided.expect("the credentials are right");
                }
                start.elapsed().as_secs_f64() / f64::from(REQUESTS)
            })
        });
        println!("| {what} | {:.2} us |", median(rounds.collect()) * 1e6);
    }
}
