//! Sockets of datagrams: UDP, and Unix sockets without connections.
//!
//! Many datagrams are taken with one call, and what is in them becomes one
//! batch. Each datagram stands for itself all the same: what is unfinished in
//! one is refused, and never becomes part of another's. Nothing is answered.
//!
//! While few datagrams come, the kernel wakes us for them. While many do, that
//! would be a large part of the work, of the senders too, since they do the waking: so
//! a socket is then looked at by the clock, and the kernel is not asked to tell.

use std::cell::RefCell;
use std::io::{self, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg};
use tokio::io::Interest;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Fault, Found, Framer, Operations, Source};
use crate::net::SocketFile;
use crate::reason::Reason;
use crate::telemetry::sender_log::{self, LogEvent};

/// Datagrams of UDP that are taken with one call, and room for each: none is
/// longer than 65,535 bytes. The 192 on top let the beginnings of the rooms,
/// and mostly nothing else is used, fall on different lines of the caches.
const MOST_UDP: usize = 64;
const LONGEST_UDP: usize = 64 * 1024 + 192;

/// The same of a Unix socket, which keeps fewer, and takes what its sender's
/// buffer does: less by default.
const MOST_UNIX: usize = 16;
const LONGEST_UNIX: usize = 256 * 1024;

/// Datagrams are taken until their costs are this, then others run: less than
/// a millisecond for the ordinary ones. The cost is in bytes, those of the
/// datagram and as many more as one takes without any.
const TURN: usize = 128 * 1024;
const OWN_COST: usize = 512;

/// Where so many datagrams came since the last wait, the next is by the clock,
/// and so long: the kernel's buffer holds more than comes by then, even the
/// small one that it gives without privileges.
const MANY: usize = 16;
const NAP: Duration = Duration::from_millis(1);

/// Calls after the stop, at most: many more than it takes to empty the
/// kernel's buffer. A sender that never pauses does not hold up the end.
const LAST_CALLS: usize = 4096;

/// The wait after a failure to read, so that one that stays costs little.
const BACKOFF: Duration = Duration::from_millis(100);

thread_local! {
    /// What the kernel needs for a call, used again by all sockets of a thread.
    static HEADERS: RefCell<MultiHeaders<()>> =
        RefCell::new(MultiHeaders::preallocate(MOST_UDP.max(MOST_UNIX), None));
}

/// A bound socket, calls on which do not wait.
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

    fn inbox(&self) -> Inbox {
        match self {
            DatagramSocket::Udp(_) => Inbox::new(MOST_UDP, LONGEST_UDP),
            DatagramSocket::Unix(..) => Inbox::new(MOST_UNIX, LONGEST_UNIX),
        }
    }
}

/// A socket, once more, of which the kernel tells when something comes. It does
/// so for as long as there is this.
#[derive(Debug)]
enum Waker {
    Udp(tokio::net::UdpSocket),
    Unix(tokio::net::UnixDatagram),
}

impl Waker {
    fn of(socket: &DatagramSocket) -> io::Result<Self> {
        match socket {
            DatagramSocket::Udp(socket) => {
                let socket = socket.try_clone()?;
                tokio::net::UdpSocket::from_std(socket).map(Waker::Udp)
            }
            DatagramSocket::Unix(socket, _) => {
                let socket = socket.try_clone()?;
                tokio::net::UnixDatagram::from_std(socket).map(Waker::Unix)
            }
        }
    }

    /// Waits until something is there that was not when this ended last.
    async fn wait(&self) -> io::Result<()> {
        // What is told by then is done with: the socket is looked at next.
        let seen = || Err::<(), _>(io::Error::from(io::ErrorKind::WouldBlock));
        match self {
            Waker::Udp(socket) => {
                socket.readable().await?;
                let _ = socket.try_io(Interest::READABLE, seen);
            }
            Waker::Unix(socket) => {
                socket.readable().await?;
                let _ = socket.try_io(Interest::READABLE, seen);
            }
        }
        Ok(())
    }
}

impl AsRawFd for DatagramSocket {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            DatagramSocket::Udp(socket) => socket.as_raw_fd(),
            DatagramSocket::Unix(socket, _) => socket.as_raw_fd(),
        }
    }
}

/// Datagrams that were taken with one call. Each has room of its own; memory is
/// used for as much of it as a datagram has reached.
#[derive(Debug)]
struct Inbox {
    room: Box<[u8]>,
    /// Room for each.
    longest: usize,
    came: Vec<Came>,
}

/// How a datagram came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Came {
    length: usize,
    /// It was longer than there is room: the rest is lost.
    cut: bool,
}

impl Inbox {
    /// For at most `most` datagrams of at most `longest` bytes.
    fn new(most: usize, longest: usize) -> Self {
        Inbox {
            room: vec![0; most * longest].into_boxed_slice(),
            longest,
            came: Vec::with_capacity(most),
        }
    }

