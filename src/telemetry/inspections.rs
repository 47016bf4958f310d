//! Inspections of verbatim texts, by result.

use std::array::from_fn;

use super::Counter;
use crate::reason::Reason;
use crate::store::InspectionReport;

/// The place after the reasons: a text in which nothing was found.
const OK: usize = Reason::ALL.len();

#[derive(Debug)]
pub struct Inspections([Counter; OK + 1]);

impl Default for Inspections {
    fn default() -> Self {
        Inspections(from_fn(|_| Counter::default()))
    }
}

impl Inspections {
    pub fn count(&self, report: &InspectionReport) {
        self.0[OK].add(report.fine);
        for (_, suspect, _) in &report.suspect {
            self.0[Reason::from(suspect) as usize].add(1);
        }
    }

    /// Results and how often each came: `ok` from the start, a reason once it
    /// was seen.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let results = self.0.iter().enumerate();
        let counts = results.map(|(place, count)| {
            let result = Reason::ALL
                .get(place)
                .map_or("ok", |reason| reason.as_str());
            (result, count.value())
        });
        let mut counts: Vec<_> = counts
            .filter(|(result, count)| *count > 0 || *result == "ok")
            .collect();
        counts.sort_unstable();
        counts
    }
}
