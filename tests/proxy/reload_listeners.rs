//! Reloads that open, change and close listeners, and the effects on their connections.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::harness::certificates::{Authority, connect};
use crate::harness::{PATIENCE, Proxy, eventually, free_address, http_request, http_send};
use crate::reload::{reload, try_reload, write_config};
use crate::support::{Sender, logged, read_answer, text_of};

/// A proxy that takes these addresses from its file.
fn with_own(config: &str, settings: &[&str]) -> Proxy {
    Proxy::launch(config, &[], |command| {
        for name in settings {
            command.env_remove(format!("EXPORTER_PROXY_{name}"));
        }
        command
    })
}

#[test]
fn values_connections_and_long_scrapes_survive() {
    let proxy = Proxy::start("");
    let line = format!("m{{l=\"{}\"}} 1\n", "x".repeat(1000));
    let text = line.repeat(15_000);
    let mut sender = Sender::connect(&proxy);
    sender.send(
        serde_json::json!({ "large": text, "small": "s 1\n" })
            .to_string()
            .as_bytes(),
    );
    proxy.push("PUT", "/metrics/job/group", "g 2\n");
    proxy.push("POST", "/metrics?mode=aggregate", "# TYPE a counter\na 3\n");
    let webhook = [("Content-Type", "application/json")];
    proxy.push_with("POST", "/webhook", &webhook, "{\"a\":1}");
    eventually(|| text_of(&proxy, "small"), Option::is_some);

    // An unfinished scrape, an unfinished message, and a connection between requests.
    let mut scrape = TcpStream::connect(&proxy.http).unwrap();
    scrape.set_read_timeout(Some(PATIENCE)).unwrap();
    scrape
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    scrape.read_exact(&mut [0; 1000]).unwrap();
    sender.send(b"{\"half\":\"h");
    let mut idle = TcpStream::connect(&proxy.push).unwrap();
    idle.set_read_timeout(Some(PATIENCE)).unwrap();
    let healthy = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n";
    idle.write_all(healthy).unwrap();
    assert_eq!(read_answer(&mut idle, true).unwrap().status, 200);

    let announced = proxy.log().matches("accepting pushes").count();
    reload(
        &proxy,
        "[push]\nmax_groups = 5\n[receiver]\nmax_apps = 5\n[exporter]\nmax_connections = 9\n",
    );
    assert_eq!(proxy.log().matches("accepting pushes").count(), announced);
    sender.send(b" 4\\n\"}");
    eventually(
        || text_of(&proxy, "half"),
        |text| text.as_deref() == Some("h 4\n"),
    );
    idle.write_all(healthy).unwrap();
    assert_eq!(read_answer(&mut idle, true).unwrap().status, 200);
    let mut rest = vec![0; 14 << 20];
    scrape.read_exact(&mut rest).unwrap();
    assert_eq!(text_of(&proxy, "large").unwrap().len(), text.len());
    let metrics = proxy.metrics();
    for sample in ["\ns 1\n", "\ng{instance=\"\",job=\"group\"} 2\n", "\na 3\n"] {
        assert!(metrics.contains(sample), "{sample}");
    }
    assert!(metrics.contains("exporter_proxy_webhooks_kept 1\n"));
    assert!(metrics.contains("exporter_proxy_groups_max 5\n"));
    // Limits apply to the open connection, too.
    for app in ["four", "five", "six"] {
        sender.send(format!("{{\"{app}\":\"x 1\"}}").as_bytes());
    }
    let answer = sender.read_to_end();
    assert!(answer.contains("receiver.max_apps"), "{answer}");
}

