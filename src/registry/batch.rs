//! Requests to change aggregated families.

use std::sync::Arc;
use std::time::Duration;

use crate::exposition::{Kind, LabelText};

/// Updates that are checked together and applied whole or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Families to replace: all their series are removed before `updates` are
    /// made. A replaced family keeps its type. Names are escaped as in
    /// [`Update::family`].
    pub replace: Vec<Arc<str>>,
    /// Made in order: each update sees the results of those before it.
    pub updates: Vec<Update>,
    /// How histograms with different bounds are merged.
    pub bounds_policy: BoundsPolicy,
    /// Ignore updates of families that do not exist, instead of adding them.
    pub existing_only: bool,
}

/// One change of one series.
#[derive(Debug, Clone)]
pub struct Update {
    /// Name of the family: without quotes, but escaped, as in
    /// [`FamilyText`](crate::exposition::FamilyText).
    pub family: Arc<str>,
    /// Counter, gauge, histogram, summary or untyped. A type holds for as long
    /// as its family has series. [`Change::Delete`] ignores it.
    pub kind: Kind,
    /// Help text, escaped as in the text format. A family keeps the first one.
    pub help: Option<Arc<str>>,
    /// Labels that identify the series within its family.
    pub labels: LabelText,
    /// Remove the series when it gets no update for this long; `None` keeps it.
    /// The newest update decides.
    pub ttl: Option<Duration>,
    /// What to do with the series.
    pub change: Change,
}

impl Update {
    /// An update that deletes a series.
    pub fn deletion(family: Arc<str>, labels: LabelText) -> Self {
        Update {
            family,
            kind: Kind::Untyped,
            help: None,
            labels,
            ttl: None,
            change: Change::Delete,
        }
    }
}

/// What to do with a series. Every change but [`Change::Delete`] adds a series
/// that does not exist.
///
/// | Type | Changes |
/// | --- | --- |
/// | counter | `Add`, `Set`, `Min`, `Max`: all finite and at least 0 |
/// | gauge | `Add`, of finite values to a finite sum; `Set`, `Min`, `Max`; `Window` |
/// | untyped | `Add`, of finite values to a finite sum; `Set`, `Min`, `Max` |
/// | histogram | `Histogram`, `Observe` |
/// | summary | `Summary`, or `ObserveQuantiles` |
///
/// To replace a histogram or a summary, delete it first in the same batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Add to the value. A NaN value counts as 0.
    Add(f64),
    /// Replace the value.
    Set(f64),
    /// Keep the lesser of the old and the new value. NaN is ignored.
    Min(f64),
    /// Keep the greater of the old and the new value. NaN is ignored.
    Max(f64),
    /// Add a value to a sliding window, whose mean or sum the gauge shows.
    ///
    /// A window moves in steps of a hundredth of its span, with or without new
    /// values. Another `span` or `mean` starts a new, empty window. Any other
    /// change of the series ends the window and applies to the value it showed.
    Window {
        /// Show the mean of the values, which is NaN for an empty window;
        /// otherwise show their sum.
        mean: bool,
        /// How long a value stays in the window.
        span: Duration,
        /// The value. It is finite.
        value: f64,
    },
    /// Add the counts of a histogram.
    Histogram {
        /// Upper bounds in ascending order, each with its cumulative count. The
        /// last may be `+Inf`.
        buckets: Vec<(f64, f64)>,
        /// Sum of the observations. A histogram without one shows none until a
        /// push has one.
        sum: Option<f64>,
        /// Number of observations. Either this or a `+Inf` bucket is required;
        /// if both are given, they are equal.
        count: Option<f64>,
    },
    /// Add one observation, weighted by `times` (StatsD sampling).
    Observe {
        /// The observed value. It is finite.
        value: f64,
        /// The weight. It is finite and at least 0.
        times: f64,
        /// Bounds for a new family, in ascending order, finite except for an
        /// optional last `+Inf`. An existing family keeps its own.
        buckets: Arc<[f64]>,
        /// Native buckets of a new series, if it has any. An existing series keeps what
        /// it has.
        native: Option<NativeSpec>,
    },
    /// Add the sum and count of a summary.
    ///
    /// Quantiles of several senders cannot be combined, so they are never
    /// shown. This includes those of the first push: otherwise a second sender
    /// would change which series are exposed.
    Summary {
        /// Sum of the observations.
        sum: Option<f64>,
        /// Number of observations.
        count: Option<f64>,
        /// Ignored.
        quantiles: Vec<(f64, f64)>,
    },
    /// Add one observation to a summary that shows quantiles of recent observations. A series takes
    /// either this change or [`Change::Summary`], never both.
    ObserveQuantiles {
        /// The observed value. It is finite.
        value: f64,
        /// The weight. It is finite and at least 0.
        times: f64,
        /// What the summary shows. A different spec starts without recent observations.
        spec: Arc<QuantileSpec>,
    },
    /// Remove the series. A family is removed with its last series, and its
    /// name can have another type from the next batch on.
    Delete,
}

/// Maximum number of steps in a summary's window. Each has a sketch of up to 4 KB.
pub const MAX_AGE_BUCKETS: u32 = 100;

/// The quantiles that a summary shows.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantileSpec {
    /// Each from 0 to 1, in ascending order.
    pub quantiles: Box<[f64]>,
    /// How long an observation counts.
    pub max_age: Duration,
    /// The steps in which observations are forgotten: 1 to [`MAX_AGE_BUCKETS`].
    pub age_buckets: u32,
}

/// The native buckets of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NativeSpec {
    /// The schema, from -4 to 8: schema `n` has 2^n buckets between a power of
    /// two and the next.
    pub schema: i8,
    /// Maximum number of buckets. Beyond it, the histogram takes the next coarser schema, down to
    /// -4, in which all numbers fit 266 buckets.
    pub max_buckets: u32,
}

/// How to merge histograms whose bounds differ.
///
/// At bounds that both histograms have, and at `+Inf`, the sum of their counts
/// is exact. The policies differ in what happens to the other bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BoundsPolicy {
    /// Keep only the common bounds, so that everything shown is exact.
    ///
    /// A series can only lose bounds in this way, until it is deleted, replaced
    /// or expired. It never loses all of them: a push without any common bound
    /// is rejected, so that one sender cannot remove the buckets of all others.
    /// (A series that has only `+Inf` stays so.) Other series of the family
    /// keep their bounds.
    #[default]
    Common,
    /// Keep all bounds. A histogram that lacks a bound contributes its count at
    /// its greatest bound below it. The result is monotone and never above the
    /// true count; it is exact if that histogram has no observation between
    /// the two bounds.
    Union,
    /// Reject the push.
    Reject,
}
