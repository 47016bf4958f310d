//! Serves a connection: reads messages, and answers with rejections.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::batcher::Batcher;
use super::framing::Framer;
use super::permission::Permission;
use super::processor::{Processor, Service};
use super::rejection::Rejection;
use crate::clock;
use crate::fairness::{Account, Excess, has_ended};
use crate::live::Live;
use crate::net::{Connection, Progress, is_client_hello, turn_away, write_last};
use crate::reason::Reason;
use crate::security::{Caller, ListenerKind};
use crate::telemetry::Transport;
use crate::telemetry::sender_log::{self, About, LogEvent};

/// The number of bytes read at once. All connections of a thread share one buffer.
const READ_SIZE: usize = 64 * 1024;

/// The number of bytes read at once from a sender with limits. It is small, since all messages of
/// one read pass before the sender has to wait.
const LIMITED_READ: usize = 4 * 1024;

/// The limit on answers that wait to be written, in bytes. A sender that does not read them
/// gets no more answers; its messages are still processed.
const MAX_ANSWERS: usize = 16 * 1024;

/// Before the proxy closes a connection, it reads data in flight until none arrives for
/// this long. See also [`FINAL_READS`].
const FINAL_WAIT: Duration = Duration::from_millis(20);

/// The limit on reads before the proxy closes a connection.
const FINAL_READS: usize = 256;

/// After the proxy has ended its side, it keeps reading for this long, or until the sender
/// ends its side. The connection then holds no connection permit, so no other one waits for
/// it, but one of the permits for closing connections.
const LINGER: Duration = Duration::from_secs(1);

/// Like [`LINGER`], at shutdown.
const LINGER_AT_SHUTDOWN: Duration = Duration::from_millis(100);

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into_boxed_slice());
}

/// Serves a connection until it ends.
pub(super) async fn serve(live: Live<Service>, connection: Connection) {
    let (peer, identity) = (connection.peer, connection.identity.clone());
    let (mut stream, permit) = connection.split();
    let progress = Arc::clone(permit.progress());
    let caller = Caller {
        listener: ListenerKind::Operations,
        peer,
        gid: stream.peer_group(),
        identity,
    };
    let service = live.load();
    let permission = match permission(&service.processor, &caller) {
        Ok(permission) => permission,
        Err(rejection) => {
            service.processor.reject(&service.source, peer, &rejection);
            return turn_away(&mut stream, &error_line(&rejection)).await;
        }
    };
    let stop = service.stop.clone();
    let form = match service.source.transport {
        Transport::Unix => StreamForm::Unknown,
        _ => StreamForm::Text,
    };
    let mut session = Session {
        framer: Framer::new(service.processor.config.max_message),
        live,
        service,
        caller,
        unfinished: Vec::new(),
        number: 1,
        answers: Some(Vec::new()),
        abort: false,
        unyielded: 0,
        progress: &progress,
        permission,
        account: Account::default(),
        turned_away: None,
        form,
    };
    if let Some(closing) = session.run(&mut stream, &stop).await {
        drop(permit);
        session.close(&mut stream, &closing).await;
    } else if let Some(line) = session.turned_away.take() {
        let mut answers = session.answers.take().unwrap_or_default();
        answers.extend_from_slice(&line);
        let service = Arc::clone(&session.service);
        return match service.processor.closing.try_acquire() {
            Ok(_closing) => {
                drop(permit);
                turn_away(&mut stream, &answers).await;
            }
            // As many others linger. If bytes of the sender are unread, it may lose the lines.
            Err(_) => {
                let _ = write_last(&mut stream, &answers).await;
            }
        };
    }
    session.write_answers(&mut stream).await;
}

/// The permissions of a caller.
fn permission(processor: &Processor, caller: &Caller) -> Result<Permission, Rejection> {
    match &processor.access {
        None => Ok(Permission::ALL),
        Some(access) => Permission::of(access, caller)
            .map_err(|denial| Rejection::new(denial.reason, denial.message)),
    }
}

/// Why the proxy closes a connection before its sender does.
struct Closing {
    problem: &'static str,
    reason: Reason,
    linger: Duration,
}

impl Closing {
    const STOPPING: Closing = Closing {
        problem: "the proxy is stopping",
        reason: Reason::Closed,
        linger: LINGER_AT_SHUTDOWN,
    };

    const EVICTED: Closing = Closing {
        problem: "closed to make room: the limit of connections is reached (operations.concurrent_connections), and this one was idle for longest",
        reason: Reason::Closed,
        linger: LINGER,
    };
}

