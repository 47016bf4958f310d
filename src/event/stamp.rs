//! The identity of an event, and the time of its arrival.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::clock::Now;

/// The identity of an event, and when it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// A number that no other event has, in this process or another.
    pub id: u128,
    /// When it arrived, in nanoseconds since 1970. Later events of a process have later
    /// times: a log store may drop an entry that has the time and the text of another.
    pub arrived: i64,
}

impl Stamp {
    /// The bytes of a stamp.
    pub(super) const SIZE: usize = size_of::<u128>() + size_of::<i64>();

    pub(super) fn to_bytes(self) -> [u8; Stamp::SIZE] {
        let mut bytes = [0; Stamp::SIZE];
        let (id, arrived) = bytes.split_at_mut(size_of::<u128>());
        id.copy_from_slice(&self.id.to_be_bytes());
        arrived.copy_from_slice(&self.arrived.to_be_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: [u8; Stamp::SIZE]) -> Self {
        let (id, arrived) = bytes.split_at(size_of::<u128>());
        Stamp {
            id: u128::from_be_bytes(id.try_into().unwrap_or_default()),
            arrived: i64::from_be_bytes(arrived.try_into().unwrap_or_default()),
        }
    }
}

/// Issues stamps.
#[derive(Debug)]
pub struct Stamper {
    /// The first half of all identities.
    process: u64,
    events: AtomicU64,
    last: AtomicI64,
}

impl Default for Stamper {
    /// Issues stamps of this process.
    fn default() -> Self {
        Stamper::new(RandomState::new().hash_one(std::process::id()))
    }
}

impl Stamper {
    /// Issues stamps whose identities begin with `process`, a random number.
    pub fn new(process: u64) -> Self {
        Stamper {
            process,
            events: AtomicU64::new(0),
            last: AtomicI64::new(i64::MIN),
        }
    }

    /// The stamp of an event that arrives now.
    pub fn next(&self, now: Now) -> Stamp {
        let now = i64::try_from(now.unix_nanos()).unwrap_or(i64::MAX);
        let later = |last: i64| now.max(last.saturating_add(1));
        let update = |last| Some(later(last));
        let last = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
        let event = self.events.fetch_add(1, Ordering::Relaxed);
        Stamp {
            id: (u128::from(self.process) << 64) | u128::from(event),
            arrived: last.map_or(now, later),
        }
    }
}
