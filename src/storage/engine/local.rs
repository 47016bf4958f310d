//! The engine for a local directory: a log-structured tree (`fjall`).
//!
//! A write is appended to a journal and applied to a table in memory. The journal survives
//! a crash; a torn end, left by an interrupted write, is cut off at the next start.
//!
//! The engine cannot tell a torn end from damage: it drops everything after the first entry
//! that it cannot read. So each sync stores the number of writes before it, in a record and
//! beside the engine's files. If the record has the smaller number, synced writes are missing,
//! and the start is refused.
//!
//! The engine's own threads run at a lower priority than those that answer requests.

use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::thread;

use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions,
    OwnedWriteBatch, PersistMode,
};
use rustix::process::setpriority_process;
use xxhash_rust::xxh3::xxh3_128;

use super::directory::{Directory, Presence, note_synced};
use super::journal_file::open_newest;
use super::original::Original;
use super::packed::{pack, unpack};
use super::{Engine, Recovered, SyncTask, Visit};
use crate::record::Record;
use crate::storage::error::{DiskProblem, OpenError, ReadError, WriteError};

/// The name of the one tree.
const RECORDS: &str = "records";

/// The key of a record that is written when the tree is created. If it is missing, the
/// engine has lost its records.
const CREATED: &str = "meta/created";

/// The key of the number of writes before the last sync.
const WRITES: &str = "meta/writes";

/// The key of a record that exists while an import writes others.
pub const IMPORTING: &str = "meta/importing";

/// Memory for cached blocks. Records are read only at the start.
const CACHE: u64 = 4 << 20;

/// Changes are collected in memory up to this size before they become a file.
const MEMTABLE: u64 = 16 << 20;

/// The limit on all journals together: the lowest that the engine allows.
const JOURNALS: u64 = 64 << 20;

/// Values from this size on are kept in files of their own, which are not merged again and
/// again. Texts of apps and groups are often rewritten, and always whole.
const LARGE_VALUE: u32 = 1 << 10;

/// A file of large values is rewritten once this share of it is garbage. With the default
/// of a third, the disk would hold a third more.
const GARBAGE: f32 = 0.25;

/// The limit on memory for packing that is kept between writes.
const LARGEST_SCRATCH: usize = 256 << 10;

/// The priority of the engine's threads, from -20 (first) to 19 (last). They write and
/// merge files in the background, which must not delay requests.
const BACKGROUND_PRIORITY: i32 = 10;

/// Longer keys are cut, and a hash replaces the rest: the engine allows 65535 bytes, and
/// groups with many labels exceed that. Only cut keys have [`CUT_KEY`] bytes.
const LONGEST_KEY: usize = 1000;
const CUT_KEY: usize = LONGEST_KEY + size_of::<u128>();

/// Records in a directory that only this process uses.
pub struct LocalEngine {
    directory: Directory,
    /// `None` after a failure, until it is reopened.
    open: Option<(Database, Keyspace)>,
    /// The number of the last write.
    writes: u64,
    /// Kept until the first write.
    original: Option<Original>,
    /// A buffer for packing values.
    scratch: Vec<u8>,
}

impl fmt::Debug for LocalEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalEngine({})", self.directory.path().display())
    }
}

