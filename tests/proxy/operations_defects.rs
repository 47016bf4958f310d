//! Known defects of metrics-server: the input that triggers each is sent here over a real
//! socket. Messages that crash it are in [`operations`](crate::operations).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};

use crate::faults::with_files;
use crate::harness::{PATIENCE, eventually, program};
use crate::operations::{Bench, bench, bench_of};
use crate::support::logged;

fn send_datagram(bench: &Bench, bytes: &[u8]) {
    let socket = UnixDatagram::unbound().unwrap();
    socket.send_to(bytes, &bench.datagrams).unwrap();
}

/// metrics-server cuts a value at its second colon, and exits silently on a name without a
/// value.
#[test]
fn configured_labels_may_have_colons_and_invalid_ones_are_reported() {
    let bench = bench("extra_labels = { url = \"http://a:80/?b=c:d\" }\n");
    assert_eq!(bench.send(b"c:1|c\n"), "");
    bench.comes_to("c{url=\"http://a:80/?b=c:d\"}", 1.0);

    let ended = program()
        .env("EXPORTER_PROXY_OPERATIONS_EXTRA_LABELS", "no-value")
        .output()
        .unwrap();
    assert!(!ended.status.success());
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(
        said.contains("OPERATIONS_EXTRA_LABELS") && !said.contains("panicked"),
        "{said}"
    );
}

/// metrics-server waits for the file forever, and accepts nothing.
#[test]
fn a_missing_file_of_labels_delays_nothing() {
    let bench = bench("extra_labels_file = \"/nowhere/labels\"\n");
    logged(&bench.proxy, "operations.extra_labels_file", 1);
    assert_eq!(bench.send(b"c:1|c\n"), "");
    bench.comes_to("c", 1.0);
}

/// metrics-server takes the value as 0, and applies the rest.
#[test]
fn a_value_of_a_wrong_type_changes_nothing() {
    let bench = bench("");
    let wrong = [
        r#"{"name":"a","op":"set","value":"5"}"#,
        r#"{"name":"a","op":"set","value":[5]}"#,
        r#"{"name":"a","op":"set","value":1e999}"#,
        r#"{"name":"a","op":"obs","value":1,"buckets":10.5}"#,
        r#"{"name":"a","op":"obs","value":1,"bucket_custom":"1,2"}"#,
        r#"{"name":"a","op":"inc","value":1,"labels":{"x":1}}"#,
        r#"{"name":"a","op":"inc","value":1,"labels":["x"]}"#,
        r#"{"name":["a"],"op":"inc","value":1}"#,
        r#"{"name":"a","op":"inc","value":1,}"#,
    ];
    for message in wrong {
        bench.send_udp(message.as_bytes());
        let answer = bench.send(message.as_bytes());
        assert!(
            answer.starts_with("error: message 1: "),
            "{message}: {answer}"
        );
    }
    let all = wrong.len() as f64;
    eventually(
        || ["unix", "udp"].map(|transport| bench.results(transport, "malformed")),
        |seen| *seen == [all, all],
    );
    let metrics = bench.proxy.metrics();
    assert!(!metrics.contains("# TYPE a "), "{metrics}");
}

/// metrics-server prepends the unfinished message of one sender to the messages of the next
/// sender, again and again.
#[test]
fn an_unfinished_message_does_not_affect_other_senders() {
    let bench = bench("");
    let half = b"{\"name\":\"half\",\"op\":\"inc\",\"value\":";
    let mut unfinished = bench.connect();
    unfinished.write_all(half).unwrap();
    let mut over_tcp = TcpStream::connect(&bench.tcp).unwrap();
    over_tcp.write_all(half).unwrap();
    bench.send_udp(half);
    send_datagram(&bench, half);
    let whole = b"{\"name\":\"whole\",\"op\":\"inc\",\"value\":1}";
    for _ in 0..3 {
        bench.send_udp(whole);
        send_datagram(&bench, whole);
        assert_eq!(bench.send(whole), "");
        TcpStream::connect(&bench.tcp)
            .unwrap()
            .write_all(whole)
            .unwrap();
    }
    bench.comes_to("whole", 12.0);
    for transport in ["udp", "unix_datagram"] {
        assert_eq!(bench.results(transport, "truncated"), 1.0, "{transport}");
    }
    // The streams continue with the rest of their messages.
    unfinished.write_all(b"2}").unwrap();
    over_tcp.write_all(b"3}").unwrap();
    bench.comes_to("half", 5.0);
}

