//! Operations over real sockets: values are kept, errors are answered, and no sender affects
//! another.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;

use tempfile::TempDir;

use crate::harness::{PATIENCE, Proxy, eventually, free_address};

/// A proxy with a socket of each kind.
pub struct Bench {
    pub proxy: Proxy,
    pub tcp: String,
    pub udp: String,
    pub unix: PathBuf,
    pub datagrams: PathBuf,
    /// Holds the Unix sockets.
    _dir: TempDir,
}

pub fn bench(config: &str) -> Bench {
    bench_of(config, Proxy::start)
}

/// Like [`bench`], with another way to start the proxy.
pub fn bench_of(config: &str, start: impl FnOnce(&str) -> Proxy) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let (unix, datagrams) = (dir.path().join("o.sock"), dir.path().join("d.sock"));
    let lists = format!(
        "[operations]\ntcp = \"127.0.0.1:0\"\nudp = \"127.0.0.1:0\"\n\
         unix_sockets = [{unix:?}]\nunix_datagram_sockets = [{datagrams:?}]\n{config}"
    );
    let proxy = start(&lists);
    let log = proxy.log();
    let bound = |sort: &str| {
        let marker = format!("operations on {sort} socket ");
        let at = log.find(&marker).expect("the address is logged") + marker.len();
        log[at..].lines().next().unwrap().to_owned()
    };
    Bench {
        tcp: bound("TCP"),
        udp: bound("UDP"),
        unix,
        datagrams,
        proxy,
        _dir: dir,
    }
}

impl Bench {
    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.unix).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes, ends the stream, and returns the answer.
    pub fn send(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    pub fn send_udp(&self, bytes: &[u8]) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(bytes, &self.udp).unwrap();
    }

    /// The sockets as values of `forward_to`.
    fn destinations(&self) -> [String; 4] {
        [
            format!("tcp://{}", self.tcp),
            format!("udp://{}", self.udp),
            format!("unix://{}", self.unix.display()),
            format!("unixgram://{}", self.datagrams.display()),
        ]
    }

    #[track_caller]
    pub fn comes_to(&self, series: &str, value: f64) {
        eventually(|| self.proxy.sample(series), |seen| *seen == Some(value));
    }

    pub fn results(&self, transport: &str, result: &str) -> f64 {
        let series = format!(
            "exporter_proxy_operations_total{{result=\"{result}\",transport=\"{transport}\"}}"
        );
        self.proxy.sample(&series).unwrap_or_default()
    }
}

#[test]
fn every_socket_accepts_messages_and_lines() {
    let bench = bench("");
    let text = b"{\"name\":\"c\",\"op\":\"inc\",\"value\":2}\nc:1|c\n";
    bench.send(text);
    let mut tcp = TcpStream::connect(&bench.tcp).unwrap();
    tcp.write_all(text).unwrap();
    bench.send_udp(text);
    let unix = UnixDatagram::unbound().unwrap();
    unix.send_to(text, &bench.datagrams).unwrap();
    bench.comes_to("c", 12.0);
    for transport in ["tcp", "udp", "unix", "unix_datagram"] {
        // The values are there before their messages are counted.
        eventually(|| bench.results(transport, "ok"), |count| *count == 2.0);
        let bytes =
            format!("exporter_proxy_operations_received_bytes_total{{transport=\"{transport}\"}}");
        assert_eq!(bench.proxy.sample(&bytes), Some(text.len() as f64));
    }
    let metrics = bench.proxy.metrics();
    assert!(metrics.contains("# TYPE c counter\n"), "{metrics}");
}

#[test]
fn messages_may_arrive_in_pieces_and_span_lines() {
    let bench = bench("");
    let mut tcp = TcpStream::connect(&bench.tcp).unwrap();
    tcp.set_nodelay(true).unwrap();
    let text = b"{\n  \"name\": \"c\",\n  \"labels\": {\n    \"a\": \"}{\"\n  },\n  \"op\": \"inc\", \"value\": 1\n}c:1|c\n";
    for byte in text {
        tcp.write_all(&[*byte]).unwrap();
    }
    bench.comes_to("c{a=\"}{\"}", 1.0);
    bench.comes_to("c", 1.0);
}

