//! Artificial delays, which make durations worth looking at.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;

/// Random delays. The same seed gives the same sequence.
#[derive(Debug)]
pub struct Delays {
    rng: Mutex<Rng>,
    factor: f64,
}

impl Delays {
    /// Delays that are multiplied by `factor`; 0 turns them off.
    pub fn new(rng: Rng, factor: f64) -> Self {
        Delays {
            rng: Mutex::new(rng),
            factor,
        }
    }

    /// Waits for 0 to `below` - 1 milliseconds.
    pub async fn wait(&self, below: u64) {
        tokio::time::sleep(self.choose(below)).await;
    }

    fn choose(&self, below: u64) -> Duration {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_millis(rng.u64(..below)).mul_f64(self.factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_within_their_bound_and_follow_the_seed() {
        let choose = |seed, factor| -> Vec<Duration> {
            let delays = Delays::new(Rng::with_seed(seed), factor);
            (0..1000).map(|_| delays.choose(1000)).collect()
        };
        let chosen = choose(7, 1.0);
        assert_eq!(chosen, choose(7, 1.0));
        assert_ne!(chosen, choose(8, 1.0));
        assert!(chosen.iter().all(|it| *it < Duration::from_secs(1)));
        let mean = chosen.iter().sum::<Duration>() / 1000;
        assert!((450..550).contains(&mean.as_millis()), "{mean:?}");
        assert!(choose(7, 0.0).iter().all(Duration::is_zero));
    }
}
