//! What was wrong with an operation.

use std::fmt;

use crate::reason::Reason;
use crate::telemetry::clip;

/// An operation that was refused: why, and in words for its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub reason: Reason,
    pub message: String,
}

impl Fault {
    pub fn new(reason: Reason, message: impl AsRef<str>) -> Self {
        Fault {
            reason,
            message: clip(message.as_ref()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
