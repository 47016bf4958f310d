//! Writes changes to the engine: each second on a thread of its own, and whenever a push
//! waits. One write serves all pushes that wait at that moment.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::config::Sync;
use super::engine::{Engine, Recovered};
use super::error::{DiskProblem, WriteError};
use super::journal::{Progress, ReadAnswer, ReadRequest, Shared, Wake};
use super::persistent::{Persistent, take_all};
use crate::clock::{self, Now};
use crate::record::Record;

/// The longest time between two flushes, and between two syncs.
const INTERVAL: Duration = Duration::from_secs(1);

/// Flushes that take longer are not made on serving threads.
const QUICK: Duration = Duration::from_millis(5);

/// The time between two measurements of the size on the disk.
const MEASURE_INTERVAL: Duration = Duration::from_secs(10);

/// While storage fails, changes up to this many bytes wait in memory. Past that they are
/// dropped, and once storage works again all records are written.
const LONGEST_PENDING: usize = 32 << 20;

/// The key of the first record written after a failure. It shows whether writing works
/// before much is written.
const PROBE: &[u8] = b"meta/probe";

/// Writes the changes of all states to an engine.
#[derive(Debug)]
pub(super) struct Flusher {
    pub(super) engine: Box<dyn Engine>,
    /// Sorted by layer.
    pub(super) states: Vec<Arc<dyn Persistent>>,
    pub(super) shared: Arc<Shared>,
    /// Changes that were taken and not written, because the engine fails.
    pending: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    pending_bytes: usize,
    /// Whether changes were dropped, so that all records must be written.
    is_incomplete: bool,
    failure: Option<WriteError>,
    /// Whether there are writes that neither a completed nor a running sync covers.
    is_dirty: bool,
    /// The sync that runs on a thread of its own.
    running: Option<RunningSync>,
}

/// A thread that syncs, and when it began.
type RunningSync = (JoinHandle<Result<(), WriteError>>, Instant);

/// What a round syncs, in addition to what `storage.sync` demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syncing {
    /// It syncs nothing.
    No,
    /// It begins a sync, unless one is running. Nobody waits for it.
    Begin,
    /// It waits until everything is synced.
    Wait,
}

impl Flusher {
    pub(super) fn new(
        engine: Box<dyn Engine>,
        states: Vec<Arc<dyn Persistent>>,
        shared: Arc<Shared>,
    ) -> Self {
        Flusher {
            engine,
            states,
            shared,
            pending: BTreeMap::new(),
            pending_bytes: 0,
            is_incomplete: false,
            failure: None,
            is_dirty: false,
            running: None,
        }
    }

    /// Whether storage fails. One retry each second is then enough.
    pub(super) fn fails(&self) -> bool {
        self.failure.is_some()
    }

    /// Whether a sync runs on a thread of its own.
    #[cfg(test)]
    pub(super) fn is_syncing(&self) -> bool {
        self.running
            .as_ref()
            .is_some_and(|(thread, _)| !thread.is_finished())
    }

    /// Measures the size on the disk.
    fn measure(&self) {
        let bytes = usize::try_from(self.engine.size()).unwrap_or(usize::MAX);
        self.shared.stats.disk_bytes.set(bytes);
    }

    /// The stored records whose keys begin with `prefix`. The caller has flushed, so no
    /// changes are missing.
    fn read(&self, prefix: &str) -> ReadAnswer {
        if let Some(failure) = &self.failure {
            return Err(format!("storage fails: {failure}"));
        }
        let mut records = Vec::new();
        let read = self.engine.each(prefix.as_bytes(), &mut |key, value| {
            records.push((key, value));
            Ok(())
        });
        read.map_err(|problem| problem.to_string())?;
        Ok(records)
    }

    /// Flushes once. The caller reports the result after it has released the flusher.
    pub(super) fn round(&mut self, syncing: Syncing, now: Now) -> Progress {
        let begun = clock::tick();
        let number = self.shared.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let result = match self.failure {
            None => self.flush(syncing, now),
            Some(_) => self.retry(now),
        };
        self.shared
            .is_slow
            .store(begun.elapsed() > QUICK, Ordering::Relaxed);
        self.note(result, begun);
        Progress {
            ended: number,
            kept: if self.fails() { 0 } else { number },
            failure: self.failure.clone(),
            closed: false,
        }
    }

