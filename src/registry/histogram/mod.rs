//! A histogram's counts, and how they are added up.

use std::sync::Arc;

use super::BoundsPolicy;
use super::state::Problem;

/// One living histogram.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// Finite and ascending. Series of a family share them where they are the
    /// same.
    pub bounds: Arc<[f64]>,
    /// Of observations up to each bound, so they never fall from one to the
    /// next. They are whole, as OpenMetrics wants it.
    pub counts: Box<[f64]>,
    /// Of all observations: the `+Inf` bucket.
    pub count: f64,
    pub sum: Option<f64>,
    /// What is carried beside the whole counts; `None` while there was nothing
    /// to carry.
    pub parts: Option<Parts>,
}

/// Fractions of counts that are not shown yet: one of a sampled observation
/// counts for 1 / rate, which may be 3.33. Carried exactly, so that each count
/// is the true one, rounded, however many samples came.
///
/// One for each bound, then that of the count, in units of 2^-64. Each begins
/// at a half, so that what overflows into the count rounds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Parts(Box<[u64]>);

/// What a part begins at.
pub const HALF: u64 = 1 << 63;

impl Parts {
    fn new(bounds: usize) -> Self {
        Parts(vec![HALF; bounds + 1].into())
    }
}

/// A count as its whole number and the rest in units of 2^-64.
pub fn split(count: f64) -> (f64, u64) {
    const UNITS: f64 = 18_446_744_073_709_551_616.0;
    let whole = count.trunc();
    (whole, ((count - whole) * UNITS) as u64)
}

/// Adds to a count and its part.
pub fn carry(count: &mut f64, part: &mut u64, (whole, more): (f64, u64)) {
    let (sum, over) = part.overflowing_add(more);
    *part = sum;
    *count += whole + f64::from(u8::from(over));
}

/// The counts of a push, checked.
#[derive(Debug, PartialEq)]
pub struct Counts {
    bounds: Vec<f64>,
    counts: Vec<f64>,
    count: f64,
    sum: Option<f64>,
}

impl Counts {
    pub fn of(
        buckets: &[(f64, f64)],
        sum: Option<f64>,
        count: Option<f64>,
    ) -> Result<Self, Problem> {
        let (all, buckets) = match buckets.split_last() {
            Some(((bound, all), rest)) if *bound == f64::INFINITY => (Some(*all), rest),
            _ => (None, buckets),
        };
        let bounds = bounds_of(buckets.iter().map(|(bound, _)| *bound))?;
        if let Some(sum) = sum {
            finite("the sum", sum)?;
        }
        for (what, given) in [("the count", count), ("the +Inf bucket", all)] {
            if let Some(given) = given {
                countable(what, given)?;
            }
        }
        let total = match (count, all) {
            (Some(count), Some(all)) if count != all => {
                return Err(Problem::Buckets("its count is not that of its +Inf bucket"));
            }
            (Some(count), _) | (None, Some(count)) => count,
            (None, None) => return Err(Problem::Buckets("it has neither a count nor +Inf")),
        };
        let mut before = 0.0;
        let mut counts = Vec::with_capacity(buckets.len());
        for (_, count) in buckets {
            countable("a bucket", *count)?;
            if *count < before {
                return Err(Problem::Buckets(
                    "a bucket has less than the one before, and buckets count all up to their bound",
                ));
            }
            before = *count;
            counts.push(*count);
        }
        if before > total {
            return Err(Problem::Buckets("a bucket has more than all together"));
        }
        Ok(Counts {
            bounds,
            counts,
            count: total,
            sum,
        })
    }

    /// Bounds of a histogram that is empty yet. `+Inf` goes without saying.
    pub fn empty(bounds: &[f64]) -> Result<Self, Problem> {
        let bounds = match bounds {
            [rest @ .., f64::INFINITY] => rest,
            bounds => bounds,
        };
        let bounds = bounds_of(bounds.iter().copied())?;
        Ok(Counts {
            counts: vec![0.0; bounds.len()],
            bounds,
            count: 0.0,
            sum: None,
        })
    }

    /// A histogram of these counts. It shares `bounds` where they are the same.
    pub fn into_histogram(self, bounds: Option<&Arc<[f64]>>) -> Histogram {
        let shared = bounds.filter(|bounds| ***bounds == *self.bounds);
        let whole = self.is_whole();
        let mut histogram = Histogram {
            bounds: shared.map_or_else(|| Arc::from(&*self.bounds), Arc::clone),
            counts: vec![0.0; self.counts.len()].into(),
            count: 0.0,
            sum: self.sum,
            parts: None,
        };
        if whole {
            histogram.counts = self.counts.into_boxed_slice();
            histogram.count = self.count;
        } else {
            histogram.add(&self);
        }
        histogram
    }

    /// What was counted up to a bound, as far as is known.
    fn up_to(&self, bound: f64) -> f64 {
        place_up_to(&self.bounds, bound).map_or(0.0, |place| self.counts[place])
    }

    /// Whether all counts are whole numbers, as nearly all are.
    fn is_whole(&self) -> bool {
        let mut counts = self.counts.iter().chain([&self.count]);
        counts.all(|count| count.fract() == 0.0)
    }
}

