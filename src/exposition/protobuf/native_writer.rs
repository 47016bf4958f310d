//! Writes the message of a histogram with native buckets.

use super::field::{bucket, histogram, span};
use super::wire::{put_bytes, put_double, put_unsigned, put_varint, to_zigzag};

/// The classic part of a histogram. All counts are whole numbers that a double holds exactly.
#[derive(Debug, Clone, Copy)]
pub struct ClassicPart<'h> {
    /// Number of all observations.
    pub count: f64,
    /// Their sum.
    pub sum: Option<f64>,
    /// The finite upper bounds.
    pub bounds: &'h [f64],
    /// The cumulative count at each bound.
    pub counts: &'h [f64],
}

/// The native part of a histogram.
#[derive(Debug, Clone, Copy)]
pub struct NativeParts<'h> {
    /// The schema, from -4 to 8.
    pub schema: i8,
    /// Observations not farther from 0 are in the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: u64,
    /// Numbers and counts of the buckets below zero. Numbers ascend, away from zero.
    pub negative: &'h [(i32, u64)],
    /// Numbers and counts of the buckets above zero.
    pub positive: &'h [(i32, u64)],
}

/// Maximum number of missing buckets in a row that are written as empty ones, instead of a new
/// span.
const MAX_GAP: i32 = 2;

/// An encoded message `io.prometheus.client.Histogram`.
pub fn native_message(classic: &ClassicPart<'_>, native: &NativeParts<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + 16 * classic.bounds.len() + 4 * native.positive.len());
    put_unsigned(&mut out, histogram::COUNT, classic.count as u64);
    put_double(&mut out, histogram::SUM, classic.sum.unwrap_or_default());
    let mut part = Vec::with_capacity(32);
    for (bound, count) in classic.bounds.iter().zip(classic.counts) {
        part.clear();
        put_unsigned(&mut part, bucket::COUNT, *count as u64);
        put_double(&mut part, bucket::UPPER_BOUND, *bound);
        put_bytes(&mut out, histogram::BUCKET, &part);
    }
    let schema = to_zigzag(i64::from(native.schema));
    put_unsigned(&mut out, histogram::SCHEMA, schema);
    put_double(&mut out, histogram::ZERO_THRESHOLD, native.zero_threshold);
    put_unsigned(&mut out, histogram::ZERO_COUNT, native.zero_count);
    let (spans, deltas) = (histogram::NEGATIVE_SPAN, histogram::NEGATIVE_DELTA);
    put_side(&mut out, native.negative, spans, deltas);
    let (spans, deltas) = (histogram::POSITIVE_SPAN, histogram::POSITIVE_DELTA);
    put_side(&mut out, native.positive, spans, deltas);
    out
}

/// Writes the buckets of one side: runs of neighbours, and the difference of each count to the one
/// before.
fn put_side(out: &mut Vec<u8>, buckets: &[(i32, u64)], span_field: u32, delta_field: u32) {
    let mut spans: Vec<(i32, u32)> = Vec::new();
    let mut deltas = Vec::with_capacity(2 * buckets.len());
    let (mut next, mut before) = (0, 0_i64);
    let mut put_delta = |count: i64| {
        put_varint(&mut deltas, to_zigzag(count - before));
        before = count;
    };
    for (number, count) in buckets {
        let gap = number - next;
        match spans.last_mut() {
            Some((_, length)) if gap <= MAX_GAP => {
                (0..gap).for_each(|_| put_delta(0));
                *length += gap.unsigned_abs() + 1;
            }
            _ => spans.push((gap, 1)),
        }
        put_delta(*count as i64);
        next = number + 1;
    }
    let mut part = Vec::with_capacity(16);
    for (offset, length) in spans {
        part.clear();
        put_unsigned(&mut part, span::OFFSET, to_zigzag(i64::from(offset)));
        put_unsigned(&mut part, span::LENGTH, u64::from(length));
        put_bytes(out, span_field, &part);
    }
    if !deltas.is_empty() {
        put_bytes(out, delta_field, &deltas);
    }
}
