//! Limits on single senders: rates and shares of memory, on every input.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant};

use proxy_header::{ProxiedAddress, ProxyHeader};

use crate::harness::{Answer, PATIENCE, Proxy, eventually, http_send};
use crate::operations::bench;
use crate::support::{Sender, received};

/// A rate that allows nothing more for a minute after 60 bytes.
const ONE_A_MINUTE: &str =
    "[limits]\nloopback = true\nburst = \"1ms\"\naddress = { bytes_per_second = 1 }\n";

/// A text too long for a rate of one byte a second to allow another push within a test.
fn long_text() -> String {
    format!("# {}\nm 1\n", "x".repeat(100))
}

/// A rate of messages for which a test can wait, ...
const ONE_A_SECOND: &str =
    "[limits]\nloopback = true\nburst = \"1ms\"\naddress = { messages_per_second = 1 }\n";

/// ... and a number of messages that exceeds it.
const TWENTY: &str =
    "[limits]\nloopback = true\nburst = \"50ms\"\naddress = { messages_per_second = 20 }\n";

fn exceeded(proxy: &Proxy, limit: &str, resource: &str) -> f64 {
    let labels = format!("limit=\"{limit}\",resource=\"{resource}\"");
    let series = format!("exporter_proxy_sender_limit_exceeded_total{{{labels}}}");
    proxy.sample(&series).unwrap_or(0.0)
}

fn paused(proxy: &Proxy) -> f64 {
    let series = "exporter_proxy_sender_limit_paused_seconds_total";
    proxy.sample(series).unwrap_or(0.0)
}

#[track_caller]
fn assert_limited(answer: &Answer, setting: &str) {
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert!(answer.text().contains(setting), "{}", answer.text());
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(wait >= 1, "{wait}");
}

#[test]
fn every_push_over_http_counts_and_reads_do_not() {
    let proxy = Proxy::start(ONE_A_MINUTE);
    let answer = proxy.push("PUT", "/metrics/job/x", long_text());
    assert_eq!(answer.status, 200);
    for (method, path, body) in [
        ("PUT", "/metrics/job/x", "m 2\n"),
        ("POST", "/metrics/job/x", "m 2\n"),
        ("DELETE", "/metrics/job/x", ""),
        ("POST", "/metrics/job/x?mode=aggregate", "c 1\n"),
        ("POST", "/create", "{}"),
        ("POST", "/update", "{}"),
        ("POST", "/webhook", "{}"),
        ("POST", "/slack", "{}"),
        ("POST", "/api/v1/batch", "[]"),
        ("POST", "/api/v1/validate", "m 1\n"),
    ] {
        let answer = proxy.push(method, path, body);
        assert_limited(&answer, "(limits.address.bytes_per_second)");
    }
    assert_eq!(proxy.sample("m{instance=\"\",job=\"x\"}"), Some(1.0));
    assert_eq!(exceeded(&proxy, "address", "bytes"), 10.0);
    let counted = "exporter_proxy_pushes_total{method=\"put\",result=\"rate_limited\"}";
    assert_eq!(proxy.sample(counted), Some(1.0));
    assert_eq!(proxy.sample("exporter_proxy_senders_limited"), Some(1.0));
}

#[test]
fn a_pusher_that_waits_as_told_can_push_again() {
    let proxy = Proxy::start(ONE_A_SECOND);
    let push = || proxy.push("PUT", "/metrics/job/x", "m 1\n");
    let limited = eventually(push, |answer| answer.status != 200);
    assert_limited(&limited, "(limits.address.messages_per_second)");
    assert_eq!(limited.header("retry-after"), Some("1"));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(push().status, 200);
}

