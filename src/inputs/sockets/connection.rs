//! Serves one connection: reads messages, stores them, and tells a sender of JSON why its
//! document was rejected.

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};

use super::MessageError;
use super::config::Format;
use super::inbox::{Inbox, InboxLimits, Next};
use super::service::{Author, Service};
use crate::clock;
use crate::fairness::{Account, Excess, has_ended};
use crate::live::Live;
use crate::net::{
    Connection, INLINE_BYTES, MinimumRate, Progress, RATE_BYTES, RATE_PERIOD, SMALL_MESSAGE,
    turn_away, write_last,
};
use crate::reason::Reason;
use crate::security::{Caller, ListenerKind, Role, Scope};
use crate::telemetry::WireFormat;
use crate::telemetry::sender_log::{self, About, LogEvent};

/// The size of the read buffer, in bytes. Each thread has one for all its connections.
const READ_SIZE: usize = 256 * 1024;

/// The number of bytes read at once from a sender with limits. Small reads bound the memory that
/// messages beyond its rate take, and how far it can overdraw.
const LIMITED_READ: usize = 16 * 1024;

/// The interval at which connections check whether a large write still holds the store.
const BUSY_CHECK_INTERVAL: Duration = Duration::from_millis(2);

/// The number of these checks. After that, a message waits for the store like any other write.
const MAX_BUSY_CHECKS: usize = 500;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into_boxed_slice());
}

/// Serves a connection until it is closed.
pub async fn serve(live: Live<Service>, connection: Connection) {
    let (peer, identity) = (connection.peer, connection.identity.clone());
    let (mut stream, permit) = connection.split();
    let caller = Caller {
        listener: ListenerKind::Receiver,
        peer,
        gid: stream.peer_group(),
        identity,
    };
    let mut session = Session::new(live, caller);
    match session.run(&mut stream, permit.progress()).await {
        // Over TLS, `close_notify` tells the sender that the connection was not cut off.
        Ok(()) => drop(stream.shutdown().await),
        Err(error) => session.reject(&mut stream, &error).await,
    }
}

/// The state of one connection.
struct Session {
    live: Live<Service>,
    /// The settings and state that were current at the last read.
    service: Arc<Service>,
    caller: Caller,
    author: Author,
    inbox: Inbox,
    /// The account of the sender; empty without limits.
    account: Account,
    /// The account of an app that must wait.
    overdrawn_app: Option<Account>,
    /// Whether the inbox stopped while it still holds messages.
    is_stopped: bool,
    /// Whether the connection was closed to give its permit to another one.
    evicted: bool,
}

/// The result of a read.
enum Read {
    End,
    Bytes(usize),
}

impl Session {
    fn new(live: Live<Service>, caller: Caller) -> Self {
        let service = live.load();
        Session {
            author: author(&service, &caller),
            inbox: Inbox::new(service.config.format, inbox_limits(&service)),
            caller,
            live,
            service,
            account: Account::default(),
            overdrawn_app: None,
            is_stopped: false,
            evicted: false,
        }
    }

    /// Applies new settings. The connection keeps its format.
    fn refresh(&mut self) {
        if self.live.is_current(&self.service) {
            return;
        }
        self.service = self.live.load();
        self.author = author(&self.service, &self.caller);
        self.inbox.set_limits(inbox_limits(&self.service));
    }

