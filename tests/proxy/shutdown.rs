//! Stopping: work in progress is finished, and nothing else is waited for.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{PATIENCE, Proxy, capnp_message, eventually, eventually_within};
use crate::support::{Sender, logged, read_answer, text_of};

/// The proxy may take very long to stop, ...
const PATIENT: &str = "[exporter]\nshutdown_timeout = \"1h\"\n";

/// ... and this is far below: shows that nothing was waited for.
const AT_ONCE: Duration = Duration::from_secs(20);

/// Waits until the proxy has noticed the signal and has closed its ports.
fn await_stopping(proxy: &Proxy, signal: &str) {
    let line = format!("SIG{signal}: stopping");
    eventually(|| proxy.log(), |log| log.contains(&line));
    // The port closes after the line is written.
    eventually(
        || TcpStream::connect(&proxy.http).is_err(),
        |refused| *refused,
    );
}

/// The whole log of a proxy that has ended well.
fn last_log(proxy: &Proxy) -> String {
    logged(proxy, "exporter_proxy] stopped\n", 1)
}

/// Ends the proxy by a signal, and checks that it ends well.
#[track_caller]
fn ends_at_once(proxy: &mut Proxy, signal: &str) {
    let start = Instant::now();
    proxy.signal(signal);
    let status = proxy.wait();
    assert_eq!(status.code(), Some(0), "{}", proxy.log());
    assert!(start.elapsed() < AT_ONCE, "it took {:?}", start.elapsed());
}

#[test]
fn either_signal_ends_it_well_and_the_socket_is_removed() {
    for signal in ["TERM", "INT"] {
        let mut proxy = Proxy::start(PATIENT);
        assert!(proxy.unix.exists());
        ends_at_once(&mut proxy, signal);
        assert!(!proxy.unix.exists());
        let log = last_log(&proxy);
        assert!(log.contains(&format!("SIG{signal}: stopping")), "{log}");
    }
}

