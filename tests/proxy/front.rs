//! The proxy behind other servers: prefixes, reverse proxies, load balancers.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use proxy_header::{ProxiedAddress, ProxyHeader};

use crate::harness::{Answer, PATIENCE, Proxy, http_request};
use crate::support::in_time;

/// The sender of an app, target or group.
fn peer(proxy: &Proxy, name: &str) -> String {
    let list = proxy.get("/apps?format=json").json();
    let mut all = list["apps"].as_array().expect("a list").iter();
    let one = all.find(|app| app["name"] == name).expect("the app");
    one["peer"].as_str().expect("a peer").to_owned()
}

#[test]
fn every_path_begins_with_the_prefix() {
    let proxy = Proxy::start("[web]\nroute_prefix = \"/proxy/\"\n");
    let pushed = proxy.push("PUT", "/proxy/metrics/job/x", "m 1\n");
    assert_eq!(pushed.status, 200);
    let status = proxy.push("GET", "/proxy/api/v1/status", "").json();
    assert_eq!(status["data"]["flags"]["web.route-prefix"], "/proxy");
    for (path, status) in [
        ("/proxy/metrics", 200),
        ("/proxy/-/ready", 200),
        ("/proxy/", 200),
        ("/proxy", 200),
        ("/proxy/other", 404),
        ("/metrics", 404),
        ("/proxymetrics", 404),
    ] {
        assert_eq!(proxy.get(path).status, status, "{path}");
    }
    let text = proxy.get("/metrics").text();
    assert!(text.contains("/proxy (web.route_prefix)"), "{text}");
    let answer = proxy.get("/");
    assert_eq!(
        (answer.status, answer.header("location")),
        (302, Some("/proxy/"))
    );
    let index = proxy.get("/proxy/").text();
    assert!(index.contains("\n/proxy/metrics  "), "{index}");
    assert!(index.contains("\n/proxy/create, /proxy/update "), "{index}");
    let metrics = proxy.get("/proxy/metrics").text();
    assert!(
        metrics.contains("m{instance=\"\",job=\"x\"} 1\n"),
        "{metrics}"
    );
    let log = proxy.log();
    assert!(
        log.contains(&format!("http://{}/proxy/metrics", proxy.http)),
        "{log}"
    );
}

#[test]
fn pages_of_the_external_url_may_push() {
    let send = |proxy: &Proxy, path: &str| {
        let headers = [("Origin", "https://metrics.example.com")];
        // The host of the target replaces the header.
        let target = format!("http://metrics.example.com{path}");
        proxy.push_with("PUT", &target, &headers, "m 1\n").status
    };
    let url = "https://metrics.example.com/a";
    let proxy = Proxy::start(&format!("[web]\nexternal_url = \"{url}\"\n"));
    assert_eq!(send(&proxy, "/a/metrics/job/x"), 200);
    let evil = [("Origin", "https://example.com")];
    let answer = proxy.push_with("PUT", "/a/metrics/job/x", &evil, "m 1\n");
    assert_eq!(answer.status, 403);
    // The reverse proxy removes the prefix, which stays in links.
    let stripped = Proxy::start(&format!(
        "[web]\nexternal_url = \"{url}\"\nroute_prefix = \"/\"\n"
    ));
    assert_eq!(send(&stripped, "/metrics/job/x"), 200);
    assert!(stripped.get("/").text().contains("\n/a/apps  "));
    assert_eq!(send(&Proxy::start(""), "/metrics/job/x"), 403);
}

#[test]
fn only_a_trusted_proxy_names_the_client() {
    let push = |proxy: &Proxy, forwarded: &str| -> Answer {
        let headers = [("X-Forwarded-For", forwarded)];
        proxy.push_with("PUT", "/metrics/job/x", &headers, "m 1\n")
    };
    let group = "{job=\"x\"}";
    let trusting = Proxy::start("[web]\ntrusted_proxies = [\"127.0.0.0/8\"]\n");
    assert_eq!(push(&trusting, "6.6.6.6, 192.0.2.7").status, 200);
    assert_eq!(peer(&trusting, group), "192.0.2.7");
    let other = Proxy::start("[web]\ntrusted_proxies = [\"10.0.0.0/8\"]\n");
    assert_eq!(push(&other, "192.0.2.7").status, 200);
    assert!(peer(&other, group).starts_with("127.0.0.1:"));
}

