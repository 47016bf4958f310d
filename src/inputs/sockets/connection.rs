//! One connection of a receiver: reads, waits, and tells senders of JSON what
//! was wrong.

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::config::Format;
use super::{Failure, Inbox, Limits, Receiver};
use crate::net::{Connection, MinimumRate, Progress, RATE_BYTES, RATE_PERIOD, SMALL_MESSAGE};
use crate::peer::Peer;
use crate::reason::Reason;
use crate::telemetry::WireFormat;
use crate::telemetry::sender_log::{self, LogEvent};

/// Bytes read at once. One such buffer serves all connections of a thread.
const READ_SIZE: usize = 256 * 1024;

/// Where texts are read, a message of more bytes is worked on away from the
/// threads that serve: one of 15 MB takes a second.
const DECODED_AT_ONCE: usize = 64 << 10;

/// How often it is looked whether a large write is done, and how many times:
/// then a message is stored all the same, in turn with other writes.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
const MOST_LOOKS: usize = 500;

/// After an error line, what the sender still sends is read and dropped for at
/// most so long and so much. Closing with unread bytes would reset the
/// connection, and the line might never be seen.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 16 << 20;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into_boxed_slice());
}

/// Serves a connection to its end.
pub async fn serve(receiver: Arc<Receiver>, connection: Connection) {
    let peer = connection.peer;
    let (mut stream, permit) = connection.split();
    let mut exchange = Exchange::new(&receiver, peer);
    if let Err(failure) = exchange.run(&mut stream, permit.progress()).await {
        exchange.refuse(&mut stream, &failure).await;
    }
}

/// What one connection is about.
struct Exchange<'r> {
    receiver: &'r Arc<Receiver>,
    peer: Peer,
    inbox: Inbox,
    /// Another connection waits for this one's place.
    in_the_way: bool,
}

/// What a read brought.
enum Read {
    Nothing,
    Bytes(usize),
}

impl<'r> Exchange<'r> {
    fn new(receiver: &'r Arc<Receiver>, peer: Peer) -> Self {
        let at_once = match receiver.admission.reads_texts() {
            true => DECODED_AT_ONCE,
            false => usize::MAX,
        };
        let limits = Limits {
            max_payload: receiver.config.max_payload,
            max_apps: receiver.config.max_apps,
            at_once,
            budget: Arc::clone(&receiver.budget),
        };
        Exchange {
            receiver,
            peer,
            inbox: Inbox::new(receiver.config.format, limits),
            in_the_way: false,
        }
    }

    /// Receives until the stream ends, somebody wants it to, or something is
    /// wrong.
    async fn run<S>(&mut self, stream: &mut S, progress: &Progress) -> Result<(), Failure>
    where
        S: AsyncRead + Unpin,
    {
        let config = &self.receiver.config;
        let stop = self.receiver.stop.clone();
        let mut evicted = std::pin::pin!(progress.evicted());
        let mut begun: Option<(u64, Instant)> = None;
        let mut stored = 0;
        let budget = Arc::clone(&self.receiver.budget);
        let mut pace: Option<MinimumRate> = None;
        loop {
            let deadline = match begun {
                Some((_, at)) => after(at, config.message_timeout),
                None => after(Instant::now(), config.idle_timeout),
            };
            let too_slow = async {
                match &mut pace {
                    Some(pace) => pace.too_slow(&budget).await,
                    None => pending().await,
                }
            };
            self.let_a_large_write_pass().await;
            tokio::select! {
                biased;
                read = self.read(stream) => match read? {
                    Read::Nothing => return self.inbox.finish(),
                    Read::Bytes(came) => {
                        self.store_large().await?;
                        if self.inbox.kept() > SMALL_MESSAGE {
                            pace.get_or_insert_with(MinimumRate::begin).count(came);
                        } else {
                            pace = None;
                        }
                        // A sender that never pauses is not to keep the thread.
                        if came == READ_SIZE {
                            yield_now().await;
                        }
                        let number = self.inbox.messages();
                        let before = begun;
                        progress.set_reading_message(self.inbox.is_midway());
                        if number > stored {
                            stored = number;
                            progress.complete();
                        }
                        begun = self.inbox.is_midway().then(|| match before {
                            Some((same, at)) if same == number => (same, at),
                            _ => (number, Instant::now()),
                        });
                        // A sender that never pauses is always midway, so it
                        // is looked at which message that is.
                        let finished = before.is_some_and(|(old, _)| old != number);
                        if stop.is_cancelled() && (begun.is_none() || finished) {
                            return self.stopping();
                        }
                    }
                },
                () = &mut evicted => return self.make_room(),
                () = too_slow => return Err(self.too_slow()),
                // What has begun may still finish.
                () = stop.cancelled(), if begun.is_none() => return Ok(()),
                () = until(deadline) => {
                    if begun.is_none() {
                        let (peer, waited) = (self.peer, config.idle_timeout);
                        sender_log::write(LogEvent::Connection, format_args!("{peer}: nothing came for {waited:?}; closing"));
                        return Ok(());
                    }
                    return Err(self.late());
                }
            }
        }
    }

