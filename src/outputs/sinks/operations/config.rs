//! The settings of the type `operations`.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::outputs::sinks::QueueConfig;
use crate::settings::Destination;
use crate::settings::destination::required_destination;
use crate::settings::reader::Table;

/// Operations in one batch. Each datagram needs a system call.
const BATCH_ITEMS: usize = 4096;

/// Bytes in one batch: the size of one write to the connection.
const BATCH_BYTES: usize = 256 * 1024;

/// The default of `max_queue`.
const MAX_QUEUE: usize = 16 << 20;

/// The settings of a sink for operations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// The destination of operations.
    #[serde(rename = "url", serialize_with = "write_destination")]
    pub destination: Destination,
}

/// Reads the table of a sink.
pub fn read(mut table: Table<'_>) -> Option<(Settings, QueueConfig)> {
    let destination = table.take_required("url", required_destination);
    let queue = QueueConfig::take(&mut table, queue(MAX_QUEUE));
    table.finish();
    Some((
        Settings {
            destination: destination?,
        },
        queue,
    ))
}

/// The queue of `operations.forward_to`, with a limit in bytes.
pub fn queue(max_queue: usize) -> QueueConfig {
    QueueConfig {
        max_queue,
        max_age: Duration::ZERO,
        batch_items: BATCH_ITEMS,
        batch_bytes: BATCH_BYTES,
        batch_wait: Duration::ZERO,
    }
}

fn write_destination<S: Serializer>(destination: &Destination, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(destination)
}