/// A connection being served.
struct Session<'p> {
    live: Live<Service>,
    /// The settings and state that were current at the last read.
    service: Arc<Service>,
    caller: Caller,
    framer: Framer,
    /// The bytes of an unfinished message.
    unfinished: Vec<u8>,
    /// The number of the next message.
    number: u64,
    /// Lines to write to the sender; `None` once it cannot be written to.
    answers: Option<Vec<u8>>,
    /// Whether to stop reading.
    abort: bool,
    /// Bytes processed since other tasks last ran.
    unyielded: usize,
    /// The progress of the connection, by which the listener chooses one to evict.
    progress: &'p Progress,
    /// The permissions of the sender.
    permission: Permission,
    /// The account of the sender; empty without limits.
    account: Account,
    /// The last line for a sender whose further data is not read.
    turned_away: Option<Vec<u8>>,
    form: StreamForm,
}

/// How a stream is cut into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamForm {
    /// Not enough bytes have arrived to tell.
    Unknown,
    /// Messages follow one another.
    Text,
    /// Each packet is preceded by its length, four bytes in little-endian order, as
    /// DogStatsD clients send on Unix sockets. A packet is like a datagram.
    Packets,
}

/// The number of bytes of a packet's length.
const LENGTH_BYTES: usize = 4;

/// The form of a stream that begins with these bytes. The highest byte of a packet's length
/// is always zero, which no text contains.
fn stream_form(bytes: &[u8]) -> StreamForm {
    match bytes {
        [_, _, _, 0, ..] => StreamForm::Packets,
        [_, _, _, _, ..] => StreamForm::Text,
        _ => StreamForm::Unknown,
    }
}

