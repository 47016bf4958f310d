//! Forwards operations to another proxy, or to metrics-server.
//!
//! An item is one operation: a JSON object on a line, with its newline.
//!
//! - [`stream`]: a stream of lines. Lines that the kernel took are delivered;
//!   after a broken connection, a line that was cut is sent again, whole.
//! - [`datagrams`]: a datagram for each line, without the newline, as metrics-server
//!   expects it. A datagram that is lost is not sent again.

mod config;
mod datagrams;
mod stream;

#[cfg(test)]
mod tests;

use std::future;

use bytes::Bytes;
use memchr::memchr_iter;

pub use config::{Settings, queue, read};

use super::stored::{STORED_BYTES, StoredForm};
use super::{PushError, QueueHandle, Report, Sink};
use crate::settings::Destination;
use crate::telemetry::sender_log::LogEvent;
use datagrams::{DatagramReceiver, DatagramSink};
use stream::{StreamReceiver, StreamSink};

/// The queue of operations to forward.
#[derive(Debug, Clone)]
pub struct Lines(QueueHandle<Bytes>);

impl Lines {
    /// Lines in this queue of an [`OperationsSink`].
    pub fn new(queue: QueueHandle<Bytes>) -> Self {
        Lines(queue)
    }

    /// Appends operations, each a line with its newline, all or none.
    ///
    /// # Errors
    ///
    /// See [`QueueHandle::push`].
    pub fn push(&self, lines: &Bytes) -> Result<(), PushError> {
        let mut start = 0;
        let split = memchr_iter(b'\n', lines).map(|newline| {
            let line = lines.slice(start..=newline);
            start = newline + 1;
            line
        });
        self.0.push(split.collect())
    }
}

/// Sends operations as a stream of lines or as datagrams.
#[derive(Debug)]
pub struct OperationsSink(Transport);

#[derive(Debug)]
enum Transport {
    Stream(StreamSink),
    Datagrams(DatagramSink),
}

impl OperationsSink {
    /// A sink with these settings.
    pub fn new(settings: Settings) -> Self {
        let stream = |receiver| Transport::Stream(StreamSink::new(receiver));
        let datagrams = |receiver| Transport::Datagrams(DatagramSink::new(receiver));
        OperationsSink(match settings.destination {
            Destination::Tcp(address) => stream(StreamReceiver::Tcp(address)),
            Destination::Unix(path) => stream(StreamReceiver::Unix(path)),
            Destination::Udp(address) => datagrams(DatagramReceiver::Udp(address)),
            Destination::UnixDatagram(path) => datagrams(DatagramReceiver::Unix(path)),
        })
    }
}

impl Sink for OperationsSink {
    type Item = Bytes;

    const STORED: Option<StoredForm<Bytes>> = Some(STORED_BYTES);

    const LOG_EVENT: LogEvent = LogEvent::OperationTransport;

    fn size(line: &Bytes) -> usize {
        line.len()
    }

    fn name(&self) -> String {
        match &self.0 {
            Transport::Stream(sink) => sink.name(),
            Transport::Datagrams(sink) => sink.name(),
        }
    }

    async fn send(&mut self, lines: &[Bytes]) -> Report {
        match &mut self.0 {
            Transport::Stream(sink) => sink.send(lines).await,
            Transport::Datagrams(sink) => sink.send(lines).await,
        }
    }

    async fn idle(&mut self) -> String {
        match &mut self.0 {
            Transport::Stream(sink) => sink.idle().await,
            Transport::Datagrams(_) => future::pending().await,
        }
    }

    async fn close(&mut self) {
        if let Transport::Stream(sink) = &mut self.0 {
            sink.close().await;
        }
    }
}
