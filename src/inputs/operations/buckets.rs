//! Computes the bucket bounds of a histogram from the fields of a message.
//!
//! The formulas are metrics-server's, and the steps are those of Prometheus' Go
//! library (`LinearBuckets`, `ExponentialBuckets`, `ExponentialBucketsRange`),
//! so that `le` is written the same.

use std::sync::{Arc, LazyLock};

/// The limit on bounds of a histogram: each bound is a line of every series.
const MAX_BOUNDS: i64 = 200;

const DEFAULT_COUNT: i64 = 20;
const DEFAULT_WIDTH: f64 = 10.0;

/// The first bound of exponential buckets that are given by a factor.
const FIRST_EXPONENTIAL: f64 = 0.1;

/// The bucket fields of a message; zero or empty if missing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct BucketSpec {
    pub(super) count: i64,
    pub(super) width: f64,
    pub(super) start: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) factor: f64,
    pub(super) custom: Vec<f64>,
}

/// 0, 10, and so on up to 190.
static DEFAULT: LazyLock<Arc<[f64]>> = LazyLock::new(|| {
    (0..DEFAULT_COUNT)
        .map(|i| i as f64 * DEFAULT_WIDTH)
        .collect()
});

/// The bounds for a message without bucket fields.
pub(super) fn default_bounds() -> &'static Arc<[f64]> {
    &DEFAULT
}

impl BucketSpec {
    /// Returns the bounds, finite and in ascending order.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong with the fields.
    pub(super) fn bounds(&self) -> Result<Arc<[f64]>, String> {
        if *self == BucketSpec::default() {
            return Ok(Arc::clone(default_bounds()));
        }
        if self.count < 0 {
            return Err(format!("buckets must not be negative: {}", self.count));
        }
        let count = match self.count {
            0 => DEFAULT_COUNT,
            count if count <= MAX_BOUNDS => count,
            count => return Err(format!("buckets must be at most {MAX_BOUNDS}, not {count}")),
        };
        let bounds: Vec<f64> = if self.min > 0.0 && self.max > 0.0 {
            let (min, max) = (self.min, self.max);
            if min > max {
                return Err(format!("bucket_min is above bucket_max: {min} and {max}"));
            }
            let growth = (max / min).powf(1.0 / (count - 1) as f64);
            // With one bound the growth factor is infinite, but its power of 0 is 1.
            (0..count).map(|i| min * growth.powf(i as f64)).collect()
        } else if self.factor > 0.0 {
            let factor = self.factor;
            if factor <= 1.0 {
                return Err(format!("bucket_factor must be above 1, not {factor}"));
            }
            steps(FIRST_EXPONENTIAL, count, |bound| bound * factor)
        } else if !self.custom.is_empty() {
            if self.custom.len() as i64 > MAX_BOUNDS {
                let found = self.custom.len();
                return Err(format!(
                    "bucket_custom must have at most {MAX_BOUNDS} bounds, not {found}"
                ));
            }
            self.custom.clone()
        } else {
            let width = match self.width {
                0.0 => DEFAULT_WIDTH,
                width if width > 0.0 => width,
                width => return Err(format!("bucket_width must not be negative: {width}")),
            };
            steps(self.start, count, |bound| bound + width)
        };
        if bounds.iter().any(|bound| !bound.is_finite()) {
            return Err("the bucket bounds are too large for a number".to_owned());
        }
        match bounds.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) => Err(format!(
                "the bucket bounds must be in ascending order: {} comes before {}",
                pair[0], pair[1]
            )),
            None => Ok(Arc::from(bounds)),
        }
    }
}

/// Returns `count` numbers beginning with `first`, each computed from the one before.
fn steps(first: f64, count: i64, next: impl Fn(f64) -> f64) -> Vec<f64> {
    std::iter::successors(Some(first), |bound| Some(next(*bound)))
        .take(count as usize)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn bounds(change: impl FnOnce(&mut BucketSpec)) -> Vec<f64> {
        let mut spec = BucketSpec::default();
        change(&mut spec);
        spec.bounds().unwrap().to_vec()
    }

    #[track_caller]
    fn rejected(change: impl FnOnce(&mut BucketSpec)) -> String {
        let mut spec = BucketSpec::default();
        change(&mut spec);
        spec.bounds().unwrap_err()
    }

    #[test]
    fn twenty_linear_bounds_are_the_default() {
        let default: Vec<f64> = (0..20).map(|i| f64::from(i) * 10.0).collect();
        assert_eq!(bounds(|_| {}), default);
        assert_eq!(bounds(|b| b.count = 20), default);
        assert_eq!(bounds(|b| b.width = 10.0), default);
    }

    #[test]
    fn linear_bounds_may_start_anywhere() {
        let made = bounds(|b| (b.start, b.width, b.count) = (-1.0, 0.5, 4));
        assert_eq!(made, [-1.0, -0.5, 0.0, 0.5]);
    }

    #[test]
    fn exponential_bounds_have_a_range_or_a_factor() {
        let made = bounds(|b| (b.min, b.max, b.count) = (1.0, 16.0, 5));
        assert_eq!(made, [1.0, 2.0, 4.0, 8.0, 16.0]);
        assert_eq!(bounds(|b| (b.min, b.max, b.count) = (3.0, 9.0, 1)), [3.0]);
        let made = bounds(|b| (b.factor, b.count) = (10.0, 3));
        assert_eq!(made, [0.1, 1.0, 10.0]);
        assert_eq!(bounds(|b| b.factor = 2.0).len(), 20);
    }

    #[test]
    fn the_first_rule_that_matches_applies() {
        let all = |b: &mut BucketSpec| {
            (b.min, b.max, b.factor) = (1.0, 4.0, 2.0);
            (b.count, b.width) = (2, 5.0);
            b.custom = vec![7.0];
        };
        assert_eq!(bounds(all), [1.0, 4.0]);
        let no_max = |b: &mut BucketSpec| {
            all(b);
            b.max = 0.0;
        };
        assert_eq!(bounds(no_max), [0.1, 0.2]);
        let no_factor = |b: &mut BucketSpec| {
            no_max(b);
            b.factor = -1.0;
        };
        assert_eq!(bounds(no_factor), [7.0]);
    }

    /// Each of these crashes metrics-server.
    #[test]
    fn meaningless_fields_are_rejected() {
        type Case = (&'static str, fn(&mut BucketSpec));
        let cases: [Case; 9] = [
            ("factor must be above 1", |b| b.factor = 0.5),
            ("factor must be above 1", |b| b.factor = 1.0),
            ("must not be negative", |b| b.count = -1),
            ("above bucket_max", |b| (b.min, b.max) = (2.0, 1.0)),
            ("ascending order", |b| (b.min, b.max) = (2.0, 2.0)),
            ("must not be negative", |b| b.width = -10.0),
            ("ascending order", |b| b.custom = vec![2.0, 1.0]),
            ("ascending order", |b| b.custom = vec![1.0, 1.0]),
            ("at most 200", |b| b.count = i64::MAX),
        ];
        for (words, change) in cases {
            let problem = rejected(change);
            assert!(problem.contains(words), "{problem}");
        }
        assert!(rejected(|b| b.custom = vec![1.0; 300]).contains("200 bounds"));
        assert!(rejected(|b| (b.factor, b.count) = (1e300, 9)).contains("too large"));
        assert!(rejected(|b| (b.start, b.width) = (1e300, 1e-300)).contains("ascending order"));
    }
}
