use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, UdpSocket, UnixDatagram};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::Verdict;
use super::datagrams::MAX_DATAGRAM;
use super::stream::LineStream;
use super::*;
use crate::outputs::sinks::{self, QueueConfig};
use crate::reason::Reason;
use crate::settings::Address;
use crate::telemetry::SinkStats;

fn lines(texts: &[&'static str]) -> Vec<Bytes> {
    texts
        .iter()
        .map(|text| Bytes::from_static(text.as_bytes()))
        .collect()
}

/// Starts forwarding.
fn start(
    settings: Settings,
    queue: &QueueConfig,
    drain: Duration,
    stats: Arc<SinkStats>,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Lines {
    let sink = OperationsSink::new(settings);
    Lines::new(sinks::start(
        sink,
        queue.limits(),
        drain,
        stats,
        stop,
        tasks,
    ))
}

fn settings(
    destination: Destination,
    max_queue: usize,
    drain: Duration,
) -> (Settings, QueueConfig, Duration) {
    (Settings { destination }, queue(max_queue), drain)
}

#[tokio::test]
async fn a_line_that_was_cut_by_a_broken_connection_is_sent_again() {
    let all = lines(&["first\n", "second\n", "third\n"]);
    // Room for the first line and a part of the second.
    let (near, mut far) = tokio::io::duplex(10);
    let hang_up = async move {
        let mut got = [0; 3];
        far.read_exact(&mut got).await.unwrap();
    };
    let mut stream = LineStream::new(near);
    let (report, ()) = tokio::join!(stream.write(&all), hang_up);
    assert!(report.failure.is_some());
    assert_eq!(report.verdicts, [Verdict::Taken], "the rest comes again");

    let (near, mut far) = tokio::io::duplex(10);
    let mut stream = LineStream::new(near);
    let send = async {
        let report = stream.write(&all[1..]).await;
        stream.end().await;
        report
    };
    let mut got = String::new();
    let (report, read) = tokio::join!(send, far.read_to_string(&mut got));
    read.unwrap();
    assert_eq!(got, "second\nthird\n");
    assert_eq!(report.verdicts, [Verdict::Taken; 2]);
    assert_eq!(report.failure, None);
}

#[tokio::test]
async fn a_datagram_holds_one_line_without_its_newline() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let (settings, queue, drain) = settings(
        Destination::Udp(Address::new("127.0.0.1", port)),
        1 << 20,
        Duration::from_secs(20),
    );
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let stats = Arc::new(SinkStats::default());
    let sink = start(settings, &queue, drain, Arc::clone(&stats), &stop, &tasks);
    sink.push(&Bytes::from_static(b"first\nsecond\n")).unwrap();
    let long = [&vec![b'x'; MAX_DATAGRAM + 1][..], b"\n"].concat();
    sink.push(&Bytes::from(long)).unwrap();
    sink.push(&Bytes::from_static(b"third\n")).unwrap();
    stop.cancel();
    drop(sink);
    tasks.close();
    tasks.wait().await;
    let mut datagram = [0; 100];
    for expected in ["first", "second", "third"] {
        let length = socket.recv(&mut datagram).await.unwrap();
        assert_eq!(&datagram[..length], expected.as_bytes());
    }
    assert_eq!(stats.items.counts(), [("ok", 3), ("too_large", 1)]);
    assert_eq!(stats.queued.value(), 0);
}

#[tokio::test]
async fn a_unix_socket_takes_datagrams_when_there_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.sock");
    let (settings, queue, drain) = settings(
        Destination::UnixDatagram(path.clone()),
        1 << 20,
        Duration::from_secs(20),
    );
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let stats = Arc::new(SinkStats::default());
    let sink = start(settings, &queue, drain, Arc::clone(&stats), &stop, &tasks);
    sink.push(&Bytes::from_static(b"first\nsecond\n")).unwrap();
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut datagram = [0; 100];
    for expected in ["first", "second"] {
        let length = socket.recv(&mut datagram).await.unwrap();
        assert_eq!(&datagram[..length], expected.as_bytes());
    }
    // More than fits into the buffer of the sender's socket.
    let long = [&vec![b'x'; 8 << 20][..], b"\n"].concat();
    let (settings, _, _) = self::settings(Destination::UnixDatagram(path), 0, drain);
    let report = OperationsSink::new(settings)
        .send(&[Bytes::from(long)])
        .await;
    assert_eq!(report.verdicts, [Verdict::Refused(Reason::TooLarge)]);
    drop(sink);
    tasks.close();
    tasks.wait().await;
    assert_eq!(stats.items.counts(), [("ok", 2)]);
}

