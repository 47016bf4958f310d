//! `exporter-proxy healthcheck`, which asks the running program at the configured address.

use std::fs;
use std::net::TcpListener;

use tempfile::tempdir;

use crate::harness::certificates::Authority;
use crate::harness::{Proxy, eventually, program};

/// How the command ended: exit code, and what it printed. Without a `--timeout`, it waits for as
/// long as a busy machine may take.
fn check(config: &str, arguments: &[&str]) -> (i32, String) {
    let timeout = match arguments.contains(&"--timeout") {
        true => &[][..],
        false => &["--timeout", "30s"],
    };
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("c.toml"), config).unwrap();
    let output = program()
        .current_dir(dir.path())
        .args(["--config", "c.toml", "healthcheck"])
        .args(arguments)
        .args(timeout)
        .output()
        .unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(printed).unwrap(),
    )
}

/// The settings of a listener for scrapes.
fn scrapes(listen: &str) -> String {
    format!("[exporter]\nscrape_expose_endpoint = {listen}\n")
}

#[test]
fn it_asks_the_listener_of_the_configuration_and_tells_by_its_exit_code() {
    let mut proxy =
        Proxy::start("[operations]\nshutdown_delay = \"1m\"\n[web]\nroute_prefix = \"/proxy\"\n");
    let config = format!(
        "{}[web]\nroute_prefix = \"/proxy\"\n",
        scrapes(&format!("\"{}\"", proxy.http))
    );
    assert_eq!(check(&config, &[]), (0, "OK\n".to_owned()));
    assert_eq!(check(&config, &["--ready"]), (0, "OK\n".to_owned()));
    let other = scrapes(&format!("\"{}\"", proxy.http));
    let (code, printed) = check(&other, &[]);
    assert_eq!(code, 1);
    let place = format!(
        "{} (exporter.scrape_expose_endpoint) answers 404: ",
        proxy.http
    );
    assert!(printed.starts_with(&place), "{printed}");

    // It is still served, and not ready.
    proxy.signal("TERM");
    let printed = eventually(|| check(&config, &["--ready"]), |(code, _)| *code == 1).1;
    assert!(
        printed.ends_with(" answers 503: shutting down\n"),
        "{printed}"
    );
    assert_eq!(check(&config, &[]), (0, "OK\n".to_owned()));
    proxy.signal("TERM");
    proxy.wait();
    let (code, printed) = check(&config, &[]);
    assert_eq!(code, 1);
    assert!(printed.contains("Connection refused"), "{printed}");
}

#[test]
fn it_asks_over_a_unix_socket_and_over_tls() {
    let dir = tempdir().unwrap();
    let socket = dir.path().join("health.sock").display().to_string();
    let lifecycle = format!("[lifecycle]\nlisten = \"unix:{socket}\"\n");
    let proxy = Proxy::start(&lifecycle);
    assert_eq!(check(&lifecycle, &["--ready"]), (0, "OK\n".to_owned()));
    drop(proxy);

    let authority = Authority::new(dir.path(), "ca");
    let server = authority.issue_for("server", &["metrics.example.com"], |_| {});
    let listen = |address: &str, more: &str| {
        let tls = format!("{}{more}", server.settings());
        scrapes(&format!("{{ address = \"{address}\", tls = {{ {tls} }} }}"))
    };
    let unset = |command: &mut std::process::Command| {
        command.env_remove("EXPORTER_PROXY_EXPORTER_SCRAPE_EXPOSE_ENDPOINT");
    };
    let proxy = Proxy::launch(&listen("127.0.0.1:0", ""), &[], |command| {
        unset(command);
        command
    });
    assert_eq!(check(&listen(&proxy.http, ""), &[]), (0, "OK\n".to_owned()));
    // The port does not speak plain HTTP.
    let (code, printed) = check(&scrapes(&format!("\"{}\"", proxy.http)), &[]);
    assert_eq!(code, 1, "{printed}");

    let ca = authority.ca.display();
    let strict =
        format!(", client_ca_file = \"{ca}\", client_auth_type = \"RequireAndVerifyClientCert\"");
    let (code, printed) = check(&listen(&proxy.http, &strict), &[]);
    assert_eq!(code, 1);
    assert!(
        printed.starts_with("every listener requires a client certificate (client_auth_type): "),
        "{printed}"
    );
}

#[test]
fn a_proxy_that_asks_for_credentials_is_healthy_and_not_known_to_be_ready() {
    let dir = tempdir().unwrap();
    let token = dir.path().join("token");
    fs::write(&token, "0123456789abcdef0123456789abcdef\n").unwrap();
    let access = format!(
        "[[web.access]]\nrole = \"read\"\ntoken_file = \"{}\"\n",
        token.display()
    );
    let proxy = Proxy::start(&access);
    let config = format!("{}{access}", scrapes(&format!("\"{}\"", proxy.http)));
    let (code, printed) = check(&config, &[]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.starts_with("401: "), "{printed}");
    let (code, printed) = check(&config, &["--ready"]);
    assert_eq!(code, 1);
    assert!(printed.contains(" answers 401: "), "{printed}");
}

#[test]
fn it_waits_no_longer_than_it_may() {
    // The connection waits to be accepted.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = scrapes(&format!("\"{address}\""));
    let (code, printed) = check(&config, &["--timeout", "200ms"]);
    assert_eq!(code, 1);
    assert_eq!(
        printed,
        format!(
            "{address} (exporter.scrape_expose_endpoint): no answer within 200ms (--timeout)\n"
        )
    );
    assert_eq!(check("[exporter]\nworkers = 1\n", &[]).0, 78);
    assert_eq!(check(&config, &["--timeout", "0s"]).0, 2);
}
