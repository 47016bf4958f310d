//! The exact state of one series, and how a change transforms it.

pub mod histogram;
pub mod native;
pub mod quantiles;
pub mod summary;
#[cfg(test)]
mod tests;
pub mod window;

use std::sync::Arc;
use std::time::Duration;

use self::histogram::{Histogram, PushedHistogram};
use self::native::Native;
use self::summary::Summary;
use self::window::Window;
use super::batch::{BoundsPolicy, Change};
use super::rejection::{Rejection, SeriesName, family_text};
use super::time::{NEVER, Nanos};
use crate::exposition::Kind;

/// The exact state of a series: all that later changes need, which is more than the output shows.
#[derive(Debug, Clone, PartialEq)]
pub enum SeriesState {
    /// The value of a counter, gauge or untyped series.
    Number(f64),
    /// A gauge that shows a sliding window.
    Window(Box<Window>),
    Histogram(Histogram),
    Summary(Summary),
}

/// What a change depends on besides the series itself.
#[derive(Debug, Clone, Copy)]
pub struct ChangeContext<'a> {
    /// The series, for messages.
    pub series: SeriesName<'a>,
    /// Type of the family.
    pub kind: Kind,
    pub bounds_policy: BoundsPolicy,
    /// Maximum number of bounds in a histogram.
    pub max_bounds: usize,
    pub now: Nanos,
    /// Bounds of the family's histograms, if it has had any.
    pub bounds: Option<&'a Arc<[f64]>>,
}

impl SeriesState {
    /// The state after `change`, which is not [`Change::Delete`]. `before` is
    /// `None` for a new series.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] if the change is not valid for the type of the family or
    /// for the state.
    pub fn changed(
        before: Option<SeriesState>,
        change: Change,
        context: ChangeContext<'_>,
    ) -> Result<SeriesState, Rejection> {
        match (change, context.kind) {
            (
                change @ (Change::Add(_) | Change::Set(_) | Change::Min(_) | Change::Max(_)),
                Kind::Counter | Kind::Gauge | Kind::Untyped,
            ) => {
                let before = before.map(|state| state.number(context.now));
                changed_number(before, &change, context).map(SeriesState::Number)
            }
            (Change::Window { mean, span, value }, Kind::Gauge) => {
                changed_window(before, mean, span, value, context)
            }
            (
                Change::Histogram {
                    buckets,
                    sum,
                    count,
                },
                Kind::Histogram,
            ) => {
                let pushed = PushedHistogram::new(&buckets, sum, count, context.series)?;
                let histogram = match before {
                    Some(SeriesState::Histogram(mut histogram)) => {
                        histogram.merge(&pushed, context.bounds_policy, context.series)?;
                        histogram
                    }
                    _ => pushed.into_histogram(context.bounds),
                };
                within_bounds_limit(histogram, context)
            }
            (
                Change::Observe {
                    value,
                    times,
                    buckets,
                    native,
                },
                Kind::Histogram,
            ) => {
                let mut histogram = match before {
                    Some(SeriesState::Histogram(histogram)) => histogram,
                    _ => {
                        let bounds = context.bounds.unwrap_or(&buckets);
                        let empty = PushedHistogram::empty(bounds, context.series)?;
                        Histogram {
                            native: native.map(|spec| Box::new(Native::new(spec))),
                            ..empty.into_histogram(Some(bounds))
                        }
                    }
                };
                histogram.observe(value, times, context.series)?;
                within_bounds_limit(histogram, context)
            }
            (Change::ObserveQuantiles { value, times, spec }, Kind::Summary) => {
                let before = match before {
                    Some(SeriesState::Summary(summary)) => Some(summary),
                    _ => None,
                };
                let observation = (value, times);
                let summary =
                    Summary::observed(before, observation, &spec, context.now, context.series)?;
                Ok(SeriesState::Summary(summary))
            }
            (Change::Summary { sum, count, .. }, Kind::Summary) => {
                let before = match before {
                    Some(SeriesState::Summary(summary)) => summary,
                    _ => Summary::default(),
                };
                let summary = before.merged(sum, count, context.series)?;
                Ok(SeriesState::Summary(summary))
            }
            (change, _) => Err(unsupported(&change, context)),
        }
    }

