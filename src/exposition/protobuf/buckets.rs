//! The buckets of a native histogram, for people and the API.

use bytes::Bytes;

use super::error::FieldError;
use super::field::{histogram, span};
use super::wire::{Reader, zigzag};
use crate::exposition::number_text;

/// A bucket with observations.
#[derive(Debug, Clone, PartialEq)]
pub struct NativeBucket {
    /// Which of its bounds the bucket includes.
    pub bounds: Bounds,
    /// The lower bound.
    pub lower: f64,
    /// The upper bound.
    pub upper: f64,
    /// The count, written as a whole number or as a float.
    pub count: String,
}

/// Which bounds a bucket includes. The discriminants are those of Prometheus'
/// API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounds {
    /// A bucket above zero, which includes its upper bound.
    Upper = 0,
    /// A bucket below zero, which includes its lower bound.
    Lower = 1,
    /// The bucket around zero, which includes both.
    Both = 3,
}

/// Maximum number of buckets of one histogram that are shown.
const MOST_SHOWN: usize = 16 * 1024;

/// The buckets with observations of a stored `Histogram` message, in ascending
/// order. `None` if it has no native part or too many buckets.
pub fn native_buckets(message: &Bytes) -> Option<Vec<NativeBucket>> {
    let histogram = NativeMessage::of(Reader::new(message, 0)).ok()?;
    let native = histogram.zero_threshold > 0.0
        || histogram.zero_count > 0
        || !histogram.positive.spans.is_empty()
        || !histogram.negative.spans.is_empty();
    let buckets = |side: &BucketSide| side.deltas.len().max(side.counts.len());
    let many = buckets(&histogram.positive) + buckets(&histogram.negative) > MOST_SHOWN;
    (native && !many).then(|| histogram.buckets())
}

/// The native part of a message.
#[derive(Debug, Default)]
struct NativeMessage {
    schema: i32,
    zero_threshold: f64,
    zero_count: u64,
    zero_count_float: f64,
    positive: BucketSide,
    negative: BucketSide,
}

#[derive(Debug, Default)]
struct BucketSide {
    /// Offsets and lengths.
    spans: Vec<(i64, u64)>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

impl NativeMessage {
    fn of(mut message: Reader<'_>) -> Result<Self, Box<FieldError>> {
        let mut read = NativeMessage::default();
        while let Some(field) = message.next()? {
            let side = match field.number {
                histogram::NEGATIVE_SPAN
                | histogram::NEGATIVE_DELTA
                | histogram::NEGATIVE_COUNT => &mut read.negative,
                _ => &mut read.positive,
            };
            match field.number {
                histogram::SCHEMA => {
                    read.schema = zigzag(field.unsigned("a schema")?) as i32;
                }
                histogram::ZERO_THRESHOLD => read.zero_threshold = field.double("a threshold")?,
                histogram::ZERO_COUNT => read.zero_count = field.unsigned("a zero count")?,
                histogram::ZERO_COUNT_FLOAT => read.zero_count_float = field.double("a count")?,
                histogram::NEGATIVE_SPAN | histogram::POSITIVE_SPAN => {
                    side.spans.push(read_span(field.message("a span")?)?);
                }
                histogram::NEGATIVE_DELTA | histogram::POSITIVE_DELTA => {
                    field.each_varint("a delta", |delta| {
                        side.deltas.push(zigzag(delta));
                        Ok(())
                    })?;
                }
                histogram::NEGATIVE_COUNT | histogram::POSITIVE_COUNT => {
                    field.each_double("a count", |count| {
                        side.counts.push(count);
                        Ok(())
                    })?;
                }
                _ => {}
            }
        }
        Ok(read)
    }

    fn buckets(&self) -> Vec<NativeBucket> {
        let mut negative = self.side(&self.negative, Bounds::Lower);
        negative.reverse();
        let zero = match (self.zero_count, self.zero_count_float) {
            (0, 0.0) => None,
            (count, 0.0) => Some(count.to_string()),
            (_, count) => Some(number_text(count)),
        };
        let zero = zero.map(|count| NativeBucket {
            bounds: Bounds::Both,
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            count,
        });
        negative.extend(zero);
        negative.extend(self.side(&self.positive, Bounds::Upper));
        negative
    }

    /// The buckets of one side with observations, away from zero.
    fn side(&self, side: &BucketSide, bounds: Bounds) -> Vec<NativeBucket> {
        let mut index = 0_i64;
        let indexes = side.spans.iter().flat_map(|(offset, length)| {
            let first = index + offset;
            index = first + *length as i64;
            first..index
        });
        let mut count = 0_i64;
        let whole = side.deltas.iter().map(|delta| {
            count = count.saturating_add(*delta);
            (count != 0).then(|| count.to_string())
        });
        let floats = side.counts.iter();
        let floats = floats.map(|count| (*count != 0.0).then(|| number_text(*count)));
        let counts: Vec<Option<String>> = match side.counts.is_empty() {
            true => whole.collect(),
            false => floats.collect(),
        };
        let filled = indexes.zip(counts);
        filled
            .filter_map(|(index, count)| {
                let (near, far) = (bound(index - 1, self.schema), bound(index, self.schema));
                let (lower, upper) = match bounds {
                    Bounds::Lower => (-far, -near),
                    _ => (near, far),
                };
                Some(NativeBucket {
                    bounds,
                    lower,
                    upper,
                    count: count?,
                })
            })
            .collect()
    }
}

fn read_span(mut message: Reader<'_>) -> Result<(i64, u64), Box<FieldError>> {
    let (mut offset, mut length) = (0, 0);
    while let Some(field) = message.next()? {
        match field.number {
            span::OFFSET => offset = zigzag(field.unsigned("a span's offset")?),
            span::LENGTH => length = field.unsigned("a span's length")?,
            _ => {}
        }
    }
    Ok((offset, length))
}

/// The bound of a bucket that is farther from zero: 2 to the power of `index /
/// 2^schema`. The last finite bound is the largest double, after which there is
/// one more bucket.
fn bound(index: i64, schema: i32) -> f64 {
    let power = index as f64 / f64::from(schema).exp2();
    match power {
        1024.0 => f64::MAX,
        power => power.exp2(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn native_bounds_are_powers_of_two() {
        assert_eq!(bound(0, 0), 1.0);
        assert_eq!(bound(3, 0), 8.0);
        assert_eq!(bound(-1, 3), 0.917_004_043_204_671_2);
        assert_eq!(bound(2, -2), 256.0);
        assert_eq!(bound(1024, 0), f64::MAX);
        assert_eq!(bound(1025, 0), f64::INFINITY);
        assert_eq!(bound(256, -2), f64::MAX);
        assert_eq!(bound(257, -2), f64::INFINITY);
    }
}
