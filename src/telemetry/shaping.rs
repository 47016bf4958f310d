//! Counters of shaping (`[[shape]]`).

use super::Counter;

/// Effects of shaping on the metrics that arrived.
#[derive(Debug, Default)]
pub struct ShapingStats {
    /// Samples and updates that were dropped.
    pub dropped: Counter,
    /// Samples and updates whose name or labels rules have changed.
    pub changed: Counter,
    /// Lines that rules could not read, in texts that are passed through.
    pub unread: Counter,
    /// Lines that were left out because they cannot be read.
    pub skipped: Counter,
}
