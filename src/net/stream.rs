//! The stream of a connection, over TCP or a Unix socket.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Sleep, sleep};

use super::Progress;

/// A connected socket of either transport.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

/// A [`Socket`] that records the bytes that move in its [`Progress`]. A write fails
/// with `TimedOut` if the peer takes no bytes for `write_timeout`.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    progress: Arc<Progress>,
    write_timeout: Duration,
    /// The timeout of a pending write.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    /// Wraps a connected socket.
    pub fn new(socket: Socket, progress: Arc<Progress>, write_timeout: Duration) -> Self {
        Stream {
            socket,
            progress,
            write_timeout,
            stalled: None,
        }
    }

    /// Sets `TCP_NODELAY`, so that small writes are sent without delay. For streams
    /// on which every write ends a response.
    pub fn set_nodelay(&self) {
        if let Socket::Tcp(stream) = &self.socket {
            // An optimisation only: without it, responses are still sent.
            let _ = stream.set_nodelay(true);
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

/// Calls a method of the socket, for either transport.
macro_rules! either {
    ($socket:expr, $method:ident($($argument:expr),*)) => {
        match $socket {
            Socket::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Socket::Unix(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = either!(&mut self.socket, poll_read(cx, buf));
        self.progress.count_read(buf.filled().len() - before);
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = either!(&mut self.socket, poll_write(cx, bytes));
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = either!(&mut self.socket, poll_write_vectored(cx, slices));
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.socket, poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.socket, poll_shutdown(cx))
    }
}
