//! Counts of a sink: what it delivered, what it dropped and why, what waits.

use super::{ResultCounts, UsageGauge};
use crate::reason::Reason;

/// Counts of one sink. Its queue and its task update them.
#[derive(Debug, Default)]
pub struct SinkStats {
    /// Items by result: `ok` once delivered, or the reason they were dropped.
    pub items: ResultCounts,
    /// Bytes of the items that wait, including those being sent.
    pub queued: UsageGauge,
}

/// Why a sink gave an item up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// The queue had no room.
    Full,
    /// The item waited for longer than the queue's age limit.
    Expired,
    /// The other system rejects the item, or no request can carry it.
    Refused(Reason),
    /// The program stopped before the item was sent.
    Shutdown,
}

impl DropReason {
    /// The word for logs and for the `result` label.
    pub fn reason(self) -> Reason {
        match self {
            DropReason::Full => Reason::NoBuffer,
            DropReason::Expired => Reason::Timeout,
            DropReason::Refused(reason) => reason,
            DropReason::Shutdown => Reason::Closed,
        }
    }
}

impl SinkStats {
    /// Counts items that the other system took.
    pub fn count_sent(&self, items: usize) {
        self.items.count(Ok(()), items as u64);
    }

    /// Counts items that were given up.
    pub fn count_dropped(&self, reason: DropReason, items: usize) {
        self.items.count(Err(reason.reason()), items as u64);
    }

    /// Items that were given up for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.items.failed(reason.reason())
    }
}
