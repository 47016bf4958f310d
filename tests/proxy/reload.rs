//! Reloads of the configuration: what they change, and what goes on meanwhile.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::certificates::{Authority, connect};
use crate::harness::{Answer, PATIENCE, Proxy, eventually, http_request, http_send};
use crate::support::{Sender, detail, logged, names, read_answer, text_of};
use crate::upstream::{Upstream, ok};

/// Replaces the configuration file, as an editor does.
pub fn write_config(proxy: &Proxy, config: &str) {
    let (new, file) = (
        proxy.dir.path().join("new"),
        proxy.dir.path().join("config.toml"),
    );
    std::fs::write(&new, config).unwrap();
    std::fs::rename(&new, &file).unwrap();
}

/// Reloads with another configuration. Returns the answer of `/-/reload`.
pub fn try_reload(proxy: &Proxy, config: &str) -> Answer {
    write_config(proxy, config);
    proxy.push("POST", "/-/reload", "")
}

/// Reloads with another configuration, which must succeed. Returns the report.
#[track_caller]
pub fn reload(proxy: &Proxy, config: &str) -> String {
    let answer = try_reload(proxy, config);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

/// A free port of the loopback.
fn free() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A proxy that takes these addresses from its file.
fn with_own(config: &str, settings: &[&str]) -> Proxy {
    Proxy::launch(config, &[], |command| {
        for name in settings {
            command.env_remove(format!("EXPORTER_PROXY_{name}"));
        }
        command
    })
}

fn succeeded(proxy: &Proxy) -> Option<f64> {
    proxy.sample("exporter_proxy_config_last_reload_successful")
}

fn polls(proxy: &Proxy, name: &str) -> f64 {
    let series = format!("exporter_proxy_polls_total{{result=\"ok\",target=\"{name}\"}}");
    proxy.sample(&series).unwrap_or_default()
}

fn target(upstream: &Upstream, name: &str, more: &str) -> String {
    format!(
        "[[poll_external.targets]]\nurl = \"http://{}/{name}\"\nname = \"{name}\"\n{more}\n",
        upstream.address
    )
}

#[test]
fn targets_come_change_and_go_and_the_others_are_not_disturbed() {
    let upstream = Upstream::start(|request| ok(&format!("{} 1\n", &request.path[1..])));
    let polled = |path: &str| {
        let path = format!("/{path}");
        let requests = upstream.requests();
        requests
            .iter()
            .filter(|request| request.path == path)
            .count()
    };
    // It is polled at the start only, so another poll would show.
    let kept = target(&upstream, "kept", "interval = \"1h\"");
    let gone = target(&upstream, "gone", "interval = \"1h\"");
    let (slow, fast) = (
        target(&upstream, "changed", "interval = \"1h\"\ntimeout = \"2s\""),
        target(&upstream, "changed", "interval = \"50ms\""),
    );
    let new = target(&upstream, "new", "interval = \"1h\"");
    let proxy = Proxy::start(&kept);
    eventually(|| polls(&proxy, "kept"), |polls| *polls == 1.0);
    reload(&proxy, &format!("{kept}{gone}"));
    eventually(|| polls(&proxy, "gone"), |polls| *polls == 1.0);
    reload(&proxy, &format!("{slow}{gone}{kept}"));
    eventually(|| polls(&proxy, "changed"), |polls| *polls == 1.0);

    let report = reload(&proxy, &format!("{fast}{kept}{new}"));
    assert!(report.contains("changed poll_external.targets"), "{report}");
    // The text of a changed target stays until the next poll.
    assert_eq!(text_of(&proxy, "changed").unwrap(), "changed 1\n");
    eventually(|| polls(&proxy, "changed"), |polls| *polls >= 4.0);
    eventually(|| polls(&proxy, "new"), |polls| *polls == 1.0);
    eventually(
        || names(&proxy),
        |names| *names == ["changed", "kept", "new"],
    );
    assert_eq!(text_of(&proxy, "kept").unwrap(), "kept 1\n");
    assert_eq!((polled("kept"), polls(&proxy, "kept")), (1, 1.0));
    assert!(!proxy.metrics().contains("target=\"gone\""));

    // A limit of all targets leaves their schedules alone.
    reload(
        &proxy,
        &format!("[poll_external]\nmax_body = 5\n{kept}{fast}"),
    );
    let failed = "exporter_proxy_polls_total{result=\"too_large\",target=\"changed\"}";
    eventually(|| proxy.sample(failed), |count| *count >= Some(1.0));
    assert_eq!(polled("kept"), 1);

    // Without polls nothing is left of them, and with them everything is back.
    reload(
        &proxy,
        "[poll_external]\npoll_other_scrape_endpoints = false\n",
    );
    eventually(|| names(&proxy), Vec::is_empty);
    reload(&proxy, &kept);
    eventually(|| polled("kept"), |polled| *polled == 2);
    let url = format!("http://{}/plain", upstream.address);
    reload(
        &proxy,
        &format!(
            "[poll_external]\npoll_interval = \"50ms\"\nother_scrape_endpoints = [\"{url}\"]\n{kept}"
        ),
    );
    eventually(|| polled("plain"), |polled| *polled >= 2);
    assert_eq!(polled("kept"), 2);
}

#[test]
fn settings_of_all_targets_are_those_of_each() {
    let upstream = Upstream::start(|_| ok("m 1\n"));
    let target = target(&upstream, "t", "");
    let config =
        |more: &str| format!("[poll_external]\npoll_interval = \"50ms\"\n{more}\n{target}");
    let proxy = Proxy::launch(&config(""), &[], |command| {
        command.env("http_proxy", format!("http://{}", free()))
    });
    eventually(|| polls(&proxy, "t"), |polls| *polls >= 1.0);
    for (setting, changed) in [
        ("client_timeout = \"40ms\"", "targets"),
        ("stale_after = \"7s\"", "targets"),
        ("follow_redirects = false", "targets"),
        ("allow_invalid_certs = true", "targets"),
        ("proxy_from_environment = true", "proxy_from_environment"),
        ("proxy_url = \"http://127.0.0.1:1\"", "proxy_url"),
    ] {
        let before = polls(&proxy, "t");
        let report = reload(&proxy, &config(setting));
        assert!(
            report.contains(&format!("poll_external.{changed}")),
            "{report}"
        );
        match changed {
            "targets" => drop(eventually(|| polls(&proxy, "t"), |polls| *polls > before)),
            _ => drop(eventually(
                || detail(&proxy, "t").unwrap().to_string(),
                |detail| detail.contains("connect"),
            )),
        }
        reload(&proxy, &config(""));
        let before = polls(&proxy, "t");
        eventually(|| polls(&proxy, "t"), |polls| *polls > before);
    }
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

    // A scrape that is halfway, a message that is halfway, and a connection between requests.
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
    // Limits hold for the connection that was open.
    for app in ["four", "five", "six"] {
        sender.send(format!("{{\"{app}\":\"x 1\"}}").as_bytes());
    }
    let answer = sender.read_to_end();
    assert!(answer.contains("receiver.max_apps"), "{answer}");
}

#[test]
fn a_refused_reload_changes_nothing_and_tells_all_errors() {
    let proxy = Proxy::start("[push]\nmax_groups = 7\n");
    let max_groups = || proxy.sample("exporter_proxy_groups_max");
    let since = "exporter_proxy_config_last_reload_success_timestamp_seconds";
    let started = proxy.sample(since);
    let answer = try_reload(
        &proxy,
        "[push]\nmax_groups = 8\nmax_body = \"x\"\n[receiver]\nmax_app = 1\n",
    );
    assert_eq!(answer.status, 500);
    let text = answer.text();
    for part in [
        "config.toml:3:",
        "push.max_body",
        "config.toml:5:",
        "receiver.max_app",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!((max_groups(), succeeded(&proxy)), (Some(7.0), Some(0.0)));
    assert_eq!(proxy.sample(since), started);
    assert!(logged(&proxy, "is not reloaded", 1).contains("push.max_body"));

    // Ports that cannot be bound are found before anything is changed.
    let (one, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), free());
    let taken = one.local_addr().unwrap().to_string();
    let config =
        format!("[push]\nmax_groups = 8\n[operations]\ntcp = \"{taken}\"\nudp = \"{other}\"\n");
    let answer = try_reload(&proxy, &config);
    assert_eq!(answer.status, 500);
    assert!(
        answer
            .text()
            .contains(&format!("cannot listen at {taken} (operations.tcp)"))
    );
    assert_eq!(max_groups(), Some(7.0));
    assert!(
        std::net::UdpSocket::bind(&other).is_ok(),
        "it was given back"
    );

    drop(one);
    let report = reload(&proxy, &config);
    assert!(report.contains("push.max_groups"), "{report}");
    assert_eq!((max_groups(), succeeded(&proxy)), (Some(8.0), Some(1.0)));
    assert!(proxy.sample(since) > started);
    let count = |result| {
        let series = format!("exporter_proxy_config_reloads_total{{result=\"{result}\"}}");
        proxy.sample(&series)
    };
    assert_eq!((count("ok"), count("refused")), (Some(1.0), Some(2.0)));
}

#[test]
fn settings_that_need_a_restart_are_named_and_the_others_apply() {
    let proxy = Proxy::start("");
    let report = reload(
        &proxy,
        "[exposition]\nmode = \"merged\"\n[storage]\npath = \"/nonexistent/x\"\n[push]\nmax_groups = 8\n",
    );
    assert!(report.contains("changed push.max_groups; "), "{report}");
    assert!(
        report.contains("needs a restart: exposition.mode, storage.path"),
        "{report}"
    );
    assert_eq!(proxy.sample("exporter_proxy_groups_max"), Some(8.0));
    assert_eq!(
        proxy.sample("exporter_proxy_config_restart_settings"),
        Some(2.0)
    );
    // Verbatim text is not parsed.
    assert_eq!(proxy.push_tcp(b"{\"app\":\"not metrics\"}"), "");
    let report = reload(&proxy, "[push]\nmax_groups = 8\n");
    assert!(report.contains("nothing changed"), "{report}");
    assert_eq!(
        proxy.sample("exporter_proxy_config_restart_settings"),
        Some(0.0)
    );
}

#[test]
fn listeners_come_and_go_and_their_connections_finish() {
    let [first, second, third, health] = [free(), free(), free(), free()];
    let config = |listen: &[&String]| format!("[push]\nlisten = {listen:?}\n");
    let proxy = with_own(&config(&[&first]), &["PUSH_LISTEN"]);
    let mut kept = TcpStream::connect(&first).unwrap();
    kept.set_read_timeout(Some(PATIENCE)).unwrap();
    reload(&proxy, &config(&[&second, &first]));
    let push = |address: &str| http_send(address, "PUT", "/metrics/job/a", &[], b"m 1\n").status;
    assert_eq!((push(&first), push(&second)), (200, 200));

    // A push that is halfway when its listener is closed.
    let mut half = TcpStream::connect(&second).unwrap();
    half.set_read_timeout(Some(PATIENCE)).unwrap();
    half.write_all(
        b"PUT /metrics/job/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nm ",
    )
    .unwrap();
    let open = "exporter_proxy_connections_open{listener=\"push\"}";
    eventually(|| proxy.sample(open), |open| *open >= Some(2.0));
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
    let [first, second] = [free(), free()];
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
fn sockets_of_receivers_and_operations_come_and_go() {
    let proxy = with_own(
        "",
        &[
            "RECEIVER_RECEIVER_TCP_SOCKET",
            "RECEIVER_RECEIVER_UNIX_SOCKET",
        ],
    );
    let dir = proxy.dir.path().to_owned();
    let [tcp, operations, udp] = [free(), free(), free()];
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
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
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
    // Open connections and sockets take over new settings.
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
    eventually(|| std::net::UdpSocket::bind(&udp).is_ok(), |free| *free);
    assert_eq!(proxy.sample("by_datagram"), Some(1.0));
    assert_eq!(text_of(&proxy, "app").unwrap(), "m 1\n");
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
         tls_handshake_timeout = \"200ms\"\n",
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
    assert!(is_served(&get(&client)));
    // The connection of before goes on without TLS.
    plain.send(b"{\"after\":\"m 1\"}");
    let mut late = Sender::connect(&proxy);
    assert_eq!(late.read_to_end(), "", "no handshake in time");
    // The file of the web configuration alone: clients need a certificate now.
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
fn roles_change_for_open_connections_too() {
    let ops = free();
    let sockets = format!("[operations]\ntcp = \"{ops}\"\n");
    let proxy = Proxy::start(&sockets);
    let mut app = Sender::connect(&proxy);
    app.send(b"{\"app\":\"m 1\"}");
    let mut operations = Sender::to(&ops);
    operations.send(b"o:1|c\n");
    eventually(|| proxy.sample("o"), |value| *value == Some(1.0));
    let nobody = "[[web.access]]\nrole = [\"read\", \"write\"]\nallow_from = \"192.0.2.0/24\"\n\
                  listeners = [\"receiver\", \"operations\"]\n\
                  [[web.access]]\nrole = \"admin\"\nallow_from = \"127.0.0.1\"\nlisteners = [\"http\"]\n";
    reload(&proxy, &format!("{sockets}{nobody}"));
    app.send(b"{\"app\":\"m 2\"}");
    let answer = app.read_to_end();
    assert!(answer.starts_with("error: "), "{answer}");
    operations.send(b"o:1|c\n");
    let answer = operations.read_to_end();
    assert!(answer.contains("web.access"), "{answer}");
    assert_eq!(text_of(&proxy, "app").unwrap(), "m 1\n");
    assert_eq!(proxy.push("PUT", "/metrics/job/a", "m 1\n").status, 200);
    // The right to reload is one of the role admin.
    let other = "[[web.access]]\nrole = \"admin\"\nallow_from = \"192.0.2.0/24\"\n";
    reload(&proxy, &format!("{sockets}{other}"));
    assert_eq!(proxy.push("POST", "/-/reload", "").status, 403);
}

#[test]
fn lifetimes_rules_and_labels_apply_from_now_on() {
    let proxy = Proxy::start("[exposition]\nmode = \"merged\"\n");
    let rule = "[[push.rules]]\nmatch = \"high*\"\npolicy = \"max\"\n";
    reload(
        &proxy,
        &format!(
            "[exposition]\nmode = \"merged\"\napp_label = \"app\"\ntimestamps = \"strip\"\n\
             [receiver]\napp_ttl = \"300ms\"\n[push]\ngroup_ttl = \"300ms\"\nseries_ttl = \"1h\"\n{rule}"
        ),
    );
    proxy.push_tcp(b"{\"one\":\"m 1 1000\\n\"}");
    let labelled = |metrics: &String| metrics.contains("\nm{app=\"one\"} 1\n");
    eventually(|| proxy.metrics(), labelled);
    eventually(|| text_of(&proxy, "one"), Option::is_none);
    proxy.push("PUT", "/metrics/job/short", "g 1\n");
    eventually(
        || proxy.sample("exporter_proxy_groups"),
        |groups| *groups == Some(0.0),
    );
    for value in ["3", "2"] {
        let body = format!("# TYPE high gauge\nhigh {value}\n");
        proxy.push("POST", "/metrics?mode=aggregate", body);
    }
    assert_eq!(proxy.sample("high"), Some(3.0));
}

#[test]
fn limits_of_senders_apply_at_once() {
    let proxy = Proxy::start("");
    let token = proxy.dir.path().join("token");
    std::fs::write(&token, "secret\n").unwrap();
    let access = format!(
        "[[web.access]]\nrole = \"write\"\ntoken_file = {token:?}\nlisteners = [\"http\"]\n\
         [[web.access]]\nrole = [\"write\", \"admin\"]\nallow_from = \"127.0.0.1\"\n\
         listeners = [\"receiver\"]\n[[web.access]]\nrole = \"admin\"\ntoken_file = {token:?}\n"
    );
    let headers = [("Authorization", "Bearer secret")];
    let push = || {
        let path = "/metrics/job/limited";
        let answer = proxy.push_with("PUT", path, &headers, "m 1\n");
        answer.status
    };
    // As fast as one sender can.
    let many = || (0..20).map(|_| push()).max().unwrap();
    let set = |limits: &str| {
        write_config(&proxy, &format!("[limits]\n{limits}\n{access}"));
        proxy.signal("HUP");
    };
    set("");
    eventually(push, |status| *status == 200);
    assert_eq!(many(), 200);
    set("loopback = true\naddress = { messages_per_second = 1 }");
    eventually(many, |status| *status == 429);
    set("loopback = true\nburst = \"100s\"\naddress = { messages_per_second = 1 }");
    eventually(many, |status| *status == 200);
    set("user = { messages_per_second = 1 }");
    eventually(many, |status| *status == 429);
    set("app = { memory = 100 }");
    let apps = AtomicUsize::new(0);
    let large = || {
        let (number, text) = (apps.fetch_add(1, Ordering::Relaxed), "m 1\\n".repeat(1000));
        proxy.push_tcp(format!("{{\"app{number}\":\"{text}\"}}").as_bytes())
    };
    eventually(large, |answer| answer.contains("limits.app"));
    assert_eq!(many(), 200);
    set("");
    eventually(large, String::is_empty);
}

#[test]
fn time_limits_apply_to_new_connections() {
    let proxy = Proxy::start("");
    let line = format!("m{{n=\"{}\"}} 1\n", "x".repeat(1000));
    for name in ["large", "larger"] {
        let text = serde_json::json!({ name: line.repeat(15_000) }).to_string();
        assert_eq!(proxy.push_tcp(text.as_bytes()), "");
        eventually(|| text_of(&proxy, name), Option::is_some);
    }
    reload(
        &proxy,
        "[exporter]\nheader_timeout = \"200ms\"\nwrite_timeout = \"200ms\"\nshutdown_timeout = \"300ms\"\n\
         [receiver]\nidle_timeout = \"200ms\"\nmessage_timeout = \"200ms\"\n",
    );
    let closed = |mut stream: Sender| stream.read_to_end();
    closed(Sender::to(&proxy.http));
    assert_eq!(closed(Sender::connect(&proxy)), "");
    let mut half = Sender::connect(&proxy);
    half.send(b"{\"half\":");
    let answer = half.read_to_end();
    assert!(answer.contains("receiver.message_timeout"), "{answer}");
    // A client that does not read.
    let mut scrape = Sender::to(&proxy.http);
    scrape.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    thread::sleep(Duration::from_secs(1));
    assert!(scrape.read_to_end().len() < 28_000_000);

    // The stop has the time of now, too.
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
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    logged(&proxy, "within 300ms (exporter.shutdown_timeout)", 1);
}

#[test]
fn twenty_reloads_at_once_are_answered_and_do_not_disturb_pushes() {
    let proxy = Proxy::start("");
    let (stop, pushed) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(&proxy.push).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let push = b"POST /metrics?mode=aggregate HTTP/1.1\r\nHost: localhost\r\n\
                             Content-Length: 24\r\n\r\n# TYPE sum counter\nsum 1\n";
                let push = String::from_utf8_lossy(push).replace("24", "25");
                while !stop.load(Ordering::Relaxed) {
                    stream.write_all(push.as_bytes()).unwrap();
                    let answer =
                        read_answer(&mut stream, false).expect("the connection stays open");
                    assert_eq!(answer.status, 202);
                    pushed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 1..=3 {
            write_config(&proxy, &format!("[push]\nmax_groups = {round}\n"));
            thread::scope(|reloads| {
                for _ in 0..20 {
                    reloads.spawn(|| {
                        let answer = proxy.push("POST", "/-/reload", "");
                        assert_eq!(answer.status, 200, "{}", answer.text());
                    });
                }
            });
            let limit = proxy.sample("exporter_proxy_groups_max");
            assert_eq!(limit, Some(f64::from(round)));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(proxy.sample("sum"), Some(pushed.into_inner() as f64));
}

/// A proxy that watches a configuration file at `path` in its directory.
fn watching(config: &str) -> Proxy {
    Proxy::launch(config, &[], |command| command.arg("--watch"))
}

fn limit(proxy: &Proxy) -> Option<f64> {
    proxy.sample("exporter_proxy_groups_max")
}

#[test]
fn a_watched_file_is_read_when_it_is_replaced_or_written() {
    let proxy = watching("[push]\nmax_groups = 1\n");
    let file = proxy.dir.path().join("config.toml");
    write_config(&proxy, "[push]\nmax_groups = 2\n");
    eventually(|| limit(&proxy), |limit| *limit == Some(2.0));
    std::fs::write(&file, "[push]\nmax_groups = 3\n").unwrap();
    eventually(|| limit(&proxy), |limit| *limit == Some(3.0));

    // A half-written file is refused once, and complete it is used.
    std::fs::write(&file, "[push]\nmax_groups = ").unwrap();
    eventually(|| succeeded(&proxy), |ok| *ok == Some(0.0));
    assert_eq!(limit(&proxy), Some(3.0));
    std::fs::write(&file, "[push]\nmax_groups = 4\n").unwrap();
    eventually(|| limit(&proxy), |limit| *limit == Some(4.0));
    assert_eq!(succeeded(&proxy), Some(1.0));

    // A file that vanishes leaves everything as it is.
    std::fs::remove_file(&file).unwrap();
    eventually(|| succeeded(&proxy), |ok| *ok == Some(0.0));
    assert_eq!(limit(&proxy), Some(4.0));
    assert_eq!(proxy.log().matches("is not reloaded").count(), 2);
    std::fs::write(&file, "[push]\nmax_groups = 5\n").unwrap();
    eventually(|| limit(&proxy), |limit| *limit == Some(5.0));
}

#[test]
fn a_watched_file_behind_links_is_read_when_a_link_changes() {
    // As Kubernetes mounts a ConfigMap: the file is a link through `..data`, which is swapped.
    let proxy = watching("");
    let dir = proxy.dir.path();
    let version = |number: u32| {
        let directory = dir.join(format!("version_{number}"));
        std::fs::create_dir(&directory).unwrap();
        let config = format!("[push]\nmax_groups = {number}\n");
        std::fs::write(directory.join("config.toml"), config).unwrap();
        let link = dir.join("..data_tmp");
        symlink(&directory, &link).unwrap();
        std::fs::rename(&link, dir.join("..data")).unwrap();
    };
    version(1);
    let file = dir.join("config.toml");
    std::fs::remove_file(&file).unwrap();
    symlink(Path::new("..data/config.toml"), &file).unwrap();
    eventually(|| limit(&proxy), |limit| *limit == Some(1.0));
    for number in 2..=3 {
        version(number);
        let number = Some(f64::from(number));
        eventually(|| limit(&proxy), |limit| *limit == number);
    }
}

#[test]
fn the_default_file_must_be_there_at_a_reload_if_it_was_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.toml"), "[push]\nmax_groups = 6\n").unwrap();
    let proxy = Proxy::launch("", &[], |command| {
        let program = std::mem::replace(command, std::process::Command::new("true"));
        *command = std::process::Command::new(program.get_program());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
            .current_dir(dir.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
    });
    assert_eq!(limit(&proxy), Some(6.0));
    std::fs::remove_file(dir.path().join("config.toml")).unwrap();
    assert_eq!(proxy.push("POST", "/-/reload", "").status, 500);
    assert_eq!(limit(&proxy), Some(6.0));
}
