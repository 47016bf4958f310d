//! Reads datagram sockets: UDP, and Unix sockets without connections.
//!
//! One system call takes many datagrams, and their messages become one batch. Still, each
//! datagram stands alone: an unfinished message in it is rejected, and never joined with
//! the next datagram. Senders get no answer.
//!
//! While datagrams are few, the kernel wakes the task for each. At high rates, waking would
//! be a large part of the work, also for the senders, which do the waking. The task then
//! reads the socket by a timer, and the kernel does not wake it.

use std::cell::RefCell;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::socket::sockopt::PassCred;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage, UnixCredentials,
    recvmmsg, setsockopt,
};
use tokio::io::Interest;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::batcher::Batcher;
use super::framing::{Frame, Framer};
use super::permission::Permission;
use super::processor::{Service, Source};
use super::rejection::Rejection;
use crate::clock;
use crate::fairness::Account;
use crate::live::Live;
use crate::net::SocketFile;
use crate::peer::Peer;
use crate::reason::Reason;
use crate::security::{Caller, ListenerKind};
use crate::telemetry::Transport;
use crate::telemetry::sender_log::{self, About, LogEvent};

/// The number of UDP datagrams taken with one call.
const UDP_BATCH: usize = 64;

/// The buffer size for one UDP datagram, which has at most 65,535 bytes. The extra 192
/// bytes put the start of each buffer on another cache line: mostly only the start is used.
const UDP_BUFFER: usize = 64 * 1024 + 192;

/// The number of Unix datagrams taken with one call. The kernel queues fewer of them.
const UNIX_BATCH: usize = 16;

/// The buffer size for one Unix datagram. The sender's socket buffer, which is smaller by
/// default, limits its size.
const UNIX_BUFFER: usize = 256 * 1024;

/// The cost of datagrams processed before other tasks run: less than a millisecond for
/// ordinary ones. The unit is a byte of a message.
const YIELD_COST: usize = 128 * 1024;

/// The cost of a datagram in addition to its bytes.
const DATAGRAM_COST: usize = 512;

/// After this many datagrams since the last wait, the next wait is by timer.
const BUSY_DATAGRAMS: usize = 16;

/// The wait by timer. Even the small kernel buffer of an unprivileged process holds what
/// arrives in this time.
const BUSY_WAIT: Duration = Duration::from_millis(1);

/// The limit on calls after the stop: many more than needed to empty the kernel's buffer. A
/// sender that never pauses must not delay the end.
const FINAL_CALLS: usize = 4096;

/// The wait after a read error, so that a lasting error costs little.
const ERROR_WAIT: Duration = Duration::from_millis(100);

thread_local! {
    /// Headers for the system call, shared by all sockets of a thread.
    static HEADERS: RefCell<MultiHeaders<()>> =
        RefCell::new(MultiHeaders::preallocate(UDP_BATCH.max(UNIX_BATCH), None));
}

/// A bound socket in non-blocking mode.
#[derive(Debug)]
pub(super) enum DatagramSocket {
    Udp(UdpSocket),
    /// The file is removed when this is dropped.
    Unix(UnixDatagram, SocketFile),
}

impl DatagramSocket {
    pub(super) fn transport(&self) -> Transport {
        match self {
            DatagramSocket::Udp(_) => Transport::Udp,
            DatagramSocket::Unix(..) => Transport::UnixDatagram,
        }
    }

    /// The address of a UDP socket.
    pub(super) fn socket_address(&self) -> Option<SocketAddr> {
        match self {
            DatagramSocket::Udp(socket) => socket.local_addr().ok(),
            DatagramSocket::Unix(..) => None,
        }
    }

    /// Makes the kernel report the process that sent a datagram.
    fn ask_for_senders(&self) -> io::Result<()> {
        match self {
            DatagramSocket::Udp(_) => Ok(()),
            DatagramSocket::Unix(socket, _) => Ok(setsockopt(socket, PassCred, &true)?),
        }
    }

    pub(super) fn address(&self) -> String {
        match self {
            DatagramSocket::Udp(socket) => socket
                .local_addr()
                .map_or_else(|error| error.to_string(), |address| address.to_string()),
            DatagramSocket::Unix(_, file) => file.path().display().to_string(),
        }
    }

