//! Starts storage: opens the directory, restores each state, starts the flusher.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::config::Config;
use super::engine::{Engine, LocalEngine};
use super::error::{OpenError, ReadError};
use super::flusher::{self, Flusher};
use super::journal::{Journal, Shared};
use super::persistent::{Persistent, StoredRecords};
use crate::clock::Now;
use crate::exposition::counted;
use crate::record::Record;
use crate::telemetry::StorageStats;

/// The key of the number of starts.
const STARTS: &[u8] = b"meta/starts";

/// The parts of the flusher until it starts.
#[derive(Debug)]
pub(super) struct Setup {
    engine: Box<dyn Engine>,
    /// The number of starts, including this one.
    starts: u64,
    states: Vec<Arc<dyn Persistent>>,
    restored: usize,
    problem: Option<OpenError>,
}

/// The setup of a journal, until the flusher takes it.
#[derive(Default)]
pub(super) struct PendingSetup(Mutex<Option<Setup>>);

impl fmt::Debug for PendingSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PendingSetup")
    }
}

impl Journal {
    /// Opens the configured directory, if there is one.
    ///
    /// # Errors
    ///
    /// The directory cannot be used. Nothing in it has been changed.
    pub fn open(config: &Config, stats: &Arc<StorageStats>) -> Result<Self, OpenError> {
        let Some(directory) = config.directory() else {
            return Ok(Journal::off());
        };
        let engine = LocalEngine::open(&directory)?;
        let shared = Shared::new(config.sync, directory, Arc::clone(stats));
        Journal::with_engine(Box::new(engine), shared)
    }

    /// A journal that keeps changes with `engine`.
    pub(super) fn with_engine(engine: Box<dyn Engine>, shared: Shared) -> Result<Self, OpenError> {
        let stats = Arc::clone(&shared.stats);
        let starts = starts(&*engine).map_err(|problem| shared.unreadable(problem))?;
        stats.is_on.set(1);
        stats.starts.raise_to(starts + 1);
        shared.setup.put(Setup {
            engine,
            starts: starts + 1,
            states: Vec::new(),
            restored: 0,
            problem: None,
        });
        Ok(Journal::new(Arc::new(shared)))
    }

    /// Restores a state, and keeps its changes from now on. Call this before the state is
    /// used, and before [`Journal::check`], which returns the error if its records cannot
    /// be read.
    pub fn attach(&self, state: Arc<dyn Persistent>, now: Now) {
        let Some(shared) = self.shared() else {
            return;
        };
        shared.setup.change(|setup| {
            let stored = StoredRecords::new(&*setup.engine, state.prefixes());
            match state.restore(&stored, now) {
                Ok(count) => setup.restored += count,
                Err(problem) => {
                    let problem = shared.unreadable(problem);
                    setup.problem.get_or_insert(problem);
                }
            }
            setup.states.push(state);
        });
    }

    /// Checks that all attached states were restored. Call this before the first listener accepts.
    ///
    /// # Errors
    ///
    /// A stored record cannot be read.
    pub fn check(&self) -> Result<(), OpenError> {
        let Some(shared) = self.shared() else {
            return Ok(());
        };
        let problem = shared.setup.change(|setup| setup.problem.take());
        problem.flatten().map_or(Ok(()), Err)
    }

    /// Starts the flusher.
    ///
    /// # Errors
    ///
    /// The thread cannot be created.
    pub fn start(&self) -> std::io::Result<()> {
        let Some(shared) = self.shared() else {
            return Ok(());
        };
        let Some(mut setup) = shared.setup.take() else {
            return Ok(());
        };
        log::info!(
            "storing state in {}; {} restored",
            shared.directory.display(),
            counted(setup.restored, "record", "records")
        );
        shared.stats.restored.set(setup.restored);
        // If this write fails, the first flush finds out and reports it.
        let start = Record::set(STARTS, setup.starts.to_be_bytes());
        if let Err(problem) = setup.engine.write(&[start]) {
            log::debug!("the start cannot be counted: {problem}");
        }
        setup.states.sort_by_key(|state| state.layer());
        let flusher = Flusher::new(setup.engine, setup.states, Arc::clone(shared));
        shared.put_flusher(flusher);
        let thread = std::thread::Builder::new().name("storage".to_owned());
        let shared = Arc::clone(shared);
        thread.spawn(move || flusher::run(&shared))?;
        Ok(())
    }
}

impl PendingSetup {
    fn put(&self, setup: Setup) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(setup);
    }

    fn take(&self) -> Option<Setup> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Changes the setup, unless the flusher has it already.
    fn change<T>(&self, change: impl FnOnce(&mut Setup) -> T) -> Option<T> {
        let mut setup = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        setup.as_mut().map(change)
    }
}

impl Shared {
    fn unreadable(&self, problem: ReadError) -> OpenError {
        let directory = self.directory.clone();
        match problem {
            ReadError::Newer(problem) => OpenError::Newer { directory, problem },
            ReadError::Damaged(problem) => OpenError::Damaged { directory, problem },
        }
    }
}

/// The stored number of starts.
pub(super) fn starts(engine: &dyn Engine) -> Result<u64, ReadError> {
    let mut starts = 0;
    engine.each(STARTS, &mut |key, value| {
        let bytes = value.try_into().map_err(|_| ReadError::of_key(&key))?;
        starts = u64::from_be_bytes(bytes);
        Ok(())
    })?;
    Ok(starts)
}
