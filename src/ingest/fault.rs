//! Why a push is refused.

use super::group::PathError;
use crate::coding::CodingError;
use crate::reason::Reason;
use crate::store::Rejection;
use crate::telemetry::clip;

/// Why a push changed nothing, for its sender, the log and the counters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    pub reason: Reason,
    pub message: String,
    /// Where in the body, both from 1, as far as there is such a place.
    pub line: Option<usize>,
    pub column: Option<usize>,
    /// Whether it is noted with the group, as Pushgateway does with what it
    /// could read and would not take.
    pub noted: bool,
}

impl Fault {
    pub fn new(reason: Reason, message: &str) -> Self {
        Fault {
            reason,
            message: clip(message),
            line: None,
            column: None,
            noted: false,
        }
    }

    /// A body that is not the JSON that was expected.
    pub fn of_json(expected: &str, problem: &serde_json::Error) -> Self {
        let (line, column) = (problem.line(), problem.column());
        let told = problem.to_string();
        // serde_json ends its message with the place.
        let told = told
            .rsplit_once(" at line ")
            .map_or(&*told, |(told, _)| told);
        let message = format!("the body, line {line}, column {column}: {expected}: {told}");
        Fault::new(Reason::Malformed, &message).at(line, Some(column))
    }

    /// The same, to be noted with the group.
    #[must_use]
    pub fn noted(mut self) -> Self {
        self.noted = true;
        self
    }

    #[must_use]
    pub fn at(mut self, line: usize, column: Option<usize>) -> Self {
        self.line = Some(line);
        self.column = column;
        self
    }
}

impl From<Rejection> for Fault {
    fn from(refused: Rejection) -> Self {
        let mut fault = Fault::new(Reason::from(&refused), &refused.to_string());
        fault.line = refused.line();
        fault.noted = matches!(
            refused,
            Rejection::KindConflict { .. }
                | Rejection::NameCollision { .. }
                | Rejection::DuplicateSeries { .. }
        );
        fault
    }
}

impl From<CodingError> for Fault {
    fn from(problem: CodingError) -> Self {
        Fault::new(Reason::from(&problem), &problem.to_string())
    }
}

impl From<PathError> for Fault {
    fn from(problem: PathError) -> Self {
        Fault::new(Reason::BadLabels, &problem.to_string())
    }
}