#[test]
fn decompressed_bytes_count() {
    let proxy = Proxy::start("[limits]\nloopback = true\naddress = { bytes_per_second = 10000 }\n");
    let text = format!("# {}\nm 1\n", "x".repeat(1 << 20));
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(text.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    assert!(packed.len() < 10_000);
    let headers = [("Content-Encoding", "gzip")];
    let answer = proxy.push_with("PUT", "/metrics/job/x", &headers, &packed);
    assert_eq!(answer.status, 200);
    let answer = proxy.push("PUT", "/metrics/job/x", "m 1\n");
    assert_limited(&answer, "(limits.address.bytes_per_second)");
}

#[test]
fn the_loopback_is_exempt_and_clients_behind_a_proxy_are_told_apart() {
    let proxy = Proxy::start(
        "[limits]\naddress = { bytes_per_second = 1 }\n[web]\ntrusted_proxies = [\"127.0.0.1\"]\n",
    );
    let push = |client: &str| {
        let headers = [("X-Forwarded-For", client)];
        let headers = if client.is_empty() { &[] } else { &headers[..] };
        proxy
            .push_with("PUT", "/metrics/job/x", headers, long_text())
            .status
    };
    for _ in 0..3 {
        assert_eq!(push(""), 200);
    }
    assert_eq!([push("192.0.2.1"), push("192.0.2.1")], [200, 429]);
    assert_eq!(push("192.0.2.2"), 200);
    // One subscriber of IPv6 has many addresses.
    assert_eq!([push("2001:db8::1"), push("2001:db8::2")], [200, 429]);
    assert_eq!(push("2001:db8:0:1::1"), 200);
}

#[test]
fn each_token_has_its_own_rate() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    std::fs::write(&file, "one\ntwo\n").unwrap();
    let proxy = Proxy::start(&format!(
        "[limits]\nuser = {{ bytes_per_second = 1 }}\n\
         [[web.access]]\nrole = \"write\"\ntoken_file = {file:?}\n"
    ));
    let push = |token: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("Authorization", &*authorization)];
        let body = long_text();
        http_send(
            &proxy.push,
            "PUT",
            "/metrics/job/x",
            &headers,
            body.as_bytes(),
        )
    };
    assert_eq!(push("one").status, 200);
    assert_limited(&push("one"), "(limits.user.bytes_per_second)");
    assert_eq!(push("two").status, 200);
    assert_eq!(exceeded(&proxy, "user", "bytes"), 1.0);
}

/// Sends `count` messages at once, and returns the reply and the time that it took. Load on the
/// machine can only make this time longer.
fn flood(
    mut stream: impl Read + Write,
    half_close: impl FnOnce(),
    message: &[u8],
    count: usize,
) -> (String, Duration) {
    let start = Instant::now();
    stream.write_all(&message.repeat(count)).unwrap();
    half_close();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    (reply, start.elapsed())
}

fn flood_tcp(address: &str, message: &[u8], count: usize) -> (String, Duration) {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let half_close = || stream.shutdown(Shutdown::Write).unwrap();
    flood(&stream, half_close, message, count)
}

fn flood_unix(path: &std::path::Path, message: &[u8], count: usize) -> (String, Duration) {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let half_close = || stream.shutdown(Shutdown::Write).unwrap();
    flood(&stream, half_close, message, count)
}

#[test]
fn receivers_pause_and_lose_nothing() {
    let proxy = Proxy::start(TWENTY);
    for receiver in ["tcp", "unix"] {
        let (mut floods, before) = (
            0.0,
            (paused(&proxy), exceeded(&proxy, "address", "messages")),
        );
        let flood = || {
            let message = b"{\"a\":\"m 1\"}";
            let (reply, took) = match receiver {
                "tcp" => flood_tcp(&proxy.tcp, message, 31),
                _ => flood_unix(&proxy.unix, message, 31),
            };
            floods += 1.0;
            assert_eq!(reply, "");
            assert!(took >= Duration::from_millis(1400), "{receiver}: {took:?}");
            assert_eq!(received(&proxy, receiver, "json", "ok"), 31.0 * floods);
            (paused(&proxy), exceeded(&proxy, "address", "messages"))
        };
        // On a busy machine, the time of a pause can be over before the pause begins.
        eventually(flood, |(paused, exceeded)| {
            *paused > before.0 && *exceeded > before.1
        });
    }
}

