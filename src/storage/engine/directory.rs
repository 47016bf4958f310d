//! The storage directory: whether it is ours, its format, and its lock.
//!
//! | File | Content |
//! | --- | --- |
//! | `exporter-proxy` | the marker: the program and the version of the format |
//! | `lock` | locked while a process uses the directory |
//! | `synced` | the number of the last write that is synced |
//! | `data/` | the engine's files |
//! | `data.new/` | an engine that is being created; removed at the next start |
//! | `data.before/`, `data.opened/` | see [`Original`](super::original::Original) |

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::storage::error::OpenError;

/// The format of records. Raise it when older programs cannot read them.
const FORMAT: u32 = 1;

/// The name of the marker, and its first line.
const MARKER: &str = "exporter-proxy";

/// The name of the marker while it is being written.
const NEW_MARKER: &str = "exporter-proxy.new";

const LOCK: &str = "lock";
const SYNCED: &str = "synced";
const DATA: &str = "data";
const NEW_DATA: &str = "data.new";

/// Names that may be in an empty directory: those of an interrupted first start, and that
/// of an empty file system.
const NAMES_WHEN_EMPTY: [&str; 3] = [NEW_MARKER, LOCK, "lost+found"];

/// What is found at the path of the directory in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// The directory.
    There,
    /// Nothing, or an empty directory.
    Removed,
    /// Something else.
    Replaced,
}

/// A directory that this process has locked, with a marker that it understands.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Closing it releases the lock.
    lock: File,
    /// `None` until the first sync, and if it cannot be created.
    synced: Option<Arc<File>>,
}

impl Directory {
    /// Creates the directory if it does not exist, checks that it is ours, and locks it.
    /// Nothing in it changes before that.
    ///
    /// # Errors
    ///
    /// It belongs to another program, is in use, or cannot be written.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let created = create(path).map_err(|problem| OpenError::Unusable {
            directory: path.to_owned(),
            problem,
        });
        created.and_then(|()| Self::lock(path, true))
    }

    /// Like [`Directory::open`], for a directory that must exist.
    ///
    /// # Errors
    ///
    /// As for [`Directory::open`]; or the directory does not exist or is empty.
    pub fn open_existing(path: &Path) -> Result<Self, OpenError> {
        Self::lock(path, false)
    }

    fn lock(path: &Path, may_be_empty: bool) -> Result<Self, OpenError> {
        let unusable = |problem| OpenError::Unusable {
            directory: path.to_owned(),
            problem,
        };
        let format = match fs::read_to_string(path.join(MARKER)) {
            Ok(marker) => Some(format_of(&marker).ok_or_else(|| OpenError::Foreign(path.into()))?),
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => {
                match is_empty(path).map_err(unusable)? {
                    true if !may_be_empty => return Err(unusable(problem)),
                    true => None,
                    false => return Err(OpenError::Foreign(path.into())),
                }
            }
            Err(problem) if problem.kind() == io::ErrorKind::InvalidData => {
                return Err(OpenError::Foreign(path.into()));
            }
            Err(problem) => return Err(unusable(problem)),
        };
        if let Some(found) = format
            && found > FORMAT
        {
            return Err(OpenError::Newer {
                directory: path.into(),
                problem: format!(
                    "it has format {found}, and this one reads formats up to {FORMAT}"
                ),
            });
        }
        let lock = private().open(path.join(LOCK)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(path.into())),
            Err(TryLockError::Error(problem)) => return Err(unusable(problem)),
        }
        if format.is_none() {
            write_marker(path).map_err(unusable)?;
        }
        Ok(Directory {
            path: path.into(),
            lock,
            synced: None,
        })
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks what is at its path now. The open files of a removed directory still exist,
    /// so writing to them would not fail.
    ///
    /// # Errors
    ///
    /// The operating system cannot tell.
    pub fn presence(&self) -> io::Result<Presence> {
        let identity = |file: &fs::Metadata| (file.dev(), file.ino());
        match fs::metadata(self.path.join(LOCK)) {
            Ok(found) if identity(&found) == identity(&self.lock.metadata()?) => {
                return Ok(Presence::There);
            }
            Err(problem) if problem.kind() != io::ErrorKind::NotFound => return Err(problem),
            _ => {}
        }
        match is_empty(&self.path) {
            Ok(true) => Ok(Presence::Removed),
            Ok(false) => Ok(Presence::Replaced),
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(Presence::Removed),
            Err(problem) => Err(problem),
        }
    }

    /// The directory of the engine.
    pub fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }

    /// Creates the directory of the engine with `create`, if it does not exist. It gets its
    /// final name once it is complete, so that an interrupted creation leaves nothing that
    /// looks damaged.
    ///
    /// # Errors
    ///
    /// The error of `create`, or of the operating system.
    pub fn create_data<E: From<io::Error>>(
        &self,
        create: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.data().try_exists()? {
            return Ok(());
        }
        let new = self.path.join(NEW_DATA);
        match fs::remove_dir_all(&new) {
            Err(problem) if problem.kind() != io::ErrorKind::NotFound => return Err(problem.into()),
            _ => {}
        }
        // The engine leaves the modes of its files to the umask.
        self::create(&new)?;
        create(&new)?;
        fs::rename(&new, self.data())?;
        File::open(&self.path)?.sync_all()?;
        Ok(())
    }

    /// The number of the last write known to be synced, or 0.
    pub fn synced(&self) -> u64 {
        let bytes = fs::read(self.path.join(SYNCED)).unwrap_or_default();
        bytes.try_into().map_or(0, u64::from_be_bytes)
    }

    /// The file for [`note_synced`], if it can be created.
    pub fn synced_file(&mut self) -> Option<Arc<File>> {
        if self.synced.is_none() {
            let file = private().open(self.path.join(SYNCED));
            self.synced = file.ok().map(Arc::new);
        }
        self.synced.clone()
    }

    /// The bytes that all files take on the disk.
    pub fn size(&self) -> u64 {
        disk_usage(&self.path).unwrap_or_default()
    }
}