impl LocalEngine {
    /// Opens a directory, and creates it if it does not exist.
    ///
    /// # Errors
    ///
    /// It belongs to another program or process, or cannot be read or written. Nothing has
    /// been changed then, except that a torn end of the journal is cut off.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_in(Directory::open(path)?)
    }

    /// Like [`LocalEngine::open`], for a directory that must exist.
    ///
    /// # Errors
    ///
    /// As for [`LocalEngine::open`]; or the directory does not exist or is empty.
    pub fn open_existing(path: &Path) -> Result<Self, OpenError> {
        Self::open_in(Directory::open_existing(path)?)
    }

    fn open_in(directory: Directory) -> Result<Self, OpenError> {
        let path = directory.path().to_owned();
        let failed = |problem| cannot_open(&path, problem);
        Original::settle(&directory).map_err(|problem| failed(problem.into()))?;
        directory.create_data(create).map_err(failed)?;
        if let Some(missing) = missing(&directory.data()) {
            return Err(damaged(&path, format!("data/{missing} is missing")));
        }
        let mut engine = LocalEngine {
            original: Original::keep(&directory),
            directory,
            open: None,
            writes: 0,
            scratch: Vec::new(),
        };
        // The engine panics on some files that it cannot read.
        let data = engine.directory.data();
        let Ok(opened) = panic::catch_unwind(AssertUnwindSafe(|| tree(&data))) else {
            let problem = "the engine stopped while it read the files".to_owned();
            return Err(damaged(&path, problem));
        };
        let (_, tree) = engine.open.insert(opened.map_err(failed)?);
        if !tree.contains_key(CREATED).map_err(failed)? {
            return Err(damaged(&path, "records are missing".to_owned()));
        }
        if tree.contains_key(IMPORTING).map_err(failed)? {
            let problem = "an import into it was not completed; remove it and import again";
            return Err(damaged(&path, problem.to_owned()));
        }
        if let Some(number) = tree.get(WRITES).map_err(failed)? {
            let number = number.as_ref().try_into().map(u64::from_be_bytes);
            engine.writes = number
                .map_err(|_| damaged(&path, format!("the record {WRITES:?} cannot be read")))?;
        }
        let synced = engine.directory.synced();
        if engine.writes < synced {
            let lost = synced - engine.writes;
            let problem = format!("the last {lost} writes of {synced} are missing");
            return Err(damaged(&path, problem));
        }
        Ok(engine)
    }

    fn opened(&self) -> Result<&(Database, Keyspace), WriteError> {
        self.open
            .as_ref()
            .ok_or_else(|| failed("storage is not open"))
    }

    fn presence(&self) -> Result<Presence, WriteError> {
        self.directory.presence().map_err(|it| system_error(&it))
    }

    /// Creates what was removed: the directory, or the engine's files in it.
    fn create_missing(&mut self) -> Result<(), WriteError> {
        match self.presence()? {
            Presence::There => {}
            Presence::Removed => {
                self.original = None;
                let problem = |problem: OpenError| match &problem {
                    OpenError::Unusable { problem, .. } => system_error(problem),
                    other => failed(&other.to_string()),
                };
                self.directory = Directory::open(self.directory.path()).map_err(problem)?;
            }
            Presence::Replaced => {
                return Err(failed(
                    "another directory took the place of the one in use; restart to use it",
                ));
            }
        }
        let created = self.directory.create_data(create);
        created.map_err(|problem| write_error(&problem))
    }
}

impl Engine for LocalEngine {
    fn write(&mut self, records: &[Record]) -> Result<(), WriteError> {
        if let Some(original) = self.original.take() {
            original.discard();
        }
        self.writes += 1;
        // Reused by the next write, unless this one is large.
        let mut scratch = std::mem::take(&mut self.scratch);
        let (database, tree) = self.opened()?;
        let mut batch = batch(database, records.len());
        for Record { key, value } in records {
            match value {
                Some(value) if key.len() <= LONGEST_KEY => {
                    batch.insert(tree, key.as_slice(), pack(value, &mut scratch));
                }
                Some(value) => {
                    let value = with_key(key, value);
                    batch.insert(tree, cut(key), pack(&value, &mut scratch));
                }
                None if key.len() <= LONGEST_KEY => batch.remove(tree, key.as_slice()),
                None => batch.remove(tree, cut(key)),
            }
        }
        if scratch.len() <= LARGEST_SCRATCH {
            self.scratch = scratch;
        }
        batch.commit().map_err(|problem| write_error(&problem))
    }