#[test]
fn a_receiver_closes_a_connection_that_would_pause_for_too_long() {
    let proxy = Proxy::start(ONE_A_MINUTE);
    let mut sender = Sender::connect(&proxy);
    sender.send(format!("{{\"a\":\"{}m 1\"}}", "#\\n".repeat(50)).as_bytes());
    let reply = sender.read_to_end();
    let begin = "error: document 2, this address sends more than 1 bytes each second";
    assert!(reply.starts_with(begin), "{reply}");
    assert_eq!(received(&proxy, "tcp", "json", "ok"), 1.0);
    assert_eq!(received(&proxy, "tcp", "json", "rate_limited"), 1.0);
}

#[test]
fn clients_behind_a_load_balancer_are_told_apart() {
    let proxy = Proxy::start(
        "[limits]\nburst = \"1ms\"\naddress = { messages_per_second = 2 }\n\
         [receiver]\nproxy_protocol = [\"127.0.0.1\"]\n",
    );
    let connect = |client: &str| {
        let client: SocketAddr = client.parse().unwrap();
        let mut bytes = Vec::new();
        let address = ProxiedAddress::stream(client, client);
        ProxyHeader::with_address(address)
            .encode_v2(&mut bytes)
            .unwrap();
        let mut sender = Sender::connect(&proxy);
        sender.send(&bytes);
        sender
    };
    let mut greedy = connect("192.0.2.7:1");
    greedy.send(&b"{\"greedy\":\"m 1\"}".repeat(1000));
    eventually(
        || received(&proxy, "tcp", "json", "ok"),
        |count| *count >= 1.0,
    );
    let mut other = connect("192.0.2.8:1");
    other.send(b"{\"other\":\"m 2\"}");
    other.half_close();
    assert_eq!(other.read_to_end(), "");
    assert_eq!(
        crate::support::text_of(&proxy, "other").as_deref(),
        Some("m 2\n")
    );
    assert!(received(&proxy, "tcp", "json", "ok") < 100.0);
}

#[test]
fn an_app_has_one_rate_for_all_its_connections() {
    let proxy = Proxy::start("[limits]\napp = { bytes_per_second = 1 }\n");
    let mut first = Sender::connect(&proxy);
    first.send(b"{\"a\":\"metric_of_20_bytes 1\"}");
    let stored = || received(&proxy, "tcp", "json", "ok");
    eventually(stored, |count| *count == 1.0);
    let reply = proxy.push_unix(b"{\"a\":\"m 2\"}");
    assert!(reply.contains("(limits.app.bytes_per_second)"), "{reply}");
    assert_eq!(received(&proxy, "unix", "json", "rate_limited"), 1.0);
    // The first connection waits, too, soon after its message is stored.
    eventually(|| exceeded(&proxy, "app", "bytes"), |count| *count == 2.0);
}

#[test]
fn a_connection_waits_for_the_rate_of_its_app_and_loses_nothing() {
    let proxy = Proxy::start("[limits]\nburst = \"1ms\"\napp = { messages_per_second = 1 }\n");
    let (reply, took) = flood_tcp(&proxy.tcp, b"{\"a\":\"m 1\"}", 3);
    assert_eq!(reply, "");
    assert!(took >= Duration::from_millis(1900), "{took:?}");
    assert_eq!(received(&proxy, "tcp", "json", "ok"), 3.0);
}

#[test]
fn sockets_for_operations_pause() {
    let bench = bench(TWENTY);
    for (transport, line) in [
        ("tcp", &b"c:1|c\n"[..]),
        ("unix", b"{\"name\":\"c\",\"op\":\"inc\",\"value\":1}\n"),
    ] {
        // Few enough for one read, so that only later ones wait.
        let flood = || match transport {
            "tcp" => flood_tcp(&bench.tcp, line, 20),
            _ => flood_unix(&bench.unix, line, 20),
        };
        assert_eq!(flood().0, "");
        let (reply, took) = flood();
        assert_eq!(reply, "");
        assert!(took >= Duration::from_millis(500), "{transport}: {took:?}");
        assert_eq!(bench.results(transport, "ok"), 40.0);
    }
    assert_eq!(bench.proxy.sample("c"), Some(80.0));
    // A sender that would have to wait too long gets an error.
    let (reply, _) = flood_tcp(&bench.tcp, b"c:1|c\n", 2000);
    assert!(
        reply.starts_with("error: this address sends more than 20 messages"),
        "{reply}"
    );
    assert_eq!(bench.results("tcp", "rate_limited"), 1.0);
}

