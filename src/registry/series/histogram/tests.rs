use proptest::prelude::*;

use super::*;

const SERIES: SeriesName<'static> = SeriesName::new("h", "");

fn counts(buckets: &[(f64, f64)], count: f64) -> PushedHistogram {
    PushedHistogram::new(buckets, None, Some(count), SERIES).unwrap()
}

fn merged(a: &[(f64, f64)], b: &[(f64, f64)], policy: BoundsPolicy) -> Vec<(f64, f64)> {
    let mut histogram = counts(a, 20.0).into_histogram(None);
    histogram.merge(&counts(b, 20.0), policy, SERIES).unwrap();
    assert_eq!(histogram.count, 40.0);
    let pairs = histogram.bounds.iter().zip(&histogram.counts);
    pairs.map(|(bound, count)| (*bound, *count)).collect()
}

#[test]
fn different_bounds_are_merged_by_the_policy() {
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
    let rejected = histogram.merge(&counts(&b, 20.0), BoundsPolicy::Reject, SERIES);
    assert_eq!(rejected, Err(SERIES.bounds_conflict("")));
}

#[test]
fn common_bounds_are_never_empty() {
    let mut histogram = counts(&[(1.0, 1.0)], 2.0).into_histogram(None);
    for other in [counts(&[(2.0, 1.0)], 2.0), counts(&[], 2.0)] {
        let rejected = histogram.merge(&other, BoundsPolicy::Common, SERIES);
        assert!(
            matches!(rejected, Err(Rejection::BoundsConflict { .. })),
            "{rejected:?}"
        );
    }
    let mut none = counts(&[], 2.0).into_histogram(None);
    let pushed = counts(&[(1.0, 1.0)], 2.0);
    none.merge(&pushed, BoundsPolicy::Common, SERIES).unwrap();
    assert_eq!((none.bounds.len(), none.count), (0, 4.0));
}

#[test]
fn counts_and_sums_may_be_missing() {
    let infinity = f64::INFINITY;
    let of = |buckets: &[(f64, f64)], count| PushedHistogram::new(buckets, None, count, SERIES);
    let whole = counts(&[(1.0, 1.0)], 3.0);
    assert_eq!(of(&[(1.0, 1.0), (infinity, 3.0)], None).unwrap(), whole);
    assert_eq!(
        of(&[(1.0, 1.0), (infinity, 3.0)], Some(3.0)).unwrap(),
        whole
    );
    let mut histogram = whole.into_histogram(None);
    let more = PushedHistogram::new(&[(1.0, 1.0)], Some(2.5), Some(1.0), SERIES).unwrap();
    let plain = counts(&[(1.0, 0.0)], 1.0);
    for (pushed, sum) in [(&plain, None), (&more, Some(2.5)), (&plain, Some(2.5))] {
        histogram
            .merge(pushed, BoundsPolicy::Reject, SERIES)
            .unwrap();
        assert_eq!(histogram.sum, sum);
    }
}

#[test]
fn invalid_histograms_are_rejected() {
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
            PushedHistogram::new(buckets, sum, count, SERIES).is_err(),
            "{buckets:?} {sum:?} {count:?}"
        );
    }
    assert!(PushedHistogram::new(&[(-0.0, 1.0), (0.0, 1.0)], None, Some(1.0), SERIES).is_err());
}

#[test]
fn an_observation_is_counted_in_each_bucket_from_its_value_on() {
    let bounds = [1.0, 2.0, 5.0, f64::INFINITY];
    let mut histogram = PushedHistogram::empty(&bounds, SERIES)
        .unwrap()
        .into_histogram(None);
    for value in [0.5, 2.0, 2.5, 9.0] {
        histogram.observe(value, 1.0, SERIES).unwrap();
    }
    assert_eq!(*histogram.counts, [1.0, 2.0, 3.0]);
    assert_eq!((histogram.count, histogram.sum), (4.0, Some(14.0)));
    histogram.observe(1.5, 2.5, SERIES).unwrap();
    // A half is rounded up, and the fraction carried.
    assert_eq!(*histogram.counts, [1.0, 5.0, 6.0]);
    assert_eq!((histogram.count, histogram.sum), (7.0, Some(17.75)));
    histogram.observe(1.5, 2.5, SERIES).unwrap();
    assert_eq!(*histogram.counts, [1.0, 7.0, 8.0]);
    assert_eq!((histogram.count, histogram.sum), (9.0, Some(21.5)));
    assert!(histogram.observe(f64::NAN, 1.0, SERIES).is_err());
    assert!(histogram.observe(1.0, f64::INFINITY, SERIES).is_err());
    assert!(histogram.observe(1.0, -1.0, SERIES).is_err());
}

/// Whether each count is the exact one, rounded.
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
fn sampled_counts_do_not_drift() {
    let mut histogram = PushedHistogram::empty(&[1.0], SERIES)
        .unwrap()
        .into_histogram(None);
    for number in 1..=300_000 {
        histogram.observe(2.0, 1.0 / 0.3, SERIES).unwrap();
        let exact = f64::from(number) / 0.3;
        assert!((histogram.count - exact).abs() < 1.0, "{number}");
    }
    assert_eq!((histogram.counts[0], histogram.count), (0.0, 1e6));
    assert!((histogram.sum.unwrap() - 2e6).abs() < 1e-3);
}

