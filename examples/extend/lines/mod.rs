//! A sink: sends each item as a line to a TCP server.

mod config;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use exporter_proxy::context::Context;
use exporter_proxy::outputs::sinks::{self, QueueHandle, QueueLimits, Report, Sink};
use exporter_proxy::telemetry::SinkStats;
use exporter_proxy::telemetry::sender_log::LogEvent;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

pub use config::Config;

/// Sends lines over one connection, which it opens again if it broke.
struct Lines {
    address: String,
    connection: Option<TcpStream>,
}

/// Starts the sink, and returns the handle that producers push to.
pub fn start(config: Config, context: &Context) -> QueueHandle<String> {
    let sink = Lines {
        address: config.address,
        connection: None,
    };
    let limits = QueueLimits {
        bytes: config.max_queue,
        age: Some(Duration::from_secs(60)),
        batch_items: 100,
        batch_bytes: 64 << 10,
        batch_wait: Duration::ZERO,
    };
    let drain = Duration::from_secs(1);
    let stats = Arc::new(SinkStats::default());
    sinks::start(sink, limits, drain, stats, &context.stop, &context.tasks)
}

impl Sink for Lines {
    type Item = String;

    const LOG_EVENT: LogEvent = LogEvent::OperationTransport;

    fn size(item: &String) -> usize {
        size_of::<String>() + item.len()
    }

    fn name(&self) -> String {
        format!("lines to {}", self.address)
    }

    async fn send(&mut self, batch: &[String]) -> Report {
        match self.write(batch).await {
            Ok(()) => Report::taken(batch.len()),
            Err(problem) => {
                self.connection = None;
                Report::failed(0, problem.to_string())
            }
        }
    }
}

impl Lines {
    async fn write(&mut self, batch: &[String]) -> io::Result<()> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(TcpStream::connect(&self.address).await?),
        };
        let mut text = batch.join("\n");
        text.push('\n');
        connection.write_all(text.as_bytes()).await
    }
}
