//! Places for connections, and who has to go when they run out.
//!
//! Progress keeps a place, and bytes alone are none: a message or request that
//! is completed, or one that grows by [`GROWTH`]. When all places are taken and
//! somebody waits,
//!
//! 1. no holder (an address, or a user of this machine) has more than its share
//!    while one that has less waits. Where all connections are of one, as those
//!    of local senders are, its share is all there is;
//! 2. else a connection goes that made no progress for [`LEAST_STILL`]: one that
//!    never completed anything before one that did, then the stillest. A
//!    [`RESERVE`] of those that did is safe from the others.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::peer::Peer;
use crate::telemetry::{Eviction, ListenerStats};

/// A connection that made progress more recently is not still: between a
/// sender's connecting and its first message there is always a moment.
const LEAST_STILL: Duration = Duration::from_secs(1);

/// Bytes by which an unfinished message grows, or an answer is taken, that are
/// progress. A sender of fewer a second is as good as still.
const GROWTH: usize = 4 * 1024;

/// One in `RESERVE` places is kept for connections that completed something, such
/// as those of scrapers. New connections wait until others become still instead of
/// taking these.
const RESERVE: usize = 4;

/// The connections of one listener, at most so many.
#[derive(Debug)]
pub struct Slots {
    permits: Arc<Semaphore>,
    limit: usize,
    open: Mutex<HashMap<u64, Arc<Slot>>>,
    next: AtomicU64,
    stats: Arc<ListenerStats>,
}

/// What is known of one open connection.
#[derive(Debug)]
pub struct Slot {
    holder: Holder,
    progressed_at: AtomicI64,
    /// Bytes moved since then.
    grown: AtomicUsize,
    /// Whether bytes that are read are of a message that grows, and not of a
    /// head or between messages.
    reads_message: AtomicBool,
    /// Whether bytes that are written are of an answer that keeps the place.
    writes_answer: AtomicBool,
    /// Whether it ever completed a message or request that counts.
    proven: AtomicBool,
    evicted: AtomicBool,
    evict: Notify,
}

/// Whose connections share the places of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    /// An IPv4 address, or the network that one IPv6 subscriber has.
    Address(IpAddr),
    /// A user of this machine.
    User(u32),
    Unknown,
}

