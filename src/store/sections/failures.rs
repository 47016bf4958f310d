//! The last failures of sections, for people who look for a cause.

use std::collections::{HashMap, VecDeque};

use crate::clock::Now;
use crate::store::sections::section_id::SectionId;

/// Maximum number of failures kept of one section. Equal ones in a row are one.
const MAX_FAILURES: usize = 10;

/// Maximum number of sections whose failures are kept. The one whose first failure is the oldest is
/// dropped first. With messages of 400 bytes, all take about 10 MB.
const MAX_SECTIONS: usize = 2000;

/// Equal failures in a row.
#[derive(Debug, Clone)]
pub struct FailureRun {
    /// The message for people.
    pub reason: String,
    /// When the first of them happened.
    pub first: Now,
    /// When the last of them happened.
    pub last: Now,
    /// How many there were.
    pub times: u64,
}

/// The last failures of some sections.
#[derive(Debug, Default)]
pub struct FailureHistories {
    by_id: HashMap<SectionId, VecDeque<FailureRun>>,
    /// The sections in the order of their first failures. Those that are gone stay until
    /// they are first.
    order: VecDeque<SectionId>,
}

impl FailureHistories {
    /// Adds a failure.
    pub fn note(&mut self, id: &SectionId, reason: &str, now: Now) {
        let runs = match self.by_id.get_mut(id) {
            Some(runs) => runs,
            None => {
                self.make_room();
                self.order.push_back(id.clone());
                self.by_id.entry(id.clone()).or_default()
            }
        };
        match runs.back_mut().filter(|run| run.reason == reason) {
            Some(run) => {
                run.last = now;
                run.times += 1;
            }
            None => {
                if runs.len() == MAX_FAILURES {
                    runs.pop_front();
                }
                runs.push_back(FailureRun {
                    reason: reason.to_owned(),
                    first: now,
                    last: now,
                    times: 1,
                });
            }
        }
    }

    /// The failures of a section, newest first.
    pub fn of(&self, id: &SectionId) -> Vec<FailureRun> {
        let runs = self.by_id.get(id).into_iter().flatten();
        runs.rev().cloned().collect()
    }

    /// Drops the failures of a section that is gone.
    pub fn forget(&mut self, id: &SectionId) {
        if self.by_id.remove(id).is_some() {
            self.order.retain(|other| other != id);
        }
    }

    /// Takes over the failures that were noted elsewhere meanwhile.
    pub fn append(&mut self, other: &mut FailureHistories) {
        for (id, runs) in other.by_id.drain() {
            for run in runs {
                self.note(&id, &run.reason, run.last);
            }
        }
        other.order.clear();
    }

    fn make_room(&mut self) {
        if self.by_id.len() < MAX_SECTIONS {
            return;
        }
        if let Some(oldest) = self.order.pop_front() {
            self.by_id.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::sections::section_id::Producer;

    fn id(name: &str) -> SectionId {
        SectionId::new(name, Producer::Target)
    }

    #[test]
    fn equal_failures_in_a_row_are_one() {
        let mut all = FailureHistories::default();
        let start = Now::read();
        for (second, reason) in ["refused", "refused", "late", "refused"].iter().enumerate() {
            let now = start.after(Duration::from_secs(second as u64));
            all.note(&id("a"), reason, now);
        }
        let found = all.of(&id("a"));
        let shown: Vec<(&str, u64)> = found
            .iter()
            .map(|run| (run.reason.as_str(), run.times))
            .collect();
        assert_eq!(shown, [("refused", 1), ("late", 1), ("refused", 2)]);
        assert_eq!(found[2].first.tick, start.tick);
        assert_eq!(found[2].last.tick, start.after(Duration::from_secs(1)).tick);
        assert!(all.of(&id("b")).is_empty());
    }

    #[test]
    fn failures_are_limited_for_each_section_and_in_all() {
        let mut all = FailureHistories::default();
        let now = Now::read();
        for number in 0..3 * MAX_FAILURES {
            all.note(&id("a"), &number.to_string(), now);
        }
        let found = all.of(&id("a"));
        assert_eq!(found.len(), MAX_FAILURES);
        assert_eq!(found[0].reason, (3 * MAX_FAILURES - 1).to_string());
        for number in 0..MAX_SECTIONS {
            all.note(&id(&format!("s{number}")), "x", now);
        }
        assert_eq!(
            (all.by_id.len(), all.order.len()),
            (MAX_SECTIONS, MAX_SECTIONS)
        );
        assert!(all.of(&id("a")).is_empty());
        all.forget(&id("s7"));
        assert!(all.of(&id("s7")).is_empty());
        assert_eq!(
            (all.by_id.len(), all.order.len()),
            (MAX_SECTIONS - 1, MAX_SECTIONS - 1)
        );
        let mut other = FailureHistories::default();
        other.note(&id("s8"), "x", now);
        other.note(&id("s8"), "y", now);
        all.append(&mut other);
        let times = |at: usize| all.of(&id("s8"))[at].times;
        assert_eq!((times(0), times(1)), (1, 2));
    }
}
