//! Fairness: limits on what one sender may send, so that no sender starves others.
//!
//! - [`config`]: the settings of `[limits]`.
//! - [`Fairness`] gives each sender an [`Account`], to which inputs charge messages and
//!   bytes. A sender whose account is overdrawn has to [wait](Account::check).
//! - `bucket`: one rate of one sender; `table`: the buckets of all senders.
//!
//! HTTP rejects requests of an overdrawn account, sockets pause reading, and datagrams are
//! dropped. Shares of memory are checked by the [store](crate::store), which knows the size
//! of each section.

mod account;
mod bucket;
pub mod config;
mod table;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::{sleep, timeout};

pub use account::{Account, Excess};
pub use bucket::Bucket;
pub use config::Limits;

use self::table::Table;
use crate::clock;
use crate::peer::{Peer, Sender};
use crate::telemetry::{FairnessStats, Limited};

/// The longest pause in reading a connection because of a rate. If a longer one is due, the
/// connection is closed.
pub const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Whether a sender that would have to pause for too long has sent everything. Then it
/// needs no error reply.
pub async fn has_ended(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    /// The end can arrive a little after the last message.
    const WAIT: Duration = Duration::from_millis(100);
    matches!(timeout(WAIT, stream.read(&mut [0])).await, Ok(Ok(0)))
}

/// The rates of all senders.
#[derive(Debug)]
pub struct Fairness {
    limits: RwLock<Arc<Limits>>,
    /// Changes with the limits; 0 while there are none.
    version: AtomicU64,
    limits_apps: AtomicBool,
    /// The origin of the times in buckets.
    start: Instant,
    table: Table,
    stats: Arc<FairnessStats>,
}

impl Fairness {
    /// Applies `limits` from `now` on.
    pub fn new(limits: Limits, stats: &Arc<FairnessStats>, now: Instant) -> Self {
        let fairness = Fairness {
            limits: RwLock::default(),
            version: AtomicU64::new(0),
            limits_apps: AtomicBool::new(false),
            start: now,
            table: Table::new(Arc::clone(stats)),
            stats: Arc::clone(stats),
        };
        fairness.set_limits(limits);
        fairness
    }

    /// Creates a value without limits.
    pub fn unlimited() -> Self {
        Fairness::new(Limits::default(), &Arc::default(), clock::tick())
    }

    /// Replaces the limits. Usage so far still counts.
    pub fn set_limits(&self, limits: Limits) {
        let mut current = self.limits.write().unwrap_or_else(PoisonError::into_inner);
        // 0 is reserved for no limits.
        let version = match limits.have_rates() {
            true => self.table.next_version(),
            false => 0,
        };
        let limits_apps = limits.app.has_rates();
        self.limits_apps.store(limits_apps, Ordering::Relaxed);
        *current = Arc::new(limits);
        self.version.store(version, Ordering::Release);
    }

    /// Whether any rate is limited. If not, no accounts are needed.
    pub fn is_active(&self) -> bool {
        self.version.load(Ordering::Relaxed) != 0
    }

    /// Whether the rates of apps are limited.
    pub fn limits_apps(&self) -> bool {
        self.limits_apps.load(Ordering::Relaxed)
    }

    /// The account of an address and a user. It is empty if no limits apply to them.
    pub fn account(&self, peer: Peer, user: Option<&str>) -> Account {
        let version = self.version.load(Ordering::Acquire);
        if version == 0 {
            return Account::default();
        }
        let limits = self.limits();
        let sender = Sender::from(peer);
        let has_address = limits.address.has_rates() && (limits.loopback || !sender.is_local());
        let address = has_address.then(|| self.table.usage(Limited::Address, &sender));
        let user = user.filter(|_| limits.user.has_rates());
        let user = user.map(|user| self.table.usage(Limited::User, user));
        Account::new(self.start, version, limits, [address, user])
    }

    /// Renews an account if the limits have changed since it was made.
    pub fn renew(&self, account: &mut Account, peer: Peer, user: Option<&str>) {
        if account.version() != self.version.load(Ordering::Relaxed) {
            *account = self.account(peer, user);
        }
    }

    /// The account of an app; `None` if apps have no rates.
    pub fn app(&self, name: &str) -> Option<Account> {
        if !self.limits_apps() {
            return None;
        }
        let version = self.version.load(Ordering::Acquire);
        let limits = self.limits();
        let usage = self.table.usage(Limited::App, name);
        Some(Account::of_app(self.start, version, limits, usage))
    }

    /// Counts an exceeded rate: the sender's message was rejected or dropped, or it had to wait.
    pub fn count(&self, excess: &Excess) {
        self.stats.count(excess.limited, excess.resource);
    }

    /// Waits until an account is no longer overdrawn. A wait is counted.
    ///
    /// # Errors
    ///
    /// The wait would be longer than [`MAX_PAUSE`].
    pub async fn pause(&self, account: &Account) -> Result<(), Excess> {
        let mut left = MAX_PAUSE;
        while let Err(excess) = account.check(clock::tick()) {
            if left == MAX_PAUSE {
                self.count(&excess);
            }
            left = left.checked_sub(excess.wait).ok_or(excess)?;
            self.stats.count_pause(excess.wait);
            sleep(excess.wait).await;
        }
        Ok(())
    }

    fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits.read().unwrap_or_else(PoisonError::into_inner))
    }
}
