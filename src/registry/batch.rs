//! What is asked of the registry.

use std::sync::Arc;
use std::time::Duration;

use crate::exposition::{Kind, LabelText};

/// Changes that are checked together first, and then made all or none.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Families whose series all go first, so that what `updates` say of them
    /// is all that is there afterwards. It does not matter where in a push
    /// this was said. A family that is replaced keeps its kind.
    pub replace: Vec<Arc<str>>,
    /// Made one after the other: what comes later in the list finds what came
    /// earlier.
    pub updates: Vec<Update>,
    pub bounds_policy: BoundsPolicy,
    /// Updates of families that do not live are passed over.
    pub existing_only: bool,
}

/// One change of one series.
#[derive(Debug, Clone)]
pub struct Update {
    /// As in [`FamilyText`](crate::exposition::FamilyText): without quotes,
    /// still escaped.
    pub family: Arc<str>,
    /// Counter, gauge, histogram, summary or untyped. It holds for as long as
    /// the family has series. With [`Change::Delete`] it is not looked at.
    pub kind: Kind,
    /// Escaped, as it stands in a text. The first that is given holds.
    pub help: Option<Arc<str>>,
    pub labels: LabelText,
    /// The series goes when it has had no update for so long; `None`: it
    /// stays. The newest update says what holds.
    pub ttl: Option<Duration>,
    pub change: Change,
}

impl Update {
    /// One that deletes a series.
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

/// What becomes of a series. A series that is not there is made, but for
/// [`Change::Delete`].
///
/// | Kind | Changes |
/// | --- | --- |
/// | counter | `Add`, `Set`, `Min`, `Max`: all finite and not below 0 |
/// | gauge | `Add`, of finite values to a finite sum; `Set`, `Min`, `Max`; `Window` |
/// | untyped | `Add`, of finite values to a finite sum; `Set`, `Min`, `Max` |
/// | histogram | `Histogram`, `Observe` |
/// | summary | `Summary` |
///
/// Replacing a histogram or a summary is a `Delete` and then the new one.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Adds to the value. A gauge that is not a number begins at 0 again.
    Add(f64),
    Set(f64),
    /// The lesser of the value and this one. NaN is passed over.
    Min(f64),
    /// The greater of the value and this one. NaN is passed over.
    Max(f64),
    /// One value, finite, for a sliding window: the gauge is the mean (NaN
    /// where the window holds nothing) or else the sum of what came within
    /// `span`. A window moves on in steps of a hundredth of its span, pushed to
    /// or not. It begins anew when the span, or what is shown, changes; any
    /// other change of the series ends it and begins with what it showed.
    Window {
        mean: bool,
        span: Duration,
        value: f64,
    },
    /// A histogram's counts, added to those that are there.
    Histogram {
        /// Upper bounds, ascending, each with the count of observations up to
        /// it. `+Inf` may be among them.
        buckets: Vec<(f64, f64)>,
        /// Where neither side has a sum none is shown; else what is there.
        sum: Option<f64>,
        /// This or the `+Inf` bucket is needed; where both are given they are
        /// equal.
        count: Option<f64>,
    },
    /// One observation, finite, that counts for so many: one of which only a
    /// sample was sent. `times` is finite and not below 0. A new family gets these bounds (ascending,
    /// finite or with a last `+Inf`); for one that lives its own bounds hold.
    Observe {
        value: f64,
        times: f64,
        buckets: Arc<[f64]>,
    },
    /// A summary's sum and count, added to those that are there. Quantiles of
    /// several senders have no common quantile, so they are never shown, not
    /// even those of a first push: what is exposed does not change its shape
    /// when a second sender comes.
    Summary {
        sum: Option<f64>,
        count: Option<f64>,
        /// Not kept.
        quantiles: Vec<(f64, f64)>,
    },
    /// The series goes. With the last one the family goes, and its kind is
    /// free for the next batch.
    Delete,
}

/// What becomes of histograms whose bounds differ. At bounds that both have,
/// and at `+Inf`, the sum of their counts is exact; the difference is about the
/// others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BoundsPolicy {
    /// Only bounds that both have stay: everything that is shown is exact.
    ///
    /// The bounds of a series can only become fewer in this way, until it is
    /// deleted, replaced or expired. They never become none: a push that has
    /// no bound in common with a series that has some is refused, so that one
    /// sender cannot take away what all others know. (A series that never had
    /// any but `+Inf` stays so.) Other series of the family are not touched,
    /// so series of one family may have different bounds.
    #[default]
    Common,
    /// All bounds stay. At one that a side lacks, that side counts with what it
    /// has at its greatest bound below: never more than the truth, and monotone.
    /// It is exact where that side observed nothing in between.
    Union,
    /// The push is refused.
    Reject,
}

/// What the registry holds at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistryLimits {
    pub families: usize,
    /// Series in all families.
    pub series: usize,
    pub series_per_family: usize,
    /// Bytes of a series' labels as one text, and of a family's name.
    pub labels: usize,
    /// Bounds of a histogram.
    pub bounds: usize,
}

impl Default for RegistryLimits {
    fn default() -> Self {
        RegistryLimits {
            families: 100_000,
            series: 2_000_000,
            series_per_family: 1_000_000,
            labels: 64 << 10,
            bounds: 1_000,
        }
    }
}
