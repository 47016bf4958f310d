//! The error of this layer: why a message was not stored.

use std::sync::Arc;

use crate::reason::Reason;
use crate::telemetry::clip;

/// Why a message was not stored. Unlike the rejection of a text at admission, it may also
/// concern the framing of the message or the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", place(.position.as_ref()))]
pub struct MessageError {
    /// The reason, for the log and for metrics.
    pub reason: Reason,
    /// Line and column in the document, from 1, if the format has lines.
    pub position: Option<(usize, usize)>,
    /// The explanation for the sender, cut if it is long.
    pub message: String,
    /// The app whose text was rejected, if the error concerns one.
    pub app: Option<Arc<str>>,
}

impl MessageError {
    /// Creates an error without a position.
    pub fn new(reason: Reason, message: impl AsRef<str>) -> Self {
        MessageError {
            reason,
            position: None,
            message: clip(message.as_ref()),
            app: None,
        }
    }

    /// Adds the app whose text was rejected.
    #[must_use]
    pub fn of_app(mut self, app: &Arc<str>) -> Self {
        self.app = Some(Arc::clone(app));
        self
    }

    /// Adds the line and column, from 1.
    #[must_use]
    pub fn at(mut self, line: usize, column: usize) -> Self {
        self.position = Some((line, column));
        self
    }
}

fn place(position: Option<&(usize, usize)>) -> String {
    position.map_or_else(String::new, |(line, column)| {
        format!("line {line}, column {column}: ")
    })
}
