//! The HTTP side: everything that is read from the proxy, and pushes.
//!
//! [`serve`] runs one connection; [`routes`] is the one place that knows the
//! paths, [`guard`] who is heard at all, and [`dispatch`] goes from one to the
//! other; each group of endpoints has a file.

pub mod body;
pub mod cors;
pub mod dispatch;
pub mod guard;
pub mod incoming;
pub mod places;
pub mod query;
pub mod reply;
pub mod routes;

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::Exporter;
use crate::ingest::config::Mode;
use crate::net::{Connection, Stream};
use crate::store::Store;
use crate::telemetry::sender_log::{self, LogEvent};
use crate::telemetry::{Telemetry, dates};
use reply::Reply;

pub use crate::inputs::push::http::Pushes;
pub use crate::inputs::webhooks::Kept;
pub use guard::Hosts;
pub use places::{MOST_COPIES, Places};

/// What the endpoints read.
#[derive(Debug)]
pub struct Server {
    pub config: Exporter,
    pub mode: Mode,
    pub store: Arc<Store>,
    pub telemetry: Arc<Telemetry>,
    /// Shared with the servers of other listeners.
    pub places: Arc<Places>,
    /// Where pushes are taken, what with.
    pub pushes: Option<Pushes>,
    /// Where that is, for who looks for it elsewhere; `None` where nowhere.
    pub pushed_to: Option<String>,
    /// The names that this server may be called by.
    pub hosts: Hosts,
    /// The program will stop soon, and serves until then.
    pub leaving: CancellationToken,
    /// Told to stop: answers that have begun are finished.
    pub stop: CancellationToken,
}

/// Whether a request keeps its connection's place when places run out: scrapes and
/// requests that change something do, cheap reads that can be repeated for ever do
/// not.
fn keeps_place(handler: &str, reads: bool, reply: &Reply) -> bool {
    let is_kept = match handler {
        "metrics" | "app_metrics" => true,
        "echo" | "ping" | "time" | "preflight" | "unknown" => false,
        _ => !reads,
    };
    is_kept && reply.status().is_success()
}

/// Serves a connection to its end.
pub async fn serve(server: Arc<Server>, connection: Connection) {
    let peer = connection.peer;
    let (stream, permit) = connection.split();
    stream.set_nodelay();
    if !dates::fits_http(SystemTime::now()) {
        undated(stream).await;
        return;
    }
    let service = service_fn(|request: Request<Incoming>| {
        let server = Arc::clone(&server);
        let progress = Arc::clone(permit.progress());
        async move {
            let reads = matches!(*request.method(), Method::GET | Method::HEAD);
            progress.begin_request();
            let (handler, reply) = dispatch::answer(&server, peer, request).await;
            progress.end_request(keeps_place(handler, reads, &reply));
            Ok::<_, Infallible>(reply)
        }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(server.config.header_timeout)
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
    poll_fn(|cx| match dates::fits_http(SystemTime::now()) {
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