#[test]
fn fractions_of_pushed_counts_are_carried() {
    let mut histogram = counts(&[(1.0, 0.4), (2.0, 0.8)], 1.2).into_histogram(None);
    assert_eq!(
        (&*histogram.counts, histogram.count),
        (&[0.0, 1.0][..], 1.0)
    );
    let more = counts(&[(1.0, 0.4), (2.0, 0.8), (3.0, 0.8)], 1.2);
    histogram.merge(&more, BoundsPolicy::Union, SERIES).unwrap();
    // 0.8, 1.6, 1.6, 2.4
    assert_eq!(
        (&*histogram.counts, histogram.count),
        (&[1.0, 2.0, 2.0][..], 2.0)
    );
    let more = counts(&[(2.0, 0.8)], 1.2);
    histogram
        .merge(&more, BoundsPolicy::Common, SERIES)
        .unwrap();
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
    /// After any samples at any rates, each bucket has the exact count, rounded,
    /// and the sum is that of all weighted values.
    #[test]
    fn sampled_observations_give_rounded_counts(
        samples in proptest::collection::vec((0..5_i32, 0.01..=1.0_f64), 1..200),
    ) {
        let bounds = [0.0, 1.0, 2.5];
        let mut histogram = PushedHistogram::empty(&bounds, SERIES).unwrap().into_histogram(None);
        let (mut exact, mut sum) = ([0.0; 4], 0.0);
        for (value, rate) in samples {
            let (value, times) = (f64::from(value), 1.0 / rate);
            histogram.observe(value, times, SERIES).unwrap();
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

    /// Fractions are carried through any change of bounds.
    #[test]
    fn fractions_are_carried_to_other_bounds(
        pushes in proptest::collection::vec((any_counts(), 0..30_u32, 1..9_u32), 1..8),
        union in any::<bool>(),
    ) {
        let policy = if union { BoundsPolicy::Union } else { BoundsPolicy::Common };
        let mut histogram = counts(&[(5.0, 0.25)], 0.5).into_histogram(None);
        // The number of all observations is exact in any case.
        let mut exact = 0.5;
        for (buckets, more, parts) in pushes {
            let part = |count: f64| count / f64::from(parts);
            let count = buckets.last().map_or(0.0, |(_, count)| *count) + f64::from(more);
            let buckets: Vec<(f64, f64)> =
                buckets.into_iter().map(|(bound, count)| (bound, part(count))).collect();
            let before = histogram.clone();
            if histogram.merge(&counts(&buckets, part(count)), policy, SERIES).is_err() {
                histogram = before;
                continue;
            }
            exact += part(count);
            let bounds = histogram.bounds.len();
            let mut all = histogram.counts.to_vec();
            all.push(exact);
            prop_assert!(is_rounded(&histogram, &all), "{histogram:?}");
            prop_assert!(histogram.fractions.as_ref().is_none_or(|fractions| fractions.0.len() == bounds + 1));
        }
    }

    /// For any pushes and both policies: counts never decrease from bound to
    /// bound, the count is the sum of all, counts at common bounds are exact, and
    /// no count is above the true one.
    #[test]
    fn merged_counts_are_monotone_and_exact_at_common_bounds(
        pushes in proptest::collection::vec((any_counts(), 0..30_u32), 1..6),
        union in any::<bool>(),
    ) {
        let policy = if union { BoundsPolicy::Union } else { BoundsPolicy::Common };
        let mut merged: Option<Histogram> = None;
        let mut taken: Vec<(Vec<(f64, f64)>, f64)> = Vec::new();
        for (buckets, more) in pushes {
            let count = buckets.last().map_or(0.0, |(_, count)| *count) + f64::from(more);
            let pushed = counts(&buckets, count);
            match &mut merged {
                None => merged = Some(pushed.into_histogram(None)),
                Some(histogram) => {
                    let before = histogram.clone();
                    if histogram.merge(&pushed, policy, SERIES).is_err() {
                        prop_assert!(!union);
                        let common = buckets.iter().any(|(bound, _)| before.bounds.contains(bound));
                        prop_assert!(!common);
                        merged = Some(before);
                        continue;
                    }
                }
            }
            taken.push((buckets, count));
        }
        let histogram = merged.unwrap();
        prop_assert!(histogram.counts.is_sorted());
        prop_assert!(histogram.counts.last().is_none_or(|last| *last <= histogram.count));
        prop_assert_eq!(histogram.count, taken.iter().map(|(_, count)| count).sum::<f64>());
        for (bound, count) in histogram.bounds.iter().zip(&histogram.counts) {
            let known = |(buckets, _): &(Vec<(f64, f64)>, f64)| {
                buckets.iter().find(|(own, _)| own == bound).map(|(_, count)| *count)
            };
            let exact: Option<f64> = taken.iter().map(known).sum();
            if let Some(exact) = exact {
                prop_assert_eq!(*count, exact);
            } else {
                prop_assert!(union, "a bound that some push lacks");
            }
            let least: f64 = taken.iter().map(|(buckets, _)| {
                let below = buckets.iter().rev().find(|(own, _)| own <= bound);
                below.map_or(0.0, |(_, count)| *count)
            }).sum();
            prop_assert_eq!(*count, least);
        }
    }
}
