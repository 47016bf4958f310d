//! How the polls of one target went.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::results;
use crate::clock::Now;
use crate::reason::Reason;

#[derive(Debug)]
pub struct TargetStats {
    pub name: String,
    polls: Mutex<Polls>,
}

#[derive(Debug, Clone, Default)]
pub struct Polls {
    /// Whether the last poll succeeded; `None` before the first has ended.
    pub success: Option<bool>,
    pub duration: Duration,
    pub last_success: Option<Now>,
    /// Samples of the last text that was stored.
    pub samples: usize,
    /// Polls by result: `ok`, or the reason of failure.
    pub results: BTreeMap<&'static str, u64>,
}

impl TargetStats {
    pub fn new(name: &str) -> Self {
        TargetStats {
            name: name.to_owned(),
            polls: Mutex::default(),
        }
    }

    /// Notes a poll that took `duration` and ended now.
    pub fn note(&self, result: Result<(), Reason>, duration: Duration, now: Now) {
        let mut polls = self.polls.lock().unwrap_or_else(PoisonError::into_inner);
        polls.success = Some(result.is_ok());
        polls.duration = duration;
        if result.is_ok() {
            polls.last_success = Some(now);
        }
        *polls.results.entry(results::word(result)).or_default() += 1;
    }

    /// Notes how many samples the text of a poll has.
    pub fn note_samples(&self, samples: usize) {
        let mut polls = self.polls.lock().unwrap_or_else(PoisonError::into_inner);
        polls.samples = samples;
    }

    pub fn polls(&self) -> Polls {
        self.polls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
