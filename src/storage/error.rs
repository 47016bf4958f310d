//! Why storage cannot be opened, read or written.

use std::io;
use std::path::PathBuf;

/// Why storage cannot be opened. The program then does not start, and has not changed the
/// directory.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory belongs to another program.
    #[error(
        "storage.path {}: the directory is not empty and was not made by exporter-proxy: \
         name a new or an empty directory", .0.display()
    )]
    Foreign(PathBuf),
    /// A newer version wrote it.
    #[error(
        "storage.path {}: a newer exporter-proxy wrote this directory: {problem}. Run the newer \
         version, or name another directory", .directory.display()
    )]
    Newer {
        /// The directory.
        directory: PathBuf,
        /// Its format, and the newest that this program reads.
        problem: String,
    },
    /// Another process has it open.
    #[error(
        "storage.path {}: another process uses the directory: stop it, or name another directory",
        .0.display()
    )]
    Locked(PathBuf),
    /// The directory cannot be created or written.
    #[error("storage.path {}: the directory cannot be used: {problem}", .directory.display())]
    Unusable {
        /// The directory.
        directory: PathBuf,
        /// The error of the operating system.
        problem: io::Error,
    },
    /// The stored state cannot be read.
    #[error(
        "storage.path {}: the stored state is damaged: {problem}. Restore the directory from a \
         backup, or move it away to start with nothing", .directory.display()
    )]
    Damaged {
        /// The directory.
        directory: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl OpenError {
    /// The exit code of the program, from `sysexits.h`.
    pub fn exit_code(&self) -> u8 {
        match self {
            OpenError::Damaged { .. } => 65,  // EX_DATAERR
            OpenError::Foreign(_) => 66,      // EX_NOINPUT
            OpenError::Unusable { .. } => 73, // EX_CANTCREAT
            OpenError::Locked(_) => 75,       // EX_TEMPFAIL
            OpenError::Newer { .. } => 76,    // EX_PROTOCOL
        }
    }
}

/// Why records cannot be written or synced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WriteError {
    /// One word, for metrics.
    pub reason: DiskProblem,
    /// The message of the engine or the operating system.
    pub message: String,
}

/// The kind of a disk failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskProblem {
    /// No space or quota is left, or a file has become too large.
    Full,
    /// The file system is read-only, or the permission was revoked.
    ReadOnly,
    /// Anything else.
    Failed,
}

impl DiskProblem {
    /// All kinds, in the order of their metrics.
    pub const ALL: [DiskProblem; 3] = [
        DiskProblem::Failed,
        DiskProblem::Full,
        DiskProblem::ReadOnly,
    ];

    /// The value of the label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            DiskProblem::Full => "full",
            DiskProblem::ReadOnly => "read_only",
            DiskProblem::Failed => "failed",
        }
    }

    /// Classifies an error of the operating system.
    pub fn of(problem: &io::Error) -> Self {
        use io::ErrorKind;
        match problem.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                DiskProblem::Full
            }
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => DiskProblem::ReadOnly,
            _ => DiskProblem::Failed,
        }
    }
}

/// Why a stored record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A newer program wrote it.
    #[error("{0}")]
    Newer(String),
    /// It is damaged.
    #[error("{0}")]
    Damaged(String),
}

impl ReadError {
    /// The record under `key` is damaged.
    pub fn of_key(key: &[u8]) -> Self {
        let key = String::from_utf8_lossy(key);
        ReadError::Damaged(format!("the record {key:?} cannot be read"))
    }
}