    fn buffer(&self) -> DatagramBuffer {
        match self {
            DatagramSocket::Udp(_) => DatagramBuffer::new(UDP_BATCH, UDP_BUFFER),
            DatagramSocket::Unix(..) => DatagramBuffer::new(UNIX_BATCH, UNIX_BUFFER),
        }
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

/// A duplicate of a socket, registered with the runtime. As long as it exists, the kernel
/// wakes the task for incoming datagrams.
#[derive(Debug)]
enum Wakeup {
    Udp(tokio::net::UdpSocket),
    Unix(tokio::net::UnixDatagram),
}

impl Wakeup {
    fn register(socket: &DatagramSocket) -> io::Result<Self> {
        match socket {
            DatagramSocket::Udp(socket) => {
                let socket = socket.try_clone()?;
                tokio::net::UdpSocket::from_std(socket).map(Wakeup::Udp)
            }
            DatagramSocket::Unix(socket, _) => {
                let socket = socket.try_clone()?;
                tokio::net::UnixDatagram::from_std(socket).map(Wakeup::Unix)
            }
        }
    }

    /// Waits for a datagram that arrives after the last wait.
    async fn wait(&self) -> io::Result<()> {
        // Clears the readiness: the caller has read everything before.
        let clear = || Err::<(), _>(io::Error::from(io::ErrorKind::WouldBlock));
        match self {
            Wakeup::Udp(socket) => {
                socket.readable().await?;
                let _ = socket.try_io(Interest::READABLE, clear);
            }
            Wakeup::Unix(socket) => {
                socket.readable().await?;
                let _ = socket.try_io(Interest::READABLE, clear);
            }
        }
        Ok(())
    }
}

/// Datagrams taken with one call, each in its own buffer. The kernel backs a buffer with
/// memory only as far as datagrams have filled it.
#[derive(Debug)]
struct DatagramBuffer {
    memory: Box<[u8]>,
    /// The buffer size of one datagram.
    size: usize,
    datagrams: Vec<Datagram>,
    /// Whether the kernel reports the senders, which takes time.
    with_senders: bool,
}

/// A received datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Datagram {
    length: usize,
    /// It exceeded its buffer, so its end is lost.
    truncated: bool,
    /// The sender and its group, if the kernel reports them.
    sender: (Peer, Option<u32>),
}

impl DatagramBuffer {
    /// Allocates buffers of `size` bytes for `count` datagrams.
    fn new(count: usize, size: usize) -> Self {
        DatagramBuffer {
            memory: vec![0; count * size].into_boxed_slice(),
            size,
            datagrams: Vec::with_capacity(count),
            with_senders: false,
        }
    }

