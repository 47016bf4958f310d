//! The configured limits that the own metrics show.

/// The configured limits, for the gauges that stand beside the gauges of use.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConfiguredLimits {
    /// Apps.
    pub apps: usize,
    /// Pushed groups.
    pub groups: usize,
    /// Polled targets.
    pub targets: usize,
    /// Aggregated families.
    pub aggregated_families: usize,
    /// Aggregated series.
    pub aggregated_series: usize,
    /// Bytes of memory for all that is exposed.
    pub held: usize,
    /// Bytes of unfinished messages.
    pub received: usize,
    /// Bytes of HTTP bodies being received.
    pub pushed: usize,
    /// Bytes of partial responses of `/metrics` that wait to be sent.
    pub copied: usize,
    /// Bytes of responses to polls that are being received or processed.
    pub polled: usize,
    /// Polls on request in progress.
    pub requested_polls: usize,
    /// Bytes of operations that wait to be forwarded.
    pub forwarded: usize,
    /// Idempotency keys.
    pub keys: usize,
    /// Kept webhooks.
    pub webhooks: usize,
    /// Bytes of kept webhooks.
    pub webhook_bytes: usize,
}
