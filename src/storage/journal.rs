//! The handle through which inputs wait until their changes are kept.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::config::Sync;
use super::error::WriteError;
use super::flusher::{Flusher, Syncing};
use super::setup::PendingSetup;
use crate::clock::Now;
use crate::telemetry::StorageStats;

/// The longest wait for a slow disk. Past it, the push counts as kept in memory only.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Waits until changes are kept. Clones share one storage. Without storage, waiting costs nothing.
#[derive(Debug, Clone, Default)]
pub struct Journal(Option<Arc<Shared>>);

/// A change is not kept: storage fails or takes too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotKept(String);

/// State shared by the handles and the flusher.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) sync: Sync,
    pub(super) directory: PathBuf,
    pub(super) stats: Arc<StorageStats>,
    /// The number of flushes that have begun to take changes.
    pub(super) begun: AtomicU64,
    /// Whether storage fails. Unlike `progress`, it is read without a lock.
    pub(super) is_failing: AtomicBool,
    /// Whether the flusher has stopped.
    is_closed: AtomicBool,
    /// Whether the last flush took longer than a serving thread may wait.
    pub(super) is_slow: AtomicBool,
    pub(super) setup: PendingSetup,
    progress: watch::Sender<Progress>,
    requests: Mutex<Requests>,
    requested: Condvar,
    /// `None` before the start and after the end.
    flusher: Mutex<Option<Flusher>>,
}

/// The progress of flushing.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// The number of the last flush that ended, successful or not.
    pub(super) ended: u64,
    /// The number of the last flush that kept all changes taken by then.
    pub(super) kept: u64,
    /// Why storage fails, if it does.
    pub(super) failure: Option<WriteError>,
    /// Whether the flusher has stopped.
    pub(super) closed: bool,
}

/// Requests to the flusher's thread.
#[derive(Debug, Default)]
struct Requests {
    flush: bool,
    close: bool,
    reads: Vec<ReadRequest>,
}

/// A request for records while the program runs.
#[derive(Debug)]
pub(super) struct ReadRequest {
    /// The prefix of their keys.
    pub(super) prefix: String,
    pub(super) answer: oneshot::Sender<ReadAnswer>,
}

/// The records, or why they cannot be read.
pub(super) type ReadAnswer = Result<Vec<(Vec<u8>, Vec<u8>)>, String>;

/// Why the flusher's thread wakes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    /// A second has passed, or a flush was requested.
    Flush,
    /// The last flush is due.
    Close,
}

impl Journal {
    /// A journal without storage: everything counts as kept.
    pub fn off() -> Self {
        Journal(None)
    }

    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Journal(Some(shared))
    }

    pub(super) fn shared(&self) -> Option<&Arc<Shared>> {
        self.0.as_ref()
    }

    /// Rejects a change before it is made, if it cannot be kept: the program is stopping,
    /// or storage fails although it must not (`storage.sync = "always"`).
    ///
    /// # Errors
    ///
    /// The change could not be kept.
    pub fn admit(&self) -> Result<(), NotKept> {
        let Some(shared) = &self.0 else {
            return Ok(());
        };
        let fails = shared.sync == Sync::Always && shared.is_failing.load(Ordering::Relaxed);
        match fails || shared.is_closed.load(Ordering::Relaxed) {
            true => Err(shared.not_kept("nothing was changed")),
            false => Ok(()),
        }
    }

    /// Waits until all changes applied so far are handed to the operating system, or are on
    /// the disk (`storage.sync`). With `write`, a failing or slow disk is no error: the
    /// change is kept in memory, and storage recovers by itself.
    ///
    /// # Errors
    ///
    /// Storage fails or is slow, and `storage.sync` is `always`; or the program is
    /// stopping, and the last flush began before the change.
    pub async fn kept(&self) -> Result<(), NotKept> {
        let Some(shared) = &self.0 else {
            return Ok(());
        };
        let is_closed = shared.is_closed.load(Ordering::Relaxed);
        if shared.sync == Sync::Write && shared.is_failing.load(Ordering::Relaxed) && !is_closed {
            shared.stats.unkept.add(1);
            return Ok(());
        }
        // A flush that begins from now on includes the changes made so far.
        let target = shared.begun.load(Ordering::SeqCst) + 1;
        if let Ok(true) = timeout(LONGEST_WAIT, shared.flushed(target)).await {
            return Ok(());
        }
        shared.stats.unkept.add(1);
        let outcome = match (shared.sync, shared.is_closed.load(Ordering::Relaxed)) {
            (Sync::Write, false) => return Ok(()),
            (Sync::Always, false) => "it is applied in memory, and stored once that is possible",
            // Changes in memory are lost with the program.
            (_, true) => "it is lost when the program ends",
        };
        Err(shared.not_kept(outcome))
    }

    /// The stored records whose keys begin with `prefix`, in the order of their keys, with
    /// all changes so far. For rare cases only: states are usually restored at the start.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub async fn read(&self, prefix: String) -> Result<Vec<(Vec<u8>, Vec<u8>)>, String> {
        let Some(shared) = &self.0 else {
            return Ok(Vec::new());
        };
        let (answer, read) = oneshot::channel();
        shared.request(|requests| {
            requests.flush = true;
            requests.reads.push(ReadRequest { prefix, answer });
        });
        match timeout(LONGEST_WAIT, read).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err("the proxy is stopping".to_owned()),
            Err(_) => Err(format!("the disk did not answer within {LONGEST_WAIT:?}")),
        }
    }

    /// Why storage fails, and the consequence for pushes, in one line; `None` if it works.
    pub fn failure(&self) -> Option<String> {
        let shared = self.0.as_ref()?;
        let failure = shared.progress.borrow().failure.clone()?;
        let directory = shared.directory.display();
        let consequence = match shared.sync {
            Sync::Write => "changes are kept in memory only",
            Sync::Always => "pushes over HTTP are rejected",
        };
        Some(format!(
            "storage cannot write to {directory}: {failure}; {consequence}"
        ))
    }

    /// Whether pushes over HTTP are rejected because storage fails.
    pub fn rejects(&self) -> bool {
        self.admit().is_err()
    }

    /// Asks for the last flush and waits until it has ended, for at most `grace`. Returns
    /// whether everything is kept.
    pub async fn close(&self, grace: Duration) -> bool {
        let Some(shared) = &self.0 else {
            return true;
        };
        let mut progress = shared.progress.subscribe();
        shared.request(|requests| requests.close = true);
        let closed = progress.wait_for(|progress| progress.closed);
        match timeout(grace, closed).await {
            Ok(Ok(progress)) => progress.failure.is_none(),
            Ok(Err(_)) | Err(_) => false,
        }
    }
}

