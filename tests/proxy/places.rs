//! Limits on connections: which ones are kept, which are closed, and which get an error.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::harness::{PATIENCE, Proxy, eventually};
use crate::operations::bench;
use crate::support::{logged, names, read_answer};

/// Connections that write the same bytes again and again, and reconnect once they are closed, until
/// this is dropped.
struct Crowd {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    fn start(count: usize, pause: Duration, address: &str, bytes: &'static [u8]) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let threads = (0..count).map(|_| {
            let (over, address) = (Arc::clone(&over), address.to_owned());
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    repeat(&address, bytes, pause, &over);
                }
            })
        });
        Crowd {
            threads: threads.collect(),
            over,
        }
    }
}

/// Writes until the connection is closed.
fn repeat(address: &str, bytes: &[u8], pause: Duration, over: &AtomicBool) {
    let mut stream = TcpStream::connect(address).expect("it accepts");
    stream
        .set_read_timeout(Some(pause))
        .expect("a timeout is set");
    let mut buffer = [0; 4096];
    while !over.load(Ordering::Relaxed) && stream.write_all(bytes).is_ok() {
        // Waits, and reads answers if there are any.
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => thread::sleep(pause),
            Err(_) => {}
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn open(proxy: &Proxy, listener: &str) -> f64 {
    let series = format!("exporter_proxy_connections_open{{listener=\"{listener}\"}}");
    proxy.sample(&series).unwrap_or_default()
}

fn evicted(proxy: &Proxy, listener: &str, reason: &str) -> f64 {
    let series = format!(
        "exporter_proxy_connections_evicted_total{{listener=\"{listener}\",result=\"{reason}\"}}"
    );
    proxy.sample(&series).unwrap_or_default()
}

/// A connection from another address of the loopback.
fn connect_from(from: &str, to: &str) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_io().build().expect("a runtime");
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        let from: SocketAddr = format!("{from}:0").parse().expect("an address");
        socket.bind(from).expect("the loopback has many addresses");
        let to = to.parse().expect("an address");
        socket.connect(to).await.expect("it accepts")
    });
    let stream = stream.into_std().expect("a stream");
    stream.set_nonblocking(false).expect("an option is set");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout is set");
    stream
}

#[test]
fn blanks_keep_no_place_from_a_sender() {
    let proxy = Proxy::start("[exporter]\nconcurrent_requests = 20\n");
    let max = "exporter_proxy_connections_max{listener=\"tcp\"}";
    assert_eq!(proxy.sample(max), Some(20.0));
    let crowd = Crowd::start(20, Duration::from_millis(100), &proxy.tcp, b" ");
    eventually(|| open(&proxy, "tcp"), |open| *open >= 20.0);
    assert_eq!(proxy.push_tcp(b"{\"app\":\"m 1\"}"), "");
    assert_eq!(names(&proxy), ["app"]);
    assert!(evicted(&proxy, "tcp", "idle") >= 1.0);
    logged(
        &proxy,
        "tcp listener is full: 20 connections may be open (exporter.concurrent_requests)",
        1,
    );
    drop(crowd);
}

#[test]
fn a_message_that_trickles_keeps_no_place_from_a_sender() {
    let settings = "[exporter]\nconcurrent_requests = 20\n[receiver]\nmessage_timeout = \"1h\"\n";
    let proxy = Proxy::start(settings);
    // Each write makes an unfinished text longer.
    let crowd = Crowd::start(20, Duration::from_millis(100), &proxy.tcp, b"{\"app\":\"a");
    eventually(|| open(&proxy, "tcp"), |open| *open >= 20.0);
    assert_eq!(proxy.push_tcp(b"{\"app\":\"m 1\"}"), "");
    drop(crowd);
}

#[test]
fn pings_keep_no_place_from_a_scrape() {
    let proxy = Proxy::start("[exporter]\nmax_connections = 20\n");
    // Two that ping without pause also move many bytes.
    let ping = b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let _hasty = Crowd::start(2, Duration::from_micros(100), &proxy.http, ping);
    let crowd = Crowd::start(20, Duration::from_millis(100), &proxy.http, ping);
    for _ in 0..3 {
        assert_eq!(proxy.get("/metrics").status, 200);
    }
    logged(
        &proxy,
        "http listener is full: 20 connections may be open (exporter.max_connections)",
        1,
    );
    drop(crowd);
}