    /// Receives messages until the sender ends the stream, the connection must be closed,
    /// or a message is rejected.
    async fn run<S>(&mut self, stream: &mut S, progress: &Progress) -> Result<(), MessageError>
    where
        S: AsyncRead + Unpin,
    {
        let stop = self.service.stop.clone();
        let mut evicted = pin!(progress.evicted());
        // The number of the incomplete message, and the time when it began.
        let mut begun: Option<(u64, Instant)> = None;
        let mut stored = 0;
        let budget = Arc::clone(&self.service.budget);
        let mut rate: Option<MinimumRate> = None;
        loop {
            let service = Arc::clone(&self.service);
            let config = &service.config;
            let deadline = match begun {
                Some((_, at)) => deadline(at, config.message_timeout),
                None => deadline(Instant::now(), config.idle_timeout),
            };
            let too_slow = async {
                match &mut rate {
                    Some(rate) => rate.too_slow(&budget).await,
                    None => pending().await,
                }
            };
            if self.service.fairness.is_active() {
                tokio::select! {
                    biased;
                    paused = self.pause() => if let Err(excess) = paused {
                        let has_ended = !self.inbox.is_midway() && has_ended(stream).await;
                        let problem = excess.to_string();
                        return match has_ended {
                            true => Ok(()),
                            false => Err(MessageError::new(Reason::RateLimited, problem)),
                        };
                    },
                    () = &mut evicted => return self.make_room(),
                    () = stop.cancelled() => return self.stopped(),
                }
            }
            tokio::select! {
                biased;
                () = self.wait_for_large_write() => {}
                () = &mut evicted => return self.make_room(),
                // What has arrived is still read.
                () = stop.cancelled(), if begun.is_none() => {}
            }
            tokio::select! {
                biased;
                read = self.read_and_store(stream) => match read? {
                    Read::End => return self.inbox.finish(),
                    Read::Bytes(received) => {
                        self.store_large().await?;
                        if self.inbox.buffered() > SMALL_MESSAGE {
                            rate.get_or_insert_with(MinimumRate::begin).count(received);
                        } else {
                            rate = None;
                        }
                        // A sender that never pauses must not monopolize the thread.
                        if received == self.read_size() {
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
                        // A sender that never pauses is always midway through some message,
                        // so compare message numbers.
                        let finished = before.is_some_and(|(old, _)| old != number);
                        if stop.is_cancelled() && (begun.is_none() || finished) {
                            return self.stopped();
                        }
                    }
                },
                () = &mut evicted => return self.make_room(),
                () = too_slow => return Err(self.too_slow()),
                // A message that has begun may still be completed.
                () = stop.cancelled(), if begun.is_none() => return Ok(()),
                () = until(deadline) => {
                    if begun.is_none() {
                        let (peer, waited) = (self.author.peer, config.idle_timeout);
                        sender_log::write(
                            LogEvent::Connection,
                            About::peer(peer),
                            format_args!("{peer}: closed after {waited:?} without a message (receiver.idle_timeout)"),
                        );
                        return Ok(());
                    }
                    return Err(self.timed_out());
                }
            }
        }
    }

    /// Waits while the sender or its app exceeds a rate.
    ///
    /// # Errors
    ///
    /// The wait would be too long.
    async fn pause(&mut self) -> Result<(), Excess> {
        let fairness = &self.service.fairness;
        let Author { peer, user, .. } = &self.author;
        fairness.renew(&mut self.account, *peer, user.as_deref());
        for account in self.overdrawn_app.iter().chain([&self.account]) {
            fairness.pause(account).await?;
        }
        self.overdrawn_app = None;
        Ok(())
    }

    /// Waits, up to a limit, while a large write holds the store. Otherwise the write of a
    /// message would block this thread and its other connections.
    async fn wait_for_large_write(&self) {
        let store = &self.service.store;
        for _ in 0..MAX_BUSY_CHECKS {
            if !store.is_busy() {
                return;
            }
            sleep(BUSY_CHECK_INTERVAL).await;
        }
    }

    /// Stores a complete large message and the messages after it. The work is not cancelled
    /// with the connection, so the sender need not wait for it.
    async fn store_large(&mut self) -> Result<(), MessageError> {
        while let Some(large) = self.inbox.take_large() {
            let service = Arc::clone(&self.service);
            let length = large.len();
            let author = self.author.clone();
            let store = move || service.store(large.decode()?, &author);
            let stored = self.service.pool.run(store).await;
            let overdrawn = stored.unwrap_or_else(|error| {
                let peer = self.author.peer;
                sender_log::internal_error(format_args!(
                    "cannot process a message of {peer}: {error}"
                ));
                let message = "the message cannot be processed; the log has the cause";
                Err(MessageError::new(Reason::Closed, message))
            })?;
            self.inbox.note_stored();
            self.service.stats.count(self.inbox.format(), Ok(1), length);
            self.overdrawn_app = overdrawn;
            self.is_stopped = charge_message(&self.account) || self.overdrawn_app.is_some();
            if self.is_stopped {
                return Ok(());
            }
            self.feed(&[])?;
        }
        Ok(())
    }

    /// Stores every message that these bytes complete, until the sender has to wait.
    fn feed(&mut self, bytes: &[u8]) -> Result<(), MessageError> {
        self.refresh();
        let (service, author, account) = (&self.service, &self.author, &self.account);
        let mut stored = (0, 0);
        let (overdrawn_app, is_stopped) = (&mut self.overdrawn_app, &mut self.is_stopped);
        let fed = self.inbox.feed(bytes, |message, length| {
            *overdrawn_app = service.store(message, author)?;
            stored = (stored.0 + 1, stored.1 + length);
            *is_stopped = charge_message(account) || overdrawn_app.is_some();
            Ok(match *is_stopped {
                true => Next::Stop,
                false => Next::Message,
            })
        });
        service
            .stats
            .count(self.inbox.format(), Ok(stored.0), stored.1);
        fed
    }

    /// Reads once, and stores every message that is then complete.
    async fn read_and_store<S>(&mut self, stream: &mut S) -> Result<Read, MessageError>
    where
        S: AsyncRead + Unpin,
    {
        if std::mem::take(&mut self.is_stopped) {
            self.feed(&[])?;
            return Ok(Read::Bytes(0));
        }
        let size = self.read_size();
        let result = poll_fn(|cx| {
            BUFFER.with_borrow_mut(|buffer| {
                let mut buffer = ReadBuf::new(&mut buffer[..size]);
                ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
                let bytes = buffer.filled();
                if bytes.is_empty() {
                    return Poll::Ready(Ok(Ok(Read::End)));
                }
                if self.account.is_limited() {
                    self.account.charge(0, bytes.len(), clock::tick());
                }
                let fed = self.feed(bytes);
                Poll::Ready(io::Result::Ok(fed.map(|()| Read::Bytes(bytes.len()))))
            })
        })
        .await;
        match result {
            Ok(fed) => fed,
            Err(_) if !self.inbox.is_midway() => Ok(Read::End),
            Err(error) => Err(MessageError::new(
                Reason::ConnectionLost,
                format!("the connection broke inside a message: {error}"),
            )),
        }
    }

    /// The number of bytes to read at once. It is small if messages of the sender may have
    /// to wait, since they are buffered meanwhile.
    fn read_size(&self) -> usize {
        match self.account.is_limited() || self.service.fairness.limits_apps() {
            true => LIMITED_READ,
            false => READ_SIZE,
        }
    }

    /// The error for a message that is incomplete after the time limit. If the received
    /// part is malformed, the error says so: such a document may never end.
    fn timed_out(&mut self) -> MessageError {
        let waited = self.service.config.message_timeout;
        let timeout = MessageError::new(
            Reason::Timeout,
            format!(
                "the message did not arrive completely within {waited:?} (receiver.message_timeout)"
            ),
        );
        match self.inbox.finish() {
            Err(error) if error.reason == Reason::Malformed => error,
            _ => timeout,
        }
    }

    /// The error for a large message that arrives too slowly while memory is short.
    fn too_slow(&self) -> MessageError {
        MessageError::new(
            Reason::Timeout,
            format!(
                "the message arrives too slowly: more than half of the memory for messages is in use \
                 (receiver.max_buffered), and a message of more than {SMALL_MESSAGE} bytes must then \
                 send {RATE_BYTES} bytes every {RATE_PERIOD:?}"
            ),
        )
    }

    /// Ends the connection so that another one can be served. It is an error only if a
    /// message is incomplete.
    fn make_room(&mut self) -> Result<(), MessageError> {
        self.evicted = true;
        if !self.inbox.is_midway() {
            sender_log::write(
                LogEvent::Connection,
                About::peer(self.author.peer),
                format_args!(
                    "{}: closed to make room for another connection",
                    self.author.peer
                ),
            );
            return Ok(());
        }
        Err(MessageError::new(
            Reason::Closed,
            "closed to make room: all connections are in use (exporter.concurrent_requests), and \
             this one made no progress for the longest time",
        ))
    }

    /// Ends the connection because the program is stopping.
    fn stopped(&self) -> Result<(), MessageError> {
        if !self.inbox.is_midway() {
            return Ok(());
        }
        Err(MessageError::new(
            Reason::Closed,
            "the proxy is stopping; earlier messages are stored, this one is not",
        ))
    }

    /// Counts and logs a rejected message, and answers a sender of JSON.
    async fn reject<S>(&mut self, stream: &mut S, error: &MessageError)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let format = match (self.inbox.format(), self.service.config.format) {
            // Bytes in neither format are answered like JSON.
            (WireFormat::Unknown, Format::Auto) if error.position.is_some() => WireFormat::Json,
            (format, _) => format,
        };
        let bytes = self.inbox.pending();
        self.service.stats.count(format, Err(error.reason), bytes);
        let number = self.inbox.messages() + 1;
        let mut about = About::peer(self.author.peer);
        if let Some(app) = &error.app {
            about = about.named("app", app);
        }
        sender_log::rejected(
            LogEvent::MessageRejected,
            about,
            format_args!(
                "receiver {}: {} message {number} from {}",
                self.service.source,
                format.as_str(),
                self.author.peer
            ),
            error.reason,
            &error.to_string(),
        );
        if format == WireFormat::Json {
            let document = if number > 1 {
                format!("document {number}, ")
            } else {
                String::new()
            };
            let line = format!("error: {document}{error}\n");
            if self.evicted {
                // Another connection waits for its permit. A sender that still writes may lose the
                // line.
                let _ = write_last(stream, line.as_bytes()).await;
            } else {
                turn_away(stream, line.as_bytes()).await;
            }
        }
    }
}

/// Charges a stored message. Returns whether the sender must then wait.
fn charge_message(account: &Account) -> bool {
    if !account.is_limited() {
        return false;
    }
    let now = clock::tick();
    account.charge(1, 0, now);
    account.check(now).is_err()
}

/// Identifies the sender of a connection. A sender without the role learns it from the
/// rejection of its first message.
fn author(service: &Service, caller: &Caller) -> Author {
    let scope = service.access.authorize_connection(Role::Write, caller);
    Author {
        peer: caller.peer,
        user: caller.user(),
        scope: scope.unwrap_or_else(|_| Scope::nothing()),
    }
}

fn inbox_limits(service: &Service) -> InboxLimits {
    // Only parsing takes long enough to be worth another thread.
    let max_inline = match service.admission.parses_texts() {
        true => INLINE_BYTES,
        false => usize::MAX,
    };
    InboxLimits {
        max_payload: service.config.max_payload,
        max_apps: service.config.max_apps,
        max_inline,
        budget: Arc::clone(&service.budget),
    }
}

/// Returns the time `after` `start`; `None`, for never, if `after` is zero.
fn deadline(start: Instant, after: Duration) -> Option<Instant> {
    (!after.is_zero()).then(|| start + after)
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests;
