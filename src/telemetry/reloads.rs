//! Reloads of the configuration.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Counter, Gauge};
use crate::clock::Now;

/// Results of reloads of the configuration. The start counts as a successful one.
#[derive(Debug)]
pub struct ReloadStats {
    /// Reloads that succeeded.
    pub ok: Counter,
    /// Reloads that were refused.
    pub refused: Counter,
    /// The number of changed settings in the file that need a restart.
    pub restart_settings: Gauge,
    restart_names: Mutex<Vec<&'static str>>,
    /// Why the last reload was refused, if it was.
    refusal: Mutex<Option<Arc<str>>>,
    last_succeeded: AtomicBool,
    /// When a reload last succeeded, in milliseconds since 1970.
    last_success: AtomicU64,
}

impl ReloadStats {
    /// No reloads since the start.
    pub fn new(started: Now) -> Self {
        ReloadStats {
            ok: Counter::default(),
            refused: Counter::default(),
            restart_settings: Gauge::default(),
            restart_names: Mutex::default(),
            refusal: Mutex::default(),
            last_succeeded: AtomicBool::new(true),
            last_success: AtomicU64::new(millis(started)),
        }
    }

    /// Records a reload that succeeded and left these settings to a restart.
    pub fn succeeded(&self, restart_settings: Vec<&'static str>, now: Now) {
        self.ok.add(1);
        self.restart_settings.set(restart_settings.len());
        *lock(&self.restart_names) = restart_settings;
        *lock(&self.refusal) = None;
        self.last_success.store(millis(now), Ordering::Relaxed);
        self.last_succeeded.store(true, Ordering::Relaxed);
    }

    /// Records a reload that was refused, with the message for people.
    pub fn failed(&self, why: &Arc<str>) {
        self.refused.add(1);
        *lock(&self.refusal) = Some(Arc::clone(why));
        self.last_succeeded.store(false, Ordering::Relaxed);
    }

    /// The settings that wait for a restart.
    pub fn restart_names(&self) -> Vec<&'static str> {
        lock(&self.restart_names).clone()
    }

    /// Why the last reload was refused; `None` if it succeeded.
    pub fn refusal(&self) -> Option<Arc<str>> {
        lock(&self.refusal).clone()
    }

    /// Whether the last reload succeeded.
    pub fn last_succeeded(&self) -> bool {
        self.last_succeeded.load(Ordering::Relaxed)
    }

    /// When a reload last succeeded, in seconds since 1970.
    pub fn last_success(&self) -> f64 {
        self.last_success.load(Ordering::Relaxed) as f64 / 1000.0
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(now: Now) -> u64 {
    u64::try_from(now.unix_millis()).unwrap_or_default()
}
