//! Many silent connections, no more file descriptors, senders that are gone.

use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpSocket;

use crate::harness::{PATIENCE, Proxy, capnp_message, eventually};
use crate::support::{Sender, cpu_time, logged, names, read_answer, received, text_of};

/// Lets this process open `wanted` files. The proxy is given the same limit.
fn allow_files(wanted: u64) {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit is reported");
    assert!(
        hard >= wanted,
        "this test opens {wanted} files, and the hard limit is {hard}"
    );
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the limit is raised");
    }
}

/// Opens connections that send `bytes` and then stay silent.
fn silent(address: &str, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    (0..count)
        .map(|_| {
            let mut stream = TcpStream::connect(address).expect("there is a backlog");
            stream.write_all(bytes).expect("it is buffered");
            stream
        })
        .collect()
}

#[test]
fn a_sender_gets_through_beside_3000_silent_connections() {
    allow_files(3_100);
    let proxy = Proxy::start("");
    let start = Instant::now();
    let begun = silent(&proxy.tcp, 1_500, b"{");
    let quiet = silent(&proxy.tcp, 1_500, b"");
    assert_eq!(proxy.push_tcp(b"{\"app\":\"m 1\"}"), "");
    assert_eq!(text_of(&proxy, "app").as_deref(), Some("m 1\n"));
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    // The other connections are still open: the permits are still taken.
    let open = proxy.sample("exporter_proxy_connections_open{listener=\"tcp\"}");
    assert!(open >= Some(1_500.0), "{open:?}");
    let evicted =
        proxy.sample("exporter_proxy_connections_evicted_total{listener=\"tcp\",result=\"idle\"}");
    assert!(evicted >= Some(900.0), "{evicted:?}");
    // The Unix socket has separate permits.
    assert_eq!(proxy.push_unix(b"{\"local\":\"m 1\"}"), "");
    drop((begun, quiet));
    eventually(
        || proxy.sample("exporter_proxy_connections_open{listener=\"tcp\"}"),
        |open| *open == Some(0.0),
    );
}

#[test]
fn a_sender_gets_through_beside_documents_that_were_left_half_sent() {
    let proxy = Proxy::start(
        "[exporter]\nconcurrent_requests = 100\n[receiver]\nmessage_timeout = \"1h\"\n",
    );
    // Enough bytes that each sender gets the reason.
    let begun = silent(&proxy.tcp, 600, b"{\"wrong\":\"w");
    let start = Instant::now();
    assert_eq!(proxy.push_tcp(b"{\"app\":\"m 1\"}"), "");
    assert_eq!(names(&proxy), ["app"]);
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    assert!(received(&proxy, "tcp", "json", "closed") >= 501.0);
    let mut first = Sender(begun.into_iter().next().unwrap());
    let answer = first.read_to_end();
    assert!(
        answer.starts_with("error: closed to make room: "),
        "{answer}"
    );
}

#[test]
fn http_connections_past_the_bound_make_room_for_a_scrape() {
    let proxy = Proxy::start("[exporter]\nmax_connections = 50\nheader_timeout = \"1h\"\n");
    let quiet = silent(&proxy.http, 100, b"");
    let half = silent(&proxy.http, 100, b"GET /metrics HTTP/1.1\r\n");
    let metrics = proxy.metrics();
    assert!(metrics.contains("exporter_proxy_build_info"), "{metrics}");
    let evicted =
        proxy.sample("exporter_proxy_connections_evicted_total{listener=\"http\",result=\"idle\"}");
    assert!(evicted >= Some(150.0), "{evicted:?}");
    drop((quiet, half));
}

/// Starts the proxy with this limit on open files.
pub fn with_files(files: u32, config: &str) -> Proxy {
    Proxy::launch(config, &[], |command| {
        let mut limited = Command::new("sh");
        limited
            .arg("-c")
            .arg(format!("ulimit -n {files} && exec \"$@\""))
            .arg("sh")
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        limited
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        *command = limited;
        command
    })
}

const ACCEPT_ERROR: &str = "tcp listener cannot accept connections: Too many open files";

#[test]
fn at_the_limit_of_open_files_it_waits_says_so_and_goes_on_when_it_can() {
    let proxy = with_files(64, "");
    logged(&proxy, "this process may open 64 files", 1);
    // An open scrape connection is still served.
    let mut scraper = Sender::to(&proxy.http);
    let mut scrape = || {
        scraper.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        read_answer(&mut scraper.0, true).expect("an answer").text()
    };
    scrape();

    let cpu = cpu_time(proxy.pid());
    let start = Instant::now();
    let quiet = silent(&proxy.tcp, 600, b"");
    logged(&proxy, ACCEPT_ERROR, 4);
    let errors = proxy.log().matches(ACCEPT_ERROR).count();
    let passed = start.elapsed();
    let spent = cpu_time(proxy.pid()) - cpu;
    // The first is logged at once, and then at most one a second.
    assert!(
        passed >= Duration::from_secs(errors as u64 - 1),
        "{errors} lines in {passed:?}"
    );
    assert!(spent < passed / 4, "{spent:?} of CPU time in {passed:?}");
    let metrics = scrape();
    let series = "exporter_proxy_connection_accept_errors_total{listener=\"tcp\"} ";
    let counted = metrics.lines().find_map(|line| line.strip_prefix(series));
    let counted: u64 = counted.expect("they are counted").parse().unwrap();
    assert!(counted >= 4, "{counted}");

    drop(quiet);
    assert_eq!(proxy.push_tcp(b"{\"app\":\"m 1\"}"), "");
    assert!(scrape().ends_with("\nm 1\n"));
    eventually(
        || {
            proxy.push_tcp(b"{\"app\":\"m 2\"}");
            proxy.log()
        },
        |log| log.contains("tcp listener accepts connections again"),
    );
}

