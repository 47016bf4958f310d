//! Warnings of which there may be very many.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A warning of one sort is logged at most this often.
const INTERVAL: Duration = Duration::from_secs(1);

/// Counts warnings, and lets one through now and then.
#[derive(Debug, Default)]
pub struct Complaints(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    told: Option<Instant>,
    untold: u64,
}

impl Complaints {
    /// Tells, with how often it was complained since it was last told; or only
    /// counts. No lock is held while it is told.
    pub fn tell(&self, tell: impl FnOnce(u64)) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.untold += 1;
        if state.told.is_some_and(|told| told.elapsed() < INTERVAL) {
            return;
        }
        let times = std::mem::take(&mut state.untold);
        state.told = Some(Instant::now());
        drop(state);
        tell(times);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_too_often_is_only_counted() {
        let complaints = Complaints::default();
        let mut told = Vec::new();
        for _ in 0..5 {
            complaints.tell(|times| told.push(times));
        }
        assert_eq!(told, [1]);
        complaints.0.lock().unwrap().told = None;
        complaints.tell(|times| told.push(times));
        assert_eq!(told, [1, 5]);
    }
}
