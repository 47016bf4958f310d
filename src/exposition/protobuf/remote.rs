//! Native histograms as Prometheus' remote write has them.
//!
//! The messages `prometheus.Histogram` (1.0) and `io.prometheus.write.v2.Histogram` have the
//! same fields, apart from the start time of 2.0. They hold no classic buckets.

use bytes::Bytes;

use super::error::FieldError;
use super::field::{bucket, exemplar, histogram, timestamp};
use super::native::read_label;
use super::wire::{Field, Payload, Reader, put_bytes, put_double, put_unsigned, put_varint};

/// A native histogram for remote write.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RemoteHistogram {
    /// The encoded message without its time.
    pub message: Vec<u8>,
    /// When counting began, in milliseconds since 1970.
    pub created: Option<i64>,
    /// The exemplars: those of the native part, or of the buckets if it has none.
    pub exemplars: Vec<RemoteExemplar>,
}

/// An exemplar.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RemoteExemplar {
    /// Names and values of its labels.
    pub labels: Vec<(String, String)>,
    /// The value.
    pub value: f64,
    /// Its time in milliseconds since 1970, if it has one.
    pub timestamp: Option<i64>,
}

/// Field numbers of the message.
mod written {
    pub const COUNT: u32 = 1;
    pub const COUNT_FLOAT: u32 = 2;
    pub const SUM: u32 = 3;
    pub const SCHEMA: u32 = 4;
    pub const ZERO_THRESHOLD: u32 = 5;
    pub const ZERO_COUNT: u32 = 6;
    pub const ZERO_COUNT_FLOAT: u32 = 7;
    pub const NEGATIVE_SPANS: u32 = 8;
    pub const NEGATIVE_DELTAS: u32 = 9;
    pub const NEGATIVE_COUNTS: u32 = 10;
    pub const POSITIVE_SPANS: u32 = 11;
    pub const POSITIVE_DELTAS: u32 = 12;
    pub const POSITIVE_COUNTS: u32 = 13;
    pub const RESET_HINT: u32 = 14;
}

/// The reset hint of histograms whose counts may fall.
const GAUGE: u64 = 3;

/// Field numbers of deltas and counts, and those that they become.
const LISTS: [(u32, u32); 4] = [
    (histogram::NEGATIVE_DELTA, written::NEGATIVE_DELTAS),
    (histogram::NEGATIVE_COUNT, written::NEGATIVE_COUNTS),
    (histogram::POSITIVE_DELTA, written::POSITIVE_DELTAS),
    (histogram::POSITIVE_COUNT, written::POSITIVE_COUNTS),
];

impl RemoteHistogram {
    /// Converts a stored message `io.prometheus.client.Histogram`. `None` if it has no
    /// native part. `gauge` marks a histogram whose counts may fall.
    pub fn of(message: &Bytes, gauge: bool) -> Option<Self> {
        read(Reader::new(message, 0), gauge).ok().flatten()
    }

    /// A histogram that marks its series as stale: its sum has the bits `marker`.
    pub fn stale(marker: u64) -> Vec<u8> {
        let mut message = Vec::new();
        put_double(&mut message, written::SUM, f64::from_bits(marker));
        message
    }
}

