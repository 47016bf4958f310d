//! What was wrong with a message.

use std::fmt;

use crate::reason::Reason;
use crate::telemetry::clip;

/// A message that was refused: why, where, and in words for its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub reason: Reason,
    /// Line and column in the document, from 1, where the format has lines.
    pub position: Option<(usize, usize)>,
    pub message: String,
}

impl Failure {
    pub fn new(reason: Reason, message: impl AsRef<str>) -> Self {
        Failure {
            reason,
            position: None,
            message: clip(message.as_ref()),
        }
    }

    #[must_use]
    pub fn at(mut self, line: usize, column: usize) -> Self {
        self.position = Some((line, column));
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.position {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.message)
    }
}
