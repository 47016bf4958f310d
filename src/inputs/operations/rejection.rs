//! The error of this layer: why an operation is rejected.

use crate::reason::Reason;
use crate::telemetry::clip;

/// A rejected operation. The message goes to the sender and, without quotes of what was
/// sent, to the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// The word for metrics and the log.
    pub reason: Reason,
    /// A sentence for the sender, of bounded length.
    pub message: String,
}

impl Rejection {
    /// Creates a rejection. A message that is too long is cut.
    pub fn new(reason: Reason, message: impl AsRef<str>) -> Self {
        Rejection {
            reason,
            message: clip(message.as_ref()),
        }
    }
}