#[test]
fn rejections_are_answered_and_the_connection_goes_on() {
    let bench = bench("");
    let mut stream = bench.connect();
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
    for (bad, words) in [
        (
            "{\"name\":\"c\",\"op\":\"inc\",\"value\":-1}\n",
            "message 1: a counter cannot go down",
        ),
        ("{\"name\":\"c\"\n", "message 3: "),
        ("nonsense\n", "message 5: expected a JSON object or a line"),
    ] {
        stream.write_all(bad.as_bytes()).unwrap();
        stream.write_all(b"c:1|c\n").unwrap();
        let answer = answers.next().unwrap().unwrap();
        assert!(answer.starts_with("error: "), "{answer}");
        assert!(answer.contains(words), "{answer}");
    }
    bench.comes_to("c", 3.0);
    drop(stream);
    let log = bench.proxy.log();
    assert!(log.contains("a message is rejected (bad_value)"), "{log}");
}

#[test]
fn a_sender_that_reads_no_answers_is_still_served() {
    let bench = bench("");
    let mut stream = bench.connect();
    let line = "nonsense that is rejected each time it comes\n".repeat(100);
    for _ in 0..2000 {
        stream.write_all(line.as_bytes()).unwrap();
    }
    stream.write_all(b"c:1|c\n").unwrap();
    bench.comes_to("c", 1.0);
    assert_eq!(bench.results("unix", "malformed"), 200_000.0);
}

#[test]
fn idle_connections_make_room_for_new_ones() {
    let bench = bench("concurrent_connections = 3\n");
    let mut staying: Vec<UnixStream> = (0..3).map(|_| bench.connect()).collect();
    for stream in &mut staying {
        stream.write_all(b"c:1|c\n").unwrap();
    }
    bench.comes_to("c", 3.0);
    // The one that has been idle for longest is closed.
    assert_eq!(bench.send(b"c:1|c\n"), "");
    bench.comes_to("c", 4.0);
}

/// Messages that crash metrics-server.
#[test]
fn no_message_crashes_the_program() {
    let bench = bench("");
    let causes = [
        r#"{"name":"a","op":"inc","value":-1}"#,
        r#"{"name":"a","op":"obs","bucket_factor":0.5}"#,
        r#"{"name":"a","op":"obs","buckets":-5}"#,
        r#"{"name":"a","op":"obs","bucket_min":5,"bucket_max":1}"#,
        r#"{"name":"a","op":"obs","bucket_width":-5}"#,
        r#"{"name":"a","op":"obs","bucket_custom":[3,1]}"#,
        r#"{"name":"a","op":"obs","labels":{"le":"5"}}"#,
        r#"{"name":"a","op":"index"}"#,
        r#"{"name":"a","op":"raw"}"#,
        r#"{"name":"a","op":"event"}"#,
        r#"{"op":"shutdown"}"#,
    ];
    let unix = UnixDatagram::unbound().unwrap();
    for cause in causes {
        bench.send_udp(cause.as_bytes());
        unix.send_to(cause.as_bytes(), &bench.datagrams).unwrap();
        assert!(
            bench
                .send(cause.as_bytes())
                .starts_with("error: message 1: ")
        );
    }
    // Other label names, and labels that are `null`.
    let fine = "{\"name\":\"a\",\"op\":\"inc\",\"value\":1,\"labels\":null}\na:1|c|#x:1";
    assert_eq!(bench.send(fine.as_bytes()), "");
    bench.comes_to("a", 1.0);
    bench.comes_to("a{x=\"1\"}", 1.0);
    for transport in ["unix", "udp", "unix_datagram"] {
        eventually(
            || {
                [
                    "bad_value",
                    "bad_buckets",
                    "bad_labels",
                    "unsupported",
                    "not_allowed",
                ]
                .map(|result| bench.results(transport, result))
            },
            |seen| *seen == [1.0, 5.0, 1.0, 3.0, 1.0],
        );
    }
    assert_eq!(bench.proxy.get("/health").status, 200);
}

#[test]
fn a_page_in_a_browser_cannot_send_operations() {
    let bench = bench("");
    let mut tcp = TcpStream::connect(&bench.tcp).unwrap();
    tcp.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nc:1|c\n")
        .unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).unwrap();
    assert!(
        answer.contains("not an HTTP port: push over HTTP to push.listen"),
        "{answer}"
    );
    assert_eq!(bench.results("tcp", "malformed"), 1.0);
    assert_eq!(bench.proxy.sample("c"), None);
}

#[test]
fn a_sender_may_stop_the_program_if_allowed() {
    let mut bench = bench("allow_shutdown = true\nshutdown_delay = \"1h\"\n");
    assert_eq!(bench.proxy.get("/health").status, 200);
    bench.send_udp(b"{\"op\":\"shutdown\"}");
    eventually(|| bench.results("udp", "not_allowed"), |seen| *seen == 1.0);
    assert_eq!(bench.proxy.get("/health").status, 200);
    assert_eq!(bench.send(b"{\"op\":\"shutdown\"}"), "");
    eventually(|| bench.proxy.get("/health").status, |seen| *seen == 503);
    assert_eq!(bench.proxy.get("/-/ready").status, 503);
    // The proxy goes on until the delay ends, for a last scrape.
    assert_eq!(bench.send(b"c:1|c\n"), "");
    bench.comes_to("c", 1.0);
    bench.proxy.signal("TERM");
    assert!(bench.proxy.wait().success());
    assert!(!bench.unix.exists() && !bench.datagrams.exists());
}

