//! Roles on the receiver and on the sockets for operations, and listeners open to everyone.

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use tempfile::TempDir;

use super::{ask, files, start};
use crate::harness::{Proxy, eventually};
use crate::support::Sender;

#[test]
fn receivers_ask_for_the_role_by_address_user_and_group() {
    let dir = files(&[], &["token"]);
    let token = "[[web.access]]\nrole = \"write\"\ntoken_file = \"DIR/token\"\n";
    let proxy = start(&dir, token);
    for answer in [
        proxy.push_tcp(b"{\"a\":\"m 1\"}"),
        proxy.push_unix(b"{\"a\":\"m 1\"}"),
    ] {
        assert_eq!(
            answer,
            "error: this sender does not have the role write (web.access)\n"
        );
    }
    let entries = "[[web.access]]\nrole = \"write\"\nallow_from = \"127.0.0.1\"\nlisteners = [\"receiver\"]\napps = [\"shop-*\"]\n\
                   [[web.access]]\nrole = \"write\"\nunix_user = \"current_user\"\nlisteners = [\"receiver\"]\n";
    let proxy = start(&dir, &format!("{token}{entries}"));
    assert_eq!(proxy.push_tcp(b"{\"shop-a\":\"m 1\"}"), "");
    let answer = proxy.push_tcp(b"{\"shop-b\":\"m 1\",\"bank\":\"m 1\"}");
    assert_eq!(
        answer,
        "error: this sender may not write the app \"bank\" (web.access.apps)\n"
    );
    assert_eq!(proxy.push_unix(b"{\"bank\":\"m 1\"}"), "");
    let metrics = proxy.metrics();
    assert!(!metrics.contains("app=\"shop-b\""), "{metrics}");
    // The entries are for the receivers only.
    assert_eq!(ask(&proxy.push, "PUT", "/metrics/job/x", "").status, 401);
    let group = "[[web.access]]\nrole = \"write\"\nunix_group = \"current_group\"\n";
    let proxy = start(&dir, group);
    assert_eq!(proxy.push_unix(b"{\"a\":\"m 1\"}"), "");
    assert!(proxy.push_tcp(b"{\"a\":\"m 1\"}").starts_with("error: "));
    let other = "[[web.access]]\nrole = \"write\"\nunix_user = 54321\n";
    let proxy = start(&dir, other);
    assert!(proxy.push_unix(b"{\"a\":\"m 1\"}").starts_with("error: "));
}

/// A proxy with all sockets for operations, and the paths of the Unix sockets.
fn operations(dir: &TempDir, access: &str) -> (Proxy, String, String, [PathBuf; 2]) {
    let sockets = ["o.sock", "d.sock"].map(|name| dir.path().join(name));
    let config = format!(
        "[operations]\ntcp = \"127.0.0.1:0\"\nudp = \"127.0.0.1:0\"\nallow_shutdown = true\n\
         unix_sockets = [\"DIR/o.sock\"]\nunix_datagram_sockets = [\"DIR/d.sock\"]\n{access}"
    );
    let proxy = start(dir, &config);
    let log = proxy.log();
    let bound = |marker: &str| {
        let start = log.find(marker).expect("a bound address") + marker.len();
        log[start..].split_whitespace().next().unwrap().to_owned()
    };
    let (tcp, udp) = (
        bound("operations on TCP socket "),
        bound("operations on UDP socket "),
    );
    (proxy, tcp, udp, sockets)
}

