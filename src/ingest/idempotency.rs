//! Pushes that say who they are, so that one that is sent again counts once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of an `Idempotency-Key`.
pub const LONGEST_KEY: usize = 256;

/// The keys of pushes that were applied, for a time.
///
/// A push that failed changed nothing, so its key is free: sending it again is
/// how it comes in. When there are more keys than may be remembered, the
/// oldest is forgotten early, and that is counted.
#[derive(Debug)]
pub struct Keys {
    limit: usize,
    time: Duration,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By key, the fingerprint of the push that had it.
    pushes: HashMap<Arc<str>, u64>,
    /// In the order in which they came.
    order: VecDeque<(Instant, Arc<str>)>,
    forgotten_early: u64,
}

/// What became of a push with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Once {
    Applied,
    /// It was applied before, and is not again.
    Repeated,
    /// Another push had this key.
    Another,
}

impl Keys {
    /// `limit` keys at most, each remembered for `time`.
    pub fn new(limit: usize, time: Duration) -> Self {
        Keys {
            limit,
            time,
            known: Mutex::default(),
        }
    }

    /// Applies a push unless one with this key was applied before. The lock is
    /// held meanwhile, so that of two that come at once only one is applied:
    /// what is to be parsed is parsed before. `print` tells pushes apart.
    pub fn once<E>(
        &self,
        key: &str,
        print: u64,
        now: Instant,
        apply: impl FnOnce() -> Result<(), E>,
    ) -> Result<Once, E> {
        let mut known = self.lock();
        known.forget(now, self.time);
        match known.pushes.get(key) {
            Some(same) if *same == print => return Ok(Once::Repeated),
            Some(_) => return Ok(Once::Another),
            None => {}
        }
        apply()?;
        while known.order.len() >= self.limit {
            known.forget_oldest();
            known.forgotten_early += 1;
        }
        let key: Arc<str> = Arc::from(key);
        known.pushes.insert(Arc::clone(&key), print);
        known.order.push_back((now, key));
        Ok(Once::Applied)
    }

    /// Keys remembered now, and those that were forgotten before their time,
    /// since there were too many.
    pub fn counts(&self) -> (usize, u64) {
        let known = self.lock();
        (known.order.len(), known.forgotten_early)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn forget(&mut self, now: Instant, time: Duration) {
        while let Some((at, _)) = self.order.front()
            && now.saturating_duration_since(*at) >= time
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.pushes.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(600);

    fn push(keys: &Keys, key: &str, print: u64, now: Instant) -> Once {
        keys.once(key, print, now, || Ok::<(), ()>(())).unwrap()
    }

    #[test]
    fn a_push_counts_once_for_as_long_as_its_key_is_known() {
        let keys = Keys::new(10, TIME);
        let start = Instant::now();
        assert_eq!(push(&keys, "a", 1, start), Once::Applied);
        assert_eq!(push(&keys, "a", 1, start + TIME / 2), Once::Repeated);
        assert_eq!(push(&keys, "a", 2, start + TIME / 2), Once::Another);
        assert_eq!(push(&keys, "b", 2, start), Once::Applied);
        assert_eq!(push(&keys, "a", 1, start + TIME), Once::Applied);
        assert_eq!(keys.counts(), (1, 0));
    }

    #[test]
    fn a_push_that_failed_may_come_again() {
        let keys = Keys::new(10, TIME);
        let now = Instant::now();
        assert_eq!(keys.once("a", 1, now, || Err("no")), Err("no"));
        assert_eq!(push(&keys, "a", 1, now), Once::Applied);
    }

    #[test]
    fn keys_are_bounded_and_what_is_forgotten_early_is_counted() {
        let keys = Keys::new(2, TIME);
        let now = Instant::now();
        for key in ["a", "b", "c"] {
            assert_eq!(push(&keys, key, 1, now), Once::Applied);
        }
        assert_eq!(keys.counts(), (2, 1));
        assert_eq!(push(&keys, "b", 1, now), Once::Repeated);
        assert_eq!(push(&keys, "a", 1, now), Once::Applied);
    }
}
