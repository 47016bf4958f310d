//! HTTP plumbing for inputs and outputs: connections, requests, routes, replies. It
//! contains no endpoint; [`routes`](crate::routes) lists them.
//!
//! - [`serve`] runs one connection, and [`http2`] one with HTTP/2; [`dispatch`] takes
//!   each of its requests past the [reverse proxy in front](front) and the [origin and
//!   host checks](guard), through the [route table](router) to a handler.
//! - [`request`] is what a handler gets; [`request_body`] reads its body, and [`work`]
//!   processes large bodies on [pools of threads](pools).
//! - [`reply`] is what a handler returns; [`reply_body`] sends it, and [`table`] formats
//!   tables for people.

pub mod config;
pub mod cors;
pub mod dispatch;
pub mod front;
pub mod guard;
mod http2;
pub mod listen;
pub mod pools;
pub mod query;
pub mod reply;
pub mod reply_body;
pub mod request;
pub mod request_body;
pub mod router;
pub mod table;
pub mod work;

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;

pub use guard::Hosts;
pub use pools::{MAX_COPIES, WorkPools};

use crate::clock;
use crate::fairness::Fairness;
use crate::live::Live;
use crate::net::{Connection, MemoryBudget, Stream, turn_away};
use crate::security::{Access, Caller, ListenerKind};
use crate::storage::Journal;
use crate::telemetry::sender_log::{self, About, LogEvent};
use crate::telemetry::{Telemetry, dates};
use config::Requests;
use front::Front;
use router::Table;

/// The size of a connection's buffer, in bytes. A request head that does not fit is
/// answered with 431.
const BUFFER: usize = 64 << 10;

/// The state that the connections of one listener share.
#[derive(Debug)]
pub struct Server {
    /// The routes of this listener.
    pub table: Table,
    /// Counters of the program.
    pub telemetry: Arc<Telemetry>,
    /// The time limit for the head of a request, and for an idle connection.
    pub header_timeout: Duration,
    /// The time limit for a client to read more of a reply.
    pub write_timeout: Duration,
    /// Limits on request bodies, allowed origins and hosts.
    pub requests: Requests,
    /// Whether this listener accepts pushes.
    pub accepts_pushes: bool,
    /// Decides who may do what.
    pub access: Arc<Access>,
    /// Decides how much each sender may send.
    pub fairness: Arc<Fairness>,
    /// Memory for request bodies, shared by all listeners.
    pub budget: Arc<MemoryBudget>,
    /// Pools of threads for long work, shared by all listeners.
    pub pools: Arc<WorkPools>,
    /// The address of this listener, recorded as the source of each push.
    pub source: Arc<str>,
    /// Whether this listener has TLS.
    pub is_secure: bool,
    /// Where pushes are accepted; `None` if this listener accepts them.
    pub push_location: Option<PushLocation>,
    /// Reverse proxies in front.
    pub front: Front,
    /// Accepted values of `Host`.
    pub hosts: Hosts,
    /// Origins whose pages may send requests that write: the allowed origins and that of
    /// the external URL.
    pub write_origins: Vec<String>,
    /// Storage, which changes wait for before they are acknowledged.
    pub journal: Journal,
    /// Cancelled to request shutdown. Replies in progress are completed.
    pub stop: CancellationToken,
}

/// Where pushes are accepted, for the advice that other listeners give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushLocation {
    /// At this URL or Unix socket.
    At(String),
    /// Nowhere: pushes are off.
    Off,
}

impl PushLocation {
    /// The advice for a client that pushes here.
    fn for_pushes(&self) -> String {
        match self {
            PushLocation::At(place) => format!("pushes are accepted at {place} (push.listen)"),
            PushLocation::Off => "pushes are not accepted (push.listen = \"\")".to_owned(),
        }
    }

    /// The advice for a client that reads what only the push listener serves.
    fn for_reads(&self) -> String {
        match self {
            PushLocation::At(place) => format!("it is served at {place} (push.listen)"),
            PushLocation::Off => {
                "it is served only where pushes are accepted, and pushes are off (push.listen = \"\")"
                    .to_owned()
            }
        }
    }
}

