//! Concurrency limits for long work, shared by all HTTP listeners.

use std::sync::Arc;

use crate::net::{BlockingPool, MemoryBudget};
use crate::telemetry::UsageGauge;

/// One pool for each kind of long work, so that no kind delays another. Work that
/// finds its pool full waits in order of arrival.
#[derive(Debug)]
pub struct WorkPools {
    /// Chunks of lists, and searches through everything in the store.
    pub lists: BlockingPool,
    /// Copies of `/metrics` made for one client: selections, families and protobuf.
    pub scrapes: BlockingPool,
    /// Memory for copies of `/metrics` that wait to be sent. All clients together hold at
    /// most [`MAX_COPIES`], even if they do not read.
    pub copies: Arc<MemoryBudget>,
    /// Pushed bodies larger than [`MAX_INLINE_TEXT`], and decompression. Each takes
    /// several times its size in memory.
    pub bodies: BlockingPool,
    /// Pushed bodies larger than [`LARGE_TEXT`]. They take seconds, and other bodies must
    /// not wait for them.
    pub large_bodies: BlockingPool,
    /// Bodies of `/create` and `/update`, which can take seconds and hundreds of megabytes.
    pub values: BlockingPool,
    /// Bodies of webhooks. Parsed JSON can take far more memory than its text.
    pub webhooks: BlockingPool,
}

/// The limit on copies of `/metrics` that wait to be sent, in bytes.
pub const MAX_COPIES: usize = 256 << 20;

/// Text up to this size, in bytes, is parsed on the serving thread. Larger text would
/// delay the other connections of the thread.
pub const MAX_INLINE_TEXT: usize = 128 << 10;

/// Text larger than this, in bytes, goes to [`WorkPools::large_bodies`].
const LARGE_TEXT: usize = 8 << 20;

impl WorkPools {
    /// Creates the pools. `copied` shows the memory that copies use.
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

    /// The pool for parsing a body of `bytes` bytes of text; `None` for the serving thread.
    pub fn for_text(&self, bytes: usize) -> Option<&BlockingPool> {
        if bytes <= MAX_INLINE_TEXT {
            None
        } else if bytes <= LARGE_TEXT {
            Some(&self.bodies)
        } else {
            Some(&self.large_bodies)
        }
    }
}