impl Shared {
    pub(super) fn new(sync: Sync, directory: PathBuf, stats: Arc<StorageStats>) -> Self {
        Shared {
            sync,
            directory,
            stats,
            begun: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            is_slow: AtomicBool::new(false),
            setup: PendingSetup::default(),
            progress: watch::Sender::new(Progress::default()),
            requests: Mutex::default(),
            requested: Condvar::new(),
            flusher: Mutex::default(),
        }
    }

    /// Starts keeping changes with `flusher`.
    pub(super) fn put_flusher(&self, flusher: Flusher) {
        *self.lock_flusher() = Some(flusher);
    }

    /// Calls `flush` once nobody else is flushing, and reports the progress that it returns.
    pub(super) fn with_flusher(&self, flush: impl FnOnce(&mut Flusher) -> Option<Progress>) {
        let flusher = self.lock_flusher();
        self.flush(flusher, flush);
    }

    /// Waits until the flush `target` has ended, and runs it if nobody else does. Returns
    /// whether all changes before it are kept.
    async fn flushed(&self, target: u64) -> bool {
        let mut progress = self.progress.subscribe();
        loop {
            let Progress {
                ended,
                kept,
                closed,
                ..
            } = *progress.borrow_and_update();
            if ended >= target || closed {
                return kept >= target;
            }
            self.flush_soon();
            if progress.changed().await.is_err() {
                return false;
            }
        }
    }

    /// Flushes on this thread if the last flush was quick, which saves the push two context
    /// switches. Otherwise the flusher's thread does it. If another flush is running, the
    /// waiting pushes check again when it ends.
    fn flush_soon(&self) {
        // If the disk blocks, it blocks one serving thread, and another one goes on.
        let may_wait = || Handle::current().metrics().num_workers() > 1;
        if self.sync == Sync::Always || self.is_slow.load(Ordering::Relaxed) || !may_wait() {
            self.request(|requests| requests.flush = true);
            return;
        }
        let flusher = match self.flusher.try_lock() {
            Ok(flusher) => flusher,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        self.flush(flusher, |flusher| {
            (!flusher.fails()).then(|| flusher.round(Syncing::No, Now::read()))
        });
    }

    fn flush(
        &self,
        mut flusher: MutexGuard<'_, Option<Flusher>>,
        flush: impl FnOnce(&mut Flusher) -> Option<Progress>,
    ) {
        let progress = flusher.as_mut().and_then(flush);
        // A push that learns of the progress may flush at once.
        drop(flusher);
        if let Some(progress) = progress {
            self.report(progress);
        }
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.progress.receiver_count()
    }

    fn lock_flusher(&self) -> MutexGuard<'_, Option<Flusher>> {
        self.flusher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a request, or until `deadline`.
    pub(super) fn wait(&self, deadline: Instant, now: impl Fn() -> Instant) -> Wake {
        let mut requests = self.requests();
        loop {
            if requests.close {
                return Wake::Close;
            }
            let left = deadline.saturating_duration_since(now());
            if std::mem::take(&mut requests.flush) || left.is_zero() {
                return Wake::Flush;
            }
            let waited = self.requested.wait_timeout(requests, left);
            (requests, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes the requests for records.
    pub(super) fn take_reads(&self) -> Vec<ReadRequest> {
        std::mem::take(&mut self.requests().reads)
    }

    /// Tells all current and later waiters that nothing is kept any more.
    pub(super) fn close(&self) {
        // Dropping the engine can wait for its threads.
        drop(self.lock_flusher().take());
        self.is_closed.store(true, Ordering::Relaxed);
        self.progress.send_modify(|progress| progress.closed = true);
    }

    /// Reports progress to all waiters. Reports can arrive out of order.
    fn report(&self, new: Progress) {
        self.progress.send_modify(|progress| {
            progress.kept = progress.kept.max(new.kept);
            if new.ended > progress.ended {
                progress.ended = new.ended;
                let is_failing = new.failure.is_some();
                self.is_failing.store(is_failing, Ordering::Relaxed);
                progress.failure = new.failure;
            }
        });
    }

    fn request(&self, change: impl FnOnce(&mut Requests)) {
        change(&mut self.requests());
        self.requested.notify_one();
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn not_kept(&self, outcome: &str) -> NotKept {
        let why = match &self.progress.borrow().failure {
            _ if self.is_closed.load(Ordering::Relaxed) => "the proxy is stopping".to_owned(),
            Some(failure) => failure.to_string(),
            None => format!("the disk did not answer within {LONGEST_WAIT:?}"),
        };
        let setting = match self.sync {
            Sync::Always => " (storage.sync = \"always\")",
            Sync::Write => "",
        };
        NotKept(format!(
            "the change cannot be stored{setting}: {why}; {outcome}"
        ))
    }
}
