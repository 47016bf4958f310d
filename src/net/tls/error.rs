//! Errors in TLS settings and their files.

use std::io;
use std::path::PathBuf;

/// Why a server cannot be built from its settings.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The settings contradict each other.
    #[error("the table {0}")]
    Settings(String),
    /// A file cannot be read.
    #[error("{key} {} cannot be read: {problem}", path.display())]
    Unreadable {
        /// The key of the setting.
        key: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        problem: io::Error,
    },
    /// A file has the wrong content.
    #[error("{place} {problem}")]
    Content {
        /// The key of the setting, and the path of the file.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// The certificate, key and other settings do not match.
    #[error("{0}")]
    Unusable(String),
}
