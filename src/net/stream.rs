//! The stream of a connection, over TCP or a Unix socket, with or without TLS.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;

use super::Progress;

/// A connected socket of either transport.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

/// A connection's bytes in both directions.
#[derive(Debug)]
pub enum Stream {
    /// Bytes as they are on the socket.
    Plain(PlainStream),
    /// Bytes encrypted on the socket.
    Tls(Box<TlsStream<PlainStream>>),
}

impl Stream {
    /// Sets `TCP_NODELAY`, so that small writes are sent without delay. For streams where
    /// every write ends a response.
    pub fn set_nodelay(&self) {
        let plain = match self {
            Stream::Plain(plain) => plain,
            Stream::Tls(tls) => tls.get_ref().0,
        };
        if let Socket::Tcp(stream) = &plain.socket {
            // This is only an optimisation: responses are sent without it, too.
            let _ = stream.set_nodelay(true);
        }
    }

    /// The group of the process at the other end of a Unix socket.
    pub fn peer_group(&self) -> Option<u32> {
        match self {
            Stream::Plain(PlainStream {
                socket: Socket::Unix(stream),
                ..
            }) => stream.peer_cred().ok().map(|cred| cred.gid()),
            _ => None,
        }
    }

    /// Whether the client and the listener agreed on HTTP/2.
    pub fn is_http2(&self) -> bool {
        match self {
            Stream::Plain(_) => false,
            Stream::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

/// A [`Socket`] that records moved bytes in its [`Progress`]. A write fails with `TimedOut`
/// if the peer accepts no bytes for `write_timeout`.
#[derive(Debug)]
pub struct PlainStream {
    socket: Socket,
    progress: Arc<Progress>,
    write_timeout: Duration,
    /// Whether any bytes were received.
    has_begun: bool,
    /// The timer of a pending write.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl PlainStream {
    /// Wraps a connected socket.
    pub fn new(socket: Socket, progress: Arc<Progress>, write_timeout: Duration) -> Self {
        PlainStream {
            socket,
            progress,
            write_timeout,
            has_begun: false,
            stalled: None,
        }
    }

    /// Waits for bytes to read, and copies the first of them without consuming them.
    /// Returns 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.socket {
            Socket::Tcp(stream) => stream.peek(buffer).await,
            // Only TCP has TLS.
            Socket::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Fails a write that has been pending for the timeout.
    fn watch(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            self.stalled = None;
            if let Ok(bytes) = written {
                self.progress.count_written(bytes);
            }
            return Poll::Ready(written);
        }
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(self.write_timeout)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer reads nothing",
        )))
    }
}

/// Calls a method of the inner stream, whichever it is.
macro_rules! either {
    ($stream:expr, $kind:ident::{$one:ident, $other:ident}, $method:ident($($argument:expr),*)) => {
        match $stream {
            $kind::$one(stream) => Pin::new(stream).$method($($argument),*),
            $kind::$other(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self.get_mut(), Stream::{Plain, Tls}, poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), Stream::{Plain, Tls}, poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), Stream::{Plain, Tls}, poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), Stream::{Plain, Tls}, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), Stream::{Plain, Tls}, poll_shutdown(cx))
    }
}

impl AsyncRead for PlainStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = either!(&mut self.socket, Socket::{Tcp, Unix}, poll_read(cx, buf));
        let received = &buf.filled()[before..];
        self.progress.count_read(received.len());
        if !self.has_begun && !received.is_empty() {
            self.has_begun = true;
            self.progress.note_begin(received);
        }
        read
    }
}

impl AsyncWrite for PlainStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = either!(&mut self.socket, Socket::{Tcp, Unix}, poll_write(cx, bytes));
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written =
            either!(&mut self.socket, Socket::{Tcp, Unix}, poll_write_vectored(cx, slices));
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.socket, Socket::{Tcp, Unix}, poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.socket, Socket::{Tcp, Unix}, poll_shutdown(cx))
    }
}
