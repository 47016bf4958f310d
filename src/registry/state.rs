//! What one series is, and what a change makes of it.

use std::sync::Arc;
use std::time::Duration;

use super::block::NEVER;
use super::histogram::{Counts, HALF, Histogram, added, carry, finite, split};
use super::window::Window;
use super::{BoundsPolicy, Change};
use crate::exposition::Kind;

/// What a living series is.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    Value(f64),
    Window(Box<Window>),
    Histogram(Histogram),
    Summary(Summary),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    pub sum: Option<f64>,
    /// Whole, as OpenMetrics wants it.
    pub count: Option<f64>,
    /// What is carried beside the count, as in
    /// [`Parts`](super::histogram::Parts).
    part: u64,
}

impl Default for Summary {
    fn default() -> Self {
        Summary {
            sum: None,
            count: None,
            part: HALF,
        }
    }
}

impl Summary {
    /// Lines of text.
    pub fn lines(self) -> usize {
        usize::from(self.sum.is_some()) + usize::from(self.count.is_some())
    }

    /// What these lines show, in their order.
    pub fn values(self) -> impl Iterator<Item = f64> {
        self.sum.into_iter().chain(self.count)
    }
}

/// Why a change cannot be made, for the series to be named with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Problem {
    Value {
        what: &'static str,
        value: f64,
        need: &'static str,
    },
    Buckets(&'static str),
    Conflict(&'static str),
    TooManyBounds {
        bounds: usize,
        limit: usize,
    },
    /// What is tried does not go with the family's kind.
    WrongChange(&'static str),
}

/// What a change meets.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub kind: Kind,
    pub conflict: BoundsPolicy,
    /// Bounds that a histogram may have.
    pub most_bounds: usize,
    /// In nanoseconds since the registry's beginning.
    pub now: u64,
    /// The bounds of the family's histograms, if it had any.
    pub bounds: Option<&'a Arc<[f64]>>,
}

impl State {
    /// What `change` makes of a series that is there, or of none. It is no
    /// [`Change::Delete`].
    pub fn after(before: Option<State>, change: Change, at: Context<'_>) -> Result<State, Problem> {
        match (change, at.kind) {
            (
                change @ (Change::Add(_) | Change::Set(_) | Change::Min(_) | Change::Max(_)),
                Kind::Counter | Kind::Gauge | Kind::Untyped,
            ) => {
                let before = before.map(|state| state.value(at.now));
                changed_value(before, &change, at.kind).map(State::Value)
            }
            (Change::Window { mean, span, value }, Kind::Gauge) => {
                changed_window(before, mean, span, value, at.now)
            }
            (
                Change::Histogram {
                    buckets,
                    sum,
                    count,
                },
                Kind::Histogram,
            ) => {
                let pushed = Counts::of(&buckets, sum, count)?;
                let histogram = match before {
                    Some(State::Histogram(mut histogram)) => {
                        histogram.merge(&pushed, at.conflict)?;
                        histogram
                    }
                    _ => pushed.into_histogram(at.bounds),
                };
                bounded(histogram, at.most_bounds)
            }
            (
                Change::Observe {
                    value,
                    times,
                    buckets,
                },
                Kind::Histogram,
            ) => {
                let mut histogram = match before {
                    Some(State::Histogram(histogram)) => histogram,
                    _ => {
                        let bounds = at.bounds.unwrap_or(&buckets);
                        Counts::empty(bounds)?.into_histogram(Some(bounds))
                    }
                };
                histogram.observe(value, times)?;
                bounded(histogram, at.most_bounds)
            }
            (Change::Summary { sum, count, .. }, Kind::Summary) => {
                changed_summary(before.as_ref(), sum, count)
            }
            (change, _) => Err(Problem::WrongChange(change_name(&change))),
        }
    }

    /// The number that is shown for a series of one.
    pub fn value(&self, now: u64) -> f64 {
        match self {
            State::Value(value) => *value,
            State::Window(window) => {
                let mut window = window.clone();
                window.advance(now);
                window.value()
            }
            State::Histogram(_) | State::Summary(_) => f64::NAN,
        }
    }

    /// Lines of text.
    pub fn lines(&self) -> usize {
        match self {
            State::Value(_) | State::Window(_) => 1,
            State::Histogram(histogram) => histogram.lines(),
            State::Summary(summary) => summary.lines(),
        }
    }

    /// When it shows something else though nothing is changed.
    pub fn due(&self) -> u64 {
        match self {
            State::Window(window) => window.due().unwrap_or(NEVER),
            _ => NEVER,
        }
    }
}

fn changed_value(before: Option<f64>, change: &Change, kind: Kind) -> Result<f64, Problem> {
    let (what, given) = match change {
        Change::Add(value) => ("the added value", *value),
        Change::Set(value) | Change::Min(value) | Change::Max(value) => ("the value", *value),
        _ => return Err(Problem::WrongChange(change_name(change))),
    };
    if kind == Kind::Counter && !(given.is_finite() && given >= 0.0) {
        return Err(Problem::Value {
            what,
            value: given,
            need: "finite and not below 0, as in any counter",
        });
    }
    let adds = matches!(change, Change::Add(_));
    if adds {
        // An infinity stays for ever, and with the other one it is NaN.
        finite(what, given)?;
    }
    let before = before.filter(|before| !before.is_nan());
    let value = match (change, before) {
        (Change::Add(_), Some(before)) => before + given,
        (Change::Min(_), Some(before)) => before.min(given),
        (Change::Max(_), Some(before)) => before.max(given),
        _ => given,
    };
    if adds || kind == Kind::Counter {
        finite("the resulting value", value)?;
    }
    Ok(value)
}

fn changed_window(
    before: Option<State>,
    mean: bool,
    span: Duration,
    value: f64,
    now: u64,
) -> Result<State, Problem> {
    finite("the value", value)?;
    let Some(new) = Window::new(mean, span, now) else {
        return Err(Problem::Value {
            what: "the window's span in seconds",
            value: span.as_secs_f64(),
            need: "above 0, and at most a hundred years",
        });
    };
    let mut window = match before {
        Some(State::Window(window)) if window.is_like(&new) => window,
        _ => Box::new(new),
    };
    window.add(value, now);
    finite("the window's sum", window.largest())?;
    Ok(State::Window(window))
}

fn changed_summary(
    before: Option<&State>,
    sum: Option<f64>,
    count: Option<f64>,
) -> Result<State, Problem> {
    if sum.is_none() && count.is_none() {
        return Err(Problem::Buckets(
            "it has neither a sum nor a count, and quantiles of several senders cannot be added up",
        ));
    }
    let need = "finite and not below 0";
    if let Some(value) = count.filter(|count| !(count.is_finite() && *count >= 0.0)) {
        let what = "the count";
        return Err(Problem::Value { what, value, need });
    }
    finite("the sum", sum.unwrap_or_default())?;
    let before = match before {
        Some(State::Summary(summary)) => *summary,
        _ => Summary::default(),
    };
    let mut summary = Summary {
        sum: added(before.sum, sum),
        ..before
    };
    if let Some(more) = count {
        let count = summary.count.get_or_insert(0.0);
        carry(count, &mut summary.part, split(more));
    }
    finite("the sum with all before", summary.sum.unwrap_or_default())?;
    let count = summary.count.unwrap_or_default();
    finite("the count with all before", count)?;
    Ok(State::Summary(summary))
}

fn bounded(histogram: Histogram, most: usize) -> Result<State, Problem> {
    let bounds = histogram.bounds.len();
    if bounds > most {
        return Err(Problem::TooManyBounds {
            bounds,
            limit: most,
        });
    }
    Ok(State::Histogram(histogram))
}

/// What is tried, as the end of "cannot be ...".
fn change_name(change: &Change) -> &'static str {
    match change {
        Change::Add(_) => "added to",
        Change::Set(_) => "set",
        Change::Min(_) | Change::Max(_) => "the least or greatest of several values",
        Change::Window { .. } => "shown over a window of time",
        Change::Histogram { .. } => "merged with a histogram",
        Change::Observe { .. } => "given an observation",
        Change::Summary { .. } => "merged with a summary",
        Change::Delete => "deleted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(before: Option<State>, change: Change, kind: Kind) -> Result<State, Problem> {
        let context = Context {
            kind,
            conflict: BoundsPolicy::Common,
            most_bounds: 3,
            now: 0,
            bounds: None,
        };
        State::after(before, change, context)
    }

    fn value(before: Option<f64>, change: Change, kind: Kind) -> Option<f64> {
        match after(before.map(State::Value), change, kind) {
            Ok(State::Value(value)) => Some(value),
            _ => None,
        }
    }

    #[test]
    fn values_change_by_their_kind() {
        use Kind::{Counter, Gauge, Untyped};
        let (infinity, nan) = (f64::INFINITY, f64::NAN);
        for kind in [Counter, Gauge, Untyped] {
            assert_eq!(value(None, Change::Add(2.0), kind), Some(2.0));
            assert_eq!(value(Some(1.0), Change::Add(2.0), kind), Some(3.0));
            assert_eq!(value(Some(1.0), Change::Set(2.0), kind), Some(2.0));
            assert_eq!(value(Some(1.0), Change::Min(2.0), kind), Some(1.0));
            assert_eq!(value(Some(1.0), Change::Max(2.0), kind), Some(2.0));
            assert_eq!(value(None, Change::Min(2.0), kind), Some(2.0));
            assert_eq!(value(Some(1.0), Change::Add(nan), kind), None);
        }
        for bad in [-1.0, nan, infinity, -infinity] {
            assert_eq!(value(Some(1.0), Change::Add(bad), Counter), None);
            assert_eq!(value(None, Change::Set(bad), Counter), None);
        }
        for kind in [Counter, Gauge, Untyped] {
            for added in [infinity, -infinity, nan] {
                assert_eq!(value(None, Change::Add(added), kind), None);
                assert_eq!(value(Some(1.0), Change::Add(added), kind), None);
            }
            assert_eq!(value(Some(f64::MAX), Change::Add(f64::MAX), kind), None);
        }
        for kind in [Gauge, Untyped] {
            assert_eq!(value(Some(-f64::MAX), Change::Add(-f64::MAX), kind), None);
            // What was set to an infinity has no sum either, until it is set anew.
            assert_eq!(value(Some(infinity), Change::Add(1.0), kind), None);
            assert_eq!(
                value(Some(1.0), Change::Set(infinity), kind),
                Some(infinity)
            );
            assert_eq!(value(Some(infinity), Change::Set(2.0), kind), Some(2.0));
        }
        assert_eq!(value(Some(1.0), Change::Add(-3.0), Gauge), Some(-2.0));
        assert_eq!(value(Some(nan), Change::Add(3.0), Gauge), Some(3.0));
        assert_eq!(value(Some(1.0), Change::Min(nan), Gauge), Some(1.0));
        assert!(value(Some(1.0), Change::Set(nan), Gauge).is_some_and(f64::is_nan));
    }

    #[test]
    fn a_change_goes_with_its_kind_only() {
        let histogram = || Change::Histogram {
            buckets: Vec::new(),
            sum: None,
            count: Some(1.0),
        };
        let observe = || Change::Observe {
            value: 1.0,
            times: 1.0,
            buckets: Arc::from([1.0]),
        };
        let summary = || Change::Summary {
            sum: None,
            count: Some(1.0),
            quantiles: vec![(0.5, f64::NAN)],
        };
        let window = || Change::Window {
            mean: true,
            span: Duration::from_secs(1),
            value: 1.0,
        };
        let kinds = [
            Kind::Counter,
            Kind::Gauge,
            Kind::Untyped,
            Kind::Histogram,
            Kind::Summary,
            Kind::Info,
        ];
        for (place, kind) in kinds.into_iter().enumerate() {
            let fits = [
                (Change::Add(1.0), place < 3),
                (Change::Set(1.0), place < 3),
                (window(), place == 1),
                (histogram(), place == 3),
                (observe(), place == 3),
                (summary(), place == 4),
            ];
            for (change, fits) in fits {
                let made = after(None, change.clone(), kind);
                assert_eq!(made.is_ok(), fits, "{change:?} of a {kind:?}: {made:?}");
            }
        }
    }

    #[test]
    fn a_summary_is_its_sum_and_count() {
        let summary = |before, sum, count| {
            let change = Change::Summary {
                sum,
                count,
                quantiles: vec![(0.5, 3.0)],
            };
            after(before, change, Kind::Summary)
        };
        let first = summary(None, Some(1.5), Some(2.0)).unwrap();
        let second = summary(Some(first.clone()), Some(-2.0), Some(1.0)).unwrap();
        let expected = Summary {
            sum: Some(-0.5),
            count: Some(3.0),
            ..Summary::default()
        };
        assert_eq!(second, State::Summary(expected));
        for (sum, count) in [
            (None, None),
            (Some(f64::NAN), Some(1.0)),
            (Some(1.0), Some(-1.0)),
            (None, Some(f64::INFINITY)),
        ] {
            assert!(summary(Some(first.clone()), sum, count).is_err());
        }
        // Fractions are carried, and the count is whole.
        let mut carried = None;
        for shown in [0.0, 1.0, 1.0, 2.0, 2.0] {
            let after = summary(carried, None, Some(0.4)).unwrap();
            let State::Summary(summary) = &after else {
                panic!("it is no summary");
            };
            assert_eq!(summary.count, Some(shown));
            carried = Some(after);
        }
        let count_only = summary(None, None, Some(1.0)).unwrap();
        assert_eq!((first.lines(), count_only.lines()), (2, 1));
    }

    #[test]
    fn bounds_are_given_once_and_bounded() {
        let observe = |before, buckets: &[f64]| {
            let change = Change::Observe {
                value: 1.5,
                times: 1.0,
                buckets: Arc::from(buckets),
            };
            after(before, change, Kind::Histogram)
        };
        let first = observe(None, &[1.0, 2.0]).unwrap();
        let State::Histogram(second) = observe(Some(first), &[7.0]).unwrap() else {
            panic!("it is no histogram");
        };
        assert_eq!((&*second.bounds, second.count), (&[1.0, 2.0][..], 2.0));
        let many = observe(None, &[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(
            many,
            Err(Problem::TooManyBounds {
                bounds: 4,
                limit: 3
            })
        );
        assert!(observe(None, &[2.0, 1.0]).is_err());
    }

    #[test]
    fn a_window_begins_anew_when_it_is_another() {
        let window = |before, mean, seconds, value| {
            let span = Duration::from_secs(seconds);
            let change = Change::Window { mean, span, value };
            after(before, change, Kind::Gauge)
        };
        let shown = |state: &State| state.value(0);
        let first = window(None, true, 10, 2.0).unwrap();
        let second = window(Some(first), true, 10, 4.0).unwrap();
        assert_eq!(shown(&second), 3.0);
        let other = window(Some(second.clone()), false, 10, 7.0).unwrap();
        assert_eq!(shown(&other), 7.0);
        let plain = after(Some(second), Change::Add(1.0), Kind::Gauge).unwrap();
        assert_eq!(plain, State::Value(4.0));
        let from_plain = window(Some(plain), true, 10, 9.0).unwrap();
        assert_eq!(shown(&from_plain), 9.0);
        assert!(window(None, true, 0, 1.0).is_err());
        assert!(window(None, true, 10, f64::INFINITY).is_err());
    }

    /// What makes up for a large value leaves the window before or after it.
    #[test]
    fn no_part_of_a_window_overflows() {
        let window = |before, value| {
            let span = Duration::from_secs(100);
            let change = Change::Window {
                mean: false,
                span,
                value,
            };
            after(before, change, Kind::Gauge)
        };
        let first = window(None, -1e308).unwrap();
        assert!(window(Some(first.clone()), 0.5e308).is_ok());
        let mut at = Context {
            kind: Kind::Gauge,
            conflict: BoundsPolicy::Common,
            most_bounds: 3,
            now: 50_000_000_000,
            bounds: None,
        };
        let mut later = |before, value| {
            at.now += 1_000_000_000;
            let span = Duration::from_secs(100);
            let change = Change::Window {
                mean: false,
                span,
                value,
            };
            State::after(Some(before), change, at)
        };
        let refused = later(first, 1e308);
        assert!(matches!(refused, Err(Problem::Value { .. })), "{refused:?}");
    }
}