/// Two of them have a permit, two linger, and 16 wait for a permit.
#[test]
fn connections_that_are_turned_away_stay_within_their_limit() {
    let bench = bench(&format!("concurrent_connections = 2\n{ONE_A_MINUTE}"));
    let files = || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", bench.proxy.pid()));
        open.unwrap().count()
    };
    let line = format!("c:1|c|#l:{}\n", "x".repeat(60));
    let connect = || {
        let mut stream = TcpStream::connect(&bench.tcp).unwrap();
        // The proxy may have closed it.
        let _ = stream.write_all(line.as_bytes());
        stream
    };
    let (before, mut most, mut open) = (files(), 0, Vec::new());
    for _ in 0..200 {
        open.push(connect());
        most = most.max(files());
    }
    eventually(
        || {
            most = most.max(files());
            bench.results("tcp", "rate_limited")
        },
        |limited| *limited >= 190.0,
    );
    // Some more are those of this test's own requests.
    assert!(most <= before + 20 + 5, "{before} then {most}");
}

#[test]
fn datagrams_beyond_the_rate_are_dropped_and_counted() {
    let bench = bench(ONE_A_MINUTE);
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let unix = UnixDatagram::unbound().unwrap();
    let long = "x".repeat(60);
    let line = format!("c:1|c|#l:{long}");
    let message =
        format!("{{\"name\":\"d\",\"op\":\"inc\",\"value\":1,\"labels\":{{\"l\":\"{long}\"}}}}");
    for _ in 0..10 {
        udp.send_to(line.as_bytes(), &bench.udp).unwrap();
        unix.send_to(message.as_bytes(), &bench.datagrams).unwrap();
    }
    for transport in ["udp", "unix_datagram"] {
        let results = || {
            [
                bench.results(transport, "ok"),
                bench.results(transport, "rate_limited"),
            ]
        };
        eventually(results, |results| *results == [1.0, 9.0]);
    }
    for name in ["c", "d"] {
        let series = format!("{name}{{l=\"{long}\"}}");
        assert_eq!(bench.proxy.sample(&series), Some(1.0));
    }
    assert_eq!(exceeded(&bench.proxy, "address", "bytes"), 18.0);
}

#[test]
fn new_aggregated_series_have_a_rate_of_their_own() {
    let limits = "[limits]\nloopback = true\nburst = \"1ms\"\n\
                  address = { new_series_per_second = 1 }\n";
    let bench = bench(limits);
    let proxy = &bench.proxy;
    let add = |series: std::ops::Range<u32>| {
        let lines = series.map(|number| format!("added_total{{n=\"{number}\"}} 1\n"));
        let body = format!("# TYPE added_total counter\n{}", lines.collect::<String>());
        proxy.push("POST", "/metrics/job/x?mode=aggregate", body)
    };
    // Groups have no aggregated series; their memory is limited.
    for number in 0..5 {
        let path = format!("/metrics/job/{number}");
        assert_eq!(proxy.push("PUT", &path, "m 1\n").status, 200);
    }
    // A push that creates more than the rate allows passes, and delays the next ones.
    assert_eq!(add(0..1000).status, 202);
    assert_limited(&add(0..1), "(limits.address.new_series_per_second)");
    let create = || proxy.push("POST", "/create", "{}");
    assert_limited(&create(), "(limits.address.new_series_per_second)");
    assert_eq!(exceeded(proxy, "address", "new_series"), 2.0);
    let added = |number: u32| proxy.sample(&format!("added_total{{job=\"x\",n=\"{number}\"}}"));
    assert_eq!((added(0), added(999)), (Some(1.0), Some(1.0)));

    // The same address on other inputs.
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.send_to(b"c:1|c", &bench.udp).unwrap();
    eventually(
        || bench.results("udp", "rate_limited"),
        |count| *count == 1.0,
    );
    let (reply, _) = flood_tcp(&bench.tcp, b"c:1|c\n", 1);
    let expected = "error: this address sends more than 1 new series each second";
    assert!(reply.starts_with(expected), "{reply}");
    // A user at a Unix socket is another sender.
    let unix = UnixDatagram::unbound().unwrap();
    let lines = (0..100).map(|number| format!("d:1|c|#n:{number}\n"));
    let lines = lines.collect::<String>();
    unix.send_to(lines.as_bytes(), &bench.datagrams).unwrap();
    let results = |result| bench.results("unix_datagram", result);
    eventually(|| results("ok"), |count| *count == 100.0);
    unix.send_to(lines.as_bytes(), &bench.datagrams).unwrap();
    eventually(|| results("rate_limited"), |count| *count == 1.0);
    assert_eq!(proxy.sample("d{n=\"7\"}"), Some(1.0));
}

