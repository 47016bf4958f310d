//! Many datagrams at once: each is processed and counted separately, even if one system call
//! returns many and some are invalid.

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::thread;

use nix::sys::socket::{setsockopt, sockopt};

use crate::harness::{Proxy, eventually, free_address};
use crate::operations::{Bench, bench};
use crate::reload::reload;

/// The maximum number of UDP datagrams in one system call.
const UDP_CALL: usize = 64;

/// The maximum size of a datagram on a Unix socket, in bytes.
const LONGEST_UNIX: usize = 256 * 1024;

const LOST: &str = "exporter_proxy_operations_datagrams_lost_total{transport=\"udp\"}";

/// Valid, unfinished and empty datagrams. An unfinished one must not be joined
/// with the next, and an empty one must not end anything.
const MIXTURE: [&[u8]; 8] = [
    b"c:1|c",
    b"",
    b"{\"name\":\"c\",\"op\":\"inc\",\"value\":1",
    b",\"value\":100}",
    b"{\"name\":\"c\",\"op\":\"inc\",\"value\":1}\nc:1|c\n",
    b"{\"name\":\"c\",\"op\":\"inc\",\"value\":-1}",
    b"\n",
    b"[{\"name\":\"c\",\"op\":\"inc\",\"value\":2}]c:1|c",
];

/// The counts after this many mixtures, and their bytes.
fn expected(mixtures: usize) -> [f64; 6] {
    let bytes: usize = MIXTURE.iter().map(|datagram| datagram.len()).sum();
    let each = [6.0, 5.0, 1.0, 1.0, 1.0, bytes as f64];
    each.map(|count| count * mixtures as f64)
}

fn counted(bench: &Bench, transport: &str) -> [f64; 6] {
    let bytes =
        format!("exporter_proxy_operations_received_bytes_total{{transport=\"{transport}\"}}");
    let result = |result| bench.results(transport, result);
    [
        bench.proxy.sample("c").unwrap_or_default(),
        result("ok"),
        result("truncated"),
        result("malformed"),
        result("bad_value"),
        bench.proxy.sample(&bytes).unwrap_or_default(),
    ]
}

#[test]
fn each_of_many_udp_datagrams_is_processed() {
    let bench = bench("");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(&bench.udp).unwrap();
    // The datagrams queue up while the proxy is stopped, so that few calls read them all. They fit
    // into the smallest buffer.
    let mixtures = 4 * UDP_CALL / MIXTURE.len();
    bench.proxy.signal("STOP");
    for _ in 0..mixtures {
        for datagram in MIXTURE {
            socket.send(datagram).unwrap();
        }
    }
    // The largest UDP datagram.
    let mut long = vec![b'\n'; 65_507];
    long[..6].copy_from_slice(b"l:1|c\n");
    socket.send(&long).unwrap();
    bench.proxy.signal("CONT");
    let mut all = expected(mixtures);
    all[1] += 1.0;
    all[5] += long.len() as f64;
    eventually(|| counted(&bench, "udp"), |seen| *seen == all);
    assert_eq!(bench.proxy.sample("l"), Some(1.0));
    assert_eq!(bench.proxy.sample(LOST), Some(0.0));
}

#[test]
fn each_of_many_unix_datagrams_is_processed() {
    let bench = bench("");
    let socket = UnixDatagram::unbound().unwrap();
    // The kernel doubles this.
    setsockopt(&socket, sockopt::SndBuf, &(200 * 1024)).unwrap();
    socket.connect(&bench.datagrams).unwrap();
    let mixtures = 20;
    let lines = |length| {
        let mut lines = b"l:1|c\n".to_vec();
        lines.resize(length, b'\n');
        lines
    };
    for mixture in 0..mixtures {
        for datagram in MIXTURE {
            socket.send(datagram).unwrap();
        }
        // The largest that is accepted, and one that is larger.
        if mixture % 10 == 0 {
            socket.send(&lines(LONGEST_UNIX)).unwrap();
            socket.send(&lines(LONGEST_UNIX + 1)).unwrap();
        }
    }
    let mut all = expected(mixtures);
    all[1] += 2.0;
    all[5] += 4.0 * LONGEST_UNIX as f64;
    eventually(|| counted(&bench, "unix_datagram"), |seen| *seen == all);
    assert_eq!(bench.proxy.sample("l"), Some(2.0));
    assert_eq!(bench.results("unix_datagram", "too_large"), 2.0);
    let log = bench.proxy.log();
    assert!(log.contains("rejected ("), "{log}");
}