impl From<Peer> for Holder {
    fn from(peer: Peer) -> Self {
        /// A subscriber chooses the lower half of its IPv6 addresses at will.
        const NETWORK: u128 = !0 << 64;
        match peer {
            Peer::Tcp(address) => Holder::Address(match address.ip().to_canonical() {
                IpAddr::V6(ip) if !ip.is_loopback() => {
                    IpAddr::V6((u128::from(ip) & NETWORK).into())
                }
                ip => ip,
            }),
            Peer::Unix { uid, .. } => Holder::User(uid),
            Peer::Unknown => Holder::Unknown,
        }
    }
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
        let limit = limit.min(Semaphore::MAX_PERMITS);
        stats.max.store(limit, Ordering::Relaxed);
        Arc::new(Slots {
            permits: Arc::new(Semaphore::new(limit)),
            limit,
            open: Mutex::default(),
            next: AtomicU64::new(0),
            stats,
        })
    }

    /// A permit, once there is one.
    pub async fn permit(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        permit.expect("the semaphore is never closed")
    }

    /// A permit, if there is one.
    pub fn try_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    /// Gives the place of a permit to a connection.
    pub fn claim(self: &Arc<Self>, holder: Holder, permit: OwnedSemaphorePermit) -> Claim {
        let slot = Arc::new(Slot::new(holder));
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

    /// Asks connections to go so that those of `waiting` get their places, as
    /// far as some may be asked. Those that were asked before and are still
    /// here count. Returns whether any is about to go.
    pub fn make_room(&self, waiting: &[Holder]) -> bool {
        let open = self.open();
        let mut places = Places::of(self.limit, open.values(), waiting);
        let mut leaving = open.len() - places.staying.len();
        for holder in waiting.iter().skip(leaving) {
            if let Some((slot, why)) = places.free_one(*holder) {
                slot.evict(&self.stats, why);
                leaving += 1;
            }
        }
        leaving > 0
    }

    /// Asks the stillest connection to go: it gives back what it holds of
    /// descriptors and memory.
    pub fn evict_stillest(&self) {
        let open = self.open();
        let staying = open.values().filter(|slot| !slot.is_evicted());
        let still = staying.filter(|slot| slot.is_still());
        if let Some(slot) = still.min_by_key(|slot| slot.rank()) {
            slot.evict(&self.stats, Eviction::AcceptError);
        }
    }

    /// The place in `waiting` of who is served first: whose holder has the
    /// fewest connections, and of several the first.
    pub fn first_served(&self, waiting: &[Holder]) -> usize {
        let open = self.open();
        let places = Places::of(self.limit, open.values(), waiting);
        let by_held = |at: &usize| places.held(waiting[*at]);
        (0..waiting.len()).min_by_key(by_held).unwrap_or(0)
    }

    /// The place in `waiting` of who is turned away where too many wait: whose
    /// holder has the most connections, and of several the first, which has
    /// waited for longest.
    pub fn turned_away(&self, waiting: &[Holder]) -> usize {
        let open = self.open();
        let places = Places::of(self.limit, open.values(), waiting);
        let by_held = |at: &usize| Reverse(places.held(waiting[*at]));
        self.stats.count_evicted(Eviction::Full);
        (0..waiting.len()).min_by_key(by_held).unwrap_or(0)
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Slot>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who has the places of a listener that is full.
struct Places<'s> {
    limit: usize,
    /// Connections that were not asked to go.
    staying: Vec<&'s Slot>,
    proven: usize,
    /// How many of them each holder has. Holders that wait are here too.
    held: HashMap<Holder, usize>,
}

impl<'s> Places<'s> {
    fn of(limit: usize, open: impl Iterator<Item = &'s Arc<Slot>>, waiting: &[Holder]) -> Self {
        let staying: Vec<&Slot> = open
            .map(|slot| &**slot)
            .filter(|slot| !slot.is_evicted())
            .collect();
        let mut held: HashMap<Holder, usize> = HashMap::new();
        for slot in &staying {
            *held.entry(slot.holder).or_default() += 1;
        }
        for holder in waiting {
            held.entry(*holder).or_default();
        }
        Places {
            limit,
            proven: staying.iter().filter(|slot| slot.is_proven()).count(),
            staying,
            held,
        }
    }

    fn held(&self, holder: Holder) -> usize {
        self.held.get(&holder).copied().unwrap_or_default()
    }

    /// Takes out the connection that goes for one of `holder`, if one may.
    fn free_one(&mut self, holder: Holder) -> Option<(&'s Slot, Eviction)> {
        let share = (self.limit / self.held.len().max(1)).max(1);
        let is_under = self.held(holder) < share;
        let is_over = |slot: &Slot| self.held(slot.holder) > share;
        // Few that have completed something are safe from any number of
        // others that have not.
        let spare_proven = self.proven <= self.limit / RESERVE && self.proven < self.staying.len();
        let may_go = |slot: &Slot| {
            if is_over(slot) && is_under {
                return true;
            }
            let is_fair = is_under || slot.holder == holder || !slot.is_proven() || is_over(slot);
            slot.is_still() && is_fair && !(slot.is_proven() && spare_proven)
        };
        let candidates = self.staying.iter().enumerate();
        let (at, slot) = candidates
            .filter(|(_, slot)| may_go(slot))
            .min_by_key(|(_, slot)| (!is_over(slot), !slot.is_still(), slot.rank()))?;
        let why = match slot.is_still() {
            true => Eviction::Idle,
            false => Eviction::Share,
        };
        let slot = self.staying.swap_remove(at);
        self.proven -= usize::from(slot.is_proven());
        *self.held.entry(slot.holder).or_default() -= 1;
        *self.held.entry(holder).or_default() += 1;
        Some((slot, why))
    }
}

impl Slot {
    fn new(holder: Holder) -> Self {
        Slot {
            holder,
            progressed_at: AtomicI64::new(tick()),
            grown: AtomicUsize::new(0),
            reads_message: AtomicBool::new(false),
            writes_answer: AtomicBool::new(false),
            proven: AtomicBool::new(false),
            evicted: AtomicBool::new(false),
            evict: Notify::new(),
        }
    }

    /// Notes that a message or request was completed.
    pub fn complete(&self) {
        self.proven.store(true, Ordering::Relaxed);
        self.progressed_at.store(tick(), Ordering::Relaxed);
    }

    /// Notes that a message grew, or that more of an answer was taken.
    pub fn grow(&self, bytes: usize) {
        let grown = self.grown.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if grown >= GROWTH {
            self.grown.store(0, Ordering::Relaxed);
            self.progressed_at.store(tick(), Ordering::Relaxed);
        }
    }

    /// Notes that a request came, whose body may follow.
    pub fn begin_request(&self) {
        self.grown.store(0, Ordering::Relaxed);
        self.writes_answer.store(false, Ordering::Relaxed);
        self.read_message(true);
    }

    /// Notes that a request is done and its answer goes out. One that `counts`
    /// is progress, and so is every part of its answer that is taken.
    pub fn end_request(&self, counts: bool) {
        self.read_message(false);
        self.writes_answer.store(counts, Ordering::Relaxed);
        if counts {
            self.complete();
        }
    }

    /// Notes that from now on a message is read, or that it has come to an end.
    pub fn read_message(&self, begun: bool) {
        self.reads_message.store(begun, Ordering::Relaxed);
    }

    pub(super) fn count_read(&self, bytes: usize) {
        if self.reads_message.load(Ordering::Relaxed) {
            self.grow(bytes);
        }
    }

    pub(super) fn count_written(&self, bytes: usize) {
        if self.writes_answer.load(Ordering::Relaxed) {
            self.grow(bytes);
        }
    }

    /// Resolves when the connection is asked to go.
    pub async fn evicted(&self) {
        self.evict.notified().await;
    }

    fn evict(&self, stats: &ListenerStats, why: Eviction) {
        if !self.evicted.swap(true, Ordering::Relaxed) {
            self.evict.notify_one();
            stats.count_evicted(why);
        }
    }

    fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed)
    }

    fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    fn is_still(&self) -> bool {
        let since = tick().saturating_sub(self.progressed_at.load(Ordering::Relaxed));
        since >= LEAST_STILL.as_millis() as i64
    }

    /// Who goes first has the lowest.
    fn rank(&self) -> (bool, i64) {
        (self.is_proven(), self.progressed_at.load(Ordering::Relaxed))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.slots.open().remove(&self.id);
        self.slots.stats.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Milliseconds since the first call.
fn tick() -> i64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_millis() as i64
}

#[cfg(test)]
mod tests;
