//! Summaries: a sum and a count, with quantiles only if single observations are added.

use std::sync::Arc;

use super::histogram::{HALF, add_to_count, split_count};
use super::quantiles::Quantiles;
use super::sum_of;
use crate::registry::batch::QuantileSpec;
use crate::registry::rejection::{Rejection, SeriesName};
use crate::registry::time::{NEVER, Nanos};

/// Why pushed sums and counts are not added to observations, nor the other way round.
const MIXED: &str =
    "it shows either quantiles of observations or pushed values, which cannot be added up";

/// The state of one summary. It has a sum, a count, or both.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Sum of the observations.
    pub sum: Option<f64>,
    /// Number of observations: a whole number, as OpenMetrics requires.
    pub count: Option<f64>,
    /// The fraction of the count that is not shown yet, as in
    /// [`Fractions`](super::histogram::Fractions).
    pub fraction: u64,
    /// Recent observations; `None` if sums and counts were pushed.
    pub quantiles: Option<Box<Quantiles>>,
}

impl Default for Summary {
    fn default() -> Self {
        Summary {
            sum: None,
            count: None,
            fraction: HALF,
            quantiles: None,
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
        if self.quantiles.is_some() {
            return Err(series.inconsistent(MIXED));
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

    /// The summary with an observation added: a value, and how often it counts. `before` is
    /// `None` for a new series.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] if a number is not valid, or if sums and counts were pushed before.
    pub fn observed(
        before: Option<Summary>,
        (value, times): (f64, f64),
        spec: &Arc<QuantileSpec>,
        now: Nanos,
        series: SeriesName<'_>,
    ) -> Result<Summary, Rejection> {
        series.check_finite("the observation", value)?;
        let is_new = before.is_none();
        let mut before = before.unwrap_or_default();
        let quantiles = match before.quantiles.take() {
            None if !is_new => return Err(series.inconsistent(MIXED)),
            Some(own) if Arc::ptr_eq(own.spec(), spec) || own.spec() == spec => Some(own),
            _ => None,
        };
        let sum = Some(value * times);
        let mut summary = before.merged(sum, Some(times), series)?;
        let mut quantiles =
            quantiles.unwrap_or_else(|| Box::new(Quantiles::new(Arc::clone(spec), now)));
        quantiles.observe(value, times, now);
        summary.quantiles = Some(quantiles);
        Ok(summary)
    }

    /// Like [`observed`](Self::observed), but changes nothing and returns `None` where that would
    /// fail, or where the summary would get other lines or lose its recent observations.
    pub fn observe_in_place(
        &mut self,
        (value, times): (f64, f64),
        spec: &Arc<QuantileSpec>,
        now: Nanos,
        series: SeriesName<'_>,
    ) -> Option<()> {
        let own = self.quantiles.as_ref()?.spec();
        let is_same = Arc::ptr_eq(own, spec) || own == spec;
        let is_valid = value.is_finite() && times >= 0.0;
        // The fraction may add one to the count.
        let is_finite =
            (self.sum? + value * times).is_finite() && (self.count? + times + 1.0).is_finite();
        if !(is_same && is_valid && is_finite) {
            return None;
        }
        let before = std::mem::take(self);
        *self = Summary::observed(Some(before), (value, times), spec, now, series).ok()?;
        Some(())
    }

    /// Number of lines that the summary is shown in.
    pub fn lines(&self) -> usize {
        let quantiles = self.quantiles.as_ref();
        quantiles.map_or(0, |it| it.spec().quantiles.len())
            + usize::from(self.sum.is_some())
            + usize::from(self.count.is_some())
    }

    /// The values of these lines, in order.
    pub fn values(&self) -> impl Iterator<Item = f64> {
        let quantiles = self.quantiles.as_ref().map(|it| it.values());
        let quantiles = quantiles.into_iter().flatten();
        quantiles.chain(self.sum).chain(self.count)
    }

    /// Whether it is shown in the same lines as another one.
    pub fn has_same_shape(&self, other: &Summary) -> bool {
        let specs = |summary: &Summary| summary.quantiles.as_ref().map(|it| Arc::clone(it.spec()));
        self.sum.is_some() == other.sum.is_some()
            && self.count.is_some() == other.count.is_some()
            && specs(self) == specs(other)
    }

    /// When the shown values next change without an observation.
    pub fn next_step(&self) -> Nanos {
        let quantiles = self.quantiles.as_ref();
        quantiles.and_then(|it| it.next_step()).unwrap_or(NEVER)
    }
}
