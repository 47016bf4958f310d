//! Forwards operations over TCP or a Unix socket, as a stream of lines.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::either::Either;

use crate::outputs::sinks::Report;
use crate::settings::Address;
use crate::telemetry::clip;
use crate::telemetry::sender_log::{self, About, LogEvent};

/// Time for establishing a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for the receiver to accept a part of what is written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of the receiver's answers to read at once.
const ANSWER_SIZE: usize = 1024;

/// Sends lines over one connection, and connects again after it breaks.
#[derive(Debug)]
pub(super) struct StreamSink {
    receiver: StreamReceiver,
    stream: Option<LineStream<Connection>>,
}

/// The destination of the lines.
#[derive(Debug)]
pub(super) enum StreamReceiver {
    Tcp(Address),
    Unix(PathBuf),
}

type Connection = Either<TcpStream, UnixStream>;

impl fmt::Display for StreamReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamReceiver::Tcp(address) => address.fmt(f),
            StreamReceiver::Unix(path) => path.display().fmt(f),
        }
    }
}

impl StreamSink {
    pub(super) fn new(receiver: StreamReceiver) -> Self {
        StreamSink {
            receiver,
            stream: None,
        }
    }

    pub(super) fn name(&self) -> String {
        format!("operations to {}", self.receiver)
    }

    pub(super) async fn send(&mut self, lines: &[Bytes]) -> Report {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => match connect(&self.receiver).await {
                Ok(stream) => none.insert(stream),
                Err(error) => return Report::failed(0, error.to_string()),
            },
        };
        let report = stream.write(lines).await;
        if report.failure.is_some() {
            self.stream = None;
        }
        report
    }

    pub(super) async fn idle(&mut self) -> String {
        let Some(stream) = &mut self.stream else {
            return std::future::pending().await;
        };
        let failure = stream.read_answers().await;
        self.stream = None;
        failure.to_string()
    }

    pub(super) async fn close(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            stream.end().await;
        }
    }
}

async fn connect(receiver: &StreamReceiver) -> io::Result<LineStream<Connection>> {
    let connection = async {
        match receiver {
            StreamReceiver::Tcp(address) => {
                let to = (address.host(), address.port);
                TcpStream::connect(to).await.map(Either::Left)
            }
            StreamReceiver::Unix(path) => UnixStream::connect(path).await.map(Either::Right),
        }
    };
    Ok(LineStream::new(
        timeout(CONNECT_TIMEOUT, connection).await??,
    ))
}

/// A connection that lines are written to. The receiver answers only rejected lines.
#[derive(Debug)]
pub(super) struct LineStream<S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    /// The lines being written, one after the other.
    buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite> LineStream<S> {
    pub(super) fn new(stream: S) -> Self {
        let (reader, writer) = split(stream);
        LineStream {
            reader,
            writer,
            buffer: Vec::new(),
        }
    }

    /// Writes lines. Completely written lines count as taken: the receiver discards a line that
    /// was cut.
    pub(super) async fn write(&mut self, lines: &[Bytes]) -> Report {
        self.buffer.clear();
        for line in lines {
            self.buffer.extend_from_slice(line);
        }
        let mut answer = [0; ANSWER_SIZE];
        let mut written = 0;
        let failure = loop {
            if written == self.buffer.len() {
                return Report::taken(lines.len());
            }
            tokio::select! {
                result = timeout(WRITE_TIMEOUT, self.writer.write(&self.buffer[written..])) => {
                    match result.unwrap_or_else(|late| Err(late.into())) {
                        Ok(bytes) => written += bytes,
                        Err(error) => break error,
                    }
                }
                read = self.reader.read(&mut answer) => {
                    if let Err(error) = log_answer(&answer, read) {
                        break error;
                    }
                }
            }
        };
        let mut whole = 0;
        let mut end = 0;
        for line in lines {
            end += line.len();
            if end > written {
                break;
            }
            whole += 1;
        }
        Report::failed(whole, failure.to_string())
    }

    /// Reads the receiver's answers until the connection breaks. Cancel-safe.
    async fn read_answers(&mut self) -> io::Error {
        let mut answer = [0; ANSWER_SIZE];
        loop {
            let read = self.reader.read(&mut answer).await;
            if let Err(error) = log_answer(&answer, read) {
                return error;
            }
        }
    }

    /// Ends the stream, which tells the receiver that nothing is missing.
    pub(super) async fn end(&mut self) {
        // All lines are written. If the receiver is gone, it needs no end.
        let _ = self.writer.shutdown().await;
    }
}

/// Logs that the receiver rejected an operation.
///
/// # Errors
///
/// The connection is broken or closed.
fn log_answer(answer: &[u8], read: io::Result<usize>) -> io::Result<()> {
    let length = read?;
    if length == 0 {
        return Err(io::Error::new(
            io::ErrorKind::ConnectionReset,
            "the receiver closed the connection",
        ));
    }
    // The answer may quote what was sent, so it is logged at `debug` only.
    if sender_log::write(
        LogEvent::OperationRejected,
        About::NOTHING,
        format_args!("the receiver rejected a forwarded operation"),
    ) {
        let answer = String::from_utf8_lossy(&answer[..length]);
        let answer = clip(answer.trim_end());
        log::debug!("the receiver rejected a forwarded operation: {answer}");
    }
    Ok(())
}
