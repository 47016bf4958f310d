//! Forwards operations to another proxy, or to metrics-server.
//!
//! An item is one operation: a JSON object on a line, with its newline.
//!
//! - [`tcp`]: a stream of lines. Lines that the kernel took are delivered;
//!   after a broken connection, a line that was cut is sent again, whole.
//! - [`udp`]: a datagram for each line, without the newline, as metrics-server
//!   expects it. A datagram that is lost is not sent again.

mod config;
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

pub use config::{Settings, queue, read};

use super::{PushError, QueueConfig, QueueHandle};
use crate::settings::Destination;
use crate::telemetry::SinkStats;
use tcp::TcpSink;
use udp::UdpSink;

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

/// Starts forwarding. `drain` is the time for sending what waits at shutdown.
pub fn start(
    settings: Settings,
    queue: &QueueConfig,
    drain: Duration,
    stats: Arc<SinkStats>,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Lines {
    let limits = queue.limits();
    Lines(match settings.destination {
        Destination::Tcp(address) => {
            super::start(TcpSink::new(address), limits, drain, stats, stop, tasks)
        }
        Destination::Udp(address) => {
            super::start(UdpSink::new(address), limits, drain, stats, stop, tasks)
        }
    })
}