fn read(mut fields: Reader<'_>, gauge: bool) -> Result<Option<RemoteHistogram>, Box<FieldError>> {
    let mut made = RemoteHistogram::default();
    let mut of_buckets = Vec::new();
    let (mut count, mut count_float, mut sum, mut schema) = (0, 0.0, 0.0, 0);
    let (mut threshold, mut zero, mut zero_float) = (0.0, 0, 0.0);
    let mut spans = Vec::new();
    let mut lists = [const { Vec::new() }; LISTS.len()];
    while let Some(field) = fields.next()? {
        match field.number {
            histogram::COUNT => count = field.unsigned("a count")?,
            histogram::COUNT_FLOAT => count_float = field.double("a count")?,
            histogram::SUM => sum = field.double("a sum")?,
            histogram::SCHEMA => schema = field.unsigned("a schema")?,
            histogram::ZERO_THRESHOLD => threshold = field.double("a threshold")?,
            histogram::ZERO_COUNT => zero = field.unsigned("a zero count")?,
            histogram::ZERO_COUNT_FLOAT => zero_float = field.double("a zero count")?,
            // A span has the same fields.
            histogram::NEGATIVE_SPAN => spans.push((written::NEGATIVE_SPANS, field)),
            histogram::POSITIVE_SPAN => spans.push((written::POSITIVE_SPANS, field)),
            histogram::CREATED => made.created = read_millis(field.message("a time")?)?,
            histogram::EXEMPLAR => made.exemplars.push(read_exemplar(&field)?),
            histogram::BUCKET => {
                let mut fields = field.message("a bucket")?;
                while let Some(field) = fields.next()? {
                    if field.number == bucket::EXEMPLAR {
                        of_buckets.push(read_exemplar(&field)?);
                    }
                }
            }
            number => {
                if let Some(list) = LISTS.iter().position(|(from, _)| *from == number) {
                    append(&field, &mut lists[list])?;
                }
            }
        }
    }
    if spans.is_empty() && threshold == 0.0 && zero == 0 && zero_float == 0.0 {
        return Ok(None);
    }
    if made.exemplars.is_empty() {
        made.exemplars = of_buckets;
    }
    let out = &mut made.message;
    // Zeros are written too, since the fields of a union are either set or absent.
    let float = count_float != 0.0 || zero_float != 0.0;
    match float {
        true => put_double(out, written::COUNT_FLOAT, count_float),
        false => put_unsigned(out, written::COUNT, count),
    }
    put_double(out, written::SUM, sum);
    put_unsigned(out, written::SCHEMA, schema);
    put_double(out, written::ZERO_THRESHOLD, threshold);
    match float {
        true => put_double(out, written::ZERO_COUNT_FLOAT, zero_float),
        false => put_unsigned(out, written::ZERO_COUNT, zero),
    }
    for (number, field) in spans {
        if let Payload::Bytes(span, _) = field.payload {
            put_bytes(out, number, span);
        }
    }
    for ((_, number), list) in LISTS.iter().zip(&lists) {
        if !list.is_empty() {
            put_bytes(out, *number, list);
        }
    }
    if gauge {
        put_unsigned(out, written::RESET_HINT, GAUGE);
    }
    Ok(Some(made))
}

/// Appends the numbers of a repeated field, single or packed, to packed ones.
fn append(field: &Field<'_>, packed: &mut Vec<u8>) -> Result<(), Box<FieldError>> {
    match field.payload {
        Payload::Bytes(bytes, _) => packed.extend_from_slice(bytes),
        Payload::Fixed64(bits) => packed.extend_from_slice(&bits.to_le_bytes()),
        _ => put_varint(packed, field.unsigned("a number")?),
    }
    Ok(())
}

fn read_exemplar(field: &Field<'_>) -> Result<RemoteExemplar, Box<FieldError>> {
    let mut made = RemoteExemplar::default();
    let mut fields = field.message("an exemplar")?;
    while let Some(field) = fields.next()? {
        match field.number {
            exemplar::LABEL => {
                let (name, value) = read_label(field.message("a label")?)?;
                made.labels.push((name.to_owned(), value.to_owned()));
            }
            exemplar::VALUE => made.value = field.double("a value")?,
            exemplar::TIMESTAMP => made.timestamp = read_millis(field.message("a time")?)?,
            _ => {}
        }
    }
    made.labels.sort();
    Ok(made)
}

/// A time in milliseconds. `None` for the time 0, which means that none is set.
fn read_millis(mut fields: Reader<'_>) -> Result<Option<i64>, Box<FieldError>> {
    let (mut seconds, mut nanos) = (0, 0);
    while let Some(field) = fields.next()? {
        match field.number {
            timestamp::SECONDS => seconds = field.unsigned("seconds")?.cast_signed(),
            timestamp::NANOS => nanos = field.unsigned("nanoseconds")?.cast_signed(),
            _ => {}
        }
    }
    let millis = seconds
        .saturating_mul(1000)
        .saturating_add(nanos / 1_000_000);
    Ok((millis != 0).then_some(millis))
}