#[test]
fn idle_connections_do_not_delay_the_end() {
    let mut proxy = Proxy::start(PATIENT);
    let _silent = Sender::connect(&proxy);
    let _silent_http = Sender::to(&proxy.http);
    let mut json = Sender::connect(&proxy);
    json.send(b"{\"json\":\"m 1\"}\n");
    let mut capnp = Sender::connect(&proxy);
    capnp.send(&capnp_message("capnp", "m 1"));
    let mut kept_alive = Sender::to(&proxy.http);
    kept_alive.send(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(read_answer(&mut kept_alive.0, true).is_some());
    for name in ["json", "capnp"] {
        eventually(|| text_of(&proxy, name), Option::is_some);
    }
    ends_at_once(&mut proxy, "TERM");
    assert_eq!(json.read_to_end(), "");
    assert_eq!(kept_alive.read_to_end(), "");
}

#[test]
fn a_message_half_sent_at_the_signal_is_read_to_its_end() {
    let mut proxy = Proxy::start("[exporter]\nshutdown_timeout = \"30s\"\n");
    let mut sender = Sender::connect(&proxy);
    // Once the document before it is stored, this one has certainly begun.
    sender.send(b"{\"app\":\"m 1\"}{\"app\":");
    eventually(|| text_of(&proxy, "app"), Option::is_some);
    proxy.signal("TERM");
    await_stopping(&proxy, "TERM");
    sender.send(b"7}");
    // The answer shows that bytes after the signal were read.
    let answer = sender.read_to_end();
    assert!(answer.starts_with("error: document 2, "), "{answer}");
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn nothing_new_is_accepted_while_it_finishes_and_the_rest_of_a_message_ends_it() {
    let mut proxy = Proxy::start("[exporter]\nshutdown_timeout = \"30s\"\n");
    let mut sender = Sender::connect(&proxy);
    sender.send(b"{\"app\":\"m 1\"}{\"app\":");
    eventually(|| text_of(&proxy, "app"), Option::is_some);
    let start = Instant::now();
    proxy.signal("TERM");
    for address in [&proxy.tcp, &proxy.http] {
        eventually(|| TcpStream::connect(address).is_err(), |refused| *refused);
    }
    eventually(|| proxy.unix.exists(), |exists| !exists);
    sender.send(b"\"m 2\"}");
    assert_eq!(sender.read_to_end(), "");
    assert_eq!(proxy.wait().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(20));
    let log = last_log(&proxy);
    assert!(!log.contains("refused"), "{log}");
}

#[test]
fn a_message_that_begins_after_the_signal_is_rejected_with_a_reason() {
    let mut proxy = Proxy::start(PATIENT);
    let mut sender = Sender::connect(&proxy);
    sender.send(b"{\"app\":\"m 1\"}{\"app\":");
    eventually(|| text_of(&proxy, "app"), Option::is_some);
    proxy.signal("TERM");
    await_stopping(&proxy, "TERM");
    sender.send(b"\"m 2\"}{\"app\":");
    assert_eq!(
        sender.read_to_end(),
        "error: document 3, the proxy is stopping; earlier messages are stored, this one is not\n"
    );
    drop(sender);
    assert_eq!(proxy.wait().code(), Some(0));
    let log = last_log(&proxy);
    assert!(log.contains("rejected (closed)"), "{log}");
}

#[test]
fn a_request_half_sent_at_the_signal_is_answered_and_ready_no_more() {
    let mut proxy = Proxy::start(PATIENT);
    let mut half = Sender::to(&proxy.http);
    half.send(b"GET /-/ready HTTP/1.1\r\nHost: localhost\r\n");
    // The only thread has answered this, so the half has been read.
    assert_eq!(proxy.get("/-/ready").status, 200);
    proxy.signal("TERM");
    await_stopping(&proxy, "TERM");
    half.send(b"\r\n");
    let answer = half.read_to_end();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nshutting down\n"), "{answer}");
    drop(half);
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn a_message_that_is_never_finished_is_cut_off_after_shutdown_timeout() {
    let mut proxy = Proxy::start("[exporter]\nshutdown_timeout = \"500ms\"\n");
    let mut sender = Sender::connect(&proxy);
    sender.send(b"{\"app\":\"m 1\"}{\"app\":");
    eventually(|| text_of(&proxy, "app"), Option::is_some);
    let start = Instant::now();
    proxy.signal("TERM");
    assert_eq!(proxy.wait().code(), Some(0));
    assert!(start.elapsed() >= Duration::from_millis(500));
    // The default is 10 s.
    assert!(start.elapsed() < Duration::from_secs(9));
    let log = last_log(&proxy);
    assert!(log.contains("did not finish within 500ms"), "{log}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut proxy = Proxy::start(PATIENT);
    let mut sender = Sender::connect(&proxy);
    sender.send(b"{\"app\":\"m 1\"}{\"app\":");
    eventually(|| text_of(&proxy, "app"), Option::is_some);
    proxy.signal("TERM");
    await_stopping(&proxy, "TERM");
    proxy.signal("INT");
    assert_eq!(proxy.wait().code(), Some(1));
}

/// Ends the proxy while eight threads push to its TCP receiver. Each calls `push` in a loop, until
/// that fails because the proxy is gone.
fn ends_under_load(push: fn(&str, &AtomicU64) -> io::Result<()>) {
    let mut proxy = Proxy::start(PATIENT);
    let address = proxy.tcp.clone();
    let pushed = AtomicU64::new(0);
    let start = thread::scope(|scope| {
        let (address, pushed) = (&address, &pushed);
        for _ in 0..8 {
            scope.spawn(move || while push(address, pushed).is_ok() {});
        }
        eventually_within(
            4 * PATIENCE,
            || pushed.load(Ordering::SeqCst),
            |count| *count > 1000,
        );
        let start = Instant::now();
        proxy.signal("TERM");
        start
    });
    let status = proxy.wait();
    assert_eq!(status.code(), Some(0), "{}", proxy.log());
    assert!(start.elapsed() < AT_ONCE, "it took {:?}", start.elapsed());
    let log = last_log(&proxy);
    assert!(!log.contains("did not finish"), "{log}");
    assert!(!proxy.unix.exists());
}

#[test]
fn it_ends_well_while_eight_threads_push_on_ever_new_connections() {
    ends_under_load(|address, pushed| {
        let mut stream = TcpStream::connect(address)?;
        // A connection that the proxy no longer accepted is reset.
        let _ = stream.write_all(b"{\"app\":\"m 1\"}");
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read(&mut [0]);
        pushed.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
}

#[test]
fn it_ends_well_while_eight_connections_send_without_a_pause() {
    ends_under_load(|address, pushed| {
        let mut stream = TcpStream::connect(address)?;
        let document = format!("{{\"app\":\"m 1 {}\"}}\n", "#".repeat(1000));
        while stream.write_all(document.as_bytes()).is_ok() {
            pushed.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
}

#[test]
fn it_ends_well_while_messages_of_capnp_are_sent_without_a_pause() {
    ends_under_load(|address, pushed| {
        let mut stream = TcpStream::connect(address)?;
        let message = capnp_message("app", &"#".repeat(1000));
        while stream.write_all(&message).is_ok() {
            pushed.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
}
