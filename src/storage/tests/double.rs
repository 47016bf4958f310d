//! An engine in memory that fails on request, and a state to store.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::clock::Now;
use crate::record::Record;
use crate::storage::engine::{Engine, Recovered, SyncTask, Visit};
use crate::storage::error::{DiskProblem, ReadError, WriteError};
use crate::storage::persistent::{Changes, Layer, Persistent, StoredRecords};

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// The records of an engine, and its failures, shared by the test and the engine.
#[derive(Debug, Default)]
pub struct EngineState {
    held: Mutex<Held>,
    /// Whether writes hang.
    is_stuck: AtomicBool,
    /// Whether syncs hang.
    is_sync_stuck: AtomicBool,
    /// The number of writes that have begun.
    begun: AtomicUsize,
}

#[derive(Debug, Default)]
struct Held {
    written: Records,
    synced: Records,
    failure: Option<DiskProblem>,
    sync_fails: bool,
    /// Whether a write failed and the engine has not recovered since.
    is_broken: bool,
}

impl EngineState {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap()
    }

    /// Lets every write hang, or continue.
    pub fn stick(&self, is_stuck: bool) {
        self.is_stuck.store(is_stuck, Ordering::SeqCst);
    }

    /// Lets every sync hang, or continue.
    pub fn stick_sync(&self, is_stuck: bool) {
        self.is_sync_stuck.store(is_stuck, Ordering::SeqCst);
    }

    /// Waits until a write has begun.
    pub fn await_write(&self) {
        while self.begun.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
    }

    pub fn fail(&self, failure: Option<DiskProblem>) {
        self.held().failure = failure;
    }

    pub fn fail_sync(&self, fails: bool) {
        self.held().sync_fails = fails;
    }

    pub fn lose_unsynced(&self) {
        let mut held = self.held();
        held.written = held.synced.clone();
    }

    /// The written records, without those of storage itself.
    pub fn written(&self) -> Vec<(&'static str, &'static str)> {
        texts(&self.held().written)
    }

    pub fn synced(&self) -> Vec<(&'static str, &'static str)> {
        texts(&self.held().synced)
    }

    pub fn synced_keys(&self) -> Vec<String> {
        let keys = self.held().synced.clone().into_keys();
        let keys = keys.map(|key| String::from_utf8(key).unwrap());
        keys.filter(|key| !key.starts_with("meta/")).collect()
    }
}

/// Tests are short, so the texts may be leaked.
fn texts(records: &Records) -> Vec<(&'static str, &'static str)> {
    let text =
        |bytes: &Vec<u8>| -> &'static str { String::from_utf8_lossy(bytes).into_owned().leak() };
    let pairs = records.iter().map(|(key, value)| (text(key), text(value)));
    pairs.filter(|(key, _)| !key.starts_with("meta/")).collect()
}

#[derive(Debug)]
pub struct TestEngine(pub Arc<EngineState>);

impl TestEngine {
    fn failure(held: &Held) -> Result<(), WriteError> {
        match held.failure {
            None => Ok(()),
            Some(reason) => Err(WriteError {
                reason,
                message: "the disk fails".to_owned(),
            }),
        }
    }
}

impl Engine for TestEngine {
    fn write(&mut self, records: &[Record]) -> Result<(), WriteError> {
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        while self.0.is_stuck.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut held = self.0.held();
        if let Err(failure) = Self::failure(&held) {
            held.is_broken = true;
            return Err(failure);
        }
        assert!(!held.is_broken, "written without recovering");
        for Record { key, value } in records.iter().cloned() {
            match value {
                Some(value) => held.written.insert(key, value),
                None => held.written.remove(&key),
            };
        }
        Ok(())
    }

    fn begin_sync(&mut self) -> Result<SyncTask, WriteError> {
        let state = Arc::clone(&self.0);
        let written = state.held().written.clone();
        Ok(Box::new(move || {
            while state.is_sync_stuck.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            let mut held = state.held();
            if held.sync_fails {
                held.is_broken = true;
                return Err(WriteError {
                    reason: DiskProblem::Failed,
                    message: "fsync".to_owned(),
                });
            }
            held.synced = written;
            Ok(())
        }))
    }

    fn recover(&mut self) -> Result<Recovered, WriteError> {
        let mut held = self.0.held();
        Self::failure(&held)?;
        held.is_broken = false;
        Ok(Recovered::Records)
    }

    fn each(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), ReadError> {
        let written = self.0.held().written.clone();
        for (key, value) in written {
            if key.starts_with(prefix) {
                visit(key, value)?;
            }
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        0
    }
}

/// Values by name.
#[derive(Debug, Default)]
pub struct Names(Mutex<(BTreeMap<String, String>, BTreeSet<String>, bool)>);

impl Names {
    pub fn set(&self, name: &str, value: &str) {
        let mut names = self.0.lock().unwrap();
        names.0.insert(name.to_owned(), value.to_owned());
        names.1.insert(name.to_owned());
    }

    pub fn remove(&self, name: &str) {
        let mut names = self.0.lock().unwrap();
        names.0.remove(name);
        names.1.insert(name.to_owned());
    }
}

impl Persistent for Names {
    fn prefixes(&self) -> &'static [&'static str] {
        &["name/"]
    }

    fn layer(&self) -> Layer {
        Layer::Other
    }

    fn restore(&self, stored: &StoredRecords<'_>, _now: Now) -> Result<usize, ReadError> {
        let mut names = self.0.lock().unwrap();
        stored.each(&mut |key, value| {
            let name = String::from_utf8(key[5..].to_vec()).unwrap();
            names.0.insert(name, String::from_utf8(value).unwrap());
            Ok(())
        })?;
        Ok(names.0.len())
    }

    fn take_changes(&self, _now: Now, beneath: &mut dyn FnMut()) -> Changes {
        let mut names = self.0.lock().unwrap();
        let (values, changed, everything) = &mut *names;
        let is_full = take(everything);
        let keys = match is_full {
            true => values.keys().cloned().collect(),
            false => take(changed),
        };
        changed.clear();
        let record = |name: String| Record {
            key: format!("name/{name}").into_bytes(),
            value: values.get(&name).map(|value| value.clone().into_bytes()),
        };
        let records: Vec<Record> = keys.into_iter().map(record).collect();
        beneath();
        let full = if is_full { self.prefixes() } else { &[] };
        Changes {
            full: full.iter().map(|prefix| (*prefix).to_owned()).collect(),
            records: Box::new(records.into_iter()),
        }
    }

    fn note_everything(&self) {
        self.0.lock().unwrap().2 = true;
    }
}
