//! Why admission rejects a message.

use super::group::PathError;
use crate::coding::CodingError;
use crate::reason::Reason;
use crate::store;
use crate::telemetry::clip;

/// A rejected message: what its sender, the log and the counters are told. Nothing
/// has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// The word for the log and the counters.
    pub reason: Reason,
    /// What is wrong, for the sender.
    pub message: String,
    /// The line of the body, from 1, if the error has a position.
    pub line: Option<usize>,
    /// The column of the line, from 1.
    pub column: Option<usize>,
    /// Whether the group records the rejection. As with Pushgateway, a body that
    /// can be read but not be stored is recorded.
    pub noted: bool,
}

impl Rejection {
    /// A rejection without a position. The message is shortened if it is long.
    pub fn new(reason: Reason, message: &str) -> Self {
        Rejection {
            reason,
            message: clip(message),
            line: None,
            column: None,
            noted: false,
        }
    }

    /// A body that is not the `expected` JSON.
    pub fn of_json(expected: &str, problem: &serde_json::Error) -> Self {
        let (line, column) = (problem.line(), problem.column());
        let told = problem.to_string();
        // serde_json ends its message with the place.
        let told = told
            .rsplit_once(" at line ")
            .map_or(&*told, |(told, _)| told);
        let message = format!("the body, line {line}, column {column}: {expected}: {told}");
        Rejection::new(Reason::Malformed, &message).at(line, Some(column))
    }

    /// Marks the rejection to be recorded with its group.
    #[must_use]
    pub fn noted(mut self) -> Self {
        self.noted = true;
        self
    }

    /// Adds the position, both numbers from 1.
    #[must_use]
    pub fn at(mut self, line: usize, column: Option<usize>) -> Self {
        self.line = Some(line);
        self.column = column;
        self
    }
}

impl From<store::Rejection> for Rejection {
    fn from(refused: store::Rejection) -> Self {
        let mut fault = Rejection::new(Reason::from(&refused), &refused.to_string());
        fault.line = refused.line();
        fault.noted = matches!(
            refused,
            store::Rejection::KindConflict { .. }
                | store::Rejection::NameCollision { .. }
                | store::Rejection::DuplicateSeries { .. }
        );
        fault
    }
}

impl From<CodingError> for Rejection {
    fn from(problem: CodingError) -> Self {
        Rejection::new(Reason::from(&problem), &problem.to_string())
    }
}

impl From<PathError> for Rejection {
    fn from(problem: PathError) -> Self {
        Rejection::new(Reason::BadLabels, &problem.to_string())
    }
}
