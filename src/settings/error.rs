//! Configuration errors. All are reported at once, each with its place.

use std::fmt;

use super::document::Place;

/// One error: where it is, what is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where the wrong value or key is written.
    pub place: Place,
    /// What is wrong.
    pub message: String,
}

impl Diagnostic {
    /// An error at `place`.
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

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: cannot read the configuration: {problem}")]
    Unreadable {
        /// The path of the file.
        file: String,
        /// The error of the operating system.
        problem: std::io::Error,
    },
    /// Settings are wrong.
    #[error("{}", lines(errors, warnings))]
    Faults {
        /// All errors, in the order in which they were found.
        errors: Vec<Diagnostic>,
        /// Warnings about other settings.
        warnings: Vec<Warning>,
    },
}

/// A message about a setting that does not prevent the start.
pub type Warning = String;

/// The errors, then the warnings, each on a line of its own.
fn lines(errors: &[Diagnostic], warnings: &[Warning]) -> String {
    let errors = errors.iter().map(Diagnostic::to_string);
    let warnings = warnings.iter().map(|warning| format!("warning: {warning}"));
    errors.chain(warnings).collect::<Vec<_>>().join("\n")
}
