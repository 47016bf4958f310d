//! The chain: operations are sent on to another proxy, or to metrics-server.
//!
//! Each is written as one JSON object on a line, with the labels it was given
//! here, and waits in a queue that is bounded by its bytes. Over TCP it stays
//! there until the kernel has taken all of it; where a connection breaks, what
//! was cut is sent again, whole, over the next one. Over UDP each is a datagram
//! without its line's end, as metrics-server wants it.

use std::io;
use std::io::Write as _;
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memchr::{memchr_iter, memrchr};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::config::ForwardTo;
use super::{Fault, buckets};
use crate::exposition::{InputFormat, Kind, unescape, unescape_help};
use crate::reason::Reason;
use crate::registry::{Change, Update};
use crate::settings::Address;
use crate::telemetry::sender_log::{self, LogEvent};
use crate::telemetry::{OperationStats, clip};

/// The wait after a failure, doubled each time up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// For a connection to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// For the other side to take some of what is written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// After the stop, how often it is looked whether the last input is gone.
const LAST_LOOKS: Duration = Duration::from_millis(10);

/// Bytes of one datagram over IPv4.
const LONGEST_DATAGRAM: usize = 65_507;

/// Operations on their way to somewhere else.
#[derive(Debug)]
pub struct Forward {
    to: ForwardTo,
    limit: usize,
    /// The value of the label `instance`, where there is none.
    instance: String,
    /// Whole lines.
    queue: Mutex<Vec<u8>>,
    wake: Notify,
    stats: Arc<OperationStats>,
}

impl Forward {
    pub fn new(to: ForwardTo, limit: usize, instance: String, stats: Arc<OperationStats>) -> Self {
        Forward {
            to,
            limit,
            instance,
            queue: Mutex::default(),
            wake: Notify::new(),
            stats,
        }
    }

    /// Writes an operation as a line. `hops` is how often it was sent on
    /// before.
    pub fn write(&self, update: &Update, hops: i64, line: &mut Vec<u8>) {
        line.extend_from_slice(b"{\"name\":");
        write_text(line, &unescape(&update.family));
        line.extend_from_slice(b",\"labels\":{");
        let mut instance = false;
        let mut comma = "";
        for label in update.labels.iter() {
            instance |= label.name == "instance";
            line.extend_from_slice(comma.as_bytes());
            write_text(line, &unescape(label.name));
            line.push(b':');
            write_text(line, &unescape(label.value));
            comma = ",";
        }
        if !instance && !self.instance.is_empty() {
            line.extend_from_slice(comma.as_bytes());
            line.extend_from_slice(b"\"instance\":");
            write_text(line, &self.instance);
        }
        line.push(b'}');
        let (op, value, times, bounds) = match &update.change {
            Change::Add(value) if update.kind == Kind::Counter => ("inc", *value, 1.0, None),
            Change::Add(value) => ("add", *value, 1.0, None),
            Change::Observe {
                value,
                times,
                buckets,
            } => ("obs", *value, *times, Some(buckets)),
            Change::Set(value) => ("set", *value, 1.0, None),
            _ => ("del", 0.0, 1.0, None),
        };
        put(line, format_args!(",\"op\":\"{op}\""));
        if let Some(help) = &update.help {
            line.extend_from_slice(b",\"help\":");
            let help = unescape_help(help, InputFormat::Text);
            write_text(line, &help);
        }
        // The usual ones go without saying.
        if let Some(bounds) = bounds.filter(|bounds| !Arc::ptr_eq(bounds, buckets::usual())) {
            line.extend_from_slice(b",\"bucket_custom\":[");
            let mut comma = "";
            for bound in bounds.iter() {
                put(line, format_args!("{comma}{bound:?}"));
                comma = ",";
            }
            line.push(b']');
        }
        // `{:?}` writes an exponent where plain digits would be many.
        put(line, format_args!(",\"value\":{value:?}"));
        if times != 1.0 {
            put(line, format_args!(",\"times\":{times:?}"));
        }
        put(line, format_args!(",\"hops\":{}}}\n", hops + 1));
    }