#[tokio::test]
async fn a_datagram_that_an_earlier_error_kept_back_is_sent_again() {
    // An address where nobody else takes the port before it is bound again.
    let host = "127.77.11.5";
    let socket = UdpSocket::bind((host, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let (settings, queue, drain) = settings(
        Destination::Udp(Address::new(host, address.port())),
        1 << 20,
        Duration::from_secs(20),
    );
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let stats = Arc::new(SinkStats::default());
    let sink = start(settings, &queue, drain, Arc::clone(&stats), &stop, &tasks);
    sink.push(&Bytes::from_static(b"lost\n")).unwrap();
    while stats.queued.value() > 0 {
        sleep(Duration::from_millis(1)).await;
    }
    // By now the loopback has reported the closed port, so the next send fails.
    let socket = UdpSocket::bind(address).await.unwrap();
    sink.push(&Bytes::from_static(b"second\nthird\n")).unwrap();
    let mut datagram = [0; 100];
    for expected in ["second", "third"] {
        let length = socket.recv(&mut datagram).await.unwrap();
        assert_eq!(&datagram[..length], expected.as_bytes());
    }
    drop(sink);
    tasks.close();
    tasks.wait().await;
    assert_eq!(stats.items.counts(), [("ok", 3)]);
}

#[tokio::test]
async fn the_queue_is_bounded_by_bytes() {
    /// The memory of a line beside its text: a slice, and a time.
    const ENTRY: usize = 48;
    // Nothing is sent: the name does not resolve.
    let (settings, queue, drain) = settings(
        Destination::Tcp(Address::new("nowhere.invalid", 1)),
        10 + 2 * ENTRY,
        Duration::ZERO,
    );
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let stats = Arc::new(SinkStats::default());
    let sink = start(settings, &queue, drain, Arc::clone(&stats), &stop, &tasks);
    sink.push(&Bytes::from_static(b"12345\n")).unwrap();
    let rejected = sink.push(&Bytes::from_static(b"12\n34\n"));
    assert_eq!(rejected, Err(PushError::Full));
    assert_eq!(stats.items.counts(), [("no_buffer", 2), ("ok", 0)]);
    sink.push(&Bytes::from_static(b"123\n")).unwrap();
    assert_eq!(stats.queued.value(), 10 + 2 * ENTRY);
}

#[tokio::test]
async fn a_sink_connects_again_after_the_receiver_closed_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (settings, queue, drain) = settings(
        Destination::Tcp(Address::new("127.0.0.1", port)),
        1 << 20,
        Duration::from_secs(20),
    );
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let sink = start(settings, &queue, drain, Arc::default(), &stop, &tasks);
    sink.push(&Bytes::from_static(b"first\n")).unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut line = [0; 6];
    stream.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"first\n");
    drop(stream);
    // Lines sent before the sink notices are lost with the connection.
    let mut stream = loop {
        sink.push(&Bytes::from_static(b"later\n")).unwrap();
        tokio::select! {
            accepted = listener.accept() => break accepted.unwrap().0,
            () = sleep(Duration::from_millis(10)) => {}
        }
    };
    stop.cancel();
    drop(sink);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.ends_with("later\n"), "{rest}");
    tasks.close();
    tasks.wait().await;
}