    /// The number that is shown at `now`; NaN for a histogram or a summary.
    pub fn number(&self, now: Nanos) -> f64 {
        match self {
            SeriesState::Number(value) => *value,
            SeriesState::Window(window) => {
                let mut window = window.clone();
                window.advance(now);
                window.value()
            }
            SeriesState::Histogram(_) | SeriesState::Summary(_) => f64::NAN,
        }
    }

    /// Number of lines that the series is shown in.
    pub fn lines(&self) -> usize {
        match self {
            SeriesState::Number(_) | SeriesState::Window(_) => 1,
            SeriesState::Histogram(histogram) => histogram.lines(),
            SeriesState::Summary(summary) => summary.lines(),
        }
    }

    /// When the shown value next changes without an update.
    pub fn next_step(&self) -> Nanos {
        match self {
            SeriesState::Window(window) => window.next_step().unwrap_or(NEVER),
            SeriesState::Summary(summary) => summary.next_step(),
            _ => NEVER,
        }
    }

    /// Whether it is a number that no counter can have.
    pub fn is_no_counter(&self) -> bool {
        matches!(self, SeriesState::Number(value) if !(value.is_finite() && *value >= 0.0))
    }
}

/// A number after a change; `before` is `None` for a new series.
///
/// # Errors
///
/// See [`SeriesState::changed`].
pub fn changed_number(
    before: Option<f64>,
    change: &Change,
    context: ChangeContext<'_>,
) -> Result<f64, Rejection> {
    let series = context.series;
    let (what, operand) = match change {
        Change::Add(value) => ("the added value", *value),
        Change::Set(value) | Change::Min(value) | Change::Max(value) => ("the value", *value),
        _ => return Err(unsupported(change, context)),
    };
    let is_counter = context.kind == Kind::Counter;
    if is_counter && !(operand.is_finite() && operand >= 0.0) {
        let need = "finite and not below 0, as in any counter";
        return Err(series.invalid_value(what, operand, need));
    }
    let adds = matches!(change, Change::Add(_));
    if adds {
        // An added infinity would stay for ever, and the opposite one would
        // make it NaN.
        series.check_finite(what, operand)?;
    }
    let before = before.filter(|before| !before.is_nan());
    let value = match (change, before) {
        (Change::Add(_), Some(before)) => before + operand,
        (Change::Min(_), Some(before)) => before.min(operand),
        (Change::Max(_), Some(before)) => before.max(operand),
        _ => operand,
    };
    if adds || is_counter {
        series.check_finite("the resulting value", value)?;
    }
    Ok(value)
}

fn changed_window(
    before: Option<SeriesState>,
    mean: bool,
    span: Duration,
    value: f64,
    context: ChangeContext<'_>,
) -> Result<SeriesState, Rejection> {
    let series = context.series;
    series.check_finite("the value", value)?;
    let Some(new) = Window::new(mean, span, context.now) else {
        let what = "the window's span in seconds";
        let need = "above 0, and at most a hundred years";
        return Err(series.invalid_value(what, span.as_secs_f64(), need));
    };
    let mut window = match before {
        Some(SeriesState::Window(window)) if window.is_like(&new) => window,
        _ => Box::new(new),
    };
    window.add(value, context.now);
    series.check_finite("the window's sum", window.largest_sum())?;
    Ok(SeriesState::Window(window))
}

fn within_bounds_limit(
    histogram: Histogram,
    context: ChangeContext<'_>,
) -> Result<SeriesState, Rejection> {
    let bounds = histogram.bounds.len();
    if bounds > context.max_bounds {
        return Err(Rejection::TooManyBounds {
            series: context.series.to_string(),
            bounds,
            limit: context.max_bounds,
        });
    }
    Ok(SeriesState::Histogram(histogram))
}

fn unsupported(change: &Change, context: ChangeContext<'_>) -> Rejection {
    let change = match change {
        Change::Add(_) => "added to",
        Change::Set(_) => "set",
        Change::Min(_) | Change::Max(_) => "reduced to a minimum or maximum",
        Change::Window { .. } => "shown over a window of time",
        Change::Histogram { .. } => "merged with a histogram",
        Change::Observe { .. } | Change::ObserveQuantiles { .. } => "given an observation",
        Change::Summary { .. } => "merged with a summary",
        Change::Delete => "deleted",
    };
    Rejection::UnsupportedChange {
        family: family_text(context.series.family()),
        kind: context.kind.with_article(),
        change,
    }
}

/// The sum of two optional numbers: `None` only if both are.
fn sum_of(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one + other),
        (one, other) => one.or(other),
    }
}