#[test]
fn a_sender_gets_through_at_the_limit_of_open_files() {
    let proxy = with_files(64, "");
    let quiet = silent(&proxy.tcp, 100, b"");
    logged(&proxy, ACCEPT_ERROR, 1);
    assert_eq!(proxy.push_tcp(b"{\"app\":\"m 1\"}"), "");
    drop(quiet);
    assert_eq!(text_of(&proxy, "app").as_deref(), Some("m 1\n"));
}

#[test]
fn a_scrape_gets_through_though_pushers_have_taken_every_descriptor() {
    let proxy = with_files(64, "");
    let quiet = silent(&proxy.tcp, 100, b"");
    logged(&proxy, ACCEPT_ERROR, 1);
    let metrics = proxy.metrics();
    assert!(metrics.contains("exporter_proxy_build_info"), "{metrics}");
    assert_eq!(proxy.push_unix(b"{\"app\":\"m 1\"}"), "");
    drop(quiet);
}

/// Resets a connection: bytes on their way are lost, and the other side gets a reset instead of
/// an end.
fn reset(sender: Sender) {
    let socket = TcpSocket::from_std_stream(sender.0);
    socket.set_zero_linger().expect("an option is set");
}

#[test]
fn a_sender_that_is_gone_half_way_leaves_the_old_text_in_place_and_is_counted() {
    let proxy = Proxy::start("");
    let json = b"{\"app\":\"new 1\",\"other\":\"".to_vec();
    let message = capnp_message("app", "new 1");
    let capnp = message[..message.len() - 1].to_vec();
    for (format, half) in [("json", json), ("capnp", capnp)] {
        proxy.push_tcp(b"{\"app\":\"old 1\"}");
        let mut sender = Sender::connect(&proxy);
        // Once this is stored, half of the next message has certainly been read.
        let whole = match format {
            "json" => b"{\"before\":\"b 1\"}".to_vec(),
            _ => capnp_message("before", "b 2"),
        };
        let stored = received(&proxy, "tcp", format, "ok");
        sender.send(&[whole, half].concat());
        eventually(
            || received(&proxy, "tcp", format, "ok"),
            |now| *now > stored,
        );
        reset(sender);
        eventually(
            || received(&proxy, "tcp", format, "connection_lost"),
            |lost| *lost == 1.0,
        );
        assert_eq!(names(&proxy), ["app", "before"]);
        assert_eq!(text_of(&proxy, "app").as_deref(), Some("old 1\n"));
    }
    let log = logged(&proxy, "rejected (connection_lost)", 2);
    assert_eq!(log.matches("rejected (").count(), 2, "{log}");
}

#[test]
fn a_sender_that_ends_half_way_is_counted_as_truncated() {
    let proxy = Proxy::start("");
    proxy.push_tcp(b"{\"app\":\"old 1\"}");
    let message = capnp_message("app", "new 1");
    for cut in [2, 7, 8, 20, message.len() - 1] {
        assert_eq!(proxy.push_unix(&message[..cut]), "", "{cut}");
    }
    assert_eq!(text_of(&proxy, "app").as_deref(), Some("old 1\n"));
    assert_eq!(received(&proxy, "unix", "capnp", "truncated"), 5.0);
    logged(&proxy, "rejected (truncated)", 5);
}

#[test]
fn a_reset_between_messages_is_no_error() {
    let proxy = Proxy::start("");
    let mut sender = Sender::connect(&proxy);
    sender.send(b"{\"app\":\"m 1\"}\n");
    eventually(|| names(&proxy), |names| *names == ["app"]);
    reset(sender);
    eventually(
        || proxy.sample("exporter_proxy_connections_open{listener=\"tcp\"}"),
        |open| *open == Some(0.0),
    );
    assert_eq!(crate::support::rejected(&proxy), []);
}

#[test]
fn scrapes_and_pushes_go_on_beside_each_other_and_no_text_is_torn() {
    let proxy = Proxy::start("[exporter]\nworker_threads = 2\nown_metrics = false\n");
    let text = |number: usize| format!("m {number}\n").repeat(2_000);
    proxy.push_tcp(&capnp_message("app", &text(0)));
    thread::scope(|scope| {
        for pusher in 0..4 {
            let proxy = &proxy;
            scope.spawn(move || {
                for number in 0..50 {
                    proxy.push_tcp(&capnp_message("app", &text(10 * number + pusher)));
                }
            });
        }
        for _ in 0..50 {
            let metrics = proxy.metrics();
            let first = metrics.lines().next().expect("a line");
            assert_eq!(metrics.lines().count(), 2_000);
            assert!(metrics.lines().all(|line| line == first), "{metrics}");
        }
    });
}

#[test]
fn a_client_that_closes_its_side_early_still_gets_its_answer() {
    let proxy = Proxy::start("");
    // It depends on chance whether the proxy sees the end together with the request.
    for _ in 0..300 {
        let mut sender = Sender::to(&proxy.http);
        sender.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept-Encoding: gzip\r\n\r\n");
        sender.half_close();
        let answer = read_answer(&mut sender.0, true).expect("an answer");
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
    }
}