#[test]
fn messages_sent_before_the_stop_are_applied() {
    let mut bench = bench("shutdown_delay = \"10ms\"\n");
    let mut stream = bench.connect();
    stream.write_all(b"c:1|c\n{\"name\":\"half").unwrap();
    bench.comes_to("c", 1.0);
    bench.proxy.signal("TERM");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "error: message 2: the proxy is stopping\n");
    assert!(bench.proxy.wait().success());
}

#[test]
fn series_that_do_not_change_expire() {
    let bench = bench("ttl = \"1s\"\n");
    // On a busy machine, a series may expire before it is looked at.
    eventually(
        || {
            assert_eq!(bench.send(b"a:1|c\ns:x|s\n"), "");
            bench.proxy.sample("a")
        },
        Option::is_some,
    );
    eventually(
        || bench.proxy.metrics(),
        |text| !text.contains("\na ") && !text.contains("\ns "),
    );
    let metrics = bench.proxy.metrics();
    assert!(!metrics.contains("# TYPE a "), "{metrics}");
}

/// Enough series that a scrape renders them on blocking threads, in parallel.
#[test]
fn scrapes_of_many_changed_series_are_complete_in_every_format() {
    const SERIES: usize = 15_000;
    const UTF8: &str = "text/plain;version=1.0.0;escaping=allow-utf-8";
    const OPEN: &str = "application/openmetrics-text;version=1.0.0";
    let bench = bench("[exporter]\nown_metrics = false\n");
    let odd = "# TYPE \"o.m\" gauge\n{\"o.m\",a=\"b\"} 1\n";
    let pushed = bench.proxy.push("PUT", "/metrics/job/j", odd);
    assert_eq!(pushed.status, 200, "{}", pushed.text());
    let forms = [
        ("", "\no_m{a=\"b\",", "\n"),
        (UTF8, "\n{\"o.m\",a=\"b\",", "\n"),
        (OPEN, "\no_m{a=\"b\",", "# EOF\n"),
    ];
    let rounds = forms
        .into_iter()
        .flat_map(|form| [(form, "identity"), (form, "gzip")]);
    for (round, ((accept, odd, end), coding)) in (1..).zip(rounds) {
        // Each round's value is one digit longer.
        let value = 10_u64.pow(round) + 1;
        let messages = (0..SERIES).map(|n| {
            format!(
                "{{\"name\":\"g\",\"op\":\"set\",\"value\":{value},\
                 \"labels\":{{\"n\":\"{n}\",\"path\":\"/p\"}}}}\n"
            )
        });
        let rejected = bench.send(messages.collect::<String>().as_bytes());
        assert!(rejected.is_empty(), "{rejected:.200}");
        let headers = [("Accept", accept), ("Accept-Encoding", coding)];
        let answer = bench.proxy.request("GET", "/metrics", &headers);
        let mut text = String::new();
        if coding == "gzip" {
            let mut decoder = flate2::read::GzDecoder::new(&answer.body[..]);
            decoder.read_to_string(&mut text).unwrap();
        } else {
            text = answer.text();
        }
        let shown: HashSet<&str> = text.lines().filter(|line| line.starts_with("g{")).collect();
        let count = text.lines().filter(|line| line.starts_with("g{")).count();
        assert_eq!((count, shown.len()), (SERIES, SERIES), "{accept} {coding}");
        for n in 0..SERIES {
            let line = format!("g{{n=\"{n}\",path=\"/p\"}} {value}");
            assert!(shown.contains(&*line), "{accept} {coding}: {line}");
        }
        assert!(
            text.contains(odd) && text.ends_with(end),
            "{accept} {coding}"
        );
    }
}

#[test]
fn a_changed_file_of_labels_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("labels");
    let bench = bench(&format!(
        "extra_labels = {{ site = \"x\" }}\nextra_labels_file = {file:?}\nsource_labels = true\n"
    ));
    let source = format!(
        "data_source=\"{}\"",
        bench.datagrams.display().to_string().replace('"', "\\\"")
    );
    let unix = UnixDatagram::unbound().unwrap();
    let send = || unix.send_to(b"c:1|c", &bench.datagrams).unwrap();
    send();
    bench.comes_to(&format!("c{{{source},site=\"x\",source_app=\"d\"}}"), 1.0);
    std::fs::write(&file, "app.io/team=\"a\"\nsite=file\n").unwrap();
    let series = format!("c{{app_io_team=\"a\",{source},site=\"x\",source_app=\"d\"}}");
    eventually(
        || {
            send();
            bench.proxy.sample(&series)
        },
        Option::is_some,
    );
}

