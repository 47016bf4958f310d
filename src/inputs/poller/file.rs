//! Reads files with metrics and with lists of targets. Files with metrics follow the rules
//! of node_exporter's textfile collector.

use std::collections::BTreeSet;
use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use nix::fcntl::OFlag;
use tokio::sync::{Notify, Semaphore};
use tokio::task::spawn_blocking;

use super::error::ScrapeError;
use crate::exposition::Text;
use crate::reason::Reason;

/// The limit on concurrent reads of files with metrics. Otherwise a hanging file system
/// would occupy all threads for blocking work.
const MAX_READS: usize = 64;

static READS: Semaphore = Semaphore::const_new(MAX_READS);

/// The files with metrics that are being read. A hanging file is not read again until its
/// read ends, so it occupies only one thread.
static IN_PROGRESS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Notified when the read of a file has ended.
static ENDED: Notify = Notify::const_new();

/// Reads a file with metrics of at most `max_body` bytes. Returns its text, and when it was
/// modified, in seconds since 1970. A file on a network can be slow, so it is read on a
/// thread for blocking work.
pub async fn read(path: &Path, max_body: usize, is_own: bool) -> Result<(Text, f64), ScrapeError> {
    let reading = Reading::begin(path).await;
    // The semaphore is never closed.
    let permit = READS.acquire().await.ok();
    // The thread holds both until it ends, even if nobody waits for it any longer.
    let read = spawn_blocking(move || {
        let read = read_now(&reading.0, max_body, is_own);
        drop((reading, permit));
        read
    });
    read.await.unwrap_or_else(|error| {
        let message = format!("the file cannot be read: {error}");
        Err(ScrapeError::new(Reason::Closed, &message))
    })
}

fn read_now(path: &Path, max_body: usize, is_own: bool) -> Result<(Text, f64), ScrapeError> {
    let failed = |problem: io::Error| {
        ScrapeError::new(
            Reason::BadSetting,
            &format!("{}: {problem}", path.display()),
        )
    };
    let read = read_whole(path, max_body).map_err(failed)?;
    let (bytes, metadata) = read.ok_or_else(|| ScrapeError::too_large(max_body, is_own))?;
    let text = std::str::from_utf8(&bytes).map_err(|problem| {
        let message = format!("the file is not UTF-8 at byte {}", problem.valid_up_to());
        ScrapeError::new(Reason::InvalidUtf8, &message)
    })?;
    let modified = metadata.modified().map_err(failed)?;
    let modified = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok((Text::new(text), modified.as_secs_f64()))
}

/// Reads a regular file; `None` if it has more than `limit` bytes. Any other kind of file
/// is an error at once: opening a named pipe, for example, would wait for its other end.
pub fn read_whole(path: &Path, limit: usize) -> io::Result<Option<(Vec<u8>, Metadata)>> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    if metadata.len() > limit {
        return Ok(None);
    }
    // It may grow meanwhile.
    let mut bytes = Vec::new();
    let read = file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((read as u64 <= limit).then_some((bytes, metadata)))
}

/// A file that is being read.
struct Reading(PathBuf);

impl Reading {
    /// Waits until nobody else is reading the file.
    async fn begin(path: &Path) -> Self {
        loop {
            let ended = ENDED.notified();
            if in_progress().insert(path.to_owned()) {
                return Reading(path.to_owned());
            }
            ended.await;
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        in_progress().remove(&self.0);
        ENDED.notify_waiters();
    }
}

fn in_progress() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    IN_PROGRESS.lock().unwrap_or_else(PoisonError::into_inner)
}