/// metrics-server loses messages that are longer than one read.
#[test]
fn a_message_may_be_longer_than_one_read() {
    let bench = bench("max_message = \"1MiB\"\n");
    let message = |length: usize| {
        let passed_over = "x".repeat(length);
        format!("{{\"name\":\"a\",\"comment\":\"{passed_over}\",\"op\":\"inc\",\"value\":1}}")
    };
    assert_eq!(bench.send(message(800_000).as_bytes()), "");
    bench.send_udp(message(60_000).as_bytes());
    send_datagram(&bench, message(100_000).as_bytes());
    bench.comes_to("a", 3.0);
    // A message over the limit is rejected, and the next one is applied.
    let two = format!("{}\na:1|c\n", message(2_000_000));
    let answer = bench.send(two.as_bytes());
    assert!(answer.contains("operations.max_message"), "{answer}");
    bench.comes_to("a", 4.0);
}

/// metrics-server leaks the file descriptor of each connection.
#[test]
fn connections_are_closed_when_their_senders_are_done() {
    let bench = bench("");
    let files = || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", bench.proxy.pid()));
        open.unwrap().count()
    };
    assert_eq!(bench.send(b"c:1|c\n"), "");
    bench.comes_to("c", 1.0);
    let before = files();
    for _ in 0..200 {
        assert_eq!(bench.send(b"c:1|c\n"), "");
        // Closed on both sides, in the middle of a message.
        bench.connect().write_all(b"c:1|c\n{").unwrap();
        drop(UnixStream::connect(&bench.unix).unwrap());
    }
    bench.comes_to("c", 401.0);
    eventually(files, |open| *open <= before + 1);
}

/// In metrics-server, one accept error ends the listener.
#[test]
fn senders_are_accepted_again_after_files_ran_out() {
    let bench = bench_of("", |config| with_files(64, config));
    let mut silent: Vec<UnixStream> = Vec::new();
    for _ in 0..100 {
        silent.push(UnixStream::connect(&bench.unix).unwrap());
    }
    logged(&bench.proxy, "Too many open files", 1);
    // Datagrams need no further descriptor.
    let unix = UnixDatagram::unbound().unwrap();
    unix.send_to(b"c:1|c", &bench.datagrams).unwrap();
    drop(silent);
    assert_eq!(bench.send(b"c:1|c\n"), "");
    bench.comes_to("c", 2.0);
}

/// In metrics-server, one read error ends the collector, and an empty datagram
/// reads like the end of a stream.
#[test]
fn odd_datagrams_do_not_end_the_reading() {
    let bench = bench("");
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let unix = UnixDatagram::unbound().unwrap();
    let long = vec![b'x'; 65_000];
    for odd in [&b""[..], b"\n", b"\0", b"{", b"}{", b"\xff\xff", &long] {
        udp.send_to(odd, &bench.udp).unwrap();
        unix.send_to(odd, &bench.datagrams).unwrap();
    }
    // Their senders are gone when they are read.
    drop((udp, unix));
    bench.send_udp(b"c:1|c");
    send_datagram(&bench, b"c:1|c");
    bench.comes_to("c", 2.0);
}

/// metrics-server logs the error and continues without the port.
#[test]
fn a_port_in_use_fails_the_start() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = [
        ("udp", udp.local_addr().unwrap()),
        ("tcp", tcp.local_addr().unwrap()),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (key, address) in taken {
        let ended = program()
            .env(
                "EXPORTER_PROXY_EXPORTER_SCRAPE_EXPOSE_ENDPOINT",
                "127.0.0.1:0",
            )
            .env("EXPORTER_PROXY_RECEIVER_RECEIVER_TCP_SOCKET", "127.0.0.1:0")
            .env("EXPORTER_PROXY_PUSH_LISTEN", "")
            .env(
                "EXPORTER_PROXY_RECEIVER_RECEIVER_UNIX_SOCKET",
                dir.path().join("r.sock"),
            )
            .env(
                format!("EXPORTER_PROXY_OPERATIONS_{}", key.to_uppercase()),
                address.to_string(),
            )
            .output()
            .unwrap();
        assert!(!ended.status.success());
        let said = String::from_utf8_lossy(&ended.stderr);
        let expected = format!("cannot listen at {address} (operations.{key})");
        assert!(said.contains(&expected), "{said}");
    }
}

