use super::*;
use crate::registry::QuantileSpec;

fn after(
    before: Option<SeriesState>,
    change: Change,
    kind: Kind,
) -> Result<SeriesState, Rejection> {
    let context = ChangeContext {
        series: SeriesName::new("m", ""),
        kind,
        bounds_policy: BoundsPolicy::Common,
        max_bounds: 3,
        now: 0,
        bounds: None,
    };
    SeriesState::changed(before, change, context)
}

fn value(before: Option<f64>, change: Change, kind: Kind) -> Option<f64> {
    match after(before.map(SeriesState::Number), change, kind) {
        Ok(SeriesState::Number(value)) => Some(value),
        _ => None,
    }
}

#[test]
fn values_change_according_to_their_type() {
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
        // An infinite value cannot be added to until it is set to a finite one.
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
fn each_type_accepts_its_own_changes() {
    let histogram = || Change::Histogram {
        buckets: Vec::new(),
        sum: None,
        count: Some(1.0),
    };
    let observe = || Change::Observe {
        value: 1.0,
        times: 1.0,
        buckets: Arc::from([1.0]),
        native: None,
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
fn sums_and_counts_of_summaries_are_added() {
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
    assert_eq!(second, SeriesState::Summary(expected));
    for (sum, count) in [
        (None, None),
        (Some(f64::NAN), Some(1.0)),
        (Some(1.0), Some(-1.0)),
        (None, Some(f64::INFINITY)),
    ] {
        assert!(summary(Some(first.clone()), sum, count).is_err());
    }
    // Fractions are carried, so the shown count is a whole number.
    let mut carried = None;
    for shown in [0.0, 1.0, 1.0, 2.0, 2.0] {
        let after = summary(carried, None, Some(0.4)).unwrap();
        let SeriesState::Summary(summary) = &after else {
            panic!("not a summary");
        };
        assert_eq!(summary.count, Some(shown));
        carried = Some(after);
    }
    let count_only = summary(None, None, Some(1.0)).unwrap();
    assert_eq!((first.lines(), count_only.lines()), (2, 1));
}

#[test]
fn the_first_bounds_hold_and_are_limited() {
    let observe = |before, buckets: &[f64]| {
        let change = Change::Observe {
            value: 1.5,
            times: 1.0,
            buckets: Arc::from(buckets),
            native: None,
        };
        after(before, change, Kind::Histogram)
    };
    let first = observe(None, &[1.0, 2.0]).unwrap();
    let SeriesState::Histogram(second) = observe(Some(first), &[7.0]).unwrap() else {
        panic!("not a histogram");
    };
    assert_eq!((&*second.bounds, second.count), (&[1.0, 2.0][..], 2.0));
    let many = observe(None, &[1.0, 2.0, 3.0, 4.0]);
    assert_eq!(
        many,
        Err(Rejection::TooManyBounds {
            series: "m".to_owned(),
            bounds: 4,
            limit: 3
        })
    );
    assert!(observe(None, &[2.0, 1.0]).is_err());
}

#[test]
fn another_span_or_function_starts_a_new_window() {
    let window = |before, mean, seconds, value| {
        let span = Duration::from_secs(seconds);
        let change = Change::Window { mean, span, value };
        after(before, change, Kind::Gauge)
    };
    let shown = |state: &SeriesState| state.number(0);
    let first = window(None, true, 10, 2.0).unwrap();
    let second = window(Some(first), true, 10, 4.0).unwrap();
    assert_eq!(shown(&second), 3.0);
    let other = window(Some(second.clone()), false, 10, 7.0).unwrap();
    assert_eq!(shown(&other), 7.0);
    let plain = after(Some(second), Change::Add(1.0), Kind::Gauge).unwrap();
    assert_eq!(plain, SeriesState::Number(4.0));
    let from_plain = window(Some(plain), true, 10, 9.0).unwrap();
    assert_eq!(shown(&from_plain), 9.0);
    assert!(window(None, true, 0, 1.0).is_err());
    assert!(window(None, true, 10, f64::INFINITY).is_err());
}

/// A large value and the one that cancels it leave the window at different times.
#[test]
fn a_window_is_rejected_if_a_part_of_it_would_overflow() {
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
    let mut at = ChangeContext {
        series: SeriesName::new("m", ""),
        kind: Kind::Gauge,
        bounds_policy: BoundsPolicy::Common,
        max_bounds: 3,
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
        SeriesState::changed(Some(before), change, at)
    };
    let rejected = later(first, 1e308);
    assert!(
        matches!(rejected, Err(Rejection::InvalidValue { .. })),
        "{rejected:?}"
    );
}

#[test]
fn a_summary_has_observations_or_pushed_sums() {
    let observe = |before, quantiles: &[f64]| {
        let change = Change::ObserveQuantiles {
            value: 2.0,
            times: 2.5,
            spec: Arc::new(QuantileSpec {
                quantiles: quantiles.into(),
                max_age: Duration::from_secs(60),
                age_buckets: 3,
            }),
        };
        after(before, change, Kind::Summary)
    };
    let push = |before| {
        let change = Change::Summary {
            sum: Some(1.0),
            count: Some(1.0),
            quantiles: Vec::new(),
        };
        after(before, change, Kind::Summary)
    };
    let observed = observe(None, &[0.5, 1.0]).unwrap();
    let pushed = push(None).unwrap();
    assert!(push(Some(observed.clone())).is_err());
    assert!(observe(Some(pushed), &[0.5]).is_err());
    let SeriesState::Summary(again) = observe(Some(observed), &[0.5, 1.0]).unwrap() else {
        panic!("not a summary");
    };
    assert_eq!(again.values().collect::<Vec<_>>(), [2.0, 2.0, 10.0, 5.0]);
    assert!(again.next_step() < NEVER);
    // Other quantiles begin without recent observations, and keep sum and count.
    let other = observe(Some(SeriesState::Summary(again.clone())), &[0.9]).unwrap();
    let SeriesState::Summary(other) = other else {
        panic!("not a summary");
    };
    assert_eq!((other.sum, other.lines()), (Some(15.0), 3));
    assert!(!other.has_same_shape(&again));
}
