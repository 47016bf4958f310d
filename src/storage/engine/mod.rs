//! Engines, which keep records: the contract, and the engine for a local directory.

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

/// What an engine holds after it recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovered {
    /// The records written before.
    Records,
    /// No records: they were removed.
    Nothing,
}

/// Keeps records beyond this process. All methods can wait for a disk.
pub trait Engine: fmt::Debug + Send {
    /// Writes all records or none of them, in order, and hands them to the operating
    /// system: from then on they survive the end of this process.
    ///
    /// # Errors
    ///
    /// They cannot be written. It is unknown whether they survive a restart. Later writes
    /// fail too, until [`Engine::recover`] succeeds.
    fn write(&mut self, records: &[Record]) -> Result<(), WriteError>;

    /// Returns a task, to run on any thread. Once it has ended, all writes so far are on
    /// the disk, and survive a loss of power. Writes may continue meanwhile. Only one such
    /// task may exist at a time.
    ///
    /// # Errors
    ///
    /// As for [`Engine::write`], here and from the task.
    fn begin_sync(&mut self) -> Result<SyncTask, WriteError>;

    /// Waits until all writes so far are on the disk.
    ///
    /// # Errors
    ///
    /// As for [`Engine::write`].
    fn sync(&mut self) -> Result<(), WriteError> {
        self.begin_sync()?()
    }

    /// Prepares for further writes after a failure.
    ///
    /// # Errors
    ///
    /// The cause of the failure persists.
    fn recover(&mut self) -> Result<Recovered, WriteError>;

    /// Visits the written records whose keys begin with `prefix`, in the order of their keys.
    ///
    /// # Errors
    ///
    /// A record cannot be read, or the error of `visit`.
    fn each(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), ReadError>;

    /// Its size on the disk, in bytes.
    fn size(&self) -> u64;
}