    fn begin_sync(&mut self) -> Result<SyncTask, WriteError> {
        let (database, tree) = self.opened()?;
        if self.presence()? != Presence::There {
            return Err(failed("the directory was removed or replaced"));
        }
        let mut batch = batch(database, 1);
        batch.insert(tree, WRITES, self.writes.to_be_bytes());
        batch.commit().map_err(|problem| write_error(&problem))?;
        // A sync through the engine would hold its journal's lock for as long as the disk takes.
        let journal = open_newest(&self.directory.data()).map_err(|it| system_error(&it))?;
        let synced = self.directory.synced_file();
        let writes = self.writes;
        Ok(Box::new(move || {
            journal.sync_data().map_err(|it| system_error(&it))?;
            note_synced(synced.as_deref(), writes);
            Ok(())
        }))
    }

    fn recover(&mut self) -> Result<Recovered, WriteError> {
        // After a failed write, the engine rejects all others until it is reopened.
        self.open = None;
        self.create_missing()?;
        let data = self.directory.data();
        let opened = panic::catch_unwind(AssertUnwindSafe(|| tree(&data)));
        let Ok(opened) = opened else {
            return Err(failed("the engine stopped while it read its files"));
        };
        let opened = opened.map_err(|problem| write_error(&problem))?;
        let (_, tree) = self.open.insert(opened);
        // A new tree has one record, that it was created.
        match tree.iter().nth(1) {
            Some(_) => Ok(Recovered::Records),
            None => Ok(Recovered::Nothing),
        }
    }

    fn each(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), ReadError> {
        let failed = |problem: &fjall::Error| ReadError::Damaged(describe(problem));
        let (_, tree) = self
            .opened()
            .map_err(|problem| ReadError::Damaged(problem.message))?;
        for record in tree.prefix(prefix) {
            let (key, stored) = record.into_inner().map_err(|problem| failed(&problem))?;
            if [CREATED, WRITES].iter().any(|own| *key == *own.as_bytes()) {
                continue;
            }
            let value = unpack(&stored).ok_or_else(|| ReadError::of_key(&key))?;
            match key.len() == CUT_KEY {
                false => visit(key.to_vec(), value.into_owned())?,
                true => {
                    let (key, value) = split_key(&value).ok_or_else(|| ReadError::of_key(&key))?;
                    visit(key.to_vec(), value.to_vec())?;
                }
            }
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        self.directory.size()
    }
}

/// If nothing was written, restores the files as they were before they were opened.
impl Drop for LocalEngine {
    fn drop(&mut self) {
        let Some(original) = self.original.take() else {
            return;
        };
        self.open = None;
        if let Err(problem) = original.restore(&self.directory) {
            let path = self.directory.path().display();
            log::error!("{path}: the files cannot be put back as they were: {problem}");
        }
    }
}

/// Creates the tree, with the record that marks it as created.
fn create(directory: &Path) -> Result<(), fjall::Error> {
    let (database, tree) = tree(directory)?;
    tree.insert(CREATED, [])?;
    database.persist(PersistMode::SyncAll)
}

/// Returns a missing file of the engine. Without it, the engine would start empty.
fn missing(directory: &Path) -> Option<&'static str> {
    const ALWAYS_THERE: [&str; 3] = ["version", "keyspaces/0", "keyspaces/1"];
    let is_missing = |name: &&str| !directory.join(name).exists();
    ALWAYS_THERE.into_iter().find(is_missing)
}

/// Opens or creates the tree in a directory.
fn tree(directory: &Path) -> Result<(Database, Keyspace), fjall::Error> {
    // Values are packed already.
    let database = Database::builder(directory)
        .cache_size(CACHE)
        .worker_threads(1)
        .max_journaling_size(JOURNALS)
        .journal_compression(CompressionType::None);
    let database = in_background(move || database.open())?;
    let large = KvSeparationOptions::default()
        .separation_threshold(LARGE_VALUE)
        .compression(CompressionType::None)
        .staleness_threshold(GARBAGE);
    let tree = database.keyspace(RECORDS, || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(MEMTABLE)
            .with_kv_separation(Some(large))
    })?;
    Ok((database, tree))
}

