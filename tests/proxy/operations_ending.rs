//! Connections of operations that the proxy ends before their senders do: what
//! is under way is taken, and nothing that was read is uncounted.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;

use crate::harness::PATIENCE;
use crate::operations::{Bench, bench};

/// Waits until the proxy ends its side, and returns what it said before.
fn ended(stream: &mut UnixStream) -> String {
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

/// Sends on a stream to which the proxy has ended its side.
fn send_on(mut stream: UnixStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
}

/// One more connection, which somebody has to make room for.
fn newcomer(bench: &Bench) -> thread::JoinHandle<String> {
    let socket = bench.unix.clone();
    thread::spawn(move || {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"newcomer:1|c\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        ended(&mut stream)
    })
}

#[test]
fn what_is_sent_while_a_connection_is_evicted_is_counted() {
    let bench = bench("concurrent_connections = 1\n");
    let mut still = bench.connect();
    still.write_all(b"still:1|c\n").unwrap();
    bench.comes_to("still", 1.0);
    let newcomer = newcomer(&bench);
    // It learns of it as the end of the stream. Whoever looks for that before
    // it writes has lost nothing; what was on its way by then is taken, too.
    assert_eq!(ended(&mut still), "");
    send_on(
        still,
        "still:1|c\nstill:1|c\n{\"name\":\"still\",\"op\":\"inc\",\"value\":1}\n",
    );
    bench.comes_to("still", 4.0);
    assert_eq!(newcomer.join().unwrap(), "");
    bench.comes_to("newcomer", 1.0);
    assert_eq!(bench.results("unix", "closed"), 0.0);
}

#[test]
fn a_message_that_is_cut_by_an_eviction_is_told_and_the_next_ones_count() {
    let bench = bench("concurrent_connections = 1\n");
    let mut still = bench.connect();
    still.write_all(b"before:1|c\n{\"name\":\"cut\",").unwrap();
    bench.comes_to("before", 1.0);
    let newcomer = newcomer(&bench);
    let said = ended(&mut still);
    assert!(
        said.starts_with("error: message 2: closed to make room"),
        "{said}"
    );
    send_on(still, "\"op\":\"inc\"}\nafter:1|c\n");
    bench.comes_to("after", 1.0);
    assert_eq!(newcomer.join().unwrap(), "");
    assert_eq!(bench.proxy.sample("cut"), None);
    assert_eq!(bench.results("unix", "closed"), 1.0);
}

#[test]
fn what_is_sent_as_the_idle_timeout_ends_a_connection_is_counted() {
    let bench = bench("idle_timeout = \"200ms\"\n");
    let mut idle = bench.connect();
    idle.write_all(b"idle:1|c\n").unwrap();
    assert_eq!(ended(&mut idle), "");
    send_on(idle, "idle:1|c\n");
    bench.comes_to("idle", 2.0);
    assert_eq!(bench.results("unix", "timeout"), 0.0);
}

/// Connections that are ending keep nobody out, however long they take.
#[test]
fn an_evicted_sender_that_does_not_go_makes_room_all_the_same() {
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