fn bounds_of(given: impl Iterator<Item = f64>) -> Result<Vec<f64>, Problem> {
    // Of the two zeros only one is kept: they would be two bounds by name.
    let bounds: Vec<f64> = given.map(|bound| bound + 0.0).collect();
    if bounds.iter().any(|bound| !bound.is_finite()) {
        return Err(Problem::Buckets(
            "a bound is no number, or infinite and not the last",
        ));
    }
    if !bounds.is_sorted_by(|a, b| a < b) {
        return Err(Problem::Buckets(
            "its bounds do not ascend, or one is there twice",
        ));
    }
    Ok(bounds)
}

fn countable(what: &'static str, value: f64) -> Result<(), Problem> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(Problem::Value {
        what,
        value,
        need: "finite and not below 0",
    })
}

pub fn finite(what: &'static str, value: f64) -> Result<(), Problem> {
    if value.is_finite() {
        return Ok(());
    }
    Err(Problem::Value {
        what,
        value,
        need: "finite",
    })
}

impl Histogram {
    /// Lines of text: a bucket for each bound and `+Inf`, the count, the sum.
    pub fn lines(&self) -> usize {
        self.bounds.len() + 2 + usize::from(self.sum.is_some())
    }

    /// What these lines show, in their order.
    pub fn values(&self) -> impl Iterator<Item = f64> {
        let buckets = self.counts.iter().copied().chain([self.count]);
        buckets.chain(self.sum).chain([self.count])
    }

    /// Adds the counts of a push.
    pub fn merge(&mut self, pushed: &Counts, conflict: BoundsPolicy) -> Result<(), Problem> {
        if *self.bounds == *pushed.bounds {
            self.add(pushed);
        } else {
            let bounds = match conflict {
                BoundsPolicy::Reject => return Err(Problem::Conflict("")),
                BoundsPolicy::Common => self.common_bounds(pushed)?,
                BoundsPolicy::Union => self.all_bounds(pushed),
            };
            self.widen(&bounds);
            self.add(&Counts {
                counts: bounds.iter().map(|bound| pushed.up_to(*bound)).collect(),
                bounds,
                ..*pushed
            });
        }
        self.sum = added(self.sum, pushed.sum);
        self.check_size()
    }

    /// Adds the counts of a push that has the same bounds.
    fn add(&mut self, pushed: &Counts) {
        let counts = self.counts.iter_mut().chain([&mut self.count]);
        let more = pushed.counts.iter().chain([&pushed.count]);
        if pushed.is_whole() {
            for (count, more) in counts.zip(more) {
                *count += more;
            }
            return;
        }
        let bounds = pushed.counts.len();
        let Parts(parts) = self.parts.get_or_insert_with(|| Parts::new(bounds));
        for ((count, part), more) in counts.zip(parts).zip(more) {
            carry(count, part, split(*more));
        }
    }

    /// Takes other bounds: at each, what was counted up to it.
    fn widen(&mut self, bounds: &[f64]) {
        let places: Vec<Option<usize>> = bounds
            .iter()
            .map(|bound| place_up_to(&self.bounds, *bound))
            .collect();
        let counts = places.iter();
        self.counts = counts
            .map(|place| place.map_or(0.0, |place| self.counts[place]))
            .collect();
        if let Some(Parts(parts)) = &mut self.parts {
            let last = parts[parts.len() - 1];
            let kept = places.iter();
            let kept = kept.map(|place| place.map_or(HALF, |place| parts[place]));
            *parts = kept.chain([last]).collect();
        }
        self.bounds = Arc::from(bounds);
    }

    /// Adds one observation that counts for so many.
    pub fn observe(&mut self, value: f64, times: f64) -> Result<(), Problem> {
        finite("the observation", value)?;
        countable("how often it counts", times)?;
        let first = self.bounds.partition_point(|bound| *bound < value);
        let counts = self.counts[first..].iter_mut().chain([&mut self.count]);
        let more = split(times);
        if more.1 == 0 {
            for count in counts {
                *count += more.0;
            }
        } else {
            let bounds = self.bounds.len();
            let Parts(parts) = self.parts.get_or_insert_with(|| Parts::new(bounds));
            for (count, part) in counts.zip(&mut parts[first..]) {
                carry(count, part, more);
            }
        }
        self.sum = added(self.sum, Some(value * times));
        self.check_size()
    }

    fn common_bounds(&self, pushed: &Counts) -> Result<Vec<f64>, Problem> {
        let known = |bound: &&f64| {
            pushed
                .bounds
                .binary_search_by(|b| b.total_cmp(bound))
                .is_ok()
        };
        let common: Vec<f64> = self.bounds.iter().filter(known).copied().collect();
        if common.is_empty() && !self.bounds.is_empty() {
            return Err(Problem::Conflict(", and none are in common"));
        }
        Ok(common)
    }

    fn all_bounds(&self, pushed: &Counts) -> Vec<f64> {
        let mut bounds: Vec<f64> = self.bounds.iter().chain(&pushed.bounds).copied().collect();
        bounds.sort_unstable_by(f64::total_cmp);
        bounds.dedup();
        bounds
    }

    /// Counts that are added up without end become infinite in the end.
    fn check_size(&self) -> Result<(), Problem> {
        finite("the resulting count", self.count)?;
        finite("the resulting sum", self.sum.unwrap_or_default())
    }
}

/// The place of the greatest bound that is not above this one.
fn place_up_to(bounds: &[f64], bound: f64) -> Option<usize> {
    bounds.partition_point(|own| *own <= bound).checked_sub(1)
}

/// The sum of what is there.
pub fn added(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one + other),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests;
