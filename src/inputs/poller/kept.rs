//! Memory of large responses, kept from poll to poll.
//!
//! A text of some megabytes is freed once it is parsed. The allocator gives such memory back to
//! the system soon, and the page faults of new memory would take a good part of the time of the
//! next poll. For the same reason, the samples of a text are written over those of the
//! text before the last ([`KnownText`](crate::exposition::KnownText)).

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::clock::tick;
use crate::net::{BudgetShare, MemoryBudget};

/// The minimum capacity of a kept buffer. The allocator keeps smaller ones itself.
pub const LEAST: usize = 256 << 10;

/// The limit on bytes of buffers that wait for their next use.
const MOST: usize = 32 << 20;

/// The limit on bytes of samples that all targets together keep to overwrite.
const MOST_SAMPLES: usize = 32 << 20;

/// The budget for these samples.
static SAMPLES: LazyLock<Arc<MemoryBudget>> =
    LazyLock::new(|| Arc::new(MemoryBudget::new(MOST_SAMPLES, Arc::default())));

/// The part of a buffer that may stay unused: 1/16.
const UNUSED_SHARE: usize = 16;

/// Spare room for a next text that is a little longer: 1/64.
const GROWTH_SHARE: usize = 64;

static KEPT: Mutex<Kept> = Mutex::new(Kept {
    buffers: VecDeque::new(),
    bytes: 0,
});

/// Buffers that wait for their next use, the oldest first.
#[derive(Debug)]
struct Kept {
    buffers: VecDeque<(Vec<u8>, Instant)>,
    /// The sum of their capacities.
    bytes: usize,
}

impl Kept {
    fn take(&mut self, length: usize) -> Vec<u8> {
        let fits = |buffer: &Vec<u8>| fits(buffer.capacity(), length);
        let at = self.buffers.iter().rposition(|(buffer, _)| fits(buffer));
        match at.and_then(|at| self.buffers.remove(at)) {
            Some((buffer, _)) => {
                self.bytes -= buffer.capacity();
                buffer
            }
            None => Vec::with_capacity(length + length / GROWTH_SHARE),
        }
    }

    fn keep(&mut self, buffer: Vec<u8>, now: Instant) {
        let bytes = buffer.capacity();
        if !(LEAST..=MOST).contains(&bytes) {
            return;
        }
        while self.bytes + bytes > MOST {
            self.drop_oldest();
        }
        self.bytes += bytes;
        self.buffers.push_back((buffer, now));
    }

    fn drop_unused(&mut self, age: Duration, now: Instant) {
        let is_old = |since: Instant| now.saturating_duration_since(since) >= age;
        while self
            .buffers
            .front()
            .is_some_and(|(_, since)| is_old(*since))
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((buffer, _)) = self.buffers.pop_front() {
            self.bytes -= buffer.capacity();
        }
    }
}

/// An empty share of the budget, for the samples that one target keeps.
pub fn share() -> BudgetShare {
    BudgetShare::new(&SAMPLES)
}

/// Whether a buffer of `capacity` bytes holds `length` bytes with little unused.
pub fn fits(capacity: usize, length: usize) -> bool {
    (length..=length + length / UNUSED_SHARE).contains(&capacity)
}

/// Returns an empty buffer for `length` bytes: a kept one if one fits, or a new one, which takes
/// no physical memory until it is filled.
pub fn take(length: usize) -> Vec<u8> {
    match length < LEAST {
        true => Vec::with_capacity(length),
        false => kept().take(length),
    }
}

/// Keeps the memory of a body, unless something still reads it.
pub fn keep(body: Bytes) {
    if body.len() < LEAST {
        return;
    }
    if let Ok(mut buffer) = body.try_into_mut() {
        buffer.clear();
        kept().keep(buffer.into(), tick());
    }
}

/// Frees buffers that were not used for `age`, such as those of removed targets.
pub fn drop_unused(age: Duration) {
    kept().drop_unused(age, tick());
}

fn kept() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Kept {
        Kept {
            buffers: VecDeque::new(),
            bytes: 0,
        }
    }

    #[test]
    fn memory_is_used_again_where_it_fits() {
        let (mut kept, now) = (empty(), tick());
        let buffer = kept.take(2 * LEAST);
        let (address, capacity) = (buffer.as_ptr(), buffer.capacity());
        kept.keep(buffer, now);
        assert_eq!(kept.bytes, capacity);
        for (length, why) in [
            (LEAST, "it is far too large"),
            (3 * LEAST, "it is too small"),
        ] {
            assert_ne!(kept.take(length).capacity(), capacity, "{why}");
        }
        let again = kept.take(2 * LEAST + 9);
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
        assert_eq!((kept.buffers.len(), kept.bytes), (0, 0));
    }

    #[test]
    fn what_is_kept_has_a_limit_and_an_age() {
        let (mut kept, now) = (empty(), tick());
        let minute = Duration::from_secs(60);
        kept.keep(Vec::with_capacity(LEAST - 1), now);
        kept.keep(Vec::with_capacity(MOST + 1), now);
        assert_eq!(kept.bytes, 0);
        for part in 0..3 {
            kept.keep(Vec::with_capacity(MOST / 2), now + part * minute);
            assert!(kept.bytes <= MOST);
        }
        assert_eq!(kept.buffers.len(), 2, "the oldest gave way");
        kept.drop_unused(minute, now + 2 * minute);
        assert_eq!((kept.buffers.len(), kept.bytes), (1, MOST / 2));
        kept.drop_unused(minute, now + 3 * minute);
        assert_eq!((kept.buffers.len(), kept.bytes), (0, 0));
    }
}
