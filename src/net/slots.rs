//! Permits for connections, and who has to go when they run out.
//!
//! A plain semaphore lets silent connections keep everybody else out. Here,
//! when no permit is free, the connection that has not moved for longest is
//! asked to go, if it has been still for [`LEAST_STILL`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::telemetry::ListenerStats;

/// A connection that moved more recently is not evicted: between a sender's
/// connecting and its first byte there is always a moment of silence.
const LEAST_STILL: Duration = Duration::from_secs(1);

/// How long to wait for a permit before looking again for somebody to evict.
const RECHECK: Duration = Duration::from_millis(100);

/// The connections of one listener, at most so many.
#[derive(Debug)]
pub struct Slots {
    permits: Arc<Semaphore>,
    open: Mutex<HashMap<u64, Arc<Slot>>>,
    next: AtomicU64,
    stats: Arc<ListenerStats>,
}

/// What is known of one open connection.
#[derive(Debug)]
pub struct Slot {
    moved_at: AtomicU64,
    evicted: AtomicBool,
    evict: Notify,
}

/// Holds a place among the connections until it is dropped.
#[derive(Debug)]
pub struct Claim {
    pub slot: Arc<Slot>,
    slots: Arc<Slots>,
    id: u64,
    _permit: OwnedSemaphorePermit,
}

impl Slots {
    pub fn new(limit: usize, stats: Arc<ListenerStats>) -> Arc<Self> {
        Arc::new(Slots {
            permits: Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS))),
            open: Mutex::default(),
            next: AtomicU64::new(0),
            stats,
        })
    }

    /// Waits for a place, and makes one where a connection lies still.
    pub async fn claim(self: &Arc<Self>) -> Claim {
        let permit = loop {
            if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
                break permit;
            }
            self.evict_stillest();
            if let Ok(Ok(permit)) =
                timeout(RECHECK, Arc::clone(&self.permits).acquire_owned()).await
            {
                break permit;
            }
        };
        let slot = Arc::new(Slot {
            moved_at: AtomicU64::new(tick()),
            evicted: AtomicBool::new(false),
            evict: Notify::new(),
        });
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.open().insert(id, Arc::clone(&slot));
        self.stats.open.fetch_add(1, Ordering::Relaxed);
        Claim {
            slot,
            slots: Arc::clone(self),
            id,
            _permit: permit,
        }
    }

    /// Asks the connection that has been still for longest to go. One that
    /// was asked already is not asked again.
    pub fn evict_stillest(&self) {
        let stillest = self
            .open()
            .values()
            .filter(|slot| !slot.evicted.load(Ordering::Relaxed))
            .min_by_key(|slot| slot.moved_at.load(Ordering::Relaxed))
            .map(Arc::clone);
        if let Some(slot) = stillest
            && slot.still_for() >= LEAST_STILL
        {
            slot.evicted.store(true, Ordering::Relaxed);
            slot.evict.notify_one();
            self.stats.evicted.add(1);
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Slot>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Notes that bytes came or went.
    pub fn touch(&self) {
        self.moved_at.store(tick(), Ordering::Relaxed);
    }

    /// Resolves when the connection is asked to go.
    pub async fn evicted(&self) {
        self.evict.notified().await;
    }

    fn still_for(&self) -> Duration {
        Duration::from_millis(tick().saturating_sub(self.moved_at.load(Ordering::Relaxed)))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.slots.open().remove(&self.id);
        self.slots.stats.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Milliseconds since the program first asked.
fn tick() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_stillest_connection_makes_room() {
        let stats = Arc::new(ListenerStats::default());
        let slots = Slots::new(2, Arc::clone(&stats));
        let older = slots.claim().await;
        let newer = slots.claim().await;
        older.slot.moved_at.store(0, Ordering::Relaxed);
        tokio::time::sleep(LEAST_STILL).await;
        newer.slot.touch();

        let third = tokio::spawn({
            let slots = Arc::clone(&slots);
            async move { slots.claim().await }
        });
        older.slot.evicted().await;
        drop(older);
        let third = third.await.unwrap();
        assert_eq!(stats.evicted.value(), 1);
        assert_eq!(stats.open(), 2);
        assert!(!newer.slot.evicted.load(Ordering::Relaxed));
        drop((newer, third));
        assert_eq!(stats.open(), 0);
    }

    #[tokio::test]
    async fn a_connection_that_just_moved_is_not_evicted() {
        let stats = Arc::new(ListenerStats::default());
        let slots = Slots::new(1, Arc::clone(&stats));
        let busy = slots.claim().await;
        assert!(timeout(RECHECK, slots.claim()).await.is_err());
        assert_eq!(stats.evicted.value(), 0);
        drop(busy);
        slots.claim().await;
    }
}
