//! Configuration errors: all of them at once, each with its place.

use std::fmt;

use super::document::Place;

/// One fault, where it is, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub place: Place,
    pub message: String,
}

impl Diagnostic {
    pub fn new(place: Place, message: impl Into<String>) -> Self {
        Diagnostic {
            place,
            message: message.into(),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Why there is no configuration to run with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{file}: cannot read the configuration: {problem}")]
    Unreadable {
        file: String,
        problem: std::io::Error,
    },
    #[error("{}", lines(errors, warnings))]
    Faults {
        errors: Vec<Diagnostic>,
        warnings: Vec<Warning>,
    },
}

/// What was noticed that does not stop the program.
pub type Warning = String;

/// Each fault on a line of its own, then each warning.
fn lines(errors: &[Diagnostic], warnings: &[Warning]) -> String {
    let errors = errors.iter().map(Diagnostic::to_string);
    let warnings = warnings.iter().map(|warning| format!("warning: {warning}"));
    errors.chain(warnings).collect::<Vec<_>>().join("\n")
}
