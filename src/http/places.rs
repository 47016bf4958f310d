//! How much long work is done at once. What waits for a place waits in order.

use std::sync::Arc;

use crate::net::{Budget, Turns};
use crate::telemetry::Level;

/// Places for the long work of all HTTP listeners. Each kind has its own, so
/// that none keeps another waiting.
#[derive(Debug)]
pub struct Places {
    /// Steps of lists, and what else is looked for in all that is held.
    pub lists: Turns,
    /// Forms of `/metrics` that are made for one reader, each a copy.
    pub scrapes: Turns,
    /// Memory for parts of `/metrics` that wait to be sent, each a copy: readers
    /// that do not read hold no more than [`MOST_COPIES`] together.
    pub copies: Arc<Budget>,
    /// Bodies of pushes past [`READ_AT_ONCE`], and decompression. A body takes
    /// its own size in memory again a few times over, ...
    pub bodies: Turns,
    /// ... so there are fewer for the largest, which take seconds, too: others
    /// do not wait for them.
    pub large_bodies: Turns,
    /// Bodies of values, which may take seconds, and hundreds of megabytes.
    pub values: Turns,
    /// Bodies of webhooks: JSON of few bytes may be much in memory.
    pub webhooks: Turns,
}

/// Bytes of parts of `/metrics` that wait to be sent, of all readers together.
pub const MOST_COPIES: usize = 256 << 20;

/// Text up to this size is read where it comes in. Reading more would hold up
/// the other connections of the thread.
pub const READ_AT_ONCE: usize = 128 << 10;

/// Text past this size is among the largest.
const LARGE: usize = 8 << 20;

impl Places {
    /// Where a body of so many bytes of text is read; `None` where it came in.
    pub fn for_text(&self, bytes: usize) -> Option<&Turns> {
        if bytes <= READ_AT_ONCE {
            None
        } else if bytes <= LARGE {
            Some(&self.bodies)
        } else {
            Some(&self.large_bodies)
        }
    }
}

impl Places {
    /// What copies take is shown by `copied`.
    pub fn new(copied: &Arc<Level>) -> Self {
        Places {
            lists: Turns::new(2),
            scrapes: Turns::new(4),
            copies: Arc::new(Budget::new(MOST_COPIES, Arc::clone(copied))),
            bodies: Turns::new(4),
            large_bodies: Turns::new(2),
            values: Turns::new(1),
            webhooks: Turns::new(1),
        }
    }
}
