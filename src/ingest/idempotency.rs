//! Idempotency keys: a push that is sent twice with one key counts once.
//!
//! Keys are stored together with the pushes that they guard, so neither is stored without the
//! other.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Now;
use crate::record::Record;
use crate::storage::{Changes, Layer, Persistent, ReadError, ReadableForm, StoredRecords};

/// The longest `Idempotency-Key`, in bytes.
pub const MAX_KEY_LENGTH: usize = 256;

/// The keys of recently applied pushes.
///
/// A push that fails changes nothing, so its key stays free and the push can be
/// sent again. When the limit is reached, the oldest key is forgotten early, and
/// that is counted.
#[derive(Debug)]
pub struct IdempotencyKeys {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    limit: usize,
    /// How long a key is remembered.
    time: Duration,
    /// The fingerprint of the push that used each key, and when it did.
    used: HashMap<Arc<str>, (u64, Now)>,
    /// The keys and when they were used, oldest first.
    order: VecDeque<(Now, Arc<str>)>,
    forgotten_early: u64,
    /// The keys changed since changes were last taken; `None` if keys are not stored.
    changed: Option<HashSet<Arc<str>>>,
}

/// The beginning of the stored keys.
const PREFIX: &str = "key/";

/// The first byte of a stored value.
const VERSION: u8 = 1;

/// A stored value: the version, the fingerprint, and when the key was used, in
/// nanoseconds since 1970.
type Value = [u8; 1 + 2 * size_of::<u64>()];

/// Stored keys as JSON.
pub const READABLE_KEYS: ReadableForm = ReadableForm {
    prefix: PREFIX,
    to_json: |value| {
        let (_, fingerprint, used) = decode(PREFIX.as_bytes(), value)?;
        serde_json::to_value(KeyRecord { fingerprint, used }).ok()
    },
    from_json: |json| {
        let KeyRecord { fingerprint, used } =
            serde_json::from_value(json).map_err(|problem| problem.to_string())?;
        Ok(encode(fingerprint, used).to_vec())
    },
};

/// A stored key as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyRecord {
    /// The hash of the push.
    fingerprint: u64,
    /// When the key was used, in nanoseconds since 1970.
    used: u64,
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
        let state = State {
            limit,
            time,
            ..State::default()
        };
        IdempotencyKeys {
            state: Mutex::new(state),
        }
    }

    /// Changes how many keys are remembered, and for how long. Keys beyond a lower limit
    /// are forgotten with the next push.
    pub fn set_limits(&self, limit: usize, time: Duration) {
        let mut state = self.lock();
        (state.limit, state.time) = (limit, time);
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
        now: Now,
        apply: impl FnOnce() -> Result<(), E>,
    ) -> Result<KeyOutcome, E> {
        let mut state = self.lock();
        state.forget_expired(now);
        match state.used.get(key) {
            Some((same, _)) if *same == fingerprint => return Ok(KeyOutcome::Repeated),
            Some(_) => return Ok(KeyOutcome::Conflict),
            None => {}
        }
        apply()?;
        while state.order.len() >= state.limit {
            state.forget_oldest();
            state.forgotten_early += 1;
        }
        let key: Arc<str> = Arc::from(key);
        state.note(&key);
        state.used.insert(Arc::clone(&key), (fingerprint, now));
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
    fn forget_expired(&mut self, now: Now) {
        while let Some((used, _)) = self.order.front()
            && now.since(*used) >= self.time
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.used.remove(&key);
            self.note(&key);
        }
    }

    fn note(&mut self, key: &Arc<str>) {
        if let Some(changed) = &mut self.changed {
            changed.insert(Arc::clone(key));
        }
    }
}

impl Persistent for IdempotencyKeys {
    fn prefixes(&self) -> &'static [&'static str] {
        &[PREFIX]
    }

    fn layer(&self) -> Layer {
        Layer::Keys
    }

    fn restore(&self, stored: &StoredRecords<'_>, now: Now) -> Result<usize, ReadError> {
        let mut found: Vec<(Now, Arc<str>, u64)> = Vec::new();
        stored.each(&mut |key, value| {
            let (name, fingerprint, used) =
                decode(&key, &value).ok_or_else(|| ReadError::of_key(&key))?;
            found.push((now.at_unix_nanos(used), Arc::from(name), fingerprint));
            Ok(())
        })?;
        found.sort_by_key(|(used, ..)| used.tick);
        let mut state = self.lock();
        state.changed = Some(HashSet::new());
        for (used, key, fingerprint) in found {
            state.used.insert(Arc::clone(&key), (fingerprint, used));
            state.order.push_back((used, key));
        }
        state.forget_expired(now);
        while state.order.len() > state.limit {
            state.forget_oldest();
        }
        Ok(state.order.len())
    }

    fn take_changes(&self, now: Now, beneath: &mut dyn FnMut()) -> Changes {
        let mut state = self.lock();
        state.forget_expired(now);
        let changed = state.changed.as_mut().map(std::mem::take);
        let changed = changed.unwrap_or_default();
        let values: Vec<(Arc<str>, Option<Value>)> = changed
            .into_iter()
            .map(|key| {
                let used = state.used.get(&key);
                let value = used.map(|(fingerprint, used)| encode(*fingerprint, used.unix_nanos()));
                (key, value)
            })
            .collect();
        // While the lock is held, no push with a key is half done.
        beneath();
        drop(state);
        let record = |(key, value): (Arc<str>, Option<Value>)| Record {
            key: [PREFIX.as_bytes(), key.as_bytes()].concat(),
            value: value.map(Vec::from),
        };
        Changes::some(values.into_iter().map(record))
    }

    fn note_everything(&self) {
        let state = &mut *self.lock();
        if let Some(changed) = &mut state.changed {
            changed.extend(state.used.keys().cloned());
        }
    }
}