    /// Waits while a large write is worked out, for a while: a write would wait
    /// for it on a thread that serves others.
    async fn let_a_large_write_pass(&self) {
        let store = &self.receiver.store;
        for _ in 0..MOST_LOOKS {
            if !store.is_busy() {
                return;
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Stores a large message, and what came behind it. That is not given up in
    /// the middle: the message is whole, and its sender need not stay.
    async fn store_large(&mut self) -> Result<(), Failure> {
        while let Some(large) = self.inbox.take_large() {
            let receiver = Arc::clone(self.receiver);
            let peer = self.peer;
            let length = large.len();
            let store = move || receiver.store(large.decode()?, peer);
            let stored = self.receiver.turns.run(store).await;
            stored.unwrap_or_else(|problem| {
                sender_log::internal_error(format_args!(
                    "a message of {peer} cannot be worked on: {problem}"
                ));
                let message = "the message cannot be worked on; the log says why";
                Err(Failure::new(Reason::Closed, message))
            })?;
            self.inbox.note_stored();
            self.receiver
                .received
                .count(self.inbox.format(), Ok(1), length);
            self.feed(&[])?;
        }
        Ok(())
    }

    /// Stores every message that is whole with these bytes.
    fn feed(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let (receiver, peer) = (self.receiver, self.peer);
        let mut stored = (0, 0);
        let fed = self.inbox.feed(bytes, |message, length| {
            receiver.store(message, peer)?;
            stored = (stored.0 + 1, stored.1 + length);
            Ok(())
        });
        receiver
            .received
            .count(self.inbox.format(), Ok(stored.0), stored.1);
        fed
    }

    /// Reads once, and stores every message that is whole by then.
    async fn read<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<Read, Failure> {
        let result = poll_fn(|cx| {
            BUFFER.with_borrow_mut(|buffer| {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
                let bytes = buffer.filled();
                if bytes.is_empty() {
                    return Poll::Ready(Ok(Ok(Read::Nothing)));
                }
                let fed = self.feed(bytes);
                Poll::Ready(io::Result::Ok(fed.map(|()| Read::Bytes(bytes.len()))))
            })
        })
        .await;
        match result {
            Ok(fed) => fed,
            Err(_) if !self.inbox.is_midway() => Ok(Read::Nothing),
            Err(problem) => Err(Failure::new(
                Reason::ConnectionLost,
                format!("the connection broke inside a message: {problem}"),
            )),
        }
    }

    /// The failure of a message that takes too long: what is wrong with it so
    /// far, if something is, since a faulty document may never end.
    fn late(&mut self) -> Failure {
        let waited = self.receiver.config.message_timeout;
        let timeout = Failure::new(
            Reason::Timeout,
            format!(
                "the message did not arrive whole within {waited:?} (receiver.message_timeout)"
            ),
        );
        match self.inbox.finish() {
            Err(failure) if failure.reason == Reason::Malformed => failure,
            _ => timeout,
        }
    }

    /// The failure of a large message that does not go on while others need its
    /// memory.
    fn too_slow(&self) -> Failure {
        Failure::new(
            Reason::Timeout,
            format!(
                "the message came too slowly: more than half of the memory for messages is in use \
                 (receiver.max_buffered), and one of more than {SMALL_MESSAGE} bytes must then bring \
                 {RATE_BYTES} bytes every {RATE_PERIOD:?}"
            ),
        )
    }

    /// Ends the connection so that another can be served. That is a failure
    /// only where a message is lost by it.
    fn make_room(&mut self) -> Result<(), Failure> {
        self.in_the_way = true;
        if !self.inbox.is_midway() {
            sender_log::write(
                LogEvent::Connection,
                format_args!("{}: closed to make room for another connection", self.peer),
            );
            return Ok(());
        }
        Err(Failure::new(
            Reason::Closed,
            "closed to make room: all connections are taken (exporter.concurrent_requests), and this one lay still for longest",
        ))
    }

    /// Ends the connection since the program is told to stop.
    fn stopping(&self) -> Result<(), Failure> {
        if !self.inbox.is_midway() {
            return Ok(());
        }
        Err(Failure::new(
            Reason::Closed,
            "the proxy is stopping; what had begun before is stored, and this is not",
        ))
    }

    /// Counts and logs a failure, and tells a sender of JSON.
    async fn refuse<S>(&mut self, stream: &mut S, failure: &Failure)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let format = match (self.inbox.format(), self.receiver.config.format) {
            // What was no Cap'n Proto either is answered as JSON.
            (WireFormat::Unknown, Format::Auto) if failure.position.is_some() => WireFormat::Json,
            (format, _) => format,
        };
        let bytes = self.inbox.pending();
        self.receiver
            .received
            .count(format, Err(failure.reason), bytes);
        let number = self.inbox.messages() + 1;
        sender_log::rejected(
            LogEvent::MessageRejected,
            format_args!(
                "receiver {}: {} message {number} from {}",
                self.receiver.source,
                format.as_str(),
                self.peer
            ),
            failure.reason,
            &failure.to_string(),
        );
        if format == WireFormat::Json {
            let which = if number > 1 {
                format!("document {number}, ")
            } else {
                String::new()
            };
            // A sender that has gone cannot be told, and need not be.
            let line = format!("error: {which}{failure}\n");
            let _ = answer(stream, line.as_bytes(), !self.in_the_way).await;
        }
    }
}

/// The moment so long after `start`; `None` where the time is zero, which is
/// never.
fn after(start: Instant, time: Duration) -> Option<Instant> {
    (!time.is_zero()).then(|| start + time)
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

/// Writes the last line of a connection and, with `linger`, sees it out. One
/// that lay still has nothing unread that could reset it, and where it is in
/// the way of others it may not stay for a second more.
async fn answer<S>(stream: &mut S, line: &[u8], linger: bool) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(line).await?;
    stream.shutdown().await?;
    if !linger {
        return Ok(());
    }
    let drain = async {
        let mut left = LINGER_BYTES;
        while left > 0 {
            let read = poll_fn(|cx| {
                BUFFER.with_borrow_mut(|buffer| {
                    let mut buffer = ReadBuf::new(buffer);
                    ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
                    Poll::Ready(io::Result::Ok(buffer.filled().len()))
                })
            })
            .await?;
            if read == 0 {
                break;
            }
            left = left.saturating_sub(read);
        }
        io::Result::Ok(())
    };
    timeout(LINGER, drain).await.unwrap_or(Ok(()))
}
