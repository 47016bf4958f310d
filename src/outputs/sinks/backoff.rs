//! The wait between two tries: exponential, with jitter.

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::time::Duration;

/// The wait after the first failure. Each further failure doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The longest wait: an outage that ends is noticed within this time.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The longest wait that the other system can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The part of a wait that is random. It keeps proxies that lost the same system from all
/// returning in the same moment.
const JITTER: f64 = 0.5;

/// Computes the wait before each try.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Backoff { next: FIRST_WAIT }
    }

    /// Starts again with the shortest wait, after a success.
    pub(super) fn reset(&mut self) {
        self.next = FIRST_WAIT;
    }

    /// The wait after a failure. `random` is between 0 and 1. If the other system `asked` for a
    /// longer wait, it gets that, up to [`LONGEST_PAUSE`].
    pub(super) fn wait(&mut self, random: f64, asked: Option<Duration>) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST_WAIT);
        let wait = wait.mul_f64(1.0 - JITTER * random);
        // The system may have told all its clients the same time.
        let asked = asked.unwrap_or_default().min(LONGEST_PAUSE);
        wait.max(asked + asked.min(LONGEST_WAIT).mul_f64(JITTER * random))
    }
}

/// A number between 0 and 1, good enough to spread waits.
pub(super) fn random() -> f64 {
    let bits = RandomState::new().hash_one(());
    bits as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_again_after_a_success() {
        let mut backoff = Backoff::new();
        let waits: Vec<u128> = (0..8)
            .map(|_| backoff.wait(0.0, None).as_millis())
            .collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.wait(0.0, None), FIRST_WAIT);
    }

    #[test]
    fn jitter_shortens_a_wait_by_half_at_most() {
        for random in [0.0, 0.3, 1.0, random(), random()] {
            let wait = Backoff::new().wait(random, None);
            assert!((FIRST_WAIT / 2..=FIRST_WAIT).contains(&wait), "{wait:?}");
        }
    }

    #[test]
    fn the_other_system_can_ask_for_a_longer_wait_within_bounds() {
        let asked = |seconds| Backoff::new().wait(0.0, Some(Duration::from_secs(seconds)));
        assert_eq!(asked(0), FIRST_WAIT);
        assert_eq!(asked(7), Duration::from_secs(7));
        assert_eq!(asked(100_000), LONGEST_PAUSE);
        let spread = Backoff::new().wait(1.0, Some(Duration::from_secs(4)));
        assert_eq!(spread, Duration::from_secs(6));
    }
}