/// In metrics-server, a slow receiver blocks everything.
#[test]
fn a_slow_receiver_blocks_no_sender() {
    // It accepts connections and never reads.
    let stuck = TcpListener::bind("127.0.0.1:0").unwrap();
    let bench = bench(&format!(
        "forward_to = \"tcp://{}\"\nforward_queue = \"100KiB\"\n",
        stuck.local_addr().unwrap()
    ));
    let mut sender = bench.connect();
    let mut answers = BufReader::new(sender.try_clone().unwrap()).lines();
    let writing = std::thread::spawn(move || {
        let lines = "c:1|c\n".repeat(100);
        // Until the buffers of the kernel and the queue are full.
        while sender.write_all(lines.as_bytes()).is_ok() {}
    });
    let answer = answers.next().unwrap().unwrap();
    assert!(answer.contains("operations.forward_queue"), "{answer}");
    // Another sender is answered, and so is a scrape. The first one fills the queue
    // by batches, so a single line could still fit many times.
    let lines = "c:1|c\n".repeat(100);
    eventually(
        || bench.send(lines.as_bytes()),
        |answer| answer.contains("operations.forward_queue"),
    );
    assert_eq!(bench.proxy.get("/health").status, 200);
    assert!(bench.results("unix", "no_buffer") > 0.0);
    drop(bench);
    writing.join().unwrap();
}

/// In metrics-server, these collide with its own metrics.
#[test]
fn only_the_names_of_the_own_metrics_are_reserved() {
    let bench = bench("");
    for name in [
        "go_goroutines",
        "process_open_fds",
        "promhttp_metric_handler_requests_total",
        "metrics_server_processed_metrics_total",
    ] {
        assert_eq!(bench.send(format!("{name}:7|g\n").as_bytes()), "");
        bench.comes_to(name, 7.0);
    }
    let answer = bench.send(b"exporter_proxy_operations_total:1|c\n");
    assert!(answer.contains("exporter.own_metrics"), "{answer}");
    assert_eq!(bench.results("unix", "reserved_name"), 1.0);
}

/// In metrics-server, an operation of another type, or with other buckets than the first
/// observation, changes a value that is not exposed.
#[test]
fn a_second_kind_is_rejected_and_the_first_goes_on() {
    let bench = bench("");
    let text = "c:1|c\nc:5|g\nc:5|h\n{\"name\":\"c\",\"op\":\"obs\"}\nc:1|c\n";
    let answer = bench.send(text.as_bytes());
    assert_eq!(answer.lines().count(), 3, "{answer}");
    let words = "family c is a gauge here, and a counter already";
    assert!(answer.contains(words), "{answer}");
    bench.comes_to("c", 2.0);
    assert_eq!(bench.results("unix", "kind_conflict"), 3.0);
    // Once the series is deleted, the name is free.
    let text = "{\"name\":\"c\",\"op\":\"del\"}\nc:5|g\n";
    assert_eq!(bench.send(text.as_bytes()), "");
    bench.comes_to("c", 5.0);
    let text = r#"{"name":"h","op":"obs","value":1,"buckets":1}{"name":"h","op":"obs","value":1,"buckets":9}"#;
    assert_eq!(bench.send(text.as_bytes()), "");
    bench.comes_to("h_bucket{le=\"0\"}", 0.0);
    bench.comes_to("h_bucket{le=\"+Inf\"}", 2.0);
}

/// Each of these also crashes metrics-server.
#[test]
fn bounds_that_do_not_ascend_are_rejected() {
    let bench = bench("");
    let causes = [
        r#""bucket_custom":[1,1]"#,
        r#""bucket_custom":[1,2,2,3]"#,
        r#""bucket_factor":1"#,
        r#""bucket_min":5,"bucket_max":5"#,
        r#""bucket_width":-0.5,"buckets":3"#,
        r#""bucket_factor":1e300"#,
        r#""buckets":-1,"bucket_custom":[1]"#,
        r#""buckets":9223372036854775807"#,
    ];
    for cause in causes {
        let message = format!("{{\"name\":\"h\",\"op\":\"obs\",\"value\":1,{cause}}}");
        bench.send_udp(message.as_bytes());
        send_datagram(&bench, message.as_bytes());
        let answer = bench.send(message.as_bytes());
        assert!(
            answer.starts_with("error: message 1: "),
            "{message}: {answer}"
        );
    }
    let all = causes.len() as f64;
    eventually(
        || ["unix", "udp", "unix_datagram"].map(|it| bench.results(it, "bad_buckets")),
        |seen| *seen == [all; 3],
    );
    assert_eq!(bench.proxy.get("/health").status, 200);
}

