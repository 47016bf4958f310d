//! Failed attempts to authenticate, by address. An address that fails too often has to
//! wait, so that passwords cannot be guessed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::peer::{Peer, Sender};

/// The number of failures that an address can have at once.
const BURST: f64 = 20.0;

/// The time after which an address can have one more failure.
const REFILL: Duration = Duration::from_secs(2);

/// The limit on remembered addresses. Past it, those whose last failures are oldest are forgotten.
const MAX_ADDRESSES: usize = 10_000;

/// The failure allowance of one sender.
#[derive(Debug, Clone, Copy)]
struct Failures {
    /// The number of failures that remain.
    left: f64,
    /// The time at which they remained.
    at: Instant,
}

impl Failures {
    fn left(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.at);
        (self.left + elapsed.as_secs_f64() / REFILL.as_secs_f64()).min(BURST)
    }
}

/// The failures of all addresses.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<HashMap<Sender, Failures>>);

impl Attempts {
    /// Checks that a peer may try.
    ///
    /// # Errors
    ///
    /// The peer must wait for this long.
    pub fn check(&self, peer: Peer, now: Instant) -> Result<(), Duration> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(failures) = table.get(&Sender::from(peer)) else {
            return Ok(());
        };
        let left = failures.left(now);
        match left >= 1.0 {
            true => Ok(()),
            false => Err(REFILL.mul_f64(1.0 - left)),
        }
    }

    /// Records a failure of a peer.
    pub fn fail(&self, peer: Peer, now: Instant) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = Sender::from(peer);
        if table.len() >= MAX_ADDRESSES && !table.contains_key(&sender) {
            forget_oldest(&mut table);
        }
        let failures = table.entry(sender).or_insert(Failures {
            left: BURST,
            at: now,
        });
        *failures = Failures {
            left: (failures.left(now) - 1.0).max(0.0),
            at: now,
        };
    }
}

/// Forgets the older half of the addresses, rather than one at a time.
fn forget_oldest(table: &mut HashMap<Sender, Failures>) {
    let mut times: Vec<Instant> = table.values().map(|failures| failures.at).collect();
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    let median = *median;
    let mut excess = table.len() / 2;
    table.retain(|_, failures| {
        let forgotten = failures.at <= median && excess > 0;
        excess -= usize::from(forgotten);
        !forgotten
    });
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn peer(address: &str) -> Peer {
        Peer::Tcp(SocketAddr::new(address.parse().unwrap(), 1))
    }

    #[test]
    fn an_address_that_fails_too_often_waits() {
        let attempts = Attempts::default();
        let start = Instant::now();
        for _ in 0..20 {
            assert_eq!(attempts.check(peer("10.0.0.1"), start), Ok(()));
            attempts.fail(peer("10.0.0.1"), start);
        }
        assert_eq!(attempts.check(peer("10.0.0.1"), start), Err(REFILL));
        assert_eq!(attempts.check(peer("10.0.0.2"), start), Ok(()));
        let later = start + REFILL;
        assert_eq!(attempts.check(peer("10.0.0.1"), later), Ok(()));
        attempts.fail(peer("10.0.0.1"), later);
        assert!(attempts.check(peer("10.0.0.1"), later).is_err());
        let much_later = later + REFILL * 100;
        assert_eq!(attempts.check(peer("10.0.0.1"), much_later), Ok(()));
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let attempts = Attempts::default();
        let now = Instant::now();
        for host in 0..20 {
            attempts.fail(peer(&format!("2001:db8::{host:x}")), now);
        }
        assert!(attempts.check(peer("2001:db8::ffff"), now).is_err());
        assert_eq!(attempts.check(peer("2001:db8:0:1::1"), now), Ok(()));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let attempts = Attempts::default();
        let start = Instant::now();
        let address = |index: usize| peer(&format!("10.{}.{}.1", index / 250, index % 250));
        for index in 0..=MAX_ADDRESSES {
            let now = start + Duration::from_millis(index as u64);
            for _ in 0..20 {
                attempts.fail(address(index), now);
            }
        }
        let held = attempts.0.lock().unwrap().len();
        assert!(held <= MAX_ADDRESSES, "{held}");
        let now = start + Duration::from_millis(MAX_ADDRESSES as u64);
        assert!(attempts.check(address(MAX_ADDRESSES), now).is_err());
        assert_eq!(attempts.check(address(0), now), Ok(()));
    }
}
