use proptest::prelude::*;

use super::*;
use crate::exposition::protobuf::native_buckets;

fn native(schema: i8) -> Native {
    Native::new(NativeSpec {
        schema,
        max_buckets: 10_000,
    })
}

/// The number of a value's bucket; `None` for the zero bucket. Below zero, numbers are as above,
/// with the sign `-1`.
fn bucket(schema: i8, value: f64) -> Option<(i32, i32)> {
    let place = native(schema).place_of(value);
    (place != 0).then(|| (place.signum(), place.abs() - OFFSET))
}

/// Bounds and counts of the buckets in the message.
fn shown(native: &Native, count: f64) -> Vec<(f64, f64, String)> {
    let message = native.message(&ClassicPart {
        count,
        sum: Some(1.0),
        bounds: &[],
        counts: &[],
    });
    let buckets = native_buckets(&message.unwrap().into()).unwrap();
    let buckets = buckets.into_iter();
    buckets.map(|it| (it.lower, it.upper, it.count)).collect()
}

#[test]
fn the_schema_has_the_largest_factor_up_to_the_given_one() {
    for (factor, schema) in [
        (0.5, None),
        (1.0, None),
        (1.000_1, Some(8)),
        (1.002_8, Some(8)),
        (1.005_5, Some(7)),
        (1.05, Some(4)),
        (1.09, Some(4)),
        (1.1, Some(3)),
        (1.2, Some(2)),
        (1.4, Some(2)),
        (1.5, Some(1)),
        (2.0, Some(0)),
        (3.9, Some(0)),
        (4.0, Some(-1)),
        (16.0, Some(-2)),
        (255.0, Some(-2)),
        (256.0, Some(-3)),
        (65_535.0, Some(-3)),
        (65_536.0, Some(-4)),
        (f64::MAX, Some(-4)),
    ] {
        assert_eq!(NativeSpec::schema_of(factor), schema, "{factor}");
    }
}

#[test]
fn a_bucket_has_its_upper_bound() {
    let two = |power: f64| power.exp2();
    for (schema, value, number) in [
        (0, 1.0, 0),
        (0, 1.0 + f64::EPSILON, 1),
        (0, 2.0, 1),
        (0, 3.0, 2),
        (0, 0.5, -1),
        (0, f64::MAX, 1024),
        (0, two(-127.0), -127),
        (3, 1.0, 0),
        (3, two(0.125), 1),
        (3, two(0.125) + f64::EPSILON, 2),
        (3, 2.0, 8),
        (3, 0.25, -16),
        (8, two(1.0 / 256.0), 1),
        (8, f64::MAX, 262_144),
        (-2, 1.0, 0),
        (-2, 16.0, 1),
        (-2, 17.0, 2),
        (-2, 0.0625, -1),
        (-2, 0.06, -1),
        (-4, 65_536.0, 1),
        (-4, f64::MAX, 64),
    ] {
        assert_eq!(bucket(schema, value), Some((1, number)), "{schema} {value}");
        assert_eq!(
            bucket(schema, -value),
            Some((-1, number)),
            "{schema} -{value}"
        );
    }
}

#[test]
fn values_near_zero_are_in_the_zero_bucket() {
    for value in [0.0, -0.0, f64::MIN_POSITIVE, 5e-324, ZERO_THRESHOLD] {
        assert_eq!(bucket(3, value), None, "{value}");
        assert_eq!(bucket(3, -value), None, "-{value}");
    }
    let more = f64::from_bits(ZERO_THRESHOLD.to_bits() + 1);
    assert_eq!(bucket(0, more), Some((1, -127)));
    assert_eq!(ZERO_THRESHOLD, 2_f64.powi(-128));
}

#[test]
fn the_message_has_all_buckets() {
    let mut native = native(0);
    for value in [-3.0, 0.0, 1.0, 1.5, 1.6, 100.0] {
        native.observe(value, 1.0);
    }
    let bucket = |lower, upper, count: &str| (lower, upper, count.to_owned());
    assert_eq!(
        shown(&native, 6.0),
        [
            bucket(-4.0, -2.0, "1"),
            bucket(-ZERO_THRESHOLD, ZERO_THRESHOLD, "1"),
            bucket(0.5, 1.0, "1"),
            bucket(1.0, 2.0, "2"),
            bucket(64.0, 128.0, "1"),
        ]
    );
}

