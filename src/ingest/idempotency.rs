//! Idempotency keys: a push that is sent twice with one key counts once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The longest `Idempotency-Key`, in bytes.
pub const MAX_KEY_LENGTH: usize = 256;

/// The keys of recently applied pushes.
///
/// A push that fails changes nothing, so its key stays free and the push can be
/// sent again. When the limit is reached, the oldest key is forgotten early, and
/// that is counted.
#[derive(Debug)]
pub struct IdempotencyKeys {
    limit: usize,
    time: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The fingerprint of the push that used each key.
    fingerprints: HashMap<Arc<str>, u64>,
    /// The keys with the times they were used, oldest first.
    order: VecDeque<(Instant, Arc<str>)>,
    forgotten_early: u64,
}

/// The result of a push with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOutcome {
    /// The push was applied.
    Applied,
    /// The same push was applied before, so this one was not.
    Repeated,
    /// A different push used this key, so this one was not applied.
    Conflict,
}

impl IdempotencyKeys {
    /// Remembers up to `limit` keys, each for `time`.
    pub fn new(limit: usize, time: Duration) -> Self {
        IdempotencyKeys {
            limit,
            time,
            state: Mutex::default(),
        }
    }

    /// Calls `apply` unless a push with this key was applied before. `fingerprint`
    /// identifies the content of the push.
    ///
    /// The lock is held during `apply`, so that only one of two concurrent pushes
    /// is applied. Parse the push beforehand.
    ///
    /// # Errors
    ///
    /// The error of `apply`. The key is not remembered then.
    pub fn apply_once<E>(
        &self,
        key: &str,
        fingerprint: u64,
        now: Instant,
        apply: impl FnOnce() -> Result<(), E>,
    ) -> Result<KeyOutcome, E> {
        let mut state = self.lock();
        state.forget_expired(now, self.time);
        match state.fingerprints.get(key) {
            Some(same) if *same == fingerprint => return Ok(KeyOutcome::Repeated),
            Some(_) => return Ok(KeyOutcome::Conflict),
            None => {}
        }
        apply()?;
        while state.order.len() >= self.limit {
            state.forget_oldest();
            state.forgotten_early += 1;
        }
        let key: Arc<str> = Arc::from(key);
        state.fingerprints.insert(Arc::clone(&key), fingerprint);
        state.order.push_back((now, key));
        Ok(KeyOutcome::Applied)
    }

    /// The number of remembered keys, and of keys forgotten early because the
    /// limit was reached.
    pub fn counts(&self) -> (usize, u64) {
        let state = self.lock();
        (state.order.len(), state.forgotten_early)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_expired(&mut self, now: Instant, time: Duration) {
        while let Some((used, _)) = self.order.front()
            && now.saturating_duration_since(*used) >= time
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.fingerprints.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(600);

    fn push(keys: &IdempotencyKeys, key: &str, fingerprint: u64, now: Instant) -> KeyOutcome {
        let apply = || Ok::<(), ()>(());
        keys.apply_once(key, fingerprint, now, apply).unwrap()
    }

    #[test]
    fn a_push_counts_once_while_its_key_is_remembered() {
        let keys = IdempotencyKeys::new(10, TIME);
        let start = Instant::now();
        assert_eq!(push(&keys, "a", 1, start), KeyOutcome::Applied);
        assert_eq!(push(&keys, "a", 1, start + TIME / 2), KeyOutcome::Repeated);
        assert_eq!(push(&keys, "a", 2, start + TIME / 2), KeyOutcome::Conflict);
        assert_eq!(push(&keys, "b", 2, start), KeyOutcome::Applied);
        assert_eq!(push(&keys, "a", 1, start + TIME), KeyOutcome::Applied);
        assert_eq!(keys.counts(), (1, 0));
    }

    #[test]
    fn a_failed_push_can_be_sent_again() {
        let keys = IdempotencyKeys::new(10, TIME);
        let now = Instant::now();
        assert_eq!(keys.apply_once("a", 1, now, || Err("no")), Err("no"));
        assert_eq!(push(&keys, "a", 1, now), KeyOutcome::Applied);
    }

    #[test]
    fn keys_are_limited_and_those_forgotten_early_are_counted() {
        let keys = IdempotencyKeys::new(2, TIME);
        let now = Instant::now();
        for key in ["a", "b", "c"] {
            assert_eq!(push(&keys, key, 1, now), KeyOutcome::Applied);
        }
        assert_eq!(keys.counts(), (2, 1));
        assert_eq!(push(&keys, "b", 1, now), KeyOutcome::Repeated);
        assert_eq!(push(&keys, "a", 1, now), KeyOutcome::Applied);
    }
}
