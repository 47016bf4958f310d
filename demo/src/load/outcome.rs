//! Results of the requests of each scenario, and the summary of all.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Results of one scenario. The number of iterations bounds its size.
#[derive(Debug, Default)]
pub struct Outcome {
    durations: Vec<Duration>,
    /// The number of replies by the first digit of their status.
    classes: BTreeMap<u16, u64>,
    /// Requests without a reply.
    pub failed: u64,
    /// Iterations that found no free user.
    pub dropped: u64,
}

impl Outcome {
    /// Records a reply.
    pub fn reply(&mut self, status: u16, duration: Duration) {
        *self.classes.entry(status / 100).or_default() += 1;
        self.durations.push(duration);
    }

    /// The number of replies.
    pub fn replies(&self) -> usize {
        self.durations.len()
    }

    fn class(&self, digit: u16) -> u64 {
        self.classes.get(&digit).copied().unwrap_or_default()
    }
}

/// A table of all scenarios.
#[derive(Debug)]
pub struct Summary {
    /// Names and results.
    pub scenarios: Vec<(&'static str, Outcome)>,
    /// How long all of them took.
    pub took: Duration,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<14} {:>8} {:>8} {:>7} {:>7} {:>7} {:>7} {:>8} {:>8} {:>8}",
            "scenario",
            "replies",
            "per s",
            "2xx",
            "4xx",
            "5xx",
            "failed",
            "dropped",
            "p50 ms",
            "p95 ms"
        )?;
        for (name, outcome) in &self.scenarios {
            let mut durations = outcome.durations.clone();
            durations.sort_unstable();
            writeln!(
                f,
                "{name:<14} {:>8} {:>8.1} {:>7} {:>7} {:>7} {:>7} {:>8} {:>8} {:>8}",
                outcome.replies(),
                outcome.replies() as f64 / self.took.as_secs_f64().max(1e-9),
                outcome.class(2),
                outcome.class(4),
                outcome.class(5),
                outcome.failed,
                outcome.dropped,
                quantile(&durations, 0.5).as_millis(),
                quantile(&durations, 0.95).as_millis(),
            )?;
        }
        Ok(())
    }
}

/// The quantile of sorted durations, by the nearest rank; 0 of none.
fn quantile(sorted: &[Duration], quantile: f64) -> Duration {
    let rank = (sorted.len() as f64 * quantile).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_classes_and_quantiles() {
        let mut outcome = Outcome::default();
        for millis in 1..=100 {
            let status = if millis % 4 == 0 { 404 } else { 200 };
            outcome.reply(status, Duration::from_millis(millis));
        }
        outcome.failed = 2;
        outcome.dropped = 3;
        let summary = Summary {
            scenarios: vec![("get_users", outcome), ("none", Outcome::default())],
            took: Duration::from_secs(10),
        };
        let text = summary.to_string();
        let words: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            words[1],
            [
                "get_users",
                "100",
                "10.0",
                "75",
                "25",
                "0",
                "2",
                "3",
                "50",
                "95"
            ]
        );
        assert_eq!(
            words[2],
            ["none", "0", "0.0", "0", "0", "0", "0", "0", "0", "0"]
        );
    }
}