fn encode(fingerprint: u64, used: u64) -> Value {
    let mut value: Value = [VERSION; size_of::<Value>()];
    value[1..9].copy_from_slice(&fingerprint.to_be_bytes());
    value[9..].copy_from_slice(&used.to_be_bytes());
    value
}

/// The name, the fingerprint and the time in a record.
fn decode<'k>(key: &'k [u8], value: &[u8]) -> Option<(&'k str, u64, u64)> {
    let name = str::from_utf8(key.strip_prefix(PREFIX.as_bytes())?).ok()?;
    let value: &Value = value.try_into().ok()?;
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).ok();
    let read = (name, number(&value[1..9])?, number(&value[9..])?);
    (value[0] == VERSION).then_some(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Disk, moved};

    const TIME: Duration = Duration::from_secs(600);

    fn push(keys: &IdempotencyKeys, key: &str, fingerprint: u64, now: Now) -> KeyOutcome {
        let apply = || Ok::<(), ()>(());
        keys.apply_once(key, fingerprint, now, apply).unwrap()
    }

    #[test]
    fn a_push_counts_once_while_its_key_is_remembered() {
        let keys = IdempotencyKeys::new(10, TIME);
        let start = Now::read();
        assert_eq!(push(&keys, "a", 1, start), KeyOutcome::Applied);
        assert_eq!(
            push(&keys, "a", 1, start.after(TIME / 2)),
            KeyOutcome::Repeated
        );
        assert_eq!(
            push(&keys, "a", 2, start.after(TIME / 2)),
            KeyOutcome::Conflict
        );
        assert_eq!(push(&keys, "b", 2, start), KeyOutcome::Applied);
        assert_eq!(push(&keys, "a", 1, start.after(TIME)), KeyOutcome::Applied);
        assert_eq!(keys.counts(), (1, 0));
    }

    #[test]
    fn a_failed_push_can_be_sent_again() {
        let keys = IdempotencyKeys::new(10, TIME);
        let now = Now::read();
        assert_eq!(keys.apply_once("a", 1, now, || Err("no")), Err("no"));
        assert_eq!(push(&keys, "a", 1, now), KeyOutcome::Applied);
    }

    #[test]
    fn keys_are_limited_and_those_forgotten_early_are_counted() {
        let keys = IdempotencyKeys::new(2, TIME);
        let now = Now::read();
        for key in ["a", "b", "c"] {
            assert_eq!(push(&keys, key, 1, now), KeyOutcome::Applied);
        }
        assert_eq!(keys.counts(), (2, 1));
        assert_eq!(push(&keys, "b", 1, now), KeyOutcome::Repeated);
        assert_eq!(push(&keys, "a", 1, now), KeyOutcome::Applied);
    }

    #[test]
    fn keys_are_stored_with_their_times() {
        let disk = Disk::default();
        let new = || IdempotencyKeys::new(2, TIME);
        let (empty, keys) = (new(), new());
        let start = Now::read();
        moved(&empty, &disk, &keys, start);
        push(&keys, "old", 1, start);
        push(&keys, "new", 2, start.after(TIME / 2));
        let (first, second) = (new(), new());
        let now = start.after(TIME / 2);
        assert_eq!(moved(&keys, &disk, &first, now).1, 2);
        assert_eq!(push(&first, "old", 1, now), KeyOutcome::Repeated);
        assert_eq!(push(&first, "new", 1, now), KeyOutcome::Conflict);
        // Only changes are written: one key is added, and one is forgotten to make room.
        push(&keys, "newest", 3, now);
        let later = start.after(TIME);
        let (mut written, restored) = moved(&keys, &disk, &second, later);
        written.sort();
        assert_eq!(
            (written, restored),
            (vec!["key/newest".to_owned(), "key/old".to_owned()], 2)
        );
        assert_eq!(push(&second, "old", 1, later), KeyOutcome::Applied);
        assert_eq!(push(&second, "newest", 3, later), KeyOutcome::Repeated);
        keys.note_everything();
        assert_eq!(moved(&keys, &disk, &new(), later).0.len(), 2);
    }
}
