//! The error of admission.

use crate::coding::CodingError;
use crate::json;
use crate::reason::Reason;
use crate::store::{self, BatchRejection};
use crate::telemetry::clip;

/// A rejected message, which changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// The word for the log and the metrics.
    pub reason: Reason,
    /// What is wrong, for the sender.
    pub message: String,
    /// The line of the body, from 1, if the error has a position.
    pub line: Option<usize>,
    /// The column of the line, from 1.
    pub column: Option<usize>,
    /// Whether the group records the rejection. As in Pushgateway, a body that
    /// can be read but not be stored is recorded.
    pub is_recorded: bool,
}

impl Rejection {
    /// A rejection without a position. A long message is shortened.
    pub fn new(reason: Reason, message: &str) -> Self {
        Rejection {
            reason,
            message: clip(message),
            line: None,
            column: None,
            is_recorded: false,
        }
    }

    /// A body that is not the `expected` JSON.
    pub fn invalid_json(expected: &str, error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let cause = json::cause(error);
        let message = format!("the body, line {line}, column {column}: {expected}: {cause}");
        Rejection::new(Reason::Malformed, &message).at(line, Some(column))
    }

    /// Marks the rejection to be recorded with its group.
    #[must_use]
    pub fn recorded(mut self) -> Self {
        self.is_recorded = true;
        self
    }

    /// Adds the position; both numbers count from 1.
    #[must_use]
    pub fn at(mut self, line: usize, column: Option<usize>) -> Self {
        self.line = Some(line);
        self.column = column;
        self
    }

    /// Puts `context` and a colon before the message.
    #[must_use]
    pub fn within(mut self, context: &str) -> Self {
        self.message = clip(&format!("{context}: {}", self.message));
        self
    }
}

impl From<store::Rejection> for Rejection {
    fn from(rejection: store::Rejection) -> Self {
        Rejection {
            line: rejection.line(),
            is_recorded: matches!(
                rejection,
                store::Rejection::KindConflict { .. }
                    | store::Rejection::NameCollision { .. }
                    | store::Rejection::DuplicateSeries { .. }
            ),
            ..Rejection::new(Reason::from(&rejection), &rejection.to_string())
        }
    }
}

impl From<BatchRejection> for Rejection {
    fn from(rejection: BatchRejection) -> Self {
        Rejection::new(Reason::from(&rejection), &rejection.to_string())
    }
}

impl From<CodingError> for Rejection {
    fn from(error: CodingError) -> Self {
        Rejection::new(Reason::from(&error), &error.to_string())
    }
}