/// An empty batch for some records, which are handed to the operating system with it.
fn batch(database: &Database, records: usize) -> OwnedWriteBatch {
    let batch = OwnedWriteBatch::with_capacity(database.clone(), records);
    batch.durability(Some(PersistMode::Buffer))
}

/// Runs `open` on a thread with a low priority, which the engine's threads inherit.
fn in_background<T: Send>(open: impl FnOnce() -> T + Send) -> T {
    let run = || {
        // A thread may always lower its own priority. If it fails, requests wait a little longer.
        let _ = setpriority_process(None, BACKGROUND_PRIORITY);
        open()
    };
    let opened = thread::scope(|scope| scope.spawn(run).join());
    opened.unwrap_or_else(|panic| panic::resume_unwind(panic))
}

/// The stored form of a long key: its beginning and a hash.
fn cut(key: &[u8]) -> Vec<u8> {
    let mut cut = key[..LONGEST_KEY].to_vec();
    cut.extend_from_slice(&xxh3_128(key).to_be_bytes());
    cut
}

/// The stored value for a long key: length of the key, key, value.
fn with_key(key: &[u8], value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let mut whole = Vec::with_capacity(size_of::<u32>() + key.len() + value.len());
    whole.extend_from_slice(&length.to_be_bytes());
    whole.extend_from_slice(key);
    whole.extend_from_slice(value);
    whole
}

fn split_key(whole: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = whole.split_first_chunk()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

fn damaged(directory: &Path, problem: String) -> OpenError {
    OpenError::Damaged {
        directory: directory.to_owned(),
        problem,
    }
}

fn cannot_open(directory: &Path, problem: fjall::Error) -> OpenError {
    match problem {
        fjall::Error::Io(problem) if is_of_the_system(&problem) => OpenError::Unusable {
            directory: directory.to_owned(),
            problem,
        },
        other => damaged(directory, describe(&other)),
    }
}

/// Whether an error concerns the system, and not the content of files.
fn is_of_the_system(problem: &io::Error) -> bool {
    problem.raw_os_error().is_some() && problem.kind() != io::ErrorKind::NotFound
}

fn failed(message: &str) -> WriteError {
    WriteError {
        reason: DiskProblem::Failed,
        message: message.to_owned(),
    }
}

fn system_error(problem: &io::Error) -> WriteError {
    WriteError {
        reason: DiskProblem::of(problem),
        message: problem.to_string(),
    }
}

fn write_error(problem: &fjall::Error) -> WriteError {
    let system = match problem {
        fjall::Error::Io(problem) => Some(problem),
        fjall::Error::Storage(fjall::LsmError::Io(problem)) => Some(problem),
        _ => None,
    };
    WriteError {
        reason: system.map_or(DiskProblem::Failed, DiskProblem::of),
        message: describe(problem),
    }
}

/// Describes an error of the engine's tables.
fn describe_tree(problem: &fjall::LsmError) -> String {
    match problem {
        fjall::LsmError::Io(problem) => problem.to_string(),
        fjall::LsmError::ChecksumMismatch { .. } => {
            "a checksum does not match: the content of a file has changed".to_owned()
        }
        fjall::LsmError::Unrecoverable => "files are missing".to_owned(),
        fjall::LsmError::InvalidVersion(_) => "its files are in an unknown format".to_owned(),
        other => format!("a file is damaged: {other:?}"),
    }
}

/// Describes an error of the engine, whose `Display` shows Rust values.
fn describe(problem: &fjall::Error) -> String {
    match problem {
        fjall::Error::Io(problem) => problem.to_string(),
        fjall::Error::Storage(problem) => describe_tree(problem),
        fjall::Error::JournalRecovery(problem) => format!("the journal: {problem}"),
        fjall::Error::InvalidVersion(_) => "its files are in an unknown format".to_owned(),
        fjall::Error::Poisoned => "an earlier write failed".to_owned(),
        fjall::Error::Locked => "its files are locked".to_owned(),
        other => format!("{other:?}"),
    }
}
