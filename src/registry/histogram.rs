//! A histogram's counts, and how they are added up.

use std::sync::Arc;

use super::BucketConflict;
use super::state::Problem;

/// One living histogram.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// Finite and ascending. Series of a family share them where they are the
    /// same.
    pub bounds: Arc<[f64]>,
    /// Of observations up to each bound, so they never fall from one to the
    /// next.
    pub counts: Box<[f64]>,
    /// Of all observations: the `+Inf` bucket.
    pub count: f64,
    pub sum: Option<f64>,
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
        Histogram {
            bounds: shared.map_or_else(|| Arc::from(self.bounds), Arc::clone),
            counts: self.counts.into_boxed_slice(),
            count: self.count,
            sum: self.sum,
        }
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
    pub fn merge(&mut self, pushed: &Counts, conflict: BucketConflict) -> Result<(), Problem> {
        if *self.bounds == *pushed.bounds {
            for (count, more) in self.counts.iter_mut().zip(&pushed.counts) {
                *count += more;
            }
        } else {
            let bounds = match conflict {
                BucketConflict::Refuse => return Err(Problem::Conflict("")),
                BucketConflict::Common => self.common_bounds(pushed)?,
                BucketConflict::Union => self.all_bounds(pushed),
            };
            self.counts = bounds
                .iter()
                .map(|bound| {
                    count_up_to(&self.bounds, &self.counts, *bound)
                        + count_up_to(&pushed.bounds, &pushed.counts, *bound)
                })
                .collect();
            self.bounds = Arc::from(bounds);
        }
        self.count += pushed.count;
        self.sum = added(self.sum, pushed.sum);
        self.check_size()
    }

    /// Adds one observation that counts for so many.
    pub fn observe(&mut self, value: f64, times: f64) -> Result<(), Problem> {
        finite("the observation", value)?;
        countable("how often it counts", times)?;
        let first = self.bounds.partition_point(|bound| *bound < value);
        for count in &mut self.counts[first..] {
            *count += times;
        }
        self.count += times;
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
            return Err(Problem::Conflict(", and they have none in common"));
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
        finite("the count with all before", self.count)?;
        finite("the sum with all before", self.sum.unwrap_or_default())
    }
}

/// The count at the greatest bound that is not above this one.
fn count_up_to(bounds: &[f64], counts: &[f64], bound: f64) -> f64 {
    let after = bounds.partition_point(|own| *own <= bound);
    after.checked_sub(1).map_or(0.0, |place| counts[place])
}

