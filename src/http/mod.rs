//! HTTP beneath inputs and outputs: connections, requests, routes, replies. It knows
//! no endpoint.
//!
//! - [`serve`] runs one connection; [`dispatch`] takes each of its requests through
//!   the [checks](guard) and the [table of routes](router) to a handler.
//! - [`request`]: what a handler gets; [`incoming`] reads bodies, [`work`] works on
//!   them away from the serving threads.
//! - [`reply`]: what a handler returns; [`body`] sends it, [`table`] makes tables.

pub mod body;
pub mod config;
pub mod cors;
pub mod dispatch;
pub mod guard;
pub mod incoming;
pub mod pools;
pub mod query;
pub mod reply;
pub mod request;
pub mod router;
pub mod table;
pub mod work;

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use guard::Hosts;
pub use pools::{MAX_COPIES, WorkPools};

use crate::clock;
use crate::net::{Connection, MemoryBudget, Stream};
use crate::telemetry::sender_log::{self, LogEvent};
use crate::telemetry::{Telemetry, dates};
use config::Requests;
use router::Table;

/// What the connections of one listener share.
#[derive(Debug)]
pub struct Server {
    /// The routes that are served here.
    pub table: Table,
    /// Counters.
    pub telemetry: Arc<Telemetry>,
    /// The time a request's head has to arrive, and an idle connection is kept.
    pub header_timeout: Duration,
    /// Limits on bodies, and whose pages can send them.
    pub requests: Requests,
    /// Whether pushes are accepted here.
    pub accepts_pushes: bool,
    /// Memory for bodies, shared by all listeners.
    pub budget: Arc<MemoryBudget>,
    /// Permits for work away from the serving threads, shared by all listeners.
    pub pools: Arc<WorkPools>,
    /// The address that is recorded as the source of what is pushed here.
    pub source: Arc<str>,
    /// Where pushes are accepted, in words, if not here.
    pub push_location: Option<String>,
    /// Names of this server in `Host` headers.
    pub hosts: Hosts,
    /// Cancelled to stop: replies that have begun are finished.
    pub stop: CancellationToken,
}

impl Server {
    /// Origins whose pages can change something here.
    fn origins(&self) -> &[String] {
        match self.accepts_pushes {
            true => &self.requests.cors_origins,
            false => &[],
        }
    }
}

/// Serves a connection to its end.
pub async fn serve(server: Arc<Server>, connection: Connection) {
    let peer = connection.peer;
    let (stream, permit) = connection.split();
    stream.set_nodelay();
    if !dates::fits_http(clock::wall()) {
        undated(stream).await;
        return;
    }
    let service = service_fn(|request: Request<Incoming>| {
        let server = Arc::clone(&server);
        let progress = Arc::clone(permit.progress());
        async move {
            progress.begin_request();
            let (done, reply) = dispatch::answer(&server, peer, request).await;
            progress.end_request(done);
            Ok::<_, Infallible>(reply)
        }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(server.header_timeout)
            // `nc` closes its side once it has sent its request. It still
            // waits for the answer.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut stopping = false;
    let result = loop {
        tokio::select! {
            result = poll_dated(connection.as_mut()) => break result,
            () = permit.progress().evicted() => {
                sender_log::write(LogEvent::Connection, format_args!("http: {peer} closed to make room for another connection"));
                return;
            }
            () = server.stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    if let Some(Err(problem)) = result {
        // Half-sent requests, and clients that leave: theirs to know, not ours.
        sender_log::write(
            LogEvent::Connection,
            format_args!("http: connection of {peer} ended: {problem}"),
        );
    }
}

/// Serves on while the clock has a date that HTTP can write; `None` is that it
/// has none. hyper writes the date into every answer, and panics at others.
async fn poll_dated<F: Future>(mut connection: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|cx| match dates::fits_http(clock::wall()) {
        true => connection.as_mut().poll(cx).map(Some),
        false => Poll::Ready(None),
    })
    .await
}

/// Answers a connection while the clock has no date that HTTP can write.
async fn undated(mut stream: Stream) {
    const TOLD: &str = "the clock of this machine is not between 1970 and 9999: set it";
    sender_log::internal_error(format_args!("http: {TOLD}"));
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{TOLD}\n",
        TOLD.len() + 1
    );
    // A client that has gone cannot be told.
    if stream.write_all(answer.as_bytes()).await.is_ok() {
        let _ = stream.shutdown().await;
        linger(&mut stream).await;
    }
}

/// Reads and drops what a client still sends, for a while: closing with bytes
/// unread would reset the connection, and the answer might be lost.
async fn linger(stream: &mut Stream) {
    const LONGEST: Duration = Duration::from_secs(1);
    let mut buffer = [0; 4096];
    let rest = async { while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {} };
    let _ = timeout(LONGEST, rest).await;
}
