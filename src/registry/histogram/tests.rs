use proptest::prelude::*;

use super::*;

fn counts(buckets: &[(f64, f64)], count: f64) -> Counts {
    Counts::of(buckets, None, Some(count)).unwrap()
}

fn merged(a: &[(f64, f64)], b: &[(f64, f64)], conflict: BoundsPolicy) -> Vec<(f64, f64)> {
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
        merged(&a, &b, BoundsPolicy::Common),
        [(1.0, 6.0), (4.0, 18.0)]
    );
    assert_eq!(
        merged(&a, &b, BoundsPolicy::Union),
        [
            (1.0, 6.0),
            (2.0, 7.0),
            (3.0, 13.0),
            (4.0, 18.0),
            (5.0, 19.0)
        ]
    );
    let mut histogram = counts(&a, 20.0).into_histogram(None);
    let refused = histogram.merge(&counts(&b, 20.0), BoundsPolicy::Reject);
    assert_eq!(refused, Err(Problem::Conflict("")));
}

#[test]
fn common_bounds_never_become_none() {
    let mut histogram = counts(&[(1.0, 1.0)], 2.0).into_histogram(None);
    for other in [counts(&[(2.0, 1.0)], 2.0), counts(&[], 2.0)] {
        let refused = histogram.merge(&other, BoundsPolicy::Common);
        assert!(matches!(refused, Err(Problem::Conflict(_))), "{refused:?}");
    }
    let mut none = counts(&[], 2.0).into_histogram(None);
    let pushed = counts(&[(1.0, 1.0)], 2.0);
    none.merge(&pushed, BoundsPolicy::Common).unwrap();
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
        histogram.merge(pushed, BoundsPolicy::Reject).unwrap();
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
    // A half is rounded up, and carried.
    assert_eq!(*histogram.counts, [1.0, 5.0, 6.0]);
    assert_eq!((histogram.count, histogram.sum), (7.0, Some(17.75)));
    histogram.observe(1.5, 2.5).unwrap();
    assert_eq!(*histogram.counts, [1.0, 7.0, 8.0]);
    assert_eq!((histogram.count, histogram.sum), (9.0, Some(21.5)));
    assert!(histogram.observe(f64::NAN, 1.0).is_err());
    assert!(histogram.observe(1.0, f64::INFINITY).is_err());
    assert!(histogram.observe(1.0, -1.0).is_err());
}

/// Each count beside the true one: nothing is left to be carried but what
/// rounding leaves.
fn is_rounded(histogram: &Histogram, exact: &[f64]) -> bool {
    let counts = histogram.counts.iter().chain([&histogram.count]);
    histogram.counts.is_sorted()
        && histogram
            .counts
            .last()
            .is_none_or(|last| *last <= histogram.count)
        && counts.zip(exact).all(|(count, exact)| {
            count.fract() == 0.0 && (count - exact).abs() <= 0.5 + exact * 1e-12
        })
}

#[test]
fn a_sampled_count_is_right_after_very_many_samples() {
    let mut histogram = Counts::empty(&[1.0]).unwrap().into_histogram(None);
    for number in 1..=300_000 {
        histogram.observe(2.0, 1.0 / 0.3).unwrap();
        let exact = f64::from(number) / 0.3;
        assert!((histogram.count - exact).abs() < 1.0, "{number}");
    }
    assert_eq!((histogram.counts[0], histogram.count), (0.0, 1e6));
    assert!((histogram.sum.unwrap() - 2e6).abs() < 1e-3);
}

#[test]
fn pushed_counts_are_carried_too() {
    let mut histogram = counts(&[(1.0, 0.4), (2.0, 0.8)], 1.2).into_histogram(None);
    assert_eq!(
        (&*histogram.counts, histogram.count),
        (&[0.0, 1.0][..], 1.0)
    );
    let more = counts(&[(1.0, 0.4), (2.0, 0.8), (3.0, 0.8)], 1.2);
    histogram.merge(&more, BoundsPolicy::Union).unwrap();
    // 0.8, 1.6, 1.6, 2.4
    assert_eq!(
        (&*histogram.counts, histogram.count),
        (&[1.0, 2.0, 2.0][..], 2.0)
    );
    let more = counts(&[(2.0, 0.8)], 1.2);
    histogram.merge(&more, BoundsPolicy::Common).unwrap();
    assert_eq!((&*histogram.counts, histogram.count), (&[2.0][..], 4.0));
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
    /// After any number of samples at any rate, each bucket has the true
    /// count but for rounding, and the sum that of all weighted values.
    #[test]
    fn sampled_observations_make_whole_counts(
        samples in proptest::collection::vec((0..5_i32, 0.01..=1.0_f64), 1..200),
    ) {
        let bounds = [0.0, 1.0, 2.5];
        let mut histogram = Counts::empty(&bounds).unwrap().into_histogram(None);
        let (mut exact, mut sum) = ([0.0; 4], 0.0);
        for (value, rate) in samples {
            let (value, times) = (f64::from(value), 1.0 / rate);
            histogram.observe(value, times).unwrap();
            sum += value * times;
            let reached = |bound: &f64| value <= *bound;
            let bounds = bounds.iter().chain([&f64::INFINITY]);
            for (exact, _) in exact.iter_mut().zip(bounds).filter(|(_, bound)| reached(bound)) {
                *exact += times;
            }
            prop_assert!(is_rounded(&histogram, &exact), "{histogram:?} of {exact:?}");
            prop_assert_eq!(histogram.sum, Some(sum));
        }
    }

    /// Fractions of pushes and of samples are carried through any change
    /// of bounds.
    #[test]
    fn fractions_survive_other_bounds(
        pushes in proptest::collection::vec((any_counts(), 0..30_u32, 1..9_u32), 1..8),
        union in any::<bool>(),
    ) {
        let conflict = if union { BoundsPolicy::Union } else { BoundsPolicy::Common };
        let mut living = counts(&[(5.0, 0.25)], 0.5).into_histogram(None);
        // What is exact in any case: all together.
        let mut exact = 0.5;
        for (buckets, more, parts) in pushes {
            let part = |count: f64| count / f64::from(parts);
            let count = buckets.last().map_or(0.0, |(_, count)| *count) + f64::from(more);
            let buckets: Vec<(f64, f64)> =
                buckets.into_iter().map(|(bound, count)| (bound, part(count))).collect();
            let before = living.clone();
            if living.merge(&counts(&buckets, part(count)), conflict).is_err() {
                living = before;
                continue;
            }
            exact += part(count);
            let bounds = living.bounds.len();
            let mut all = living.counts.to_vec();
            all.push(exact);
            prop_assert!(is_rounded(&living, &all), "{living:?}");
            prop_assert!(living.parts.as_ref().is_none_or(|parts| parts.0.len() == bounds + 1));
        }
    }

    /// Whatever is added up in whatever way: counts never fall from bound
    /// to bound, `+Inf` is the sum of all, what both sides know is exact,
    /// and nothing is ever above the truth.
    #[test]
    fn merged_counts_are_monotone_and_exact_where_both_sides_know(
        pushes in proptest::collection::vec((any_counts(), 0..30_u32), 1..6),
        union in any::<bool>(),
    ) {
        let conflict = if union { BoundsPolicy::Union } else { BoundsPolicy::Common };
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
