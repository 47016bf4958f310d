//! One connection: reads messages, and tells the sender what was refused.

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

use super::{Fault, Framer, Operations, Source};
use crate::net::{Connection, Progress};
use crate::reason::Reason;
use crate::telemetry::sender_log::{self, LogEvent};

/// Bytes read at once. One such buffer serves all connections of a thread.
const READ_SIZE: usize = 64 * 1024;

/// Error lines that wait to be written. A sender that never reads them gets no
/// more of them; what it sends is taken all the same.
const MOST_REPLIES: usize = 16 * 1024;

/// Before the proxy ends a connection, it takes what was sent, if it comes
/// within so long, and no more of it than that.
const LAST_WAIT: Duration = Duration::from_millis(20);
const LAST_READS: usize = 256;

/// Once its side is ended, it takes what the sender still sends until that ends
/// its side too. A connection has no place among the permitted ones by then, so
/// that nobody waits for it, and one of as many for those that are ending.
const LINGER: Duration = Duration::from_secs(1);

/// The same where the proxy stops: nobody waits long for that.
const LINGER_AT_STOP: Duration = Duration::from_millis(100);

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into_boxed_slice());
}

/// Serves a connection to its end.
pub async fn serve(
    operations: Arc<Operations>,
    source: Arc<Source>,
    connection: Connection,
    stop: CancellationToken,
) {
    let (mut stream, permit) = connection.split();
    let progress = Arc::clone(permit.progress());
    let mut exchange = Exchange {
        framer: Framer::new(operations.config.max_message),
        operations: &operations,
        source: &source,
        kept: Vec::new(),
        number: 1,
        replies: Some(Vec::new()),
        over: false,
        unyielded: 0,
        progress: &progress,
    };
    if let Some(ends) = exchange.run(&mut stream, &stop).await {
        drop(permit);
        exchange.leave(&mut stream, &ends).await;
    }
    exchange.answer(&mut stream).await;
}

/// Why the proxy ends a connection before its sender does.
struct Ends {
    problem: &'static str,
    reason: Reason,
    linger: Duration,
}

struct Exchange<'o> {
    operations: &'o Operations,
    source: &'o Source,
    framer: Framer,
    /// The unfinished message as far as it is here.
    kept: Vec<u8>,
    /// That of the next message.
    number: u64,
    /// Lines to be written; `None` once they cannot be.
    replies: Option<Vec<u8>>,
    /// The connection is to end, whatever still comes.
    over: bool,
    /// Bytes taken since others were last given a chance to run.
    unyielded: usize,
    /// The connection's place.
    progress: &'o Progress,
}