/// Senders that are faster than the proxy, and reloads meanwhile: each datagram is applied once, or
/// the kernel dropped it and it counts as lost.
#[test]
fn datagrams_under_load_are_applied_once_or_counted_as_lost() {
    const SENDERS: usize = 4;
    const EACH: usize = 5_000;
    const LINES: usize = 25;
    let udp = free_address();
    let config = |site: &str| {
        format!("[operations]\nudp = \"{udp}\"\nextra_labels = {{ site = \"{site}\" }}\n")
    };
    let proxy = Proxy::start(&config("a"));
    thread::scope(|scope| {
        for number in 0..SENDERS {
            let (udp, lines) = (&udp, format!("c:1|c|#sender:{number}\n").repeat(LINES));
            scope.spawn(move || {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                for _ in 0..EACH {
                    socket.send_to(lines.as_bytes(), udp).unwrap();
                }
            });
        }
        for site in ["b", "a"].repeat(3) {
            reload(&proxy, &config(site));
        }
    });
    let applied = || {
        let series = (0..SENDERS).flat_map(|sender| {
            ["a", "b"].map(|site| format!("c{{sender=\"{sender}\",site=\"{site}\"}}"))
        });
        let values = series.map(|series| proxy.sample(&series).unwrap_or_default());
        values.sum::<f64>()
    };
    let lines = |datagrams: f64| datagrams * LINES as f64;
    let sent = lines((SENDERS * EACH) as f64);
    eventually(
        || (applied(), lines(proxy.sample(LOST).unwrap())),
        |(applied, lost)| applied + lost == sent,
    );
    let ok = "exporter_proxy_operations_total{result=\"ok\",transport=\"udp\"}";
    eventually(
        || (proxy.sample(ok), applied()),
        |(ok, applied)| *ok == Some(*applied),
    );
}

/// The kernel drops the newest datagrams when its buffer is full. So the last one that is kept has
/// the number of those that are kept.
#[test]
fn datagrams_of_one_sender_are_applied_in_order() {
    let bench = bench("");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(&bench.udp).unwrap();
    let sent: u32 = 5000;
    bench.proxy.signal("STOP");
    for number in 1..=sent {
        let lines = format!("c:1|c\ng:{number}|g\n");
        socket.send(lines.as_bytes()).unwrap();
    }
    bench.proxy.signal("CONT");
    let (count, _) = eventually(
        || {
            let value = |series| bench.proxy.sample(series).unwrap_or_default();
            (value("c"), value(LOST))
        },
        |(count, lost)| count + lost == f64::from(sent),
    );
    assert_eq!(bench.proxy.sample("g"), Some(count));
}

#[test]
fn datagrams_received_before_the_stop_are_stored() {
    let directory = tempfile::tempdir().unwrap();
    let udp = free_address();
    let path = directory.path().join("state");
    let config = format!("[operations]\nudp = \"{udp}\"\n[storage]\npath = {path:?}\n");
    let mut proxy = Proxy::start(&config);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    proxy.signal("STOP");
    // They fit into the smallest buffer.
    let sent = 4 * UDP_CALL - 6;
    for number in 1..=sent {
        let lines = format!("c:1|c\ng:{number}|g\n");
        socket.send_to(lines.as_bytes(), &udp).unwrap();
    }
    proxy.signal("TERM");
    proxy.signal("CONT");
    assert!(proxy.wait().success());
    let proxy = Proxy::start(&config);
    let values = ["c", "g"].map(|series| proxy.sample(series));
    assert_eq!(values, [Some(sent as f64); 2]);
}
