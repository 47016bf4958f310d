//! Connections that the proxy closes before their senders do: messages in flight are processed and
//! counted.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::PATIENCE;
use crate::operations::{Bench, bench};
use crate::support::until_fast_enough;

/// The time for which a connection is idle before it makes room for another one.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// Less than the time for which the proxy reads on after it has ended its side.
const LINGER: Duration = Duration::from_millis(900);

/// Waits until the proxy ends its side, and returns its answers.
fn read_to_end(stream: &mut UnixStream) -> String {
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    answers
}

/// Sends on a stream whose other side the proxy has ended, at `ended` at the earliest. Returns
/// whether it surely still reads.
#[track_caller]
fn send_on(mut stream: UnixStream, text: &str, ended: Instant) -> bool {
    let sent = stream
        .write_all(text.as_bytes())
        .and_then(|()| stream.shutdown(Shutdown::Write));
    let is_in_time = ended.elapsed() < LINGER;
    assert!(sent.is_ok() || !is_in_time, "{sent:?}");
    is_in_time
}

/// Opens another connection, for which an existing one must make room.
fn newcomer(bench: &Bench) -> thread::JoinHandle<String> {
    let socket = bench.unix.clone();
    thread::spawn(move || {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"newcomer:1|c\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        read_to_end(&mut stream)
    })
}

#[test]
fn messages_sent_while_a_connection_is_evicted_are_applied() {
    until_fast_enough(|| {
        let bench = bench("concurrent_connections = 1\n");
        let mut still = bench.connect();
        let ended = Instant::now() + IDLE_AFTER;
        still.write_all(b"still:1|c\n").unwrap();
        bench.comes_to("still", 1.0);
        let newcomer = newcomer(&bench);
        // The sender sees the end of the stream. Messages that it sends before it notices are
        // processed, too.
        assert_eq!(read_to_end(&mut still), "");
        let text = "still:1|c\nstill:1|c\n{\"name\":\"still\",\"op\":\"inc\",\"value\":1}\n";
        let is_in_time = send_on(still, text, ended);
        assert_eq!(newcomer.join().unwrap(), "");
        bench.comes_to("newcomer", 1.0);
        if is_in_time {
            bench.comes_to("still", 4.0);
            assert_eq!(bench.results("unix", "closed"), 0.0);
        }
        is_in_time
    });
}

#[test]
fn a_message_cut_by_an_eviction_is_rejected_and_the_next_ones_apply() {
    until_fast_enough(|| {
        let bench = bench("concurrent_connections = 1\n");
        let mut still = bench.connect();
        let ended = Instant::now() + IDLE_AFTER;
        still.write_all(b"before:1|c\n{\"name\":\"cut\",").unwrap();
        bench.comes_to("before", 1.0);
        let newcomer = newcomer(&bench);
        let said = read_to_end(&mut still);
        assert!(
            said.starts_with("error: message 2: closed to make room"),
            "{said}"
        );
        let is_in_time = send_on(still, "\"op\":\"inc\"}\nafter:1|c\n", ended);
        assert_eq!(newcomer.join().unwrap(), "");
        if is_in_time {
            bench.comes_to("after", 1.0);
        }
        assert_eq!(bench.proxy.sample("cut"), None);
        assert_eq!(bench.results("unix", "closed"), 1.0);
        is_in_time
    });
}

#[test]
fn messages_sent_while_the_idle_timeout_ends_a_connection_are_applied() {
    until_fast_enough(|| {
        let bench = bench("idle_timeout = \"200ms\"\n");
        let ended = Instant::now() + Duration::from_millis(200);
        let mut idle = bench.connect();
        idle.write_all(b"idle:1|c\n").unwrap();
        assert_eq!(read_to_end(&mut idle), "");
        let is_in_time = send_on(idle, "idle:1|c\n", ended);
        if is_in_time {
            bench.comes_to("idle", 2.0);
            assert_eq!(bench.results("unix", "timeout"), 0.0);
        }
        is_in_time
    });
}

/// Closing connections do not count as open, however long they take.
#[test]
fn an_evicted_sender_that_does_not_leave_still_makes_room() {
    let bench = bench("concurrent_connections = 2\n");
    let mut held: Vec<UnixStream> = Vec::new();
    for _ in 0..2 {
        let mut stream = bench.connect();
        stream.write_all(b"held:1|c\n").unwrap();
        held.push(stream);
    }
    bench.comes_to("held", 2.0);
    for number in 1..=3_u32 {
        assert_eq!(newcomer(&bench).join().unwrap(), "");
        bench.comes_to("newcomer", f64::from(number));
    }
    drop(held);
}