impl Exchange<'_> {
    async fn run<S>(&mut self, stream: &mut S, stop: &CancellationToken) -> Option<Ends>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut evicted = std::pin::pin!(self.progress.evicted());
        let idle = self.operations.config.idle_timeout;
        loop {
            let deadline = Instant::now() + idle;
            tokio::select! {
                biased;
                () = stop.cancelled() => return Some(Ends {
                    problem: "the proxy is stopping",
                    reason: Reason::Closed,
                    linger: LINGER_AT_STOP,
                }),
                read = self.read(stream) => match read {
                    Ok(0) => {
                        self.end();
                        return None;
                    }
                    Ok(_) => {}
                    Err(_) => {
                        self.cut("the connection broke", Reason::ConnectionLost);
                        return None;
                    }
                },
                () = &mut evicted => return Some(Ends {
                    problem: "closed to make room: all connections are taken (operations.concurrent_connections), and this one was still for longest",
                    reason: Reason::Closed,
                    linger: LINGER,
                }),
                () = sleep_until(deadline) => return Some(Ends {
                    problem: "nothing came for too long (operations.idle_timeout)",
                    reason: Reason::Timeout,
                    linger: LINGER,
                }),
            }
            if self.over {
                return None;
            }
            if self.unyielded >= READ_SIZE {
                self.unyielded = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Reads once, and takes every message that is whole by then. Meanwhile
    /// replies are written as far as they go.
    async fn read<S>(&mut self, stream: &mut S) -> io::Result<usize>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        poll_fn(|cx| {
            self.poll_answer(stream, cx);
            BUFFER.with_borrow_mut(|buffer| {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
                let bytes = buffer.filled();
                if !bytes.is_empty() {
                    self.feed(bytes);
                    self.progress.set_reading_message(!self.kept.is_empty());
                }
                Poll::Ready(Ok(bytes.len()))
            })
        })
        .await
    }

    fn feed(&mut self, bytes: &[u8]) {
        if self.number == 1 && self.kept.is_empty() && is_http(bytes) {
            // The lines of a request's body might be messages: no page in
            // somebody's browser is to send those.
            self.refuse("this is no HTTP port: see push.listen", Reason::Malformed);
            self.over = true;
            return;
        }
        self.unyielded += bytes.len();
        let transport = self.source.transport;
        self.operations.stats.count_taken(transport, bytes.len());
        if self.kept.is_empty() {
            let used = self.take(bytes, false);
            self.kept.extend_from_slice(&bytes[used..]);
            return;
        }
        let mut kept = std::mem::take(&mut self.kept);
        kept.extend_from_slice(bytes);
        let used = self.take(&kept, false);
        // A connection between two messages holds no memory.
        if used < kept.len() {
            kept.drain(..used);
            kept.shrink_to(2 * kept.len());
            self.kept = kept;
        }
    }

    fn take(&mut self, bytes: &[u8], end: bool) -> usize {
        let replies = &mut self.replies;
        let before = self.number;
        let mut faults = 0;
        let refused = |number: u64, fault: &Fault| {
            faults += 1;
            if let Some(replies) = replies {
                reply(replies, number, fault);
            }
        };
        let (source, length) = (self.source, bytes.len());
        let mut turn = self.operations.turn(source, length, self.number, refused);
        let used = self.framer.feed(bytes, end, |found| turn.take(found));
        self.number = turn.end();
        if self.number - before > faults {
            self.progress.complete();
        }
        used
    }

    /// Takes what is left once nothing comes any more.
    fn end(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        self.take(&kept, true);
    }

    /// Ends the connection before its sender does. That is a failure only where
    /// a message is lost by it.
    fn cut(&mut self, problem: &str, reason: Reason) {
        if self.kept.is_empty() {
            sender_log::write(
                LogEvent::Connection,
                format_args!("operations {}: {problem}", self.source.name),
            );
            return;
        }
        self.kept = Vec::new();
        // Should the rest of it come all the same, it is no message.
        self.framer.skip_line();
        self.refuse(problem, reason);
    }

    /// Counts, logs and tells what is wrong with what came last.
    fn refuse(&mut self, problem: &str, reason: Reason) {
        let fault = Fault::new(reason, problem);
        self.operations.refuse(self.source, &fault);
        if let Some(replies) = &mut self.replies {
            reply(replies, self.number, &fault);
        }
    }

    /// Ends the connection before its sender does, and loses nothing that is
    /// under way: what was sent is taken, then the proxy ends its side, which
    /// tells the sender, and what comes until the sender ends its own is taken
    /// too.
    async fn leave<S>(&mut self, stream: &mut S, ends: &Ends)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        for _ in 0..LAST_READS {
            match timeout(LAST_WAIT, self.read(stream)).await {
                Ok(Ok(0)) => return self.end(),
                Ok(Ok(_)) => {}
                _ => break,
            }
        }
        self.cut(ends.problem, ends.reason);
        let place = self.operations.endings.try_acquire();
        let linger = place.as_ref().map_or(Duration::ZERO, |_| ends.linger);
        let deadline = Instant::now() + linger;
        // A sender that reads nothing is not waited for longer.
        if timeout_at(deadline, self.answer(stream)).await.is_err() {
            self.replies = None;
        }
        while let Ok(Ok(read)) = timeout_at(deadline, self.read(stream)).await {
            if read == 0 {
                return self.end();
            }
        }
        self.cut(ends.problem, ends.reason);
    }

    fn poll_answer<S: AsyncWrite + Unpin>(&mut self, stream: &mut S, cx: &mut Context<'_>) {
        while let Some(replies) = &mut self.replies
            && !replies.is_empty()
        {
            match Pin::new(&mut *stream).poll_write(cx, replies) {
                Poll::Ready(Ok(written)) => {
                    replies.drain(..written);
                }
                Poll::Ready(Err(_)) => self.replies = None,
                Poll::Pending => break,
            }
        }
    }

    /// Writes the replies that are left, and ends the stream.
    async fn answer<S: AsyncWrite + Unpin>(&mut self, stream: &mut S) {
        if let Some(replies) = self.replies.take() {
            // A sender that has gone cannot be told, and need not be.
            let _ = stream.write_all(&replies).await;
            let _ = stream.shutdown().await;
        }
    }
}

fn reply(replies: &mut Vec<u8>, number: u64, fault: &Fault) {
    if replies.len() < MOST_REPLIES {
        let line = format!("error: message {number}: {fault}\n");
        replies.extend_from_slice(line.as_bytes());
    }
}

/// Whether a stream begins as a request does.
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