#[test]
fn listeners_come_and_go_and_their_connections_finish() {
    let [first, second, third, health] = [
        free_address(),
        free_address(),
        free_address(),
        free_address(),
    ];
    let config = |listen: &[&String]| format!("[push]\nlisten = {listen:?}\n");
    let proxy = with_own(&config(&[&first]), &["PUSH_LISTEN"]);
    let mut kept = TcpStream::connect(&first).unwrap();
    kept.set_read_timeout(Some(PATIENCE)).unwrap();
    reload(&proxy, &config(&[&second, &first]));
    let push = |address: &str| http_send(address, "PUT", "/metrics/job/a", &[], b"m 1\n").status;
    assert_eq!((push(&first), push(&second)), (200, 200));

    // The push is unfinished when its listener is closed.
    let mut half = TcpStream::connect(&second).unwrap();
    half.set_read_timeout(Some(PATIENCE)).unwrap();
    half.write_all(
        b"PUT /metrics/job/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nm ",
    )
    .unwrap();
    let buffered = "exporter_proxy_push_buffered_bytes";
    eventually(|| proxy.sample(buffered), |bytes| *bytes == Some(2.0));
    write_config(&proxy, &config(&[&first, &third]));
    let answer = http_request(&first, "PUT", "/-/reload", &[]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    eventually(|| TcpStream::connect(&second).is_ok(), |accepts| !accepts);
    half.write_all(b"2\n").unwrap();
    assert_eq!(read_answer(&mut half, true).unwrap().status, 200);
    assert_eq!(half.read(&mut [0]).unwrap(), 0, "the connection is closed");
    assert_eq!((push(&first), push(&third)), (200, 200));
    kept.write_all(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    assert_eq!(read_answer(&mut kept, true).unwrap().status, 200);

    write_config(
        &proxy,
        &format!("[push]\nlisten = \"\"\n[lifecycle]\nlisten = \"{health}\"\n"),
    );
    proxy.signal("HUP");
    eventually(|| TcpStream::connect(&first).is_ok(), |accepts| !accepts);
    let max = "exporter_proxy_connections_max{listener=\"push\"}";
    eventually(|| proxy.sample(max), |max| *max == Some(0.0));
    assert_eq!(http_request(&health, "GET", "/-/ready", &[]).status, 200);
    assert_eq!(http_request(&health, "GET", "/apps", &[]).status, 404);
}

#[test]
fn a_port_can_serve_pushes_scrapes_or_both_in_turn() {
    let [first, second] = [free_address(), free_address()];
    let config = |scrapes: &[&String], pushes: &[&String]| {
        format!("[exporter]\nscrape_expose_endpoint = {scrapes:?}\n[push]\nlisten = {pushes:?}\n")
    };
    let start = config(&[&first], &[&second]);
    let settings = ["EXPORTER_SCRAPE_EXPOSE_ENDPOINT", "PUSH_LISTEN"];
    let proxy = with_own(&start, &settings);
    let answers = |address: &str| {
        let push = http_send(address, "PUT", "/metrics/job/a", &[], b"m 1\n").status;
        (http_request(address, "GET", "/metrics", &[]).status, push)
    };
    let by_name = |name: &str| {
        let series = format!("exporter_proxy_connections_max{{listener=\"{name}\"}}");
        proxy.sample(&series)
    };
    assert_eq!(
        (answers(&first), answers(&second)),
        ((200, 404), (200, 200))
    );
    reload(&proxy, &config(&[&first, &second], &[&second]));
    assert_eq!(
        (answers(&first), answers(&second)),
        ((200, 404), (200, 200))
    );
    eventually(|| by_name("http"), |max| *max == Some(1024.0));
    eventually(|| by_name("push"), |max| *max == Some(0.0));
    reload(&proxy, &config(&[&first, &second], &[&first, &second]));
    assert_eq!(
        (answers(&first), answers(&second)),
        ((200, 200), (200, 200))
    );
    reload(&proxy, &start);
    eventually(|| by_name("http"), |max| *max == Some(512.0));
    eventually(|| by_name("push"), |max| *max == Some(512.0));
    assert_eq!(
        (answers(&first), answers(&second)),
        ((200, 404), (200, 200))
    );
}

#[test]
fn a_port_that_the_program_holds_cannot_change_its_host() {
    let before = free_address();
    let port = before.rsplit(':').next().unwrap();
    let config = |address: &str| format!("[push]\nlisten = \"{address}\"\n");
    let proxy = with_own(&config(&before), &["PUSH_LISTEN"]);
    let answer = try_reload(&proxy, &config(&format!("0.0.0.0:{port}")));
    assert_eq!(answer.status, 500);
    let expected = format!(
        "cannot listen at 0.0.0.0:{port} (push.listen): exporter-proxy itself listens at {before}: \
         restart to change the host, or choose another port"
    );
    assert!(answer.text().contains(&expected), "{}", answer.text());
    let pushed = http_send(&before, "PUT", "/metrics/job/a", &[], b"m 1\n");
    assert_eq!(pushed.status, 200);
}

#[test]
fn sockets_of_receivers_and_operations_come_and_go() {
    let proxy = with_own(
        "",
        &[
            "RECEIVER_RECEIVER_TCP_SOCKET",
            "RECEIVER_RECEIVER_UNIX_SOCKET",
        ],
    );
    let dir = proxy.dir.path().to_owned();
    let [tcp, operations, udp] = [free_address(), free_address(), free_address()];
    let path = |name: &str| dir.join(name);
    let receivers = format!(
        "[receiver]\nreceiver_tcp_socket = \"{tcp}\"\nreceiver_unix_socket = {:?}\n",
        path("apps.sock")
    );
    let all = format!(
        "{receivers}[operations]\ntcp = \"{operations}\"\nudp = \"{udp}\"\nunix_sockets = [{:?}]\n\
         unix_datagram_sockets = [{:?}]\n",
        path("ops.sock"),
        path("dgrams.sock")
    );
    reload(&proxy, &all);
    let mut app = Sender::to(&tcp);
    app.send(b"{\"app\":\"m 1\"}");
    eventually(|| text_of(&proxy, "app"), Option::is_some);
    let mut stream = Sender::to(&operations);
    stream.send(b"by_tcp:1|c\n");
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"by_udp:1|c", &udp).unwrap();
    let datagram = std::os::unix::net::UnixDatagram::unbound().unwrap();
    datagram
        .send_to(b"by_datagram:1|c", path("dgrams.sock"))
        .unwrap();
    let mut unix = std::os::unix::net::UnixStream::connect(path("ops.sock")).unwrap();
    unix.write_all(b"by_unix:1|c\n").unwrap();
    for name in ["by_tcp", "by_udp", "by_datagram", "by_unix"] {
        eventually(|| proxy.sample(name), |value| *value == Some(1.0));
    }
    // Open connections and sockets get new settings.
    reload(
        &proxy,
        &format!("{all}extra_labels = {{ site = \"zrh\" }}\n"),
    );
    stream.send(b"by_tcp:1|c\n");
    client.send_to(b"by_udp:1|c", &udp).unwrap();
    for name in ["by_tcp", "by_udp"] {
        let series = format!("{name}{{site=\"zrh\"}}");
        eventually(|| proxy.sample(&series), |value| *value == Some(1.0));
    }
    reload(
        &proxy,
        "[receiver]\nreceive_on_tcp_socket = false\nreceive_on_unix_socket = false\n",
    );
    assert_eq!(app.read_to_end(), "");
    eventually(|| TcpStream::connect(&tcp).is_ok(), |accepts| !accepts);
    eventually(
        || TcpStream::connect(&operations).is_ok(),
        |accepts| !accepts,
    );
    for socket in ["apps.sock", "ops.sock", "dgrams.sock"] {
        eventually(|| path(socket).exists(), |exists| !exists);
    }
    eventually(|| UdpSocket::bind(&udp).is_ok(), |free| *free);
    assert_eq!(proxy.sample("by_datagram"), Some(1.0));
    assert_eq!(text_of(&proxy, "app").unwrap(), "m 1\n");
}

#[test]
fn what_a_closed_udp_socket_lost_still_counts() {
    let addresses = [free_address(), free_address()];
    let config = |udp: &String| format!("[operations]\nudp = \"{udp}\"\n");
    let proxy = Proxy::start(&config(&addresses[0]));
    let lost = || {
        let series = "exporter_proxy_operations_datagrams_lost_total{transport=\"udp\"}";
        proxy.sample(series).unwrap()
    };
    assert_eq!(lost(), 0.0);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut before = 0.0;
    for (number, address) in addresses.iter().enumerate() {
        // More than fits into the buffer of the socket while nothing is read.
        proxy.signal("STOP");
        for _ in 0..400 {
            client.send_to(&[b'\n'; 60_000], address).unwrap();
        }
        proxy.signal("CONT");
        before = eventually(lost, |lost| *lost > before);
        reload(&proxy, &config(&addresses[1 - number]));
        eventually(|| UdpSocket::bind(address).is_ok(), |free| *free);
        assert!(lost() >= before, "{} after {before}", lost());
    }
}

#[test]
fn tls_comes_changes_and_goes_on_an_open_port() {
    let proxy = Proxy::start("");
    let dir = proxy.dir.path();
    let authority = Authority::new(dir, "ca");
    let (one, other) = (authority.issue("one"), authority.issue("other"));
    let client = authority.client(None);
    let web = dir.join("web.yml");
    let config = format!(
        "[web]\nconfig_file = {web:?}\n[receiver]\ntls = {{ {} }}\n[exporter]\n\
         tls_handshake_timeout = \"2s\"\n",
        one.settings()
    );
    let yaml = |pair: &crate::harness::certificates::Pair, more: &str| {
        format!(
            "tls_server_config:\n  cert_file: {:?}\n  key_file: {:?}\n{more}",
            pair.cert, pair.key
        )
    };
    let get = |config: &rustls::ClientConfig| {
        let mut stream = connect(config, &proxy.http)?;
        stream.write_all(
            b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        )?;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        std::io::Result::Ok(answer)
    };
    let is_served = |answer: &std::io::Result<String>| {
        answer
            .as_ref()
            .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    };
    let mut plain = Sender::connect(&proxy);
    plain.send(b"{\"before\":\"m 1\"}");
    std::fs::write(&web, yaml(&one, "")).unwrap();
    reload(&proxy, &config);
    eventually(|| is_served(&get(&client)), |served| *served);
    // The earlier connection continues without TLS.
    plain.send(b"{\"after\":\"m 1\"}");
    let mut late = Sender::connect(&proxy);
    assert_eq!(late.read_to_end(), "", "no handshake in time");
    // Only the file of the web configuration changes: clients now need a certificate.
    let more = format!(
        "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: {:?}\n\
         http_server_config:\n  http2: false\n",
        authority.ca
    );
    std::fs::write(&web, yaml(&other, &more)).unwrap();
    eventually(|| is_served(&get(&client)), |served| !served);
    let with_own = authority.client(Some(&one));
    eventually(|| is_served(&get(&with_own)), |served| *served);
    logged(&proxy, "the files of [web] have changed and are in use", 1);

    write_config(&proxy, "");
    proxy.signal("HUP");
    let plain_get = || http_request(&proxy.http, "GET", "/-/healthy", &[]).status;
    eventually(plain_get, |status| *status == 200);
    assert!(text_of(&proxy, "after").is_some());
    assert_eq!(proxy.push_tcp(b"{\"last\":\"m 1\"}"), "");
}

#[test]
fn time_limits_apply_to_new_connections() {
    let proxy = Proxy::start("[exporter]\nshutdown_timeout = \"1h\"\n");
    let line = format!("m{{n=\"{}\"}} 1\n", "x".repeat(1000));
    for name in ["large", "larger"] {
        let text = serde_json::json!({ name: line.repeat(15_000) }).to_string();
        assert_eq!(proxy.push_tcp(text.as_bytes()), "");
        eventually(|| text_of(&proxy, name), Option::is_some);
    }
    reload(&proxy, "[exporter]\nheader_timeout = \"200ms\"\n");
    let closed = |mut stream: Sender| stream.read_to_end();
    closed(Sender::to(&proxy.http));
    // The requests below may be slow on a busy machine.
    reload(
        &proxy,
        "[exporter]\nwrite_timeout = \"200ms\"\nshutdown_timeout = \"300ms\"\n\
         [receiver]\nidle_timeout = \"2s\"\nmessage_timeout = \"200ms\"\n",
    );
    assert_eq!(closed(Sender::connect(&proxy)), "");
    let mut half = Sender::connect(&proxy);
    half.send(b"{\"half\":");
    let answer = half.read_to_end();
    assert!(answer.contains("receiver.message_timeout"), "{answer}");
    // A client that does not read.
    let mut scrape = Sender::to(&proxy.http);
    scrape.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    scrape.0.read_exact(&mut [0; 1000]).unwrap();
    // Small pages arrive in time on a busy machine, too.
    for name in ["large", "larger"] {
        proxy.push("DELETE", &format!("/apps/{name}"), "");
    }
    // Then only the connection of the sample itself is open.
    let connections = "exporter_proxy_connections_open{listener=\"http\"}";
    eventually(|| proxy.sample(connections), |open| *open == Some(1.0));
    assert!(scrape.read_to_end().len() < 28_000_000);

    // The stop uses the new time, too.
    let mut proxy = proxy;
    let mut open = TcpStream::connect(&proxy.push).unwrap();
    open.write_all(b"PUT /metrics/job/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nm")
        .unwrap();
    let connections = "exporter_proxy_connections_open{listener=\"push\"}";
    eventually(|| proxy.sample(connections), |open| *open >= Some(1.0));
    let begun = Instant::now();
    proxy.signal("TERM");
    assert!(proxy.wait().success());
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    logged(&proxy, "within 300ms (exporter.shutdown_timeout)", 1);
}
