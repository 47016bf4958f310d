//! The settings of a queue, which every sink has.

use std::time::Duration;

use serde::Serialize;

use super::QueueLimits;
use crate::settings::reader::Table;
use crate::settings::value::{duration, integer, size, write_duration, write_size};

/// The settings of a queue and of its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct QueueConfig {
    /// Limit on the bytes of waiting items.
    #[serde(serialize_with = "write_size")]
    pub max_queue: usize,
    /// Items that have waited for longer are dropped; zero for no limit.
    #[serde(serialize_with = "write_duration")]
    pub max_age: Duration,
    /// Limit on the items of one request.
    pub batch_items: usize,
    /// Limit on the bytes of one request's items.
    #[serde(serialize_with = "write_size")]
    pub batch_bytes: usize,
    /// Time for a request to fill up.
    #[serde(serialize_with = "write_duration")]
    pub batch_wait: Duration,
}

impl Default for QueueConfig {
    fn default() -> Self {
        QueueConfig {
            max_queue: 64 << 20,
            max_age: Duration::from_secs(3600),
            batch_items: 5000,
            batch_bytes: 1 << 20,
            batch_wait: Duration::from_secs(1),
        }
    }
}

/// Limit of `batch_items`.
const MAX_BATCH_ITEMS: usize = 1_000_000;

impl QueueConfig {
    /// Takes the settings out of the table of a sink. `defaults` are those of its type.
    pub fn take(table: &mut Table<'_>, defaults: QueueConfig) -> Self {
        let places = ["max_queue", "batch_bytes"].map(|key| table.place(key));
        let queue = QueueConfig {
            max_queue: table.take("max_queue", defaults.max_queue, size),
            max_age: table.take("max_age", defaults.max_age, duration),
            batch_items: table.take(
                "batch_items",
                defaults.batch_items,
                integer(1, MAX_BATCH_ITEMS),
            ),
            batch_bytes: table.take("batch_bytes", defaults.batch_bytes, size),
            batch_wait: table.take("batch_wait", defaults.batch_wait, duration),
        };
        if queue.batch_bytes > queue.max_queue
            && let Some(place) = places.into_iter().flatten().next()
        {
            let name = table.name();
            let problem = format!(
                "`{name}.batch_bytes` ({} bytes) is more than `{name}.max_queue` ({} bytes); \
                 lower one or raise the other",
                queue.batch_bytes, queue.max_queue
            );
            table.fault(place, problem);
        }
        queue
    }

    /// The limits of the queue.
    pub fn limits(&self) -> QueueLimits {
        QueueLimits {
            bytes: self.max_queue,
            age: Some(self.max_age).filter(|age| !age.is_zero()),
            batch_items: self.batch_items,
            batch_bytes: self.batch_bytes,
            batch_wait: self.batch_wait,
        }
    }
}