    /// Puts lines into the queue, all or none.
    pub fn push(&self, lines: &[u8]) -> Result<(), Fault> {
        if !self.stats.queued.try_add(lines.len(), self.limit) {
            let count = memchr_iter(b'\n', lines).count();
            let full = Err(Reason::NoBuffer);
            self.stats.forwarded.count(full, count as u64);
            return Err(Fault::new(
                Reason::NoBuffer,
                "too much waits to be sent on (operations.forward_queue); try again later",
            ));
        }
        self.queue().extend_from_slice(lines);
        self.wake.notify_one();
        Ok(())
    }

    /// Sends until `stop`, and then what is there still if it can be sent at
    /// once.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut sender = Sender {
            forward: &self,
            stop: &stop,
            pending: Vec::new(),
            wait: FIRST_WAIT,
        };
        match &self.to {
            ForwardTo::Off => {}
            ForwardTo::Tcp(address) => sender.over_tcp(address).await,
            ForwardTo::Udp(address) => sender.over_udp(address).await,
        }
        let left = sender.pending.len() + self.queue().len();
        if left > 0 {
            log::warn!("{left} bytes of operations were not sent on before the stop");
        }
    }

    fn queue(&self) -> MutexGuard<'_, Vec<u8>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the sending task holds.
struct Sender<'f> {
    forward: &'f Arc<Forward>,
    stop: &'f CancellationToken,
    /// Lines taken out of the queue and not sent.
    pending: Vec<u8>,
    wait: Duration,
}

impl Sender<'_> {
    /// Waits for lines. `false` once there are none and will be none.
    async fn take(&mut self) -> bool {
        loop {
            if self.pending.is_empty() {
                self.pending = take(&mut *self.forward.queue());
            }
            if !self.pending.is_empty() {
                return true;
            }
            if self.stop.is_cancelled() {
                // Whoever puts something in holds the queue.
                if Arc::strong_count(self.forward) == 1 && self.forward.queue().is_empty() {
                    return false;
                }
                sleep(LAST_LOOKS).await;
                continue;
            }
            tokio::select! {
                () = self.forward.wake.notified() => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Tells of a failure and waits. `false` where there is no time to wait.
    async fn failed(&mut self, address: &Address, problem: &io::Error) -> bool {
        sender_log::write(
            LogEvent::OperationTransport,
            format_args!("operations cannot be sent on to {address}: {problem}; trying again"),
        );
        if self.stop.is_cancelled() {
            return false;
        }
        tokio::select! {
            () = sleep(self.wait) => {}
            () = self.stop.cancelled() => {}
        }
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        true
    }

    /// Takes bytes off that were sent, or never will be.
    fn sent(&mut self, bytes: usize, result: Result<(), Reason>) {
        let lines = memchr_iter(b'\n', &self.pending[..bytes]).count() as u64;
        let stats = &self.forward.stats;
        stats.forwarded.count(result, lines);
        stats.queued.subtract(bytes);
        self.pending.drain(..bytes);
    }

    async fn over_tcp(&mut self, address: &Address) {
        while self.take().await {
            let connected = async {
                let to = (address.host(), address.port);
                timeout(CONNECT_TIMEOUT, TcpStream::connect(to)).await?
            };
            let problem = match connected.await {
                Ok(stream) => match self.stream(stream).await {
                    Ok(()) => return,
                    Err(problem) => problem,
                },
                Err(problem) => problem,
            };
            if !self.failed(address, &problem).await {
                return;
            }
        }
    }

    /// Sends over one connection until it breaks, or there is no more.
    async fn stream<S>(&mut self, stream: S) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite,
    {
        let (mut reader, mut writer) = split(stream);
        let mut answer = [0; 1024];
        loop {
            let mut written = 0;
            let result = loop {
                if written == self.pending.len() {
                    break Ok(());
                }
                tokio::select! {
                    wrote = timeout(WRITE_TIMEOUT, writer.write(&self.pending[written..])) => {
                        match wrote.unwrap_or_else(|late| Err(late.into())) {
                            Ok(bytes) => written += bytes,
                            Err(problem) => break Err(problem),
                        }
                    }
                    read = reader.read(&mut answer) => {
                        if let Err(problem) = self.answered(&answer, read) {
                            break Err(problem);
                        }
                    }
                }
            };
            // A message that was cut is not taken on the other side.
            let whole = memrchr(b'\n', &self.pending[..written]).map_or(0, |at| at + 1);
            self.sent(whole, Ok(()));
            result?;
            self.wait = FIRST_WAIT;
            loop {
                tokio::select! {
                    more = self.take() => {
                        if more {
                            break;
                        }
                        // The end of the stream is the last thing to be sent.
                        return writer.shutdown().await;
                    }
                    read = reader.read(&mut answer) => self.answered(&answer, read)?,
                }
            }
        }
    }

    /// The other side says that something was refused, or that it is gone.
    fn answered(&self, answer: &[u8], read: io::Result<usize>) -> io::Result<()> {
        let length = read?;
        if length == 0 {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "the other side has closed the connection",
            ));
        }
        let said = String::from_utf8_lossy(&answer[..length]);
        let said = clip(said.trim_end());
        // What is said there may quote what was sent.
        if sender_log::write(
            LogEvent::OperationRejected,
            format_args!("an operation that was sent on is refused there"),
        ) {
            log::debug!("an operation that was sent on is refused there: {said}");
        }
        Ok(())
    }

    async fn over_udp(&mut self, address: &Address) {
        while self.take().await {
            let problem = match connect_udp(address).await {
                Ok(socket) => {
                    self.wait = FIRST_WAIT;
                    match self.datagrams(&socket).await {
                        Ok(()) => return,
                        Err(problem) => problem,
                    }
                }
                Err(problem) => problem,
            };
            if !self.failed(address, &problem).await {
                return;
            }
        }
    }

    async fn datagrams(&mut self, socket: &UdpSocket) -> io::Result<()> {
        while self.take().await {
            let length = memchr::memchr(b'\n', &self.pending).unwrap_or(self.pending.len());
            // What is too long for any datagram is dropped and counted.
            let fits = length <= LONGEST_DATAGRAM;
            let result = if fits {
                socket.send(&self.pending[..length]).await
            } else {
                Ok(0)
            };
            let counted = match &result {
                _ if !fits => Err(Reason::TooLarge),
                Ok(_) => Ok(()),
                Err(_) => Err(Reason::Connect),
            };
            self.sent((length + 1).min(self.pending.len()), counted);
            result?;
        }
        Ok(())
    }
}

