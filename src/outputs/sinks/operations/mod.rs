//! Forwards operations to another proxy, or to metrics-server.
//!
//! An item is one operation: a JSON object on a line, with its newline.
//!
//! - [`tcp`]: a stream of lines. Lines that the kernel took are delivered;
//!   after a broken connection, a line that was cut is sent again, whole.
//! - [`udp`]: a datagram for each line, without the newline, as metrics-server
//!   expects it. A datagram that is lost is not sent again.

mod tcp;
mod udp;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use memchr::memchr_iter;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{PushError, QueueHandle, QueueLimits};
use crate::settings::Destination;
use crate::telemetry::SinkStats;
use tcp::TcpSink;
use udp::UdpSink;

/// Operations of one batch. UDP needs a system call for each.
const BATCH_ITEMS: usize = 4096;

/// Bytes of one batch: the size of one write to the connection.
const BATCH_BYTES: usize = 256 * 1024;

/// Where operations are forwarded to, and how many may wait.
#[derive(Debug, Clone)]
pub struct Config {
    /// `operations.forward_to`
    pub destination: Destination,
    /// Bytes of operations that wait: `operations.forward_queue`.
    pub queue: usize,
    /// Time for sending what waits at shutdown.
    pub drain: Duration,
}

/// The queue of operations to forward.
#[derive(Debug, Clone)]
pub struct Lines(QueueHandle<Bytes>);

impl Lines {
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

/// Starts forwarding.
pub fn start(
    config: Config,
    stats: Arc<SinkStats>,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Lines {
    let limits = QueueLimits {
        bytes: config.queue,
        age: None,
        batch_items: BATCH_ITEMS,
        batch_bytes: BATCH_BYTES,
    };
    let drain = config.drain;
    Lines(match config.destination {
        Destination::Tcp(address) => {
            super::start(TcpSink::new(address), limits, drain, stats, stop, tasks)
        }
        Destination::Udp(address) => {
            super::start(UdpSink::new(address), limits, drain, stats, stop, tasks)
        }
    })
}