/// A stream's answer to a message.
fn answer_of(
    stream: impl std::io::Read + std::io::Write,
    message: &[u8],
    close: impl FnOnce(),
) -> String {
    let mut stream = stream;
    let _ = stream.write_all(message);
    close();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn operations_ask_for_the_role_by_address_and_user() {
    let dir = files(&[], &[]);
    // The address is not allowed, but the user is, within bounds.
    let access = "[[web.access]]\nrole = \"write\"\nunix_user = \"current_user\"\nlabels = { job = \"backup\" }\n\
                  [[web.access]]\nrole = \"admin\"\nunix_user = 54321\n";
    let (proxy, tcp, udp, [stream, datagram]) = operations(&dir, access);
    let mut sender = Sender::to(&tcp);
    sender.send(b"tcp_total:1|c|#job:backup\n");
    sender.half_close();
    let answer = sender.read_to_end();
    assert!(
        answer.starts_with("error: this needs the role write"),
        "{answer}"
    );
    let from = UdpSocket::bind("127.0.0.1:0").unwrap();
    from.send_to(b"udp_total:1|c|#job:backup\n", &udp).unwrap();
    let unix = std::os::unix::net::UnixStream::connect(&stream).unwrap();
    let answer = answer_of(
        &unix,
        b"unix_total:1|c|#job:backup\nunix_total:1|c|#job:other\n{\"op\":\"shutdown\"}\n",
        || {
            unix.shutdown(std::net::Shutdown::Write).unwrap();
        },
    );
    let lines: Vec<&str> = answer.lines().collect();
    assert!(
        lines[0].starts_with(
            "error: message 2: this sender may not write the series unix_total{job=\"other\"}"
        ),
        "{answer}"
    );
    assert_eq!(
        lines[1],
        "error: message 3: op shutdown needs the role admin (web.access)"
    );
    let from = UnixDatagram::unbound().unwrap();
    from.send_to(b"datagram_total:1|c|#job:backup\n", &datagram)
        .unwrap();
    from.send_to(b"datagram_total:1|c\n", &datagram).unwrap();
    let series = |transport: &str, result: &str| {
        let series = format!(
            "exporter_proxy_operations_total{{result=\"{result}\",transport=\"{transport}\"}}"
        );
        proxy.sample(&series).unwrap_or(0.0)
    };
    eventually(
        || {
            (
                series("udp", "forbidden"),
                series("unix_datagram", "forbidden"),
            )
        },
        |seen| *seen == (1.0, 1.0),
    );
    // A rejection may be counted before the other datagrams are applied.
    for series in [
        "unix_total{job=\"backup\"}",
        "datagram_total{job=\"backup\"}",
    ] {
        eventually(|| proxy.sample(series), |value| *value == Some(1.0));
    }
    assert_eq!(proxy.sample("udp_total{job=\"backup\"}"), None);
    assert_eq!(proxy.sample("tcp_total{job=\"backup\"}"), None);

    let access = "[[web.access]]\nrole = \"write\"\nallow_from = \"127.0.0.1\"\nlisteners = [\"operations\"]\n";
    let dir = files(&[], &[]);
    let (proxy, tcp, udp, _) = operations(&dir, access);
    let mut sender = Sender::to(&tcp);
    sender.send(b"tcp_total:1|c\n");
    sender.half_close();
    assert_eq!(sender.read_to_end(), "");
    let from = UdpSocket::bind("127.0.0.1:0").unwrap();
    from.send_to(b"udp_total:1|c\n", &udp).unwrap();
    eventually(|| proxy.sample("udp_total"), |seen| *seen == Some(1.0));
    assert_eq!(proxy.sample("tcp_total"), Some(1.0));
}

#[test]
fn listeners_that_everyone_can_write_to_start_with_a_warning() {
    let settings = [
        ("PUSH_LISTEN", "0.0.0.0:0"),
        ("RECEIVER_RECEIVER_TCP_SOCKET", "0.0.0.0:0"),
        ("OPERATIONS_UDP", "0.0.0.0:0"),
    ];
    let open = |proxy: &Proxy| {
        ["push", "tcp", "operations_udp", "http"].map(|listener| {
            let series = format!("exporter_proxy_open_listeners{{listener=\"{listener}\"}}");
            proxy.sample(&series).unwrap()
        })
    };
    let proxy = Proxy::start_with("", &settings);
    assert_eq!(open(&proxy), [1.0, 1.0, 1.0, 0.0]);
    let log = proxy.log();
    assert_eq!(log.matches("can write metrics there").count(), 3, "{log}");
    assert!(log.contains("(receiver.receiver_tcp_socket)"), "{log}");
    let allowed = "[[web.access]]\nrole = \"write\"\nallow_from = \"10.0.0.0/8\"\n";
    for proxy in [Proxy::start(""), Proxy::start_with(allowed, &settings)] {
        assert_eq!(open(&proxy), [0.0; 4]);
        assert!(!proxy.log().contains("can write metrics there"));
    }
}
