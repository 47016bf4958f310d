//! Keeps the engine's files as they were before it opened them.
//!
//! While the engine opens its files it repairs them: it cuts a journal where it cannot read
//! on, and removes a tree without an index. If the result is refused, the original files
//! must be restored.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::directory::Directory;

/// The extension of the engine's journals, the only files that it changes in place. All
/// others are written once.
const JOURNAL: &str = "jnl";

/// The block size for copying a journal. Blocks of zeros are skipped, since most of a
/// journal is reserved space.
const COPIED_AT_ONCE: usize = 64 << 10;

/// The original files, beside those that the engine has open: copies of journals, links to
/// all others.
#[derive(Debug)]
pub struct Original {
    data: PathBuf,
    before: PathBuf,
}

impl Original {
    /// Completes an interrupted restoration, and removes what an interrupted start has left
    /// behind. Call this before anything else reads the data.
    ///
    /// # Errors
    ///
    /// Files cannot be moved or removed.
    pub fn settle(directory: &Directory) -> io::Result<()> {
        let (data, before, opened) = places(directory);
        if !data.try_exists()? && before.try_exists()? {
            fs::rename(&before, &data)?;
        }
        remove(&before)?;
        remove(&opened)
    }

    /// Keeps the files as they are now. `None` if that fails, for example on a full disk:
    /// the program must start nevertheless.
    pub fn keep(directory: &Directory) -> Option<Self> {
        let (data, before, _) = places(directory);
        match keep_all(&data, &before) {
            Ok(()) => Some(Original { data, before }),
            Err(problem) => {
                log::warn!(
                    "{}: cannot keep the original files while they are opened: {problem}",
                    directory.path().display()
                );
                let _ = fs::remove_dir_all(&before);
                None
            }
        }
    }

    /// Puts the files back. The engine must be closed.
    ///
    /// # Errors
    ///
    /// Files cannot be moved or removed.
    pub fn restore(self, directory: &Directory) -> io::Result<()> {
        let (_, _, opened) = places(directory);
        fs::rename(&self.data, &opened)?;
        fs::rename(&self.before, &self.data)?;
        remove(&opened)
    }

    /// Removes the copies and links, which are no longer needed.
    pub fn discard(self) {
        if let Err(problem) = remove(&self.before) {
            log::debug!("{}: {problem}", self.before.display());
        }
    }
}

/// `data`, `data.before` and `data.opened`.
fn places(directory: &Directory) -> (PathBuf, PathBuf, PathBuf) {
    let data = directory.data();
    let (before, opened) = (data.with_extension("before"), data.with_extension("opened"));
    (data, before, opened)
}

/// Removes a directory, if it exists.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(problem) if problem.kind() != io::ErrorKind::NotFound => Err(problem),
        _ => Ok(()),
    }
}

fn keep_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, kept) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            keep_all(&path, &kept)?;
        } else if path.extension().is_some_and(|it| it == JOURNAL) {
            copy(&path, &kept)?;
        } else {
            fs::hard_link(&path, &kept)?;
        }
    }
    Ok(())
}

/// Copies a file, leaving holes for its zeros.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let metadata = source.metadata()?;
    let mut target = File::create_new(to)?;
    target.set_permissions(metadata.permissions())?;
    let mut buffer = vec![0; COPIED_AT_ONCE];
    let zeros = vec![0; COPIED_AT_ONCE];
    loop {
        let read = source.read(&mut buffer)?;
        let block = &buffer[..read];
        if block.is_empty() {
            break;
        }
        match block == &zeros[..read] {
            true => drop(target.seek(SeekFrom::Current(read as i64))?),
            false => target.write_all(block)?,
        }
    }
    target.set_len(metadata.len())
}
