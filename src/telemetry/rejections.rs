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

static RECENT: Mutex<Recent> = Mutex::new(Recent {
    limit: RateLimit::new(BURST, REFILL),
    kept: VecDeque::new(),
});

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
    let mut recent = lock();
    if recent.kept.len() == MAX_KEPT {
        recent.kept.pop_front();
    }
    recent.kept.push_back(rejection);
}

/// The last rejections, newest first.
pub fn last() -> Vec<RecentRejection> {
    lock().kept.iter().rev().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rejections_are_kept() {
        for number in 0..3 * MAX_KEPT {
            note(
                format_args!("request {number}"),
                Reason::TooLarge,
                "too large",
            );
        }
        let found = last();
        assert!(found.len() <= MAX_KEPT);
        // Tests run concurrently, and others reject, too.
        let ours = found.iter().find(|it| it.what.starts_with("request "));
        assert_eq!(ours.unwrap().reason, Reason::TooLarge);
    }
}