/// The sum of what is there.
pub fn added(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one + other),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(buckets: &[(f64, f64)], count: f64) -> Counts {
        Counts::of(buckets, None, Some(count)).unwrap()
    }

    fn merged(a: &[(f64, f64)], b: &[(f64, f64)], conflict: BucketConflict) -> Vec<(f64, f64)> {
        let mut histogram = counts(a, 20.0).into_histogram(None);
        histogram.merge(&counts(b, 20.0), conflict).unwrap();
        assert_eq!(histogram.count, 40.0);
        let pairs = histogram.bounds.iter().zip(&histogram.counts);
        pairs.map(|(bound, count)| (*bound, *count)).collect()
    }

    #[test]
    fn differing_bounds_are_settled_as_asked() {
        let a = [(1.0, 5.0), (2.0, 6.0), (4.0, 10.0)];
        let b = [(1.0, 1.0), (3.0, 7.0), (4.0, 8.0), (5.0, 9.0)];
        assert_eq!(
            merged(&a, &b, BucketConflict::Common),
            [(1.0, 6.0), (4.0, 18.0)]
        );
        assert_eq!(
            merged(&a, &b, BucketConflict::Union),
            [
                (1.0, 6.0),
                (2.0, 7.0),
                (3.0, 13.0),
                (4.0, 18.0),
                (5.0, 19.0)
            ]
        );
        let mut histogram = counts(&a, 20.0).into_histogram(None);
        let refused = histogram.merge(&counts(&b, 20.0), BucketConflict::Refuse);
        assert_eq!(refused, Err(Problem::Conflict("")));
    }

    #[test]
    fn common_bounds_never_become_none() {
        let mut histogram = counts(&[(1.0, 1.0)], 2.0).into_histogram(None);
        for other in [counts(&[(2.0, 1.0)], 2.0), counts(&[], 2.0)] {
            let refused = histogram.merge(&other, BucketConflict::Common);
            assert!(matches!(refused, Err(Problem::Conflict(_))), "{refused:?}");
        }
        let mut none = counts(&[], 2.0).into_histogram(None);
        let pushed = counts(&[(1.0, 1.0)], 2.0);
        none.merge(&pushed, BucketConflict::Common).unwrap();
        assert_eq!((none.bounds.len(), none.count), (0, 4.0));
    }

    #[test]
    fn what_is_missing_is_made_up_for() {
        let infinity = f64::INFINITY;
        let of = |buckets: &[(f64, f64)], count| Counts::of(buckets, None, count);
        let whole = counts(&[(1.0, 1.0)], 3.0);
        assert_eq!(of(&[(1.0, 1.0), (infinity, 3.0)], None).unwrap(), whole);
        assert_eq!(
            of(&[(1.0, 1.0), (infinity, 3.0)], Some(3.0)).unwrap(),
            whole
        );
        let mut histogram = whole.into_histogram(None);
        let more = Counts::of(&[(1.0, 1.0)], Some(2.5), Some(1.0)).unwrap();
        let plain = counts(&[(1.0, 0.0)], 1.0);
        for (pushed, sum) in [(&plain, None), (&more, Some(2.5)), (&plain, Some(2.5))] {
            histogram.merge(pushed, BucketConflict::Refuse).unwrap();
            assert_eq!(histogram.sum, sum);
        }
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        let (infinity, nan) = (f64::INFINITY, f64::NAN);
        type Given<'a> = (&'a [(f64, f64)], Option<f64>, Option<f64>);
        let bad: [Given<'_>; 14] = [
            (&[(1.0, 1.0)], None, None),
            (&[(1.0, 1.0)], None, Some(nan)),
            (&[(1.0, 1.0)], None, Some(-1.0)),
            (&[(1.0, 1.0)], None, Some(infinity)),
            (&[(1.0, 1.0)], None, Some(0.0)),
            (&[(1.0, 1.0)], Some(nan), Some(1.0)),
            (&[(1.0, 1.0)], Some(infinity), Some(1.0)),
            (&[(1.0, nan)], None, Some(1.0)),
            (&[(1.0, -1.0)], None, Some(1.0)),
            (&[(nan, 1.0)], None, Some(1.0)),
            (&[(1.0, 1.0), (infinity, 2.0)], None, Some(1.0)),
            (&[(2.0, 1.0), (1.0, 1.0)], None, Some(1.0)),
            (&[(1.0, 1.0), (1.0, 1.0)], None, Some(1.0)),
            (&[(1.0, 2.0), (2.0, 1.0)], None, Some(2.0)),
        ];
        for (buckets, sum, count) in bad {
            assert!(
                Counts::of(buckets, sum, count).is_err(),
                "{buckets:?} {sum:?} {count:?}"
            );
        }
        assert!(Counts::of(&[(-0.0, 1.0), (0.0, 1.0)], None, Some(1.0)).is_err());
    }

    #[test]
    fn an_observation_is_in_every_bucket_that_reaches_it() {
        let bounds = [1.0, 2.0, 5.0, f64::INFINITY];
        let mut histogram = Counts::empty(&bounds).unwrap().into_histogram(None);
        for value in [0.5, 2.0, 2.5, 9.0] {
            histogram.observe(value, 1.0).unwrap();
        }
        assert_eq!(*histogram.counts, [1.0, 2.0, 3.0]);
        assert_eq!((histogram.count, histogram.sum), (4.0, Some(14.0)));
        histogram.observe(1.5, 2.5).unwrap();
        assert_eq!(*histogram.counts, [1.0, 4.5, 5.5]);
        assert_eq!((histogram.count, histogram.sum), (6.5, Some(17.75)));
        assert!(histogram.observe(f64::NAN, 1.0).is_err());
        assert!(histogram.observe(1.0, f64::INFINITY).is_err());
        assert!(histogram.observe(1.0, -1.0).is_err());
    }

    fn any_counts() -> impl Strategy<Value = Vec<(f64, f64)>> {
        proptest::collection::btree_map(0..12_i32, 0..20_u32, 0..8).prop_map(|buckets| {
            let mut all = 0.0;
            let pairs = buckets.into_iter().map(|(bound, more)| {
                all += f64::from(more);
                (f64::from(bound), all)
            });
            pairs.collect()
        })
    }

    proptest! {
        /// Whatever is added up in whatever way: counts never fall from bound
        /// to bound, `+Inf` is the sum of all, what both sides know is exact,
        /// and nothing is ever above the truth.
        #[test]
        fn merged_counts_are_monotone_and_exact_where_both_sides_know(
            pushes in proptest::collection::vec((any_counts(), 0..30_u32), 1..6),
            union in any::<bool>(),
        ) {
            let conflict = if union { BucketConflict::Union } else { BucketConflict::Common };
            let mut living: Option<Histogram> = None;
            let mut taken: Vec<(Vec<(f64, f64)>, f64)> = Vec::new();
            for (buckets, more) in pushes {
                let count = buckets.last().map_or(0.0, |(_, count)| *count) + f64::from(more);
                let pushed = counts(&buckets, count);
                match &mut living {
                    None => living = Some(pushed.into_histogram(None)),
                    Some(histogram) => {
                        let before = histogram.clone();
                        if histogram.merge(&pushed, conflict).is_err() {
                            prop_assert!(!union);
                            let common = buckets.iter().any(|(bound, _)| before.bounds.contains(bound));
                            prop_assert!(!common);
                            living = Some(before);
                            continue;
                        }
                    }
                }
                taken.push((buckets, count));
            }
            let living = living.unwrap();
            prop_assert!(living.counts.is_sorted());
            prop_assert!(living.counts.last().is_none_or(|last| *last <= living.count));
            prop_assert_eq!(living.count, taken.iter().map(|(_, count)| count).sum::<f64>());
            for (bound, count) in living.bounds.iter().zip(&living.counts) {
                let known = |(buckets, _): &(Vec<(f64, f64)>, f64)| {
                    buckets.iter().find(|(own, _)| own == bound).map(|(_, count)| *count)
                };
                let exact: Option<f64> = taken.iter().map(known).sum();
                if let Some(exact) = exact {
                    prop_assert_eq!(*count, exact);
                } else {
                    prop_assert!(union, "a bound that a side lacks");
                }
                let least: f64 = taken.iter().map(|(buckets, _)| {
                    let below = buckets.iter().rev().find(|(own, _)| own <= bound);
                    below.map_or(0.0, |(_, count)| *count)
                }).sum();
                prop_assert_eq!(*count, least);
            }
        }
    }
}