async fn connect_udp(address: &Address) -> io::Result<UdpSocket> {
    let mut problem = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for to in lookup_host((address.host(), address.port)).await? {
        let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(from).await?;
        match socket.connect(to).await {
            Ok(()) => return Ok(socket),
            Err(fault) => problem = fault,
        }
    }
    Err(problem)
}

/// Writes to memory, which does not fail.
fn put(line: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = line.write_fmt(text);
}

fn write_text(line: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(line, text);
}

/// The name of this machine, as a value of `instance`.
pub fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::env::var("HOSTNAME").map_err(io::Error::other))
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::inputs::operations::framing::Framer;
    use crate::inputs::operations::operation::{Asked, Names, Reader};

    fn forward(to: ForwardTo, limit: usize) -> Arc<Forward> {
        let stats = Arc::default();
        Arc::new(Forward::new(to, limit, "here".to_owned(), stats))
    }

    /// What messages ask for, and how often they were sent on.
    fn read(text: &[u8]) -> Vec<(Update, i64)> {
        let reader = Reader::new(&Config::default().operations, true);
        let mut all = Vec::new();
        Framer::new(1 << 16).feed(text, true, |found| {
            let mut updates = Vec::new();
            let asked = reader
                .read(&found, &[], &mut Names::default(), &mut updates)
                .unwrap();
            let Asked::Changes { hops } = asked else {
                panic!("no change");
            };
            all.extend(updates.into_iter().map(|update| (update, hops)));
        });
        all
    }

    #[test]
    fn what_is_written_is_read_back_the_same() {
        let forward = forward(ForwardTo::Off, 1);
        let text = "{\"name\":\"m\",\"op\":\"inc\",\"value\":1e300,\"help\":\"a\\n\\\"b\\\"\\\\\",\
             \"labels\":{\"instance\":\"mine\",\"q\":\"\\\"\\\\\\n\u{e9}\"}}
            {\"name\":\"m\",\"op\":\"set\",\"value\":-1e-7,\"labels\":{\"instance\":\"i\"}}
            {\"name\":\"m\",\"op\":\"add\",\"labels\":{\"instance\":\"i\"}}
            {\"name\":\"m\",\"op\":\"del\",\"hops\":3,\"labels\":{\"instance\":\"i\"}}
            {\"name\":\"m\",\"op\":\"obs\",\"value\":2,\"labels\":{\"instance\":\"i\"}}
            t:5|ms|@0.3|#instance:i\n";
        let before = read(text.as_bytes());
        let mut lines = Vec::new();
        for (update, hops) in &before {
            forward.write(update, *hops, &mut lines);
        }
        let after = read(&lines);
        assert_eq!(after.len(), before.len());
        for ((was, hops), (is, hops_now)) in before.iter().zip(&after) {
            assert_eq!((&was.family, &was.labels), (&is.family, &is.labels));
            assert_eq!((was.kind, &was.help), (is.kind, &is.help));
            assert_eq!((&was.change, hops + 1), (&is.change, *hops_now));
        }
    }

    #[test]
    fn the_instance_is_added_only_where_there_is_none() {
        let forward = forward(ForwardTo::Off, 1);
        let mut line = Vec::new();
        for (update, hops) in read(b"a:1|c|#x:y\nb:1|c|#instance:far\nc:1|c") {
            forward.write(&update, hops, &mut line);
        }
        let labels: Vec<String> = read(&line)
            .iter()
            .map(|(update, _)| update.labels.to_string())
            .collect();
        assert_eq!(
            labels,
            [
                "instance=\"here\",x=\"y\"",
                "instance=\"far\"",
                "instance=\"here\""
            ]
        );
    }

    #[test]
    fn the_queue_is_bounded() {
        let forward = forward(ForwardTo::Off, 10);
        forward.push(b"12345\n").unwrap();
        let fault = forward.push(b"12345\n").unwrap_err();
        assert_eq!(fault.reason, Reason::NoBuffer);
        assert_eq!(forward.stats.forwarded.failed(Reason::NoBuffer), 1);
        forward.push(b"123\n").unwrap();
        assert_eq!(forward.stats.queued.value(), 10);
    }

    #[tokio::test]
    async fn what_a_broken_connection_cut_is_sent_again() {
        let forward = forward(ForwardTo::Off, 1 << 20);
        let stop = CancellationToken::new();
        let mut sender = Sender {
            forward: &forward,
            stop: &stop,
            pending: Vec::new(),
            wait: FIRST_WAIT,
        };
        forward.push(b"first\nsecond\nthird\n").unwrap();
        assert!(sender.take().await);
        // Room for the first line and a part of the second.
        let (near, mut far) = tokio::io::duplex(10);
        let hang_up = async move {
            let mut got = [0; 3];
            far.read_exact(&mut got).await.unwrap();
        };
        let (broken, ()) = tokio::join!(sender.stream(near), hang_up);
        assert!(broken.is_err());
        assert_eq!(sender.pending, b"second\nthird\n");
        assert_eq!(forward.stats.forwarded.ok(), 1);

        let (near, mut far) = tokio::io::duplex(10);
        stop.cancel();
        let mut got = String::new();
        let (sent, read) = tokio::join!(sender.stream(near), far.read_to_string(&mut got));
        sent.unwrap();
        read.unwrap();
        assert_eq!(got, "second\nthird\n");
        assert_eq!(forward.stats.forwarded.ok(), 3);
        assert_eq!(forward.stats.queued.value(), 0);
    }

    #[tokio::test]
    async fn datagrams_hold_one_line_each_without_its_end() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let forward = forward(ForwardTo::Udp(Address::new("127.0.0.1", port)), 1 << 20);
        forward.push(b"first\nsecond\n").unwrap();
        let long = [&vec![b'x'; LONGEST_DATAGRAM + 1][..], b"\n"].concat();
        forward.push(&long).unwrap();
        forward.push(b"third\n").unwrap();
        let stats = Arc::clone(&forward.stats);
        let stop = CancellationToken::new();
        stop.cancel();
        forward.run(stop).await;
        let mut datagram = [0; 100];
        for expected in ["first", "second", "third"] {
            let length = socket.recv(&mut datagram).await.unwrap();
            assert_eq!(&datagram[..length], expected.as_bytes());
        }
        assert_eq!(stats.forwarded.counts(), [("ok", 3), ("too_large", 1)]);
        assert_eq!(stats.queued.value(), 0);
    }
}
