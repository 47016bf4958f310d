//! What may be held at once, to be shown beside what is.

/// The configured bounds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    pub apps: usize,
    pub groups: usize,
    pub aggregated_families: usize,
    pub aggregated_series: usize,
    /// Bytes of memory for everything that is exposed.
    pub held: usize,
    /// Bytes of unfinished messages.
    pub received: usize,
    /// Bytes of HTTP bodies being received.
    pub pushed: usize,
    /// Bytes of parts of `/metrics` that wait to be sent.
    pub copied: usize,
    /// Bytes of operations that wait to be sent on.
    pub forwarded: usize,
    /// Idempotency keys.
    pub keys: usize,
    /// Webhooks that are kept, and their bytes.
    pub webhooks: usize,
    pub webhook_bytes: usize,
}
