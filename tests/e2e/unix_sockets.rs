//! HTTP over Unix sockets, and sockets that a service manager passes.

use std::fs;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;

use tempfile::tempdir;

use crate::harness::{Proxy, eventually, program};
use crate::tools::{Server, Tool, command, here, run};

/// curl's output over a Unix socket.
fn curl(socket: &Path, arguments: &[&str]) -> String {
    let mut curl = command(Tool::Curl);
    curl.args([
        "-sS",
        "--fail-with-body",
        "--retry",
        "5",
        "--retry-connrefused",
        "--unix-socket",
    ]);
    run(curl.arg(socket).args(arguments)).stdout
}

#[test]
fn curl_pushes_and_scrapes_over_a_unix_socket() {
    if !here(&[Tool::Curl]) {
        return;
    }
    let dir = tempdir().expect("a temporary directory");
    let socket = dir.path().join("http.sock");
    let path = socket.to_str().expect("a path");
    let settings = [
        (
            "EXPORTER_SCRAPE_EXPOSE_ENDPOINT",
            &*format!("[\"127.0.0.1:0\", \"{path}\"]"),
        ),
        ("PUSH_LISTEN", path),
    ];
    let proxy = Proxy::start_with("", &settings);
    let group = "http://localhost/metrics/job/backup";
    assert_eq!(curl(&socket, &["--data-binary", "m 1\n", group]), "");
    let scraped = curl(&socket, &["http://localhost/metrics"]);
    assert!(
        scraped.contains("\nm{instance=\"\",job=\"backup\"} 1\n"),
        "{scraped}"
    );
    // The port beside it has the same output.
    assert!(
        proxy
            .metrics()
            .contains("\nm{instance=\"\",job=\"backup\"} 1\n")
    );
}

/// The program behind `systemd-socket-activate`, which starts it at the first connection.
fn activated(dir: &Path, flags: &[&str], sockets: &[&Path], config: &str) -> Server {
    let file = dir.join("config.toml");
    fs::write(&file, config).expect("the settings are written");
    let program = program();
    let mut activate: Command = command(Tool::SocketActivate);
    for socket in sockets {
        activate.arg("--listen").arg(socket);
    }
    activate
        .args(flags)
        .arg(program.get_program())
        .arg("--config")
        .arg(file);
    Server::start(&mut activate, |log| {
        let all = sockets
            .iter()
            .all(|socket| log.contains(&format!("Listening on {}", socket.display())));
        all.then(String::new)
    })
}

/// Settings without a port; the caller appends paths.
const NO_PORTS: &str = "[receiver]\nreceive_on_tcp_socket = false\n";

#[test]
fn a_client_that_comes_first_starts_the_proxy_by_its_sockets() {
    if !here(&[Tool::SocketActivate, Tool::Curl]) {
        return;
    }
    let dir = tempdir().expect("a temporary directory");
    let [http, receiver, operations] =
        ["http", "receiver", "operations"].map(|name| dir.path().join(format!("{name}.sock")));
    let config = format!(
        "{NO_PORTS}receiver_unix_socket = \"{1}\"\n[exporter]\nscrape_expose_endpoint = \"{0}\"\n\
         [push]\nlisten = \"{0}\"\n[operations]\nunix_sockets = [\"{2}\"]\n",
        http.display(),
        receiver.display(),
        operations.display()
    );
    let server = activated(dir.path(), &[], &[&http, &receiver, &operations], &config);
    // Clients connect before the program runs, and are served by it.
    for (socket, bytes) in [
        (&receiver, &b"{\"a\":\"m 1\"}"[..]),
        (&operations, b"hits:2|c\n"),
    ] {
        let mut stream = UnixStream::connect(socket).expect("the manager listens");
        std::io::Write::write_all(&mut stream, bytes).expect("it is sent");
    }
    let metrics = eventually(
        || curl(&http, &["http://localhost/metrics"]),
        |metrics| metrics.contains("\nm 1\n") && metrics.contains("\nhits 2\n"),
    );
    assert!(metrics.contains("exporter_proxy_build_info{"), "{metrics}");
    assert!(!server.log().contains("no setting"), "{}", server.log());
}

#[test]
fn a_datagram_that_comes_first_starts_the_proxy() {
    if !here(&[Tool::SocketActivate, Tool::Curl]) {
        return;
    }
    let dir = tempdir().expect("a temporary directory");
    let [http, statsd] = ["http", "statsd"].map(|name| dir.path().join(format!("{name}.sock")));
    let config = format!(
        "{NO_PORTS}receive_on_unix_socket = false\n[exporter]\nscrape_expose_endpoint = \"{0}\"\n\
         [push]\nlisten = \"\"\n[operations]\nunix_datagram_sockets = [\"{1}\"]\n",
        http.display(),
        statsd.display()
    );
    let server = activated(dir.path(), &["--datagram"], &[&statsd], &config);
    let sender = UnixDatagram::unbound().expect("a socket");
    sender
        .send_to(b"hits:2|c\n", &statsd)
        .expect("the manager listens");
    eventually(|| http.exists(), |bound| *bound);
    eventually(
        || curl(&http, &["http://localhost/metrics"]),
        |metrics| metrics.contains("\nhits 2\n"),
    );
    assert!(!server.log().contains("no setting"), "{}", server.log());
}
