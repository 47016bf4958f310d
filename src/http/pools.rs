//! How much long work is done at once. What waits for a place waits in order.

use std::sync::Arc;

use crate::net::{BlockingPool, MemoryBudget};
use crate::telemetry::UsageGauge;

/// WorkPools for the long work of all HTTP listeners. Each kind has its own, so
/// that none keeps another waiting.
#[derive(Debug)]
pub struct WorkPools {
    /// Steps of lists, and what else is looked for in all that is held.
    pub lists: BlockingPool,
    /// Forms of `/metrics` that are made for one reader, each a copy.
    pub scrapes: BlockingPool,
    /// Memory for parts of `/metrics` that wait to be sent, each a copy: readers
    /// that do not read hold no more than [`MAX_COPIES`] together.
    pub copies: Arc<MemoryBudget>,
    /// Bodies of pushes past [`MAX_INLINE_TEXT`], and decompression. A body takes
    /// its own size in memory again a few times over, ...
    pub bodies: BlockingPool,
    /// ... so there are fewer for the largest, which take seconds, too: others
    /// do not wait for them.
    pub large_bodies: BlockingPool,
    /// Bodies of values, which may take seconds, and hundreds of megabytes.
    pub values: BlockingPool,
    /// Bodies of webhooks: JSON of few bytes may be much in memory.
    pub webhooks: BlockingPool,
}

/// Bytes of parts of `/metrics` that wait to be sent, of all readers together.
pub const MAX_COPIES: usize = 256 << 20;

/// Text up to this size is read where it comes in. Reading more would hold up
/// the other connections of the thread.
pub const MAX_INLINE_TEXT: usize = 128 << 10;

/// Text past this size is among the largest.
const LARGE: usize = 8 << 20;

impl WorkPools {
    /// Where a body of so many bytes of text is read; `None` where it came in.
    pub fn for_text(&self, bytes: usize) -> Option<&BlockingPool> {
        if bytes <= MAX_INLINE_TEXT {
            None
        } else if bytes <= LARGE {
            Some(&self.bodies)
        } else {
            Some(&self.large_bodies)
        }
    }
}

impl WorkPools {
    /// What copies take is shown by `copied`.
    pub fn new(copied: &Arc<UsageGauge>) -> Self {
        WorkPools {
            lists: BlockingPool::new(2),
            scrapes: BlockingPool::new(4),
            copies: Arc::new(MemoryBudget::new(MAX_COPIES, Arc::clone(copied))),
            bodies: BlockingPool::new(4),
            large_bodies: BlockingPool::new(2),
            values: BlockingPool::new(1),
            webhooks: BlockingPool::new(1),
        }
    }
}