impl Session<'_> {
    /// Reads until the connection ends or the proxy should close it.
    async fn run<S>(&mut self, stream: &mut S, stop: &CancellationToken) -> Option<Closing>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut evicted = std::pin::pin!(self.progress.evicted());
        loop {
            if self.service.processor.fairness.is_active() {
                tokio::select! {
                    biased;
                    paused = self.pause() => if let Err(excess) = paused {
                        match self.unfinished.is_empty() && has_ended(stream).await {
                            true => self.end(),
                            false => self.turn_away(&excess),
                        }
                        return None;
                    },
                    () = stop.cancelled() => return Some(Closing::STOPPING),
                    () = &mut evicted => return Some(Closing::EVICTED),
                }
            }
            let deadline = Instant::now() + self.service.processor.config.idle_timeout;
            tokio::select! {
                biased;
                () = stop.cancelled() => return Some(Closing::STOPPING),
                read = self.read(stream) => match read {
                    Ok(0) => {
                        self.end();
                        return None;
                    }
                    Ok(_) => {}
                    Err(_) => {
                        self.discard("the connection broke", Reason::ConnectionLost);
                        return None;
                    }
                },
                () = &mut evicted => return Some(Closing::EVICTED),
                () = sleep_until(deadline) => return Some(Closing {
                    problem: "the connection was idle for too long (operations.idle_timeout)",
                    reason: Reason::Timeout,
                    linger: LINGER,
                }),
            }
            if self.abort {
                return None;
            }
            if self.unyielded >= READ_SIZE {
                self.unyielded = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits while the sender exceeds its rate.
    ///
    /// # Errors
    ///
    /// The wait would be too long.
    async fn pause(&mut self) -> Result<(), Excess> {
        let (fairness, caller) = (&self.service.processor.fairness, &self.caller);
        let user = caller.user();
        fairness.renew(&mut self.account, caller.peer, user.as_deref());
        fairness.pause(&self.account).await
    }

    /// Rejects the rest of what a sender has to send, since it exceeds its rate.
    fn turn_away(&mut self, excess: &Excess) {
        let problem = format!("{excess}; complete messages were processed, the rest is not read");
        let rejection = Rejection::new(Reason::RateLimited, problem);
        let service = &self.service;
        service
            .processor
            .reject(&service.source, self.caller.peer, &rejection);
        self.turned_away = Some(error_line(&rejection));
    }

    /// Reads once, and processes the messages that are then complete. Meanwhile, writes
    /// answers as far as the sender reads them. Returns the number of bytes read, 0 at the
    /// end of the stream.
    async fn read<S>(&mut self, stream: &mut S) -> io::Result<usize>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        poll_fn(|cx| {
            self.poll_write_answers(stream, cx);
            let size = match self.account.is_limited() {
                true => LIMITED_READ,
                false => READ_SIZE,
            };
            BUFFER.with_borrow_mut(|buffer| {
                let mut buffer = ReadBuf::new(&mut buffer[..size]);
                ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
                let bytes = buffer.filled();
                if !bytes.is_empty() {
                    self.feed(bytes);
                    self.progress
                        .set_reading_message(!self.unfinished.is_empty());
                }
                Poll::Ready(Ok(bytes.len()))
            })
        })
        .await
    }

    /// Applies new settings. If the sender may no longer write, it gets an error and the
    /// connection ends.
    fn refresh(&mut self) {
        if self.live.is_current(&self.service) {
            return;
        }
        self.service = self.live.load();
        let max_message = self.service.processor.config.max_message;
        self.framer.set_max_message(max_message);
        match permission(&self.service.processor, &self.caller) {
            Ok(permission) => self.permission = permission,
            Err(rejection) => {
                self.reject(&rejection.message, rejection.reason);
                self.abort = true;
            }
        }
    }

    /// Processes bytes that continue the unfinished message.
    fn feed(&mut self, bytes: &[u8]) {
        self.refresh();
        if self.abort {
            return;
        }
        // Lines of a request's body could be messages, and pages in a browser must not send any.
        let other = if self.number > 1 || !self.unfinished.is_empty() {
            None
        } else if is_http(bytes) {
            let problem = match bytes.starts_with(b"GET ") || bytes.starts_with(b"HEAD ") {
                true => "this is not an HTTP port: read metrics at exporter.scrape_expose_endpoint",
                false => "this is not an HTTP port: push over HTTP to push.listen",
            };
            Some((problem, Reason::Malformed))
        } else if is_client_hello(bytes) {
            let problem = "the client sends TLS, and this port has none (operations.tls)";
            Some((problem, Reason::Tls))
        } else {
            None
        };
        if let Some((problem, reason)) = other {
            self.reject(problem, reason);
            self.abort = true;
            return;
        }
        self.unyielded += bytes.len();
        let transport = self.service.source.transport;
        let stats = &self.service.processor.stats;
        stats.count_received(transport, bytes.len());
        if self.form != StreamForm::Text {
            let mut buffer = std::mem::take(&mut self.unfinished);
            buffer.extend_from_slice(bytes);
            if self.form == StreamForm::Unknown {
                self.form = stream_form(&buffer);
            }
            match self.form {
                StreamForm::Unknown => self.unfinished = buffer,
                StreamForm::Packets => self.feed_packets(&buffer),
                StreamForm::Text => {
                    let used = self.process(&buffer, false);
                    self.unfinished.extend_from_slice(&buffer[used..]);
                }
            }
            return;
        }
        if self.unfinished.is_empty() {
            let used = self.process(bytes, false);
            self.unfinished.extend_from_slice(&bytes[used..]);
            return;
        }
        let mut buffer = std::mem::take(&mut self.unfinished);
        buffer.extend_from_slice(bytes);
        let used = self.process(&buffer, false);
        // A connection that is between messages holds no memory.
        if used < buffer.len() {
            buffer.drain(..used);
            buffer.shrink_to(2 * buffer.len());
            self.unfinished = buffer;
        }
    }

    /// Processes complete packets.
    fn feed_packets(&mut self, mut bytes: &[u8]) {
        while let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() {
            let length = u32::from_le_bytes(*length) as usize;
            let limit = self.service.processor.config.max_message;
            if length > limit {
                let problem = format!(
                    "the packet has {length} bytes, and the limit is {limit} (operations.max_message)"
                );
                self.reject(&problem, Reason::TooLarge);
                self.abort = true;
                return;
            }
            let Some((packet, rest)) = rest.split_at_checked(length) else {
                break;
            };
            self.process(packet, true);
            bytes = rest;
        }
        self.unfinished = bytes.to_vec();
    }

    /// Processes complete messages, and returns the number of their bytes. At the `end` of
    /// the stream, an unfinished message is rejected.
    fn process(&mut self, bytes: &[u8], end: bool) -> usize {
        let answers = &mut self.answers;
        let before = self.number;
        let mut rejected = 0;
        let on_rejection = |number: u64, rejection: &Rejection| {
            rejected += 1;
            if let Some(answers) = answers {
                append_answer(answers, number, rejection);
            }
        };
        let (
            Service {
                processor, source, ..
            },
            length,
        ) = (&*self.service, bytes.len());
        let mut batcher = Batcher::new(processor, source, length, self.number, on_rejection)
            .sent_by(self.caller.peer);
        batcher.permit(self.permission.clone());
        batcher.charge_to(&self.account);
        let used = self.framer.feed(bytes, end, |frame| batcher.add(frame));
        self.number = batcher.end();
        if self.account.is_limited() {
            self.account
                .charge(self.number - before, used, clock::tick());
        }
        if self.number - before > rejected {
            self.progress.complete();
        }
        used
    }

    /// Processes the remaining bytes at the end of the stream.
    fn end(&mut self) {
        if self.form == StreamForm::Packets {
            if !self.unfinished.is_empty() {
                self.discard("the stream ends within a packet", Reason::Truncated);
            }
            return;
        }
        let rest = std::mem::take(&mut self.unfinished);
        self.process(&rest, true);
    }

    /// Abandons the unfinished message. Without one, the end of the connection is not an error.
    fn discard(&mut self, problem: &str, reason: Reason) {
        if self.unfinished.is_empty() {
            sender_log::write(
                LogEvent::Connection,
                About::peer(self.caller.peer),
                format_args!("operations {}: {problem}", self.service.source.name),
            );
            return;
        }
        self.unfinished = Vec::new();
        // Its rest may still arrive, and is not a message.
        self.framer.skip_line();
        self.abort |= self.form == StreamForm::Packets;
        self.reject(problem, reason);
    }

    /// Counts, logs and answers the rejection of the current message.
    fn reject(&mut self, problem: &str, reason: Reason) {
        let rejection = Rejection::new(reason, problem);
        let (service, peer) = (&self.service, self.caller.peer);
        service.processor.reject(&service.source, peer, &rejection);
        if let Some(answers) = &mut self.answers {
            append_answer(answers, self.number, &rejection);
        }
    }

    /// Closes the connection before its sender does, without losing messages in flight. The
    /// proxy processes what was sent, ends its side, which the sender sees, and processes
    /// what arrives until the sender ends its side.
    async fn close<S>(&mut self, stream: &mut S, closing: &Closing)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        for _ in 0..FINAL_READS {
            match timeout(FINAL_WAIT, self.read(stream)).await {
                Ok(Ok(0)) => return self.end(),
                Ok(Ok(_)) => {}
                _ => break,
            }
        }
        self.discard(closing.problem, closing.reason);
        let service = Arc::clone(&self.service);
        let permit = service.processor.closing.try_acquire();
        let linger = permit.as_ref().map_or(Duration::ZERO, |_| closing.linger);
        let deadline = Instant::now() + linger;
        // A sender that does not read its answers gets no more of them.
        if timeout_at(deadline, self.write_answers(stream))
            .await
            .is_err()
        {
            self.answers = None;
        }
        while let Ok(Ok(read)) = timeout_at(deadline, self.read(stream)).await {
            if read == 0 {
                return self.end();
            }
        }
        self.discard(closing.problem, closing.reason);
    }

    fn poll_write_answers<S: AsyncWrite + Unpin>(&mut self, stream: &mut S, cx: &mut Context<'_>) {
        while let Some(answers) = &mut self.answers
            && !answers.is_empty()
        {
            match Pin::new(&mut *stream).poll_write(cx, answers) {
                Poll::Ready(Ok(written)) => {
                    answers.drain(..written);
                }
                Poll::Ready(Err(_)) => self.answers = None,
                Poll::Pending => break,
            }
        }
    }

    /// Writes the remaining answers, and ends the stream.
    async fn write_answers<S: AsyncWrite + Unpin>(&mut self, stream: &mut S) {
        if let Some(answers) = self.answers.take() {
            // The sender may have disconnected.
            let _ = stream.write_all(&answers).await;
            let _ = stream.shutdown().await;
        }
    }
}

/// The line for a sender that is turned away.
fn error_line(rejection: &Rejection) -> Vec<u8> {
    format!("error: {rejection}\n").into_bytes()
}

fn append_answer(answers: &mut Vec<u8>, number: u64, rejection: &Rejection) {
    if answers.len() < MAX_ANSWERS {
        let line = format!("error: message {number}: {rejection}\n");
        answers.extend_from_slice(line.as_bytes());
    }
}

/// Whether a stream begins like an HTTP request.
fn is_http(bytes: &[u8]) -> bool {
    const METHODS: [&[u8]; 8] = [
        b"GET ",
        b"POST ",
        b"PUT ",
        b"HEAD ",
        b"DELETE ",
        b"OPTIONS ",
        b"PATCH ",
        b"CONNECT ",
    ];
    METHODS.iter().any(|method| bytes.starts_with(method))
}