#[test]
fn counts_that_would_not_add_up_give_no_message() {
    let mut native = native(0);
    native.observe(1.0, 2.0);
    let message = |native: &Native, count| {
        native.message(&ClassicPart {
            count,
            sum: None,
            bounds: &[],
            counts: &[],
        })
    };
    assert!(message(&native, 2.0).is_some());
    assert_eq!(message(&native, 3.0), None);
    native.observe(1.0, 1e17);
    assert_eq!(message(&native, 1e17 + 2.0), None);
}

#[test]
fn past_the_limit_the_resolution_is_halved() {
    let mut native = Native::new(NativeSpec {
        schema: 3,
        max_buckets: 3,
    });
    for value in [1.0, 2.0, 0.0, 4.0] {
        native.observe(value, 1.0);
        assert_eq!(native.schema, 3);
    }
    native.observe(8.0, 1.0);
    assert_eq!(native.schema, -1, "finer ones have four buckets");
    // One, two and four, and eight are in buckets that end at 1, 4 and 16.
    assert_eq!(
        shown(&native, 5.0)[1..],
        [
            (0.25, 1.0, "1".to_owned()),
            (1.0, 4.0, "2".to_owned()),
            (4.0, 16.0, "1".to_owned()),
        ]
    );
    // No schema is coarser than the last one.
    native.max_buckets = 1;
    native.observe(-8.0, 1.0);
    assert_eq!(native.schema, COARSEST);
}

#[test]
fn impossible_buckets_are_refused() {
    let restored = |schema, places: &[i32], counts: &[f64], fractions: &[u64]| {
        let spec = NativeSpec {
            schema,
            max_buckets: 9,
        };
        let (places, counts, fractions) = (places.to_vec(), counts.to_vec(), fractions.to_vec());
        Native::restored(spec, places, counts, fractions)
    };
    let two = [-OFFSET, OFFSET + 1];
    assert!(restored(3, &two, &[1.0, 2.0], &[]).is_ok());
    for refused in [
        restored(9, &two, &[1.0, 2.0], &[]),
        restored(-5, &two, &[1.0, 2.0], &[]),
        restored(3, &two, &[1.0], &[]),
        restored(3, &two, &[1.0, 2.0], &[1]),
        restored(3, &[1, OFFSET], &[1.0, 2.0], &[]),
        restored(3, &[OFFSET, OFFSET], &[1.0, 2.0], &[]),
        restored(3, &[i32::MIN, 0], &[1.0, 2.0], &[]),
        restored(3, &two, &[1.0, -1.0], &[]),
        restored(3, &two, &[1.0, f64::NAN], &[]),
    ] {
        assert_eq!(refused, Err("a histogram has impossible native buckets"));
    }
}

fn any_value() -> impl Strategy<Value = f64> {
    let size = (-130.0..1024.0_f64).prop_map(f64::exp2);
    (size, any::<bool>()).prop_map(|(size, is_negative)| if is_negative { -size } else { size })
}

proptest! {
    #[test]
    fn a_value_is_between_the_bounds_of_its_bucket(value in any_value(), schema in COARSEST..=FINEST) {
        if let Some((sign, number)) = bucket(schema, value) {
            let power = value.abs().log2() * f64::from(schema).exp2();
            prop_assert_eq!(f64::from(sign), value.signum());
            let number = f64::from(number);
            prop_assert!(number - 1.0 - 1e-9 <= power && power <= number + 1e-9, "{power} in {number}");
        }
    }

    #[test]
    fn halving_equals_observing_in_the_coarser_schema(
        values in proptest::collection::vec((any_value(), 0.0..9.0), 0..60),
        schema in COARSEST + 1..=FINEST,
    ) {
        let (mut finer, mut coarser) = (native(schema), native(schema - 1));
        for (value, times) in &values {
            finer.observe(*value, *times);
            coarser.observe(*value, *times);
        }
        finer.halve();
        prop_assert_eq!(finer, coarser);
    }

    /// Rounded counts add up to the rounded number of all, for any weights.
    #[test]
    fn weighted_counts_add_up(
        values in proptest::collection::vec((-4.0..4.0, 0.0..9.0), 1..60),
        max_buckets in 1..20_u32,
    ) {
        let mut native = Native::new(NativeSpec { schema: 3, max_buckets });
        let (mut count, mut fraction) = (0.0, HALF);
        for (value, times) in &values {
            let weight = native.weight();
            let has_room = native.has_room_for(*value, *times);
            native.observe(*value, *times);
            prop_assert!(!has_room || native.weight() == weight);
            add_to_count(&mut count, &mut fraction, split_count(*times));
        }
        let counts = shown(&native, count);
        let counts = counts.iter().map(|(_, _, count)| count.parse::<f64>().unwrap());
        prop_assert_eq!(counts.sum::<f64>(), count);
    }
}