impl Server {
    /// Origins that get CORS headers on this listener: `push.cors_origins` where pushes are
    /// accepted, otherwise none.
    fn cors_origins(&self) -> &[String] {
        match self.accepts_pushes {
            true => &self.requests.cors_origins,
            false => &[],
        }
    }
}

/// Serves a connection until it ends. Each request sees the current settings; the time
/// limits and the shutdown token stay those of the connection's start.
pub async fn serve(live: Live<Server>, connection: Connection) {
    let server = live.load();
    let (peer, identity) = (connection.peer, connection.identity.clone());
    let (stream, permit) = connection.split();
    stream.set_nodelay();
    let is_tls = matches!(stream, Stream::Tls(_));
    let caller = Caller {
        listener: ListenerKind::Http,
        peer,
        gid: stream.peer_group(),
        identity,
    };
    if stream.is_http2() && dates::fits_http(clock::wall()) {
        return http2::serve(live, caller, stream, permit).await;
    }
    if !dates::fits_http(clock::wall()) {
        reply_without_date(stream).await;
        return;
    }
    // Set once a request is handled in the current turn of the task.
    let had_its_turn = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        let server = live.load();
        let (progress, caller) = (Arc::clone(permit.progress()), caller.clone());
        let had_its_turn = &had_its_turn;
        async move {
            // Pipelined requests must not delay those of other connections.
            if had_its_turn.swap(true, Ordering::Relaxed) {
                yield_now().await;
                had_its_turn.store(true, Ordering::Relaxed);
            }
            progress.begin_request();
            let (done, reply) = dispatch::answer(&server, caller, request, &progress).await;
            progress.end_request(done);
            Ok::<_, Infallible>(reply)
        }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(server.header_timeout)
            .max_buf_size(BUFFER)
            // `nc` closes its side after the request and waits for the reply.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service)
    );
    let begin_turn = || had_its_turn.store(false, Ordering::Relaxed);
    let mut stopping = false;
    let result = loop {
        tokio::select! {
            result = poll_dated(connection.as_mut(), begin_turn) => break result,
            () = permit.progress().evicted() => {
                sender_log::write(LogEvent::Connection, About::peer(peer), format_args!("http: {peer} closed to make room for another connection"));
                return;
            }
            () = server.stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    if let Some(Err(problem)) = result {
        if !is_tls && permit.progress().begins_with_tls() {
            sender_log::write(
                LogEvent::Handshake,
                About::peer(peer),
                format_args!(
                    "http: {peer} sent a TLS handshake, and this port has no TLS: use http://, or \
                     give {} a tls table",
                    server.source
                ),
            );
            return;
        }
        // Incomplete requests and clients that disconnect are not errors of the proxy.
        sender_log::write(
            LogEvent::Connection,
            About::peer(peer),
            format_args!("http: connection of {peer} ended: {problem}"),
        );
    }
}

/// Polls the connection as long as HTTP can express the date of the clock; returns `None`
/// once it cannot. hyper writes `Date` into every reply and panics at other dates.
///
/// Each poll begins a new turn of the task, with `begin_turn`.
async fn poll_dated<F: Future>(
    mut connection: Pin<&mut F>,
    begin_turn: impl Fn(),
) -> Option<F::Output> {
    poll_fn(|cx| match dates::fits_http(clock::wall()) {
        true => {
            begin_turn();
            connection.as_mut().poll(cx).map(Some)
        }
        false => Poll::Ready(None),
    })
    .await
}

/// Replies 503 if HTTP cannot express the clock's date.
async fn reply_without_date(mut stream: Stream) {
    const PROBLEM: &str = "the clock of this machine is not between 1970 and 9999: set it";
    sender_log::internal_error(format_args!("http: {PROBLEM}"));
    let reply = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{PROBLEM}\n",
        PROBLEM.len() + 1
    );
    turn_away(&mut stream, reply.as_bytes()).await;
}