#[test]
fn a_scraper_that_waits_keeps_its_connection_beside_those_that_only_ping() {
    let proxy = Proxy::start("[exporter]\nmax_connections = 20\n");
    let mut scraper = TcpStream::connect(&proxy.http).unwrap();
    scraper.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut scrape = || {
        scraper
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        read_answer(&mut scraper, true)
            .expect("it is answered")
            .status
    };
    assert_eq!(scrape(), 200);
    let ping = b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let crowd = Crowd::start(30, Duration::from_millis(50), &proxy.http, ping);
    // By now the scraper has been idle for longest by far.
    eventually(
        || evicted(&proxy, "http", "idle"),
        |evicted| *evicted > 40.0,
    );
    assert_eq!(scrape(), 200);
    drop(crowd);
}

#[test]
fn an_address_that_has_all_places_gives_one_to_another() {
    let proxy = Proxy::start("[exporter]\nconcurrent_requests = 10\n");
    // None of them is ever idle.
    let message = b"{\"busy\":\"m 1\"}";
    let crowd = Crowd::start(10, Duration::from_millis(20), &proxy.tcp, message);
    eventually(|| open(&proxy, "tcp"), |open| *open >= 10.0);
    let mut other = connect_from("127.0.0.2", &proxy.tcp);
    other.write_all(b"{\"other\":\"n 1\"}").unwrap();
    eventually(
        || names(&proxy),
        |names| names.contains(&"other".to_owned()),
    );
    // On a busy machine one of the ten may have been idle, and made room first.
    let mut more = Vec::new();
    eventually(
        || {
            let shared = evicted(&proxy, "tcp", "share");
            if shared < 1.0 {
                more.push(connect_from("127.0.0.2", &proxy.tcp));
            }
            shared
        },
        |shared| *shared >= 1.0,
    );
    drop(crowd);
}

#[test]
fn who_waits_in_vain_is_turned_away_and_counted() {
    let proxy = Proxy::start("[exporter]\nconcurrent_requests = 2\n");
    let message = b"{\"busy\":\"m 1\"}";
    // Two have all places and are never idle, and the others wait.
    let crowd = Crowd::start(40, Duration::from_millis(20), &proxy.tcp, message);
    eventually(|| evicted(&proxy, "tcp", "full"), |full| *full >= 1.0);
    eventually(|| open(&proxy, "tcp"), |open| *open == 2.0);
    // A sender from another address is served all the same.
    let mut other = connect_from("127.0.0.2", &proxy.tcp);
    other.write_all(b"{\"other\":\"n 1\"}").unwrap();
    eventually(
        || names(&proxy),
        |names| names.contains(&"other".to_owned()),
    );
    drop(crowd);
}

#[test]
fn who_comes_behind_very_many_of_one_address_is_served_soon() {
    let proxy = Proxy::start("[exporter]\nconcurrent_requests = 2\n");
    let message = b"{\"busy\":\"m 1\"}";
    // They reconnect when they are turned away, so hundreds are always in line.
    let crowd = Crowd::start(400, Duration::from_millis(100), &proxy.tcp, message);
    eventually(|| evicted(&proxy, "tcp", "full"), |full| *full >= 1.0);
    for name in ["first", "second"] {
        let mut other = connect_from("127.0.0.2", &proxy.tcp);
        let sent = format!("{{\"{name}\":\"n 1\"}}");
        other.write_all(sent.as_bytes()).unwrap();
        eventually(|| names(&proxy), |names| names.contains(&name.to_owned()));
    }
    // They are turned away many at a time.
    eventually(|| evicted(&proxy, "tcp", "full"), |full| *full >= 100.0);
    drop(crowd);
}

#[test]
fn rejected_operations_reserve_nothing() {
    let bench = bench("concurrent_connections = 10\n");
    let proxy = &bench.proxy;
    let crowd = Crowd::start(10, Duration::from_millis(100), &bench.tcp, b"nonsense\n");
    eventually(|| open(proxy, "operations_tcp"), |open| *open >= 10.0);
    let mut sender = TcpStream::connect(&bench.tcp).unwrap();
    sender.write_all(b"c:1|c\n").unwrap();
    bench.comes_to("c", 1.0);
    drop(crowd);
}
