//! The error of this layer: why an operation is rejected.

use crate::reason::Reason;
use crate::telemetry::clip;

/// A rejected operation. The same message goes to the sender and, without
/// quotes of what it sent, to the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// The word for metrics and the log.
    pub reason: Reason,
    /// A sentence for the sender, of bounded length.
    pub message: String,
}

impl Rejection {
    /// A rejection whose message is cut if it is too long.
    pub fn new(reason: Reason, message: impl AsRef<str>) -> Self {
        Rejection {
            reason,
            message: clip(message.as_ref()),
        }
    }
}