    /// Replaces the content with the datagrams that have arrived.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there are none; any other error of the socket.
    fn fill(&mut self, socket: RawFd) -> io::Result<()> {
        self.datagrams.clear();
        if self.with_senders {
            return self.fill_with_senders(socket);
        }
        HEADERS.with_borrow_mut(|headers| {
            let mut buffers: Vec<[IoSliceMut<'_>; 1]> = self
                .memory
                .chunks_exact_mut(self.size)
                .map(|buffer| [IoSliceMut::new(buffer)])
                .collect();
            let flags = MsgFlags::MSG_DONTWAIT;
            let received = recvmmsg(socket, headers, buffers.iter_mut(), flags, None)?;
            self.datagrams.extend(received.map(|datagram| Datagram {
                length: datagram.bytes,
                truncated: datagram.flags.contains(MsgFlags::MSG_TRUNC),
                sender: (Peer::Unknown, None),
            }));
            Ok(())
        })
    }

    /// Like [`fill`](Self::fill), with the sender of each datagram.
    fn fill_with_senders(&mut self, socket: RawFd) -> io::Result<()> {
        let mut buffers: Vec<[IoSliceMut<'_>; 1]> = self
            .memory
            .chunks_exact_mut(self.size)
            .map(|buffer| [IoSliceMut::new(buffer)])
            .collect();
        // The kernel shrinks the buffers of a header, so a header serves only one call.
        let control = nix::cmsg_space!(UnixCredentials);
        let mut headers =
            MultiHeaders::<SockaddrStorage>::preallocate(buffers.len(), Some(control));
        let flags = MsgFlags::MSG_DONTWAIT;
        let received = recvmmsg(socket, &mut headers, buffers.iter_mut(), flags, None)?;
        self.datagrams.extend(received.map(|datagram| Datagram {
            length: datagram.bytes,
            truncated: datagram.flags.contains(MsgFlags::MSG_TRUNC),
            sender: sender(&datagram),
        }));
        Ok(())
    }

    /// The datagrams from position `first`, with their bytes.
    fn since(&self, first: usize) -> impl Iterator<Item = (Datagram, &[u8])> {
        let buffers = self.memory.chunks_exact(self.size);
        let all = self.datagrams.iter().zip(buffers).skip(first);
        all.map(|(datagram, buffer)| (*datagram, &buffer[..datagram.length]))
    }
}

/// The sender of a datagram and its group, as reported by the kernel.
fn sender(datagram: &RecvMsg<'_, '_, SockaddrStorage>) -> (Peer, Option<u32>) {
    if let Some(address) = &datagram.address {
        let v4 = address
            .as_sockaddr_in()
            .map(|it| SocketAddr::V4((*it).into()));
        let v6 = || {
            address
                .as_sockaddr_in6()
                .map(|it| SocketAddr::V6((*it).into()))
        };
        if let Some(address) = v4.or_else(v6) {
            return (Peer::Tcp(address), None);
        }
    }
    let mut control = datagram.cmsgs().into_iter().flatten();
    let credentials = control.find_map(|message| match message {
        ControlMessageOwned::ScmCredentials(credentials) => Some(credentials),
        _ => None,
    });
    match credentials {
        None => (Peer::Unknown, None),
        Some(credentials) => {
            let peer = Peer::Unix {
                pid: Some(credentials.pid()),
                uid: credentials.uid(),
            };
            (peer, Some(credentials.gid()))
        }
    }
}

/// Reads a socket until `stop`, and then the datagrams that the kernel still holds.
pub(super) async fn serve(live: Live<Service>, socket: &DatagramSocket, stop: CancellationToken) {
    let mut buffer = socket.buffer();
    let mut service = live.load();
    ask_for_senders(&service, socket, &mut buffer);
    let mut cost = 0;
    let mut wakeup = None;
    'serving: loop {
        let mut received = 0;
        loop {
            if !live.is_current(&service) {
                service = live.load();
                ask_for_senders(&service, socket, &mut buffer);
            }
            match buffer.fill(socket.as_raw_fd()) {
                Ok(()) => {
                    received += buffer.datagrams.len();
                    process_all(&service, &buffer, &mut cost).await;
                    if stop.is_cancelled() {
                        break 'serving;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    log_error_and_wait(&service.source, &error).await;
                    break;
                }
            }
        }
        let wait = async {
            if received >= BUSY_DATAGRAMS {
                wakeup = None;
                sleep(BUSY_WAIT).await;
                return Ok(());
            }
            let wakeup = match &mut wakeup {
                Some(wakeup) => wakeup,
                none => none.insert(Wakeup::register(socket)?),
            };
            wakeup.wait().await
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            waited = wait => if let Err(error) = waited {
                log_error_and_wait(&service.source, &error).await;
            },
        }
    }
    for _ in 0..FINAL_CALLS {
        if buffer.fill(socket.as_raw_fd()).is_err() {
            return;
        }
        process_all(&service, &buffer, &mut cost).await;
    }
}

/// If roles or limits depend on the sender, makes the kernel report it from now on.
fn ask_for_senders(service: &Service, socket: &DatagramSocket, buffer: &mut DatagramBuffer) {
    let processor = &service.processor;
    let needs_senders = processor.access.is_some() || processor.fairness.is_active();
    if needs_senders
        && !buffer.with_senders
        && let Err(error) = socket.ask_for_senders()
    {
        let name = &service.source.name;
        log::error!(
            "operations {name}: the senders are unknown, so limits and roles of senders fail: \
             {error}"
        );
    }
    buffer.with_senders = needs_senders;
}

/// Processes all datagrams, and lets other tasks run each time that this has cost
/// [`YIELD_COST`]. `cost` is the cost since they last ran.
async fn process_all(service: &Service, buffer: &DatagramBuffer, cost: &mut usize) {
    let mut first = 0;
    while first < buffer.datagrams.len() {
        first += process(service, buffer, first, cost);
        if *cost >= YIELD_COST {
            *cost = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Processes datagrams from position `first` as one batch, until the cost reaches
/// [`YIELD_COST`]. Returns their number.
fn process(service: &Service, buffer: &DatagramBuffer, first: usize, cost: &mut usize) -> usize {
    let Service {
        processor, source, ..
    } = service;
    let (mut count, mut bytes) = (0, 0);
    for datagram in &buffer.datagrams[first..] {
        count += 1;
        bytes += datagram.length;
        *cost += datagram.length + DATAGRAM_COST;
        if *cost >= YIELD_COST {
            break;
        }
    }
    processor.stats.count_received(source.transport, bytes);
    let mut batcher = Batcher::new(processor, source, bytes, 1, |_, _: &Rejection| {});
    let mut framer = Framer::new(processor.config.max_message);
    let now = clock::tick();
    for (datagram, bytes) in buffer.since(first).take(count) {
        let account = match buffer.with_senders {
            true => processor.fairness.account(datagram.sender.0, None),
            false => Account::default(),
        };
        if let Err(excess) = account.check(now) {
            processor.fairness.count(&excess);
            let rejection = Rejection::new(Reason::RateLimited, excess.to_string());
            batcher.add(Frame::Invalid(rejection));
            continue;
        }
        batcher.charge_to(&account);
        // Without limits on senders there is nothing to charge.
        let before = buffer.with_senders.then(|| batcher.number());
        if let Some(access) = &processor.access {
            let (peer, gid) = datagram.sender;
            let caller = Caller {
                listener: ListenerKind::Operations,
                peer,
                gid,
                identity: None,
            };
            match Permission::of(access, &caller) {
                Ok(permission) => batcher.permit(permission),
                Err(denial) => {
                    let rejection = Rejection::new(denial.reason, denial.message);
                    batcher.add(Frame::Invalid(rejection));
                    continue;
                }
            }
        }
        if datagram.truncated {
            let problem = format!("the datagram has more than {} bytes", buffer.size);
            let rejection = Rejection::new(Reason::TooLarge, problem);
            batcher.add(Frame::Invalid(rejection));
        } else {
            framer.feed(bytes, true, |frame| batcher.add(frame));
        }
        if let Some(before) = before {
            account.charge(batcher.number() - before, datagram.length, now);
        }
    }
    batcher.end();
    count
}

/// Logs a read error and waits. The caller then reads again.
async fn log_error_and_wait(source: &Source, error: &io::Error) {
    let name = &source.name;
    sender_log::write(
        LogEvent::OperationTransport,
        About::NOTHING,
        format_args!("operations {name}: cannot read: {error}; trying again"),
    );
    sleep(ERROR_WAIT).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The datagrams of each call, and whether they were truncated.
    fn received(socket: RawFd, buffer: &mut DatagramBuffer) -> Vec<Vec<(bool, String)>> {
        let mut calls = Vec::new();
        while buffer.fill(socket).is_ok() {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            let datagrams = buffer
                .since(0)
                .map(|(datagram, bytes)| (datagram.truncated, text(bytes)));
            calls.push(datagrams.collect());
        }
        assert_eq!(
            buffer.fill(socket).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        assert!(buffer.datagrams.is_empty(), "the last call's are gone");
        calls
    }

    const SENT: [&str; 7] = ["a", "", "0123456789", "0123456789x", "b", "", "c"];

    fn expected() -> Vec<Vec<(bool, String)>> {
        let received = |text: &str| (text.len() > 10, text[..text.len().min(10)].to_owned());
        let all: Vec<_> = SENT.iter().map(|text| received(text)).collect();
        all.chunks(3).map(<[_]>::to_vec).collect()
    }

    #[test]
    fn one_call_takes_many_udp_datagrams_each_on_its_own() {
        let to = UdpSocket::bind("127.0.0.1:0").unwrap();
        let from = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut buffer = DatagramBuffer::new(3, 10);
        // Bytes of earlier calls must not show in later ones.
        for _ in 0..2 {
            for text in SENT {
                from.send_to(text.as_bytes(), to.local_addr().unwrap())
                    .unwrap();
            }
            assert_eq!(received(to.as_raw_fd(), &mut buffer), expected());
        }
    }

    #[test]
    fn one_call_takes_many_unix_datagrams_each_on_its_own() {
        let (from, to) = UnixDatagram::pair().unwrap();
        let mut buffer = DatagramBuffer::new(3, 10);
        for _ in 0..2 {
            for text in SENT {
                from.send(text.as_bytes()).unwrap();
            }
            assert_eq!(received(to.as_raw_fd(), &mut buffer), expected());
        }
    }

    #[test]
    fn every_udp_datagram_fits_its_buffer() {
        let longest = usize::from(u16::MAX);
        assert!(UDP_BUFFER >= longest);
        for (count, size) in [(UDP_BATCH, UDP_BUFFER), (UNIX_BATCH, UNIX_BUFFER)] {
            let buffer = DatagramBuffer::new(count, size);
            assert_eq!(buffer.memory.chunks_exact(buffer.size).count(), count);
        }
    }
}
