//! Summaries: a sum and a count, without quantiles.

use super::histogram::{HALF, add_to_count, split_count};
use super::sum_of;
use crate::registry::rejection::{Rejection, SeriesName};

/// The state of one summary. It has a sum, a count, or both.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Sum of the observations.
    pub sum: Option<f64>,
    /// Number of observations: a whole number, as OpenMetrics requires.
    pub count: Option<f64>,
    /// The fraction of the count that is not shown yet, as in
    /// [`Fractions`](super::histogram::Fractions).
    pub fraction: u64,
}

impl Default for Summary {
    fn default() -> Self {
        Summary {
            sum: None,
            count: None,
            fraction: HALF,
        }
    }
}

impl Summary {
    /// The summary with a pushed sum and count added.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] if the push has neither, or a number that is not valid.
    pub fn merged(
        self,
        sum: Option<f64>,
        count: Option<f64>,
        series: SeriesName<'_>,
    ) -> Result<Summary, Rejection> {
        if sum.is_none() && count.is_none() {
            return Err(series.inconsistent(
                "it has neither a sum nor a count, and quantiles of several senders cannot be \
                 added up",
            ));
        }
        series.check_count("the count", count.unwrap_or_default())?;
        series.check_finite("the sum", sum.unwrap_or_default())?;
        let mut merged = Summary {
            sum: sum_of(self.sum, sum),
            ..self
        };
        if let Some(count) = count {
            let total = merged.count.get_or_insert(0.0);
            add_to_count(total, &mut merged.fraction, split_count(count));
        }
        series.check_finite("the resulting sum", merged.sum.unwrap_or_default())?;
        series.check_finite("the resulting count", merged.count.unwrap_or_default())?;
        Ok(merged)
    }

    /// Number of lines that the summary is shown in.
    pub fn lines(self) -> usize {
        usize::from(self.sum.is_some()) + usize::from(self.count.is_some())
    }

    /// The values of these lines, in order.
    pub fn values(self) -> impl Iterator<Item = f64> {
        self.sum.into_iter().chain(self.count)
    }
}