    /// Writes the changes since the last flush.
    fn flush(&mut self, syncing: Syncing, now: Now) -> Result<(), WriteError> {
        self.note_sync_result(false)?;
        let records = match self.take(now) {
            (records, None) => records,
            (_, Some(failure)) => {
                self.drop_pending();
                return Err(failure);
            }
        };
        if !records.is_empty() {
            if let Err(failure) = self.write(&records) {
                self.hold_back(records);
                return Err(failure);
            }
            self.is_dirty = true;
        }
        match syncing {
            _ if self.shared.sync == Sync::Always => self.sync(),
            Syncing::Wait => self.sync(),
            Syncing::Begin => self.begin_sync(),
            Syncing::No => Ok(()),
        }
    }

    /// Waits until everything written is on the disk.
    fn sync(&mut self) -> Result<(), WriteError> {
        self.note_sync_result(true)?;
        if !self.is_dirty {
            return Ok(());
        }
        let begun = clock::tick();
        let result = self.engine.sync();
        self.note_sync(result, begun)?;
        self.is_dirty = false;
        Ok(())
    }

    /// Begins a sync on a thread of its own, so that pushes do not wait for the disk.
    fn begin_sync(&mut self) -> Result<(), WriteError> {
        if !self.is_dirty || self.running.is_some() {
            return Ok(());
        }
        let task = match self.engine.begin_sync() {
            Ok(task) => task,
            Err(failure) => return self.note_sync(Err(failure), clock::tick()),
        };
        let thread = thread::Builder::new().name("storage-sync".to_owned());
        match thread.spawn(task) {
            Ok(thread) => {
                self.is_dirty = false;
                self.running = Some((thread, clock::tick()));
                Ok(())
            }
            Err(_) => self.sync(),
        }
    }

    /// Records the result of the running sync, if it has ended. With `wait`, waits for its end.
    fn note_sync_result(&mut self, wait: bool) -> Result<(), WriteError> {
        match self.running.take() {
            Some((thread, begun)) if wait || thread.is_finished() => {
                let result = thread.join().unwrap_or_else(|_| {
                    Err(WriteError {
                        reason: DiskProblem::Failed,
                        message: "the thread that syncs stopped".to_owned(),
                    })
                });
                self.note_sync(result, begun)
            }
            running => {
                self.running = running;
                Ok(())
            }
        }
    }

    fn note_sync(
        &mut self,
        result: Result<(), WriteError>,
        begun: Instant,
    ) -> Result<(), WriteError> {
        self.shared.stats.sync_durations.record(begun.elapsed());
        if result.is_err() {
            // Writes since the last sync may be lost.
            self.drop_pending();
        }
        result
    }

    /// Takes all changes. The error is a failure to find out which records are void.
    fn take(&self, now: Now) -> (Vec<Record>, Option<WriteError>) {
        let mut taken = Vec::with_capacity(self.states.len());
        take_all(&self.states, now, &mut taken);
        let full = taken.iter_mut().map(|changes| &mut changes.full);
        let full: Vec<String> = full.flat_map(std::mem::take).collect();
        let records = taken.into_iter().flat_map(|changes| changes.records);
        let mut records: Vec<Record> = records.collect();
        let void = self.void(&full, &records);
        match void {
            Ok(void) => records.extend(void),
            Err(failure) => return (records, Some(failure)),
        }
        (records, None)
    }

    /// Removals of the stored records under `prefixes` that `all` does not contain.
    fn void(&self, prefixes: &[String], all: &[Record]) -> Result<Vec<Record>, WriteError> {
        if prefixes.is_empty() {
            return Ok(Vec::new());
        }
        let keys: HashSet<&[u8]> = all.iter().map(|record| &*record.key).collect();
        let mut void = Vec::new();
        for prefix in prefixes {
            let mut add = |key: Vec<u8>, _| {
                if !keys.contains(&*key) {
                    void.push(Record::removed(key));
                }
                Ok(())
            };
            let read = self.engine.each(prefix.as_bytes(), &mut add);
            read.map_err(|problem| WriteError {
                reason: DiskProblem::Failed,
                message: problem.to_string(),
            })?;
        }
        Ok(void)
    }

