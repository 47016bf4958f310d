//! Blocks on their way from the registry to the output.

use std::sync::Arc;

use crate::registry::BlockId;

/// Blocks that were taken from the registry and may not be in the output yet. It is
/// empty between two snapshots, unless one panicked half-way.
#[derive(Debug, Default)]
pub struct PendingBlocks {
    /// Blocks to render.
    pub taken: Vec<BlockId>,
    /// Removed blocks: their families' names and numbers.
    pub gone: Vec<(Arc<str>, u32)>,
}
