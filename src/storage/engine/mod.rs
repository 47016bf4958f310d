//! Where records are kept: the contract of an engine, and the one for a local directory.

mod directory;
mod journal_file;
mod local;
mod original;
mod packed;

use std::fmt;

pub use local::{IMPORTING, LocalEngine};

use super::error::{ReadError, WriteError};
use crate::record::Record;

/// Called with the key and the value of each record.
pub type Visit<'v> = &'v mut dyn FnMut(Vec<u8>, Vec<u8>) -> Result<(), ReadError>;

/// Waits until what was written before is on the disk.
pub type SyncTask = Box<dyn FnOnce() -> Result<(), WriteError> + Send>;

/// What an engine has after it recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovered {
    /// The records that were written before.
    Records,
    /// None: what had them was removed.
    Nothing,
}

/// Keeps records beyond this process. All methods can wait for a disk.
pub trait Engine: fmt::Debug + Send {
    /// Writes all records or none of them, in order, and hands them to the operating
    /// system: from then on they survive the end of this process.
    ///
    /// # Errors
    ///
    /// They cannot be written. Whether they are there after a restart is not known.
    /// Later writes fail too, until [`Engine::recover`] succeeds.
    fn write(&mut self, records: &[Record]) -> Result<(), WriteError>;

    /// What has to run, on any thread, until everything written so far is on the disk:
    /// from then on it survives a loss of power. Writes go on meanwhile. One such task may
    /// exist at a time.
    ///
    /// # Errors
    ///
    /// As for [`Engine::write`]; those of the task, too.
    fn begin_sync(&mut self) -> Result<SyncTask, WriteError>;

    /// Waits until everything written is on the disk.
    ///
    /// # Errors
    ///
    /// As for [`Engine::write`].
    fn sync(&mut self) -> Result<(), WriteError> {
        self.begin_sync()?()
    }

    /// Prepares for writing again after a failure.
    ///
    /// # Errors
    ///
    /// It is not possible yet.
    fn recover(&mut self) -> Result<Recovered, WriteError>;

    /// Visits the records whose keys begin with `prefix`, in the order of their keys.
    ///
    /// # Errors
    ///
    /// A record cannot be read, or the error of `visit`.
    fn each(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), ReadError>;

    /// The bytes that it takes on the disk.
    fn size(&self) -> u64;
}
