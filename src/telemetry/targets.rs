//! Statistics of polled targets.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::results;
use crate::clock::Now;
use crate::reason::Reason;

/// The statistics of one target.
#[derive(Debug)]
pub struct TargetStats {
    /// The name of the target.
    pub name: String,
    polls: Mutex<Polls>,
}

/// The polls of one target so far.
#[derive(Debug, Clone, Default)]
pub struct Polls {
    /// Whether the last poll succeeded; `None` before the first one ended.
    pub success: Option<bool>,
    /// The duration of the last poll.
    pub duration: Duration,
    /// When a poll last succeeded.
    pub last_success: Option<Now>,
    /// Samples in the last text that was stored.
    pub samples: usize,
    /// Polls by result: `ok`, or the reason for failure.
    pub results: BTreeMap<&'static str, u64>,
    /// The last polls, oldest first.
    pub recent: VecDeque<PollRecord>,
}

/// How one poll ended.
#[derive(Debug, Clone, Copy)]
pub struct PollRecord {
    /// When it ended.
    pub at: Now,
    /// How long it took.
    pub duration: Duration,
    /// Why it failed, if it did.
    pub result: Result<(), Reason>,
}

/// The number of polls of a target that are kept.
const MAX_RECENT: usize = 10;

impl TargetStats {
    /// Statistics without any polls.
    pub fn new(name: &str) -> Self {
        TargetStats {
            name: name.to_owned(),
            polls: Mutex::default(),
        }
    }

    /// Records a poll that took `duration` and ended now.
    pub fn record(&self, result: Result<(), Reason>, duration: Duration, now: Now) {
        let mut polls = self.polls.lock().unwrap_or_else(PoisonError::into_inner);
        polls.success = Some(result.is_ok());
        polls.duration = duration;
        if result.is_ok() {
            polls.last_success = Some(now);
        }
        if polls.recent.len() == MAX_RECENT {
            polls.recent.pop_front();
        }
        polls.recent.push_back(PollRecord {
            at: now,
            duration,
            result,
        });
        *polls.results.entry(results::label(result)).or_default() += 1;
    }

    /// Records the number of samples in a stored text.
    pub fn record_samples(&self, samples: usize) {
        let mut polls = self.polls.lock().unwrap_or_else(PoisonError::into_inner);
        polls.samples = samples;
    }

    /// The polls so far.
    pub fn polls(&self) -> Polls {
        self.polls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