#[test]
fn datagrams_dropped_by_the_kernel_are_counted() {
    let bench = bench("");
    let lost = || {
        bench
            .proxy
            .sample("exporter_proxy_operations_datagrams_lost_total{transport=\"udp\"}")
            .unwrap()
    };
    assert_eq!(lost(), 0.0);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(&bench.udp).unwrap();
    bench.proxy.signal("STOP");
    // More than the largest possible buffer of the socket.
    let datagram = [&b"c:1|c\n"[..], &[b'\n'; 30_000]].concat();
    let sent = 2000;
    for _ in 0..sent {
        socket.send(&datagram).unwrap();
    }
    bench.proxy.signal("CONT");
    let seen = eventually(
        || (bench.proxy.sample("c").unwrap_or_default(), lost()),
        |(taken, lost)| taken + lost == f64::from(sent),
    );
    assert!(seen.1 > 0.0, "{seen:?}");
}

/// The first of two proxies forwards to the second.
#[test]
fn forwarded_operations_keep_their_labels() {
    let far = bench("extra_labels = { site = \"far\" }\n");
    for (number, to) in (1..).zip(far.destinations()) {
        let near = bench(&format!(
            "forward_to = \"{to}\"\nextra_labels = {{ site = \"near\" }}\n"
        ));
        let (sort, _) = to.split_once(':').unwrap();
        let text = format!(
            "{sort}:1|c|#instance:own\n{{\"name\":\"{sort}\",\"op\":\"inc\",\"value\":2,\"labels\":{{\"instance\":\"own\"}}}}\n"
        );
        assert_eq!(near.send(text.as_bytes()), "");
        far.comes_to(&format!("{sort}{{instance=\"own\",site=\"near\"}}"), 3.0);
        near.comes_to(
            "exporter_proxy_operations_forwarded_total{result=\"ok\"}",
            2.0,
        );
        assert_eq!(near.send(b"h:1|ms|@0.5\n"), "");
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        far.comes_to(
            &format!("h_count{{instance=\"{}\",site=\"near\"}}", host.trim()),
            2.0 * f64::from(number),
        );
        assert_eq!(
            near.proxy.sample("h_count"),
            None,
            "only the second proxy keeps it"
        );
        let rejected = near.send(b"{\"name\":\"c\",\"op\":\"inc\",\"value\":-1}");
        assert!(rejected.contains("cannot go down"), "{rejected}");
    }
}

#[test]
fn lines_are_forwarded_as_they_came_over_every_socket() {
    let far = bench("");
    for (number, to) in (1..).zip(far.destinations()) {
        let near = bench(&format!("forward_to = \"{to}\"\nforward_raw = true\n"));
        assert_eq!(near.send(b"c:1|c|@0.5|#k:v\nu:ann|s\nt:1|ms:5|ms\n"), "");
        far.comes_to("c{k=\"v\"}", 2.0 * f64::from(number));
        far.comes_to("t_count", 2.0 * f64::from(number));
        far.comes_to("u", 1.0);
    }
}

#[test]
fn operations_that_cannot_be_forwarded_wait_until_the_queue_is_full() {
    let address = free_address();
    let near = bench(&format!(
        "forward_to = \"tcp://{address}\"\nforward_queue = 1000\n"
    ));
    let rejected = near.send("c:1|c\n".repeat(1000).as_bytes());
    assert!(rejected.contains("operations.forward_queue"), "{rejected}");
    assert_eq!(near.send(b"d:1|c\n"), "");
    let mut taken = String::new();
    let listener = std::net::TcpListener::bind(address).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut some = [0; 1000];
    while !taken.contains("\"name\":\"d\"") {
        let length = stream.read(&mut some).unwrap();
        assert!(length > 0, "{taken}");
        taken.push_str(std::str::from_utf8(&some[..length]).unwrap());
    }
    near.comes_to("exporter_proxy_operations_forward_queued_bytes", 0.0);
}

#[test]
fn an_idle_connection_is_closed() {
    let bench = bench("idle_timeout = \"1s\"\n");
    let mut stream = bench.connect();
    stream.write_all(b"{\"name\":").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("operations.idle_timeout"), "{answer}");
    assert_eq!(bench.results("unix", "timeout"), 1.0);
}