/// metrics-server keys expiry by a text that two series may share, so that one keeps the other
/// alive.
#[test]
fn each_series_expires_on_its_own() {
    let bench = bench("ttl = \"1s\"\n");
    let stays = br#"{"name":"m","op":"set","value":1,"labels":{"a":"1,b=2"}}"#;
    let goes = br#"{"name":"m","op":"set","value":1,"labels":{"a":"1","b":"2"}}"#;
    // On a busy machine, a series may expire before it is looked at.
    eventually(
        || {
            assert_eq!(bench.send(goes), "");
            bench.proxy.sample("m{a=\"1\",b=\"2\"}")
        },
        |seen| *seen == Some(1.0),
    );
    eventually(
        || {
            assert_eq!(bench.send(stays), "");
            let stays = bench.proxy.sample("m{a=\"1,b=2\"}");
            (bench.proxy.sample("m{a=\"1\",b=\"2\"}"), stays)
        },
        |seen| *seen == (None, Some(1.0)),
    );
}

/// In metrics-server, the receiver overwrites the source labels, and the sender always overwrites
/// `instance`.
#[test]
fn source_labels_are_kept_along_a_chain() {
    let far = bench("source_labels = true\nextra_labels = { instance = \"far\" }\n");
    let near = bench(&format!(
        "forward_to = \"udp://{}\"\nsource_labels = true\nextra_labels = {{ instance = \"near\" }}\n",
        far.udp
    ));
    send_datagram(&near, b"c:2|c");
    let source = near.datagrams.display();
    far.comes_to(
        &format!("c{{data_source=\"{source}\",instance=\"near\",source_app=\"d\"}}"),
        2.0,
    );
}

/// At shutdown, metrics-server loses everything that waits for another system.
#[test]
fn queued_operations_are_forwarded_at_shutdown() {
    let far = bench("");
    let mut near = bench(&format!(
        "forward_to = \"tcp://{}\"\n[exporter]\nshutdown_timeout = \"1m\"\n",
        far.tcp
    ));
    let mut stream = near.connect();
    stream
        .write_all("c:1|c\n".repeat(50_000).as_bytes())
        .unwrap();
    near.proxy.signal("TERM");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "");
    assert!(near.proxy.wait().success());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    far.comes_to(&format!("c{{instance=\"{}\"}}", host.trim()), 50_000.0);
}

/// In metrics-server, every `op` that a sender invents becomes a label value of its own metrics.
#[test]
fn senders_cannot_add_labels_to_the_own_metrics() {
    let bench = bench("");
    let messages: String = (0..1000)
        .map(|i| format!("{{\"name\":\"m{i}\",\"op\":\"op{i}\",\"value\":1}}\nm{i}:1|type{i}\n"))
        .collect();
    let mut stream = bench.connect();
    stream.write_all(messages.as_bytes()).unwrap();
    eventually(
        || bench.results("unix", "bad_operation"),
        |seen| *seen == 2000.0,
    );
    let metrics = bench.proxy.metrics();
    let own = metrics
        .lines()
        .filter(|line| line.starts_with("exporter_proxy_operations_total{"));
    // `ok` for each transport, and one reason.
    assert_eq!(own.count(), 5, "{metrics}");
    assert!(!metrics.contains("op17"), "{metrics}");
}

/// In metrics-server, one open connection keeps all other senders of its socket waiting.
#[test]
fn open_connections_keep_no_other_sender_waiting() {
    let bench = bench("");
    let mut staying: Vec<UnixStream> = (0..50).map(|_| bench.connect()).collect();
    for stream in &mut staying {
        stream.write_all(b"c:1|c\n{\"name\":").unwrap();
    }
    bench.comes_to("c", 50.0);
    assert_eq!(bench.send(b"c:1|c\n"), "");
    bench.comes_to("c", 51.0);
    for mut stream in staying {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(b"\"c\",\"op\":\"inc\",\"value\":1}")
            .unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "");
    }
    bench.comes_to("c", 101.0);
}
