//! The last rejections, for people who investigate senders' mistakes. They belong to the process,
//! as the log does.

use std::collections::VecDeque;
use std::fmt::Arguments;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::RateLimit;
use crate::clock::Now;
use crate::reason::Reason;

/// The number of rejections that are kept.
const MAX_KEPT: usize = 20;

/// The burst of rejections that is kept. Many in a row say no more than some.
const BURST: u32 = 20;

/// The time after which one more rejection is kept, once the burst is used up.
const REFILL: Duration = Duration::from_millis(100);

/// A message or request that was rejected.
#[derive(Debug, Clone)]
pub struct RecentRejection {
    /// When it was rejected.
    pub at: Now,
    /// The message or request, and its sender.
    pub what: String,
    /// Why it was rejected.
    pub reason: Reason,
    /// The message for people, without quotes of what was sent.
    pub message: String,
}

/// The last rejections, oldest first.
struct Recent {
    limit: RateLimit,
    kept: VecDeque<RecentRejection>,
}

static RECENT: Mutex<Recent> = Mutex::new(Recent::new());

impl Recent {
    const fn new() -> Self {
        Recent {
            limit: RateLimit::new(BURST, REFILL),
            kept: VecDeque::new(),
        }
    }

    fn keep(&mut self, rejection: RecentRejection) {
        if self.kept.len() == MAX_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(rejection);
    }

    /// Newest first.
    fn last(&self) -> Vec<RecentRejection> {
        self.kept.iter().rev().cloned().collect()
    }
}

fn lock() -> MutexGuard<'static, Recent> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a rejection, unless there are too many at once.
pub(super) fn note(what: Arguments<'_>, reason: Reason, message: &str) {
    let now = Now::read();
    if lock().limit.allow(now.tick).is_none() {
        return;
    }
    let rejection = RecentRejection {
        at: now,
        what: what.to_string(),
        reason,
        message: message.to_owned(),
    };
    lock().keep(rejection);
}

/// The last rejections, newest first.
pub fn last() -> Vec<RecentRejection> {
    lock().last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rejections_are_kept_newest_first() {
        let mut recent = Recent::new();
        for number in 0..3 * MAX_KEPT {
            recent.keep(RecentRejection {
                at: Now::read(),
                what: number.to_string(),
                reason: Reason::TooLarge,
                message: String::new(),
            });
        }
        let found: Vec<String> = recent.last().into_iter().map(|it| it.what).collect();
        let expected = (2 * MAX_KEPT..3 * MAX_KEPT).rev();
        assert_eq!(
            found,
            expected
                .map(|number| number.to_string())
                .collect::<Vec<_>>()
        );
    }
}