/// Stores the number of the last synced write. The number itself is not synced: one that is
/// too small only weakens the check at the next start.
pub fn note_synced(file: Option<&File>, number: u64) {
    if let Some(file) = file
        && let Err(problem) = file.write_all_at(&number.to_be_bytes(), 0)
    {
        log::debug!("the number of the last sync cannot be kept: {problem}");
    }
}

/// Creates the directory and its parents, for this user only.
fn create(path: &Path) -> io::Result<()> {
    if let Ok(target) = fs::read_link(path)
        && !path.try_exists()?
    {
        let problem = format!("it is a link to {}, which does not exist", target.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, problem));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Options to open a file for writing, created readable by this user only.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options
}

fn is_empty(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if !NAMES_WHEN_EMPTY.iter().any(|known| name == *known) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Parses the format out of a marker; `None` if the marker is not ours.
fn format_of(marker: &str) -> Option<u32> {
    let mut lines = marker.lines();
    let ours = lines.next()? == MARKER;
    let format = lines.next()?.strip_prefix("format ")?.parse().ok()?;
    ours.then_some(format)
}

fn write_marker(path: &Path) -> io::Result<()> {
    let new = path.join(NEW_MARKER);
    let mut file = private().truncate(true).open(&new)?;
    write!(file, "{MARKER}\nformat {FORMAT}\n")?;
    file.sync_all()?;
    fs::rename(&new, path.join(MARKER))?;
    File::open(path)?.sync_all()
}

/// Files can vanish meanwhile, because the engine removes files that it has merged.
fn disk_usage(path: &Path) -> io::Result<u64> {
    const BLOCK: u64 = 512;
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(found) if found.is_dir() => disk_usage(&entry.path()).unwrap_or_default(),
            Ok(found) => found.blocks() * BLOCK,
            Err(_) => 0,
        };
    }
    Ok(bytes)
}
