//! Counts by result: `ok`, or the reason for failure.

use std::array::from_fn;

use super::Counter;
use crate::reason::Reason;

/// The `result` label of success, in every family.
pub const OK: &str = "ok";

/// One counter for success, and one for each reason for failure.
#[derive(Debug)]
pub struct ResultCounts {
    ok: Counter,
    failed: [Counter; Reason::ALL.len()],
}

impl Default for ResultCounts {
    fn default() -> Self {
        ResultCounts {
            ok: Counter::default(),
            failed: from_fn(|_| Counter::default()),
        }
    }
}

impl ResultCounts {
    /// Adds `amount` to the count of `result`.
    pub fn count(&self, result: Result<(), Reason>, amount: u64) {
        match result {
            Ok(()) => self.ok.add(amount),
            Err(reason) => self.failed[reason as usize].add(amount),
        }
    }

    /// The count of successes.
    pub fn ok(&self) -> u64 {
        self.ok.value()
    }

    /// The count of failures for that reason.
    pub fn failed(&self, reason: Reason) -> u64 {
        self.failed[reason as usize].value()
    }

    /// Results and their counts, sorted by result. Success is always included, so that its rate
    /// is right from the first event; a failure is included once it was counted.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let failures = Reason::ALL.iter().zip(&self.failed);
        let failures = failures.map(|(reason, count)| (reason.as_str(), count.value()));
        let mut counts: Vec<_> = failures.filter(|(_, count)| *count > 0).collect();
        counts.push((OK, self.ok.value()));
        counts.sort_unstable();
        counts
    }
}

/// The value of the `result` label.
pub fn label(result: Result<(), Reason>) -> &'static str {
    result.map_or_else(Reason::as_str, |()| OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_is_always_included_and_a_failure_once_it_was_counted() {
        let results = ResultCounts::default();
        assert_eq!(results.counts(), [("ok", 0)]);
        results.count(Ok(()), 3);
        results.count(Err(Reason::Timeout), 1);
        results.count(Err(Reason::BadName), 2);
        assert_eq!(
            results.counts(),
            [("bad_name", 2), ("ok", 3), ("timeout", 1)]
        );
        assert_eq!((results.ok(), results.failed(Reason::BadName)), (3, 2));
        assert_eq!(label(Ok(())), "ok");
        assert_eq!(label(Err(Reason::Status)), "status");
    }
}
