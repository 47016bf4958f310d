//! Connections with HTTP/2: many concurrent requests on one connection, within the limits
//! that hold for an HTTP/1.1 connection.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::JoinError;
use tokio::time::{Sleep, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::reply_body::{ChunkBatch, ReplyBody};
use super::{Server, dispatch, poll_dated};
use crate::clock;
use crate::live::Live;
use crate::net::{Permit, Progress, Stream};
use crate::peer::Peer;
use crate::security::Caller;
use crate::telemetry::sender_log::{self, About, LogEvent};

/// The limit on concurrent requests of one connection. Further ones wait in the client.
const MAX_STREAMS: u32 = 16;

/// The limit on received but unread bytes of one request body.
const STREAM_WINDOW: u32 = 64 << 10;

/// The limit on received but unread bytes of all request bodies of a connection.
const CONNECTION_WINDOW: u32 = 256 << 10;

/// The limit on reply bytes that wait in a stream.
const MAX_SEND_BUFFER: usize = 128 << 10;

/// The limit on the size of a request's headers, in bytes. The one of HTTP/1.1 is of the
/// same order.
const MAX_HEADERS: u32 = 16 << 10;

/// How long a client may take to close its connection after GOAWAY.
const GOODBYE: Duration = Duration::from_secs(1);

/// The range of intervals between checks for idle and stalled connections.
const CHECK_INTERVALS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Serves a connection until it ends.
pub async fn serve(live: Live<Server>, caller: Caller, stream: Stream, permit: Permit) {
    let server = live.load();
    let peer = caller.peer;
    let activity = Arc::new(Activity::new());
    let service = service_fn(|request: Request<Incoming>| {
        let server = live.load();
        let (progress, caller) = (Arc::clone(permit.progress()), caller.clone());
        let open = OpenStream::new(&activity, &progress);
        async move {
            let (done, reply) = dispatch::answer(&server, caller, request, &progress).await;
            open.end_request(&progress, done);
            let reply = reply.map(|body| TrackedBody { body, open });
            Ok::<_, Infallible>(reply as Response<TrackedBody>)
        }
    });
    let closed = CancellationToken::new();
    let _closes_streams = closed.clone().drop_guard();
    let mut connection = std::pin::pin!(
        http2::Builder::new(StreamTasks { closed })
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(MAX_SEND_BUFFER)
            .max_header_list_size(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), service)
    );
    let (least, most) = CHECK_INTERVALS;
    let limit = server.header_timeout.min(server.write_timeout);
    let mut checks = interval((limit / 4).clamp(least, most));
    let mut goodbye: Option<Pin<Box<Sleep>>> = None;
    let mut stopping = false;
    let result = loop {
        tokio::select! {
            result = poll_dated(connection.as_mut(), || {}) => break result,
            () = permit.progress().evicted() => {
                log(peer, format_args!("{peer} closed to make room for another connection"));
                return;
            }
            () = server.stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = wait(&mut goodbye), if goodbye.is_some() => return,
            _ = checks.tick(), if goodbye.is_none() => {
                match activity.find(server.header_timeout, server.write_timeout) {
                    None => {}
                    Some(Inactive::Idle) => {
                        connection.as_mut().graceful_shutdown();
                        goodbye = Some(Box::pin(sleep(GOODBYE)));
                    }
                    Some(Inactive::Stalled) => {
                        log(peer, format_args!("connection of {peer} ended: the peer reads nothing"));
                        return;
                    }
                }
            }
        }
    };
    if let Some(Err(problem)) = result {
        log(peer, format_args!("connection of {peer} ended: {problem}"));
    }
}

fn log(peer: Peer, message: std::fmt::Arguments<'_>) {
    let message = format_args!("http: {message}");
    sender_log::write(LogEvent::Connection, About::peer(peer), message);
}

async fn wait(goodbye: &mut Option<Pin<Box<Sleep>>>) {
    if let Some(sleep) = goodbye {
        sleep.await;
    }
}

/// Spawns the tasks of a connection's streams, and ends them with the connection.
#[derive(Debug, Clone)]
struct StreamTasks {
    closed: CancellationToken,
}

impl<F> Executor<F> for StreamTasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let closed = self.closed.clone();
        tokio::spawn(async move {
            closed.run_until_cancelled(stream).await;
        });
    }
}

/// The activity of a connection, to find idle and stalled ones.
#[derive(Debug)]
struct Activity(Mutex<Streams>);

#[derive(Debug)]
struct Streams {
    next: u64,
    /// Since when a stream has been waiting for its client to read; `None` while the proxy works.
    open: HashMap<u64, Option<Instant>>,
    /// When the last stream ended.
    idle_since: Instant,
}

/// Why a connection is closed.
#[derive(Debug, PartialEq, Eq)]
enum Inactive {
    /// It has no requests, and is idle.
    Idle,
    /// The client reads nothing of a reply.
    Stalled,
}

impl Activity {
    fn new() -> Self {
        Activity(Mutex::new(Streams {
            next: 0,
            open: HashMap::new(),
            idle_since: clock::tick(),
        }))
    }

    /// Whether the connection has been inactive: for `idle` without a request, or for
    /// `stalled` while the client read nothing of a reply.
    fn find(&self, idle: Duration, stalled: Duration) -> Option<Inactive> {
        let streams = self.streams();
        let waits = streams.open.values().flatten();
        if streams.open.is_empty() && streams.idle_since.elapsed() >= idle {
            Some(Inactive::Idle)
        } else if waits.min().is_some_and(|since| since.elapsed() >= stalled) {
            Some(Inactive::Stalled)
        } else {
            None
        }
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream from the head of its request to the end of its reply.
#[derive(Debug)]
struct OpenStream {
    id: u64,
    activity: Arc<Activity>,
}

impl OpenStream {
    /// Begins a stream. Its request counts as progress of the connection as soon as bytes
    /// of its body arrive.
    fn new(activity: &Arc<Activity>, progress: &Progress) -> Self {
        let mut streams = activity.streams();
        let id = streams.next;
        streams.next += 1;
        // While another reply is sent, its bytes still count as progress.
        match streams.open.is_empty() {
            true => progress.begin_request(),
            false => progress.set_reading_message(true),
        }
        streams.open.insert(id, None);
        OpenStream {
            id,
            activity: Arc::clone(activity),
        }
    }

    /// Records that the reply begins. If it `counts`, it is progress.
    fn end_request(&self, progress: &Progress, counts: bool) {
        let is_only = self.activity.streams().open.len() == 1;
        if counts || is_only {
            progress.end_request(counts);
        }
        self.set_waiting(true);
    }

    /// Sets whether the stream now waits for the client to read.
    fn set_waiting(&self, waiting: bool) {
        let since = waiting.then(clock::tick);
        self.activity.streams().open.insert(self.id, since);
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut streams = self.activity.streams();
        streams.open.remove(&self.id);
        if streams.open.is_empty() {
            streams.idle_since = clock::tick();
        }
    }
}

/// A reply body that records when the client reads a part of it.
#[derive(Debug)]
struct TrackedBody {
    body: ReplyBody,
    open: OpenStream,
}

impl Body for TrackedBody {
    type Data = ChunkBatch;
    type Error = JoinError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<ChunkBatch>, JoinError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.open.set_waiting(frame.is_ready());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
