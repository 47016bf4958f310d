//! Sockets of datagrams: UDP, and Unix sockets without connections.
//!
//! Each datagram stands for itself: what is unfinished in one is refused, and
//! never becomes part of another's. Nothing is answered.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UdpSocket, UnixDatagram};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Fault, Found, Framer, Operations, Source};
use crate::net::SocketFile;
use crate::telemetry::Reason;

/// Datagrams taken at once, and the bytes that there is room for: a batch.
const MOST: usize = 256;
const ROOM: usize = 512 * 1024;

/// Room for one datagram. None of UDP is longer; a Unix socket takes what its
/// sender's buffer does, which is less by default.
const LONGEST: usize = 256 * 1024;

/// The wait after a failure to read, so that one that stays costs little.
const BACKOFF: Duration = Duration::from_millis(100);

/// A bound socket.
#[derive(Debug)]
pub enum DatagramSocket {
    Udp(UdpSocket),
    /// The file is removed when this is dropped.
    Unix(UnixDatagram, SocketFile),
}

impl DatagramSocket {
    pub fn address(&self) -> String {
        match self {
            DatagramSocket::Udp(socket) => socket
                .local_addr()
                .map_or_else(|problem| problem.to_string(), |address| address.to_string()),
            DatagramSocket::Unix(_, file) => file.path().display().to_string(),
        }
    }

    async fn readable(&self) -> io::Result<()> {
        match self {
            DatagramSocket::Udp(socket) => socket.readable().await,
            DatagramSocket::Unix(socket, _) => socket.readable().await,
        }
    }

    fn receive(&self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            DatagramSocket::Udp(socket) => socket.try_recv_from(room).map(|(length, _)| length),
            DatagramSocket::Unix(socket, _) => socket.try_recv(room),
        }
    }
}

/// Reads a socket until `stop`, and then what lies in it still.
pub async fn serve(
    operations: Arc<Operations>,
    source: Arc<Source>,
    socket: DatagramSocket,
    stop: CancellationToken,
) {
    let mut room = vec![0; ROOM].into_boxed_slice();
    let mut ends = Vec::with_capacity(MOST);
    let mut stopping = false;
    loop {
        if !stopping {
            tokio::select! {
                biased;
                () = stop.cancelled() => stopping = true,
                ready = socket.readable() => if let Err(problem) = ready {
                    failed(&operations, &source, &problem).await;
                    continue;
                },
            }
        }
        ends.clear();
        let mut at = 0;
        let mut problem = None;
        while ends.len() < MOST && at + LONGEST <= room.len() {
            match socket.receive(&mut room[at..at + LONGEST]) {
                Ok(length) => {
                    at += length;
                    ends.push(at);
                }
                Err(fault) => {
                    problem = Some(fault);
                    break;
                }
            }
        }
        take(&operations, &source, &room, &ends);
        match problem {
            Some(problem) if problem.kind() == io::ErrorKind::WouldBlock => {
                if stopping {
                    return;
                }
            }
            Some(_) if stopping => return,
            Some(problem) => failed(&operations, &source, &problem).await,
            // There is more; others run first.
            None => tokio::task::yield_now().await,
        }
    }
}

/// Takes datagrams that lie one after the other and end at these places.
fn take(operations: &Operations, source: &Source, room: &[u8], ends: &[usize]) {
    let Some(last) = ends.last() else { return };
    operations.stats.count_bytes(source.transport, *last);
    let mut turn = operations.turn(source, 1, |_, _: &Fault| {});
    let mut framer = Framer::new(operations.config.max_message);
    let mut start = 0;
    for end in ends {
        if end - start == LONGEST {
            let problem = format!("a datagram may have less than {LONGEST} bytes");
            turn.take(Found::Broken(Fault::new(Reason::TooLarge, problem)));
        } else {
            framer.feed(&room[start..*end], true, |found| turn.take(found));
        }
        start = *end;
    }
    turn.end();
}

/// Tells of a failure, and waits. The socket is read on in any case.
async fn failed(operations: &Operations, source: &Source, problem: &io::Error) {
    operations.complaints.tell(|times| {
        log::error!(
            "operations {}: cannot be read: {problem} ({times} times); trying again",
            source.name
        );
    });
    sleep(BACKOFF).await;
}