    /// Tries to recover and to write the changes that wait.
    fn retry(&mut self, now: Now) -> Result<(), WriteError> {
        // After a failed sync, all records are written.
        let _ = self.note_sync_result(true);
        // Take changes even now, so that states do not collect them while storage fails.
        let mut taken = Vec::with_capacity(self.states.len());
        take_all(&self.states, now, &mut taken);
        match taken.iter().any(|changes| !changes.full.is_empty()) {
            true => self.drop_pending(),
            false => {
                let records = taken.into_iter().flat_map(|changes| changes.records);
                self.hold_back(records);
            }
        }
        if self.engine.recover()? == Recovered::Nothing {
            self.drop_pending();
        }
        let probe = Record::set(PROBE, now.unix_nanos().to_be_bytes());
        self.engine.write(&[probe])?;
        self.engine.sync()?;
        let records = match self.is_incomplete {
            true => {
                for state in &self.states {
                    state.note_everything();
                }
                match self.take(now) {
                    (records, None) => records,
                    (_, Some(failure)) => return Err(failure),
                }
            }
            false => {
                let waiting = std::mem::take(&mut self.pending).into_iter();
                let records = waiting.map(|(key, value)| Record { key, value });
                records.collect()
            }
        };
        let written = self.write(&records).and_then(|()| self.engine.sync());
        self.pending_bytes = 0;
        if let Err(failure) = written {
            self.hold_back(records);
            return Err(failure);
        }
        self.is_incomplete = false;
        self.is_dirty = false;
        Ok(())
    }

    fn write(&mut self, records: &[Record]) -> Result<(), WriteError> {
        self.engine.write(records)?;
        let stats = &self.shared.stats;
        stats.written_records.add(records.len() as u64);
        let bytes = records.iter().map(Record::size).sum::<usize>();
        stats.written_bytes.add(bytes as u64);
        Ok(())
    }

    /// Keeps records that were taken but not written.
    fn hold_back(&mut self, records: impl IntoIterator<Item = Record>) {
        for record in records {
            if self.is_incomplete {
                continue;
            }
            self.pending_bytes += record.size();
            let key_bytes = record.key.len();
            if let Some(before) = self.pending.insert(record.key, record.value) {
                self.pending_bytes -= key_bytes + before.map_or(0, |it| it.len());
            }
            if self.pending_bytes > LONGEST_PENDING {
                self.drop_pending();
            }
        }
    }

    /// Drops the changes that wait: all records will be written.
    fn drop_pending(&mut self) {
        self.pending = BTreeMap::new();
        self.pending_bytes = 0;
        self.is_incomplete = true;
    }

    /// Records the result of a round in metrics, and in the log when it differs from the last.
    fn note(&mut self, result: Result<(), WriteError>, begun: Instant) {
        let stats = &self.shared.stats;
        let directory = self.shared.directory.display();
        stats.durations.record(begun.elapsed());
        match result {
            Ok(()) => {
                stats.flushes.count_success();
                if self.failure.take().is_some() {
                    log::info!("storage writes to {directory} again; everything is stored");
                }
            }
            Err(failure) => {
                stats.flushes.count(failure.reason.as_str());
                if self.failure.as_ref() != Some(&failure) {
                    let consequence = match self.shared.sync {
                        Sync::Write => "changes are kept in memory only until it can",
                        Sync::Always => "pushes over HTTP are rejected until it can",
                    };
                    log::error!("storage cannot write to {directory}: {failure}; {consequence}");
                }
                self.failure = Some(failure);
            }
        }
        stats.is_failing.set(usize::from(self.fails()));
        stats.pending_bytes.set(self.pending_bytes);
    }
}

/// Flushes on this thread, each second and on request, until asked for the last flush.
pub(super) fn run(shared: &Shared) {
    let mut last = clock::tick();
    let mut measured = None;
    loop {
        let wake = shared.wait(last + INTERVAL, clock::tick);
        let reads = shared.take_reads();
        let is_due = last + INTERVAL <= clock::tick();
        let syncing = match wake {
            Wake::Close => Syncing::Wait,
            Wake::Flush if is_due => Syncing::Begin,
            Wake::Flush => Syncing::No,
        };
        if is_due {
            last = clock::tick();
        }
        shared.with_flusher(|flusher| {
            if is_due && measured.is_none_or(|at| last - at >= MEASURE_INTERVAL) {
                measured = Some(last);
                flusher.measure();
            }
            let failed_before = flusher.fails();
            let is_useful = !failed_before || syncing != Syncing::No;
            let mut progress = is_useful.then(|| flusher.round(syncing, Now::read()));
            if wake == Wake::Close && flusher.fails() && !failed_before {
                // An earlier sync may have failed, and there is no next second in which to recover.
                progress = Some(flusher.round(syncing, Now::read()));
            }
            for ReadRequest { prefix, answer } in reads {
                // The reader may have given up.
                let _ = answer.send(flusher.read(&prefix));
            }
            progress
        });
        if wake == Wake::Close {
            break;
        }
    }
    shared.close();
}