    /// Takes what is there without waiting, one datagram at least, in place of
    /// what was there before.
    fn fill(&mut self, socket: RawFd) -> io::Result<()> {
        self.came.clear();
        HEADERS.with_borrow_mut(|headers| {
            let mut rooms: Vec<[IoSliceMut<'_>; 1]> = self
                .room
                .chunks_exact_mut(self.longest)
                .map(|room| [IoSliceMut::new(room)])
                .collect();
            let flags = MsgFlags::MSG_DONTWAIT;
            let received = recvmmsg(socket, headers, rooms.iter_mut(), flags, None)?;
            self.came.extend(received.map(|datagram| Came {
                length: datagram.bytes,
                cut: datagram.flags.contains(MsgFlags::MSG_TRUNC),
            }));
            Ok(())
        })
    }

    /// The datagrams from one on, with how they came.
    fn since(&self, first: usize) -> impl Iterator<Item = (Came, &[u8])> {
        let rooms = self.room.chunks_exact(self.longest);
        let all = self.came.iter().zip(rooms).skip(first);
        all.map(|(came, room)| (*came, &room[..came.length]))
    }
}

/// Reads a socket until `stop`, and then what lies in it still.
pub async fn serve(
    operations: Arc<Operations>,
    source: Arc<Source>,
    socket: DatagramSocket,
    stop: CancellationToken,
) {
    let mut inbox = socket.inbox();
    let mut cost = 0;
    let mut waker = None;
    'serving: loop {
        let mut many = 0;
        loop {
            match inbox.fill(socket.as_raw_fd()) {
                Ok(()) => {
                    many += inbox.came.len();
                    take_all(&operations, &source, &inbox, &mut cost).await;
                    if stop.is_cancelled() {
                        break 'serving;
                    }
                }
                Err(problem) if problem.kind() == io::ErrorKind::WouldBlock => break,
                Err(problem) => {
                    failed(&source, &problem).await;
                    break;
                }
            }
        }
        let wait = async {
            if many >= MANY {
                waker = None;
                sleep(NAP).await;
                return Ok(());
            }
            let waker = match &mut waker {
                Some(waker) => waker,
                none => none.insert(Waker::of(&socket)?),
            };
            waker.wait().await
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            ended = wait => if let Err(problem) = ended {
                failed(&source, &problem).await;
            },
        }
    }
    for _ in 0..LAST_CALLS {
        if inbox.fill(socket.as_raw_fd()).is_err() {
            return;
        }
        take_all(&operations, &source, &inbox, &mut cost).await;
    }
}

/// Takes all datagrams, and lets others run where that takes long. `cost` is
/// that of what was taken since they last did.
async fn take_all(operations: &Operations, source: &Source, inbox: &Inbox, cost: &mut usize) {
    let mut first = 0;
    while first < inbox.came.len() {
        first += take(operations, source, inbox, first, cost);
        if *cost >= TURN {
            *cost = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Takes datagrams from one on as one batch, until the cost is [`TURN`].
/// Returns their number.
fn take(
    operations: &Operations,
    source: &Source,
    inbox: &Inbox,
    first: usize,
    cost: &mut usize,
) -> usize {
    let (mut taken, mut bytes) = (0, 0);
    for came in &inbox.came[first..] {
        taken += 1;
        bytes += came.length;
        *cost += came.length + OWN_COST;
        if *cost >= TURN {
            break;
        }
    }
    operations.stats.count_taken(source.transport, bytes);
    let mut turn = operations.turn(source, bytes, 1, |_, _: &Fault| {});
    let mut framer = Framer::new(operations.config.max_message);
    for (came, datagram) in inbox.since(first).take(taken) {
        if came.cut {
            let problem = format!("a datagram may have {} bytes", inbox.longest);
            turn.take(Found::Broken(Fault::new(Reason::TooLarge, problem)));
        } else {
            framer.feed(datagram, true, |found| turn.take(found));
        }
    }
    turn.end();
    taken
}

/// Tells of a failure, and waits. The socket is read on in any case.
async fn failed(source: &Source, problem: &io::Error) {
    let name = &source.name;
    sender_log::write(
        LogEvent::OperationTransport,
        format_args!("operations {name}: cannot be read: {problem}; trying again"),
    );
    sleep(BACKOFF).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How what was sent comes, in so many calls.
    fn taken(socket: RawFd, inbox: &mut Inbox) -> Vec<Vec<(bool, String)>> {
        let mut calls = Vec::new();
        while inbox.fill(socket).is_ok() {
            let datagrams = inbox
                .since(0)
                .map(|(came, datagram)| (came.cut, String::from_utf8_lossy(datagram).into_owned()));
            calls.push(datagrams.collect());
        }
        assert_eq!(
            inbox.fill(socket).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        assert!(inbox.came.is_empty(), "nothing is left of the last call");
        calls
    }

    const SENT: [&str; 7] = ["a", "", "0123456789", "0123456789x", "b", "", "c"];

    fn expected() -> Vec<Vec<(bool, String)>> {
        let came = |text: &str| (text.len() > 10, text[..text.len().min(10)].to_owned());
        let all: Vec<_> = SENT.iter().map(|text| came(text)).collect();
        all.chunks(3).map(<[_]>::to_vec).collect()
    }

    #[test]
    fn datagrams_of_udp_come_many_at_once_and_each_for_itself() {
        let to = UdpSocket::bind("127.0.0.1:0").unwrap();
        let from = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut inbox = Inbox::new(3, 10);
        // What a call leaves behind is not taken for what comes later.
        for _ in 0..2 {
            for text in SENT {
                from.send_to(text.as_bytes(), to.local_addr().unwrap())
                    .unwrap();
            }
            assert_eq!(taken(to.as_raw_fd(), &mut inbox), expected());
        }
    }

    #[test]
    fn datagrams_of_unix_sockets_come_likewise() {
        let (from, to) = UnixDatagram::pair().unwrap();
        let mut inbox = Inbox::new(3, 10);
        for _ in 0..2 {
            for text in SENT {
                from.send(text.as_bytes()).unwrap();
            }
            assert_eq!(taken(to.as_raw_fd(), &mut inbox), expected());
        }
    }

    #[test]
    fn any_datagram_of_udp_fits_and_the_room_is_cut_into_whole_ones() {
        let longest = usize::from(u16::MAX);
        assert!(LONGEST_UDP >= longest);
        for (most, longest) in [(MOST_UDP, LONGEST_UDP), (MOST_UNIX, LONGEST_UNIX)] {
            let inbox = Inbox::new(most, longest);
            assert_eq!(inbox.room.chunks_exact(inbox.longest).count(), most);
        }
    }
}
