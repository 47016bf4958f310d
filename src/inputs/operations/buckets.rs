//! The bounds of a histogram, as messages ask for them.
//!
//! The formulas are metrics-server's. Bounds are made by the same steps as
//! Prometheus' Go library makes them, so that `le` reads the same in both.

use std::sync::{Arc, LazyLock};

/// Bounds of one histogram: each costs a line for each series.
const MOST: i64 = 200;

const USUAL_COUNT: i64 = 20;
const USUAL_WIDTH: f64 = 10.0;

/// The first of the exponential bounds that are given by a factor.
const FIRST: f64 = 0.1;

/// What a message says of its buckets; zero where it says nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Buckets {
    pub count: i64,
    pub width: f64,
    pub start: f64,
    pub min: f64,
    pub max: f64,
    pub factor: f64,
    pub custom: Vec<f64>,
}

/// 0, 10, and so on to 190.
static USUAL: LazyLock<Arc<[f64]>> =
    LazyLock::new(|| (0..USUAL_COUNT).map(|i| i as f64 * USUAL_WIDTH).collect());

/// The bounds of a message that says nothing of them.
pub fn usual() -> &'static Arc<[f64]> {
    &USUAL
}

impl Buckets {
    /// The bounds, finite and ascending; or what is wrong.
    pub fn bounds(&self) -> Result<Arc<[f64]>, String> {
        if *self == Buckets::default() {
            return Ok(Arc::clone(usual()));
        }
        if self.count < 0 {
            return Err(format!("buckets may not be negative: {}", self.count));
        }
        let count = match self.count {
            0 => USUAL_COUNT,
            count if count <= MOST => count,
            count => return Err(format!("there may be {MOST} buckets, and not {count}")),
        };
        let bounds: Vec<f64> = if self.min > 0.0 && self.max > 0.0 {
            let (min, max) = (self.min, self.max);
            if min > max {
                return Err(format!("bucket_min is above bucket_max: {min} and {max}"));
            }
            let growth = (max / min).powf(1.0 / (count - 1) as f64);
            // Of one bound the growth is infinite, and to the power of 0 it is 1.
            (0..count).map(|i| min * growth.powf(i as f64)).collect()
        } else if self.factor > 0.0 {
            let factor = self.factor;
            if factor <= 1.0 {
                return Err(format!("bucket_factor must be above 1, not {factor}"));
            }
            steps(FIRST, count, |bound| bound * factor)
        } else if !self.custom.is_empty() {
            if self.custom.len() as i64 > MOST {
                let found = self.custom.len();
                return Err(format!(
                    "bucket_custom may have {MOST} bounds, and not {found}"
                ));
            }
            self.custom.clone()
        } else {
            let width = match self.width {
                0.0 => USUAL_WIDTH,
                width if width > 0.0 => width,
                width => return Err(format!("bucket_width may not be negative: {width}")),
            };
            steps(self.start, count, |bound| bound + width)
        };
        if bounds.iter().any(|bound| !bound.is_finite()) {
            return Err("the bounds of its buckets are too large for a number".to_owned());
        }
        match bounds.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) => Err(format!(
                "the bounds of its buckets must ascend: {} comes before {}",
                pair[0], pair[1]
            )),
            None => Ok(Arc::from(bounds)),
        }
    }
}

fn steps(first: f64, count: i64, next: impl Fn(f64) -> f64) -> Vec<f64> {
    std::iter::successors(Some(first), |bound| Some(next(*bound)))
        .take(count as usize)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn bounds(change: impl FnOnce(&mut Buckets)) -> Vec<f64> {
        let mut buckets = Buckets::default();
        change(&mut buckets);
        buckets.bounds().unwrap().to_vec()
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut Buckets)) -> String {
        let mut buckets = Buckets::default();
        change(&mut buckets);
        buckets.bounds().unwrap_err()
    }

    #[test]
    fn twenty_linear_ones_are_usual() {
        let usual: Vec<f64> = (0..20).map(|i| f64::from(i) * 10.0).collect();
        assert_eq!(bounds(|_| {}), usual);
        assert_eq!(bounds(|b| b.count = 20), usual);
        assert_eq!(bounds(|b| b.width = 10.0), usual);
    }

    #[test]
    fn linear_ones_begin_anywhere() {
        let made = bounds(|b| (b.start, b.width, b.count) = (-1.0, 0.5, 4));
        assert_eq!(made, [-1.0, -0.5, 0.0, 0.5]);
    }

    #[test]
    fn exponential_ones_go_from_least_to_most_or_by_a_factor() {
        let made = bounds(|b| (b.min, b.max, b.count) = (1.0, 16.0, 5));
        assert_eq!(made, [1.0, 2.0, 4.0, 8.0, 16.0]);
        assert_eq!(bounds(|b| (b.min, b.max, b.count) = (3.0, 9.0, 1)), [3.0]);
        let made = bounds(|b| (b.factor, b.count) = (10.0, 3));
        assert_eq!(made, [0.1, 1.0, 10.0]);
        assert_eq!(bounds(|b| b.factor = 2.0).len(), 20);
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let all = |b: &mut Buckets| {
            (b.min, b.max, b.factor) = (1.0, 4.0, 2.0);
            (b.count, b.width) = (2, 5.0);
            b.custom = vec![7.0];
        };
        assert_eq!(bounds(all), [1.0, 4.0]);
        let no_max = |b: &mut Buckets| {
            all(b);
            b.max = 0.0;
        };
        assert_eq!(bounds(no_max), [0.1, 0.2]);
        let no_factor = |b: &mut Buckets| {
            no_max(b);
            b.factor = -1.0;
        };
        assert_eq!(bounds(no_factor), [7.0]);
    }

    /// Each of these ends metrics-server.
    #[test]
    fn parameters_without_sense_are_refused() {
        type Case = (&'static str, fn(&mut Buckets));
        let cases: [Case; 9] = [
            ("factor must be above 1", |b| b.factor = 0.5),
            ("factor must be above 1", |b| b.factor = 1.0),
            ("may not be negative", |b| b.count = -1),
            ("above bucket_max", |b| (b.min, b.max) = (2.0, 1.0)),
            ("must ascend", |b| (b.min, b.max) = (2.0, 2.0)),
            ("may not be negative", |b| b.width = -10.0),
            ("must ascend", |b| b.custom = vec![2.0, 1.0]),
            ("must ascend", |b| b.custom = vec![1.0, 1.0]),
            ("200 buckets", |b| b.count = i64::MAX),
        ];
        for (words, change) in cases {
            let problem = refused(change);
            assert!(problem.contains(words), "{problem}");
        }
        assert!(refused(|b| b.custom = vec![1.0; 300]).contains("200 bounds"));
        assert!(refused(|b| (b.factor, b.count) = (1e300, 9)).contains("too large"));
        assert!(refused(|b| (b.start, b.width) = (1e300, 1e-300)).contains("must ascend"));
    }
}