#[test]
fn what_a_sender_exposes_counts_against_its_share_of_memory() {
    let proxy = Proxy::start(
        "[limits]\napp = { memory = 1000 }\naddress = { memory = \"10KB\" }\n\
         [web]\ntrusted_proxies = [\"127.0.0.1\"]\n",
    );
    let push = |client: &str, group: &str, bytes: usize| {
        let headers = [("X-Forwarded-For", client)];
        let path = format!("/metrics/job/{group}");
        let body = format!("m{{l=\"{}\"}} 1\n", "x".repeat(bytes));
        proxy.push_with("PUT", &path, &headers, body)
    };
    let one = "192.0.2.1";
    assert_eq!(push(one, "a", 6000).status, 200);
    let answer = push(one, "b", 6000);
    assert_limited(&answer, "(limits.address.memory)");
    assert_eq!(answer.header("retry-after"), Some("60"));
    // Another sender has its own share, and takes over what it replaces.
    assert_eq!(push("192.0.2.2", "b", 6000).status, 200);
    assert_eq!(push("192.0.2.3", "a", 6000).status, 200);
    assert_eq!(push(one, "c", 6000).status, 200);
    // A sender can use again what it frees.
    assert_eq!(push(one, "d", 6000).status, 429);
    assert_eq!(push(one, "c", 1).status, 200);
    assert_eq!(push(one, "d", 6000).status, 200);
    assert_eq!(exceeded(&proxy, "address", "memory"), 2.0);

    let app = |bytes: usize| {
        let text = format!("{{\"a\":\"m 1\\n#{}\"}}", "x".repeat(bytes));
        proxy.push_unix(text.as_bytes())
    };
    assert_eq!(app(900), "");
    let reply = app(1000);
    assert!(reply.contains("(limits.app.memory)"), "{reply}");
    assert_eq!(app(900), "");
    assert_eq!(exceeded(&proxy, "app", "memory"), 1.0);
}

#[test]
fn the_web_configuration_limits_all_requests_together() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.yml");
    std::fs::write(&file, "rate_limit:\n  interval: 1h\n  burst: 3\n").unwrap();
    let proxy = Proxy::start(&format!("[web]\nconfig_file = {file:?}\n"));
    let statuses = ["/metrics", "/apps", "/-/healthy"].map(|path| proxy.get(path).status);
    assert_eq!(statuses, [200; 3]);
    let answer = proxy.get("/metrics");
    assert_limited(&answer, "(rate_limit in web.config_file)");
    let answer = proxy.push("PUT", "/metrics/job/x", "m 1\n");
    assert_limited(&answer, "(rate_limit in web.config_file)");
    // Sockets answer differently from HTTP.
    assert_eq!(proxy.push_tcp(b"{\"a\":\"m 1\"}"), "");
}

#[test]
fn without_limits_nothing_is_remembered_of_senders() {
    let proxy = Proxy::start("");
    let (reply, _) = flood_tcp(&proxy.tcp, b"{\"a\":\"m 1\"}", 1000);
    assert_eq!(reply, "");
    assert_eq!(proxy.sample("exporter_proxy_senders_limited"), Some(0.0));
    assert_eq!(paused(&proxy), 0.0);
    let mut silent = TcpStream::connect(&proxy.tcp).unwrap();
    silent.set_nonblocking(true).unwrap();
    let read = silent.read(&mut [0]).unwrap_err();
    assert_eq!(read.kind(), ErrorKind::WouldBlock);
}