#[test]
fn a_load_balancer_names_the_client() {
    let proxy = Proxy::start("[receiver]\nproxy_protocol = [\"127.0.0.1\"]\n");
    let client: SocketAddr = "192.0.2.7:1234".parse().unwrap();
    let mut message = Vec::new();
    ProxyHeader::with_address(ProxiedAddress::stream(client, client))
        .encode_v2(&mut message)
        .unwrap();
    message.extend_from_slice(b"{\"a\":\"m 1\"}");
    assert_eq!(proxy.push_tcp(&message), "");
    assert_eq!(peer(&proxy, "a"), "192.0.2.7:1234");
    let answer = proxy.push_tcp(b"{\"b\":\"m 1\"}");
    assert!(answer.starts_with("error: "), "{answer}");
    assert!(answer.contains("(receiver.proxy_protocol)"), "{answer}");
    let log = proxy.log();
    assert!(log.contains("connection of 127.0.0.1:"), "{log}");
    assert!(log.contains(" rejected (malformed)"), "{log}");
    // No balancer is in front of the Unix socket.
    assert_eq!(proxy.push_unix(b"{\"c\":\"m 1\"}"), "");
    for (result, count) in [("ok", 1.0), ("malformed", 1.0)] {
        let series = format!("exporter_proxy_proxy_headers_total{{result=\"{result}\"}}");
        assert_eq!(proxy.sample(&series), Some(count));
    }
    assert_eq!(http_request(&proxy.http, "GET", "/apps/b", &[]).status, 404);
    let direct = Proxy::start("[receiver]\nproxy_protocol = [\"10.0.0.0/8\"]\n");
    assert_eq!(direct.push_tcp(b"{\"a\":\"m 1\"}"), "");
    assert!(peer(&direct, "a").starts_with("127.0.0.1:"));
}

#[test]
fn a_client_without_the_header_can_send_and_then_read_why() {
    let proxy = Proxy::start("[receiver]\nproxy_protocol = [\"127.0.0.1\"]\n");
    // The proxy reads for one second.
    let answer = in_time(Duration::from_millis(900), || {
        let mut stream = TcpStream::connect(&proxy.tcp)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"{\"b\":\"m 1\"} and more bytes")?;
        let mut answer = vec![0];
        stream.read_exact(&mut answer)?;
        // On a closed connection the second write fails.
        for _ in 0..2 {
            stream.write_all(b"{}")?;
            thread::sleep(Duration::from_millis(10));
        }
        stream.shutdown(Shutdown::Write)?;
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    });
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("(receiver.proxy_protocol)"), "{answer}");
}

#[test]
fn a_unix_socket_serves_scrapes_and_pushes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("http.sock");
    let path = path.to_str().unwrap();
    let both = format!("[\"127.0.0.1:0\", \"{path}\"]");
    let settings = [
        ("EXPORTER_SCRAPE_EXPOSE_ENDPOINT", &*both),
        ("PUSH_LISTEN", path),
    ];
    let trusting = "[web]\ntrusted_proxies = [\"unix\"]\n";
    let proxy = Proxy::start_with(trusting, &settings);
    let send = |request: &str| {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let rest = "HTTP/1.1\r\nHost: any\r\nConnection: close\r\n";
        write!(stream, "{}", request.replacen("HTTP", rest, 1)).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let pushed =
        "PUT /metrics/job/x HTTPX-Forwarded-For: 192.0.2.7\r\nContent-Length: 4\r\n\r\nm 1\n";
    let answer = send(pushed);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(peer(&proxy, "{job=\"x\"}"), "192.0.2.7");
    let answer = send("GET /metrics HTTP\r\n");
    assert!(answer.contains("job=\"x\"} 1\n"), "{answer}");
    let log = proxy.log();
    assert!(
        log.contains(&format!("/metrics on Unix socket {path}\n")),
        "{log}"
    );
}
