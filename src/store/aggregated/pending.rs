//! Blocks that are being brought into the output.

use std::sync::Arc;

use crate::registry::BlockId;

/// What was taken from the registry and may not be in the output yet. Nothing
/// stays in here from one snapshot to the next, unless one ends in the middle.
#[derive(Debug, Default)]
pub struct PendingBlocks {
    pub taken: Vec<BlockId>,
    pub gone: Vec<(Arc<str>, u32)>,
}
