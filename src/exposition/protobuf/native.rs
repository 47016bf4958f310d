//! Reads a histogram message: its classic part, and whether its native part is
//! sound. An unsound native part makes a reader drop the whole scrape, so it is
//! rejected.
//!
//! The checks are those of Prometheus' scraper and storage; releases before 3
//! index buckets by spans without checks.

use super::error::FieldError;
use super::field::{bucket, exemplar, histogram, label, span, timestamp};
use super::wire::{Reader, put_bytes, zigzag};

/// A count, as a whole number or a float.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Count {
    Whole(u64),
    Float(f64),
}

impl Count {
    /// The count of a message that has both: the float counts if it is present
    /// and not zero.
    fn either(whole: u64, float: f64) -> Self {
        if float == 0.0 {
            Count::Whole(whole)
        } else {
            Count::Float(float)
        }
    }
}

/// The classic part of a histogram message, and what the checks of its native
/// part need.
#[derive(Debug, Default)]
pub struct HistogramMessage {
    count: u64,
    count_float: f64,
    pub sum: f64,
    /// Upper bound and cumulative count, in the order of the message.
    pub buckets: Vec<(f64, Count)>,
    schema: i64,
    zero_threshold: f64,
    zero_count: u64,
    zero_count_float: f64,
    positive: SideCheck,
    negative: SideCheck,
}

/// The buckets above or below zero.
#[derive(Debug, Default)]
struct SideCheck {
    spans: usize,
    /// Number of buckets that the spans describe.
    described: u64,
    /// The index after the last bucket.
    end: i64,
    deltas: u64,
    last: i64,
    observed: u64,
    counts: u64,
    /// Whether a delta or count is not 0.
    any: bool,
    /// Mistakes in deltas and in float counts, of which readers use only one.
    bad_delta: Option<Box<FieldError>>,
    bad_count: Option<Box<FieldError>>,
}

/// Maximum number of classic buckets in one histogram. They take more memory than in a message, and
/// all are read before the first is written.
const MOST_BUCKETS: usize = 16 * 1024;

/// Schemas whose bounds are powers of `2^(2^-schema)`.
const SCHEMAS: std::ops::RangeInclusive<i64> = -4..=8;

impl HistogramMessage {
    pub fn count(&self) -> Count {
        Count::either(self.count, self.count_float)
    }

    /// Merges a message into what was read before: a message may come in
    /// several pieces.
    pub fn read(&mut self, mut message: Reader<'_>) -> Result<(), Box<FieldError>> {
        while let Some(field) = message.next()? {
            match field.number {
                histogram::COUNT => self.count = field.unsigned("a histogram's count")?,
                histogram::COUNT_FLOAT => {
                    self.count_float = field.double("a histogram's float count")?;
                    at_least_zero(self.count_float, field.offset)?;
                }
                histogram::SUM => self.sum = field.double("a histogram's sum")?,
                histogram::BUCKET => {
                    let bucket = read_bucket(field.message("a bucket")?)?;
                    if bucket.0.is_nan() {
                        let expected = "a bucket's upper bound";
                        return Err(FieldError::new(field.offset, expected, "NaN"));
                    }
                    if self.buckets.len() == MOST_BUCKETS {
                        let expected = format!("at most {MOST_BUCKETS} buckets");
                        return Err(FieldError::new(field.offset, expected, "more"));
                    }
                    self.buckets.push(bucket);
                }
                histogram::SCHEMA => self.schema = zigzag(field.unsigned("a schema")?),
                histogram::ZERO_THRESHOLD => {
                    self.zero_threshold = field.double("a zero threshold")?;
                }
                histogram::ZERO_COUNT => self.zero_count = field.unsigned("a zero count")?,
                histogram::ZERO_COUNT_FLOAT => {
                    self.zero_count_float = field.double("a float zero count")?;
                    at_least_zero(self.zero_count_float, field.offset)?;
                }
                histogram::NEGATIVE_SPAN => self.negative.span(field.message("a span")?)?,
                histogram::POSITIVE_SPAN => self.positive.span(field.message("a span")?)?,
                number @ (histogram::NEGATIVE_DELTA | histogram::POSITIVE_DELTA) => {
                    let side = self.side(number == histogram::POSITIVE_DELTA);
                    field.each_varint("a bucket's delta", |delta| {
                        side.delta(zigzag(delta), field.offset);
                        Ok(())
                    })?;
                }
                number @ (histogram::NEGATIVE_COUNT | histogram::POSITIVE_COUNT) => {
                    let side = self.side(number == histogram::POSITIVE_COUNT);
                    field.each_double("a bucket's float count", |count| {
                        side.count(count, field.offset);
                        Ok(())
                    })?;
                }
                histogram::CREATED => read_timestamp(field.message("a time of creation")?)?,
                histogram::EXEMPLAR => read_exemplar(field.message("an exemplar")?)?,
                // Unknown fields are not kept.
                _ => {}
            }
        }
        Ok(())
    }

    fn side(&mut self, positive: bool) -> &mut SideCheck {
        if positive {
            &mut self.positive
        } else {
            &mut self.negative
        }
    }

    /// The form of the native part that is stored, if there is a sound one.
    /// `offset` is the position of the histogram.
    pub fn native(&mut self, offset: usize) -> Result<Option<NativePart>, Box<FieldError>> {
        let native = self.positive.spans > 0
            || self.negative.spans > 0
            || self.zero_threshold > 0.0
            || self.zero_count > 0;
        if !native {
            return Ok(None);
        }
        let counted_in_floats = self.count_float > 0.0 || self.zero_count_float > 0.0;
        let floats = counted_in_floats || self.positive.counts > 0 || self.negative.counts > 0;
        let empty = floats && !counted_in_floats;
        if empty
            && (self.positive.any || self.negative.any || self.zero_count > 0 || self.count > 0)
        {
            // The sums say that there are no observations, but there are buckets with some: readers
            // do not agree on such a histogram.
            return Ok(None);
        }
        if !SCHEMAS.contains(&self.schema) {
            let expected = "a schema from -4 to 8";
            return Err(FieldError::new(offset, expected, self.schema.to_string()));
        }
        for (side, name) in [
            (&mut self.positive, "positive"),
            (&mut self.negative, "negative"),
        ] {
            let (bad, buckets) = if floats {
                (side.bad_count.take(), side.counts)
            } else {
                (side.bad_delta.take(), side.deltas)
            };
            if let Some(error) = bad {
                return Err(error);
            }
            if buckets != side.described {
                let expected = format!("{} {name} buckets to match the spans", side.described);
                return Err(FieldError::new(offset, expected, buckets.to_string()));
            }
        }
        if !floats {
            self.check_sum(offset)?;
        }
        Ok(Some(if empty {
            NativePart::EmptyFloats
        } else {
            NativePart::AsItIs
        }))
    }

    /// Writes the buckets of a histogram without observations as whole numbers.
    pub fn empty_buckets(&self, native: Option<NativePart>, out: &mut Vec<u8>) {
        if native != Some(NativePart::EmptyFloats) {
            return;
        }
        for (side, number) in [
            (&self.negative, histogram::NEGATIVE_DELTA),
            (&self.positive, histogram::POSITIVE_DELTA),
        ] {
            if side.counts > 0 {
                // A packed zero is one byte. There are as many as were counted.
                put_bytes(out, number, &vec![0; side.counts as usize]);
            }
        }
    }

    /// Checks the observations in buckets against the count. Observations that
    /// are not a number are in no bucket, and make the sum not a number.
    fn check_sum(&self, offset: usize) -> Result<(), Box<FieldError>> {
        let observed = self
            .positive
            .observed
            .checked_add(self.negative.observed)
            .and_then(|sides| sides.checked_add(self.zero_count));
        let fits = observed.is_some_and(|observed| {
            observed == self.count || self.sum.is_nan() && observed < self.count
        });
        if fits {
            return Ok(());
        }
        let expected = format!("native buckets of {} observations in all", self.count);
        let found = observed.map_or_else(|| "too many".to_owned(), |found| found.to_string());
        Err(FieldError::new(offset, expected, found))
    }
}

/// How a native part is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NativePart {
    AsItIs,
    /// A float histogram without observations is stored as one of whole
    /// numbers. Some readers decide by the sums alone whether counts are
    /// floats, and expect deltas if the sums are 0.
    EmptyFloats,
}

/// The known fields of a message, unchanged. Unknown fields are left out, since
/// a reader that knows them may reject them.
pub fn known_fields(
    mut message: Reader<'_>,
    native: Option<NativePart>,
    out: &mut Vec<u8>,
) -> Result<(), Box<FieldError>> {
    let is_dropped = |number| {
        native == Some(NativePart::EmptyFloats)
            && matches!(
                number,
                histogram::COUNT_FLOAT
                    | histogram::ZERO_COUNT_FLOAT
                    | histogram::NEGATIVE_DELTA
                    | histogram::NEGATIVE_COUNT
                    | histogram::POSITIVE_DELTA
                    | histogram::POSITIVE_COUNT
            )
    };
    while let Some(field) = message.next()? {
        let known = (histogram::COUNT..=histogram::EXEMPLAR).contains(&field.number);
        if known && !is_dropped(field.number) {
            out.extend_from_slice(field.raw);
        }
    }
    Ok(())
}

impl SideCheck {
    fn span(&mut self, mut message: Reader<'_>) -> Result<(), Box<FieldError>> {
        let begin = message.offset();
        let mut offset = 0;
        let mut length = 0;
        while let Some(field) = message.next()? {
            match field.number {
                span::OFFSET => offset = zigzag(field.unsigned("a span's offset")?),
                span::LENGTH => length = field.unsigned("a span's length")?,
                number => return Err(unknown(field.offset, "a span", number)),
            }
        }
        let first = self.spans == 0;
        let (Ok(offset), Ok(length)) = (i32::try_from(offset), u32::try_from(length)) else {
            let found = format!("{offset} and {length}");
            let expected = "a span's offset and length of 32 bits";
            return Err(FieldError::new(begin, expected, found));
        };
        if offset == i32::MIN || offset < 0 && !first {
            let expected = "a span that begins after the one before";
            return Err(FieldError::new(begin, expected, format!("offset {offset}")));
        }
        // Both have 32 bits and the sum is checked each time, so it fits.
        self.end += i64::from(offset) + i64::from(length);
        if self.end - 1 > i64::from(i32::MAX) {
            let expected = "spans up to bucket 2147483647";
            return Err(FieldError::new(begin, expected, (self.end - 1).to_string()));
        }
        self.described += u64::from(length);
        self.spans += 1;
        Ok(())
    }

    fn delta(&mut self, delta: i64, offset: usize) {
        self.deltas += 1;
        if self.bad_delta.is_some() {
            return;
        }
        let count = self.last.checked_add(delta).filter(|count| *count >= 0);
        let observed = count.and_then(|count| self.observed.checked_add(count.unsigned_abs()));
        match (count, observed) {
            (Some(count), Some(observed)) => {
                self.last = count;
                self.observed = observed;
            }
            _ => {
                let found = format!("{} and a delta of {delta}", self.last);
                let expected = "a bucket's count of 0 or more";
                self.bad_delta = Some(FieldError::new(offset, expected, found));
            }
        }
    }

    fn count(&mut self, count: f64, offset: usize) {
        self.counts += 1;
        self.any |= count != 0.0;
        if self.bad_count.is_none() {
            self.bad_count = at_least_zero(count, offset).err();
        }
    }
}

fn at_least_zero(count: f64, offset: usize) -> Result<(), Box<FieldError>> {
    if count < 0.0 {
        let expected = "a count of 0 or more";
        return Err(FieldError::new(offset, expected, count.to_string()));
    }
    Ok(())
}

fn read_bucket(mut message: Reader<'_>) -> Result<(f64, Count), Box<FieldError>> {
    let (mut whole, mut float, mut bound) = (0, 0.0, 0.0);
    while let Some(field) = message.next()? {
        match field.number {
            bucket::COUNT => whole = field.unsigned("a bucket's count")?,
            bucket::COUNT_FLOAT => {
                float = field.double("a bucket's float count")?;
                at_least_zero(float, field.offset)?;
            }
            bucket::UPPER_BOUND => bound = field.double("a bucket's upper bound")?,
            bucket::EXEMPLAR => read_exemplar(field.message("an exemplar")?)?,
            number => return Err(unknown(field.offset, "a bucket", number)),
        }
    }
    Ok((bound, Count::either(whole, float)))
}

/// Checks an exemplar, which readers of the native part read too.
fn read_exemplar(mut message: Reader<'_>) -> Result<(), Box<FieldError>> {
    while let Some(field) = message.next()? {
        match field.number {
            exemplar::LABEL => {
                read_label(field.message("an exemplar's label")?)?;
            }
            exemplar::VALUE => drop(field.double("an exemplar's value")?),
            exemplar::TIMESTAMP => read_timestamp(field.message("an exemplar's time")?)?,
            number => return Err(unknown(field.offset, "an exemplar", number)),
        }
    }
    Ok(())
}

/// Name and value of a label.
pub fn read_label(mut message: Reader<'_>) -> Result<(&str, &str), Box<FieldError>> {
    let (mut name, mut value) = ("", "");
    while let Some(field) = message.next()? {
        match field.number {
            label::NAME => name = field.text("a label's name")?,
            label::VALUE => value = field.text("a label's value")?,
            number => return Err(unknown(field.offset, "a label", number)),
        }
    }
    Ok((name, value))
}

fn read_timestamp(mut message: Reader<'_>) -> Result<(), Box<FieldError>> {
    while let Some(field) = message.next()? {
        match field.number {
            timestamp::SECONDS | timestamp::NANOS => drop(field.unsigned("a part of a time")?),
            number => return Err(unknown(field.offset, "a time", number)),
        }
    }
    Ok(())
}

#[cold]
fn unknown(offset: usize, what: &str, number: u32) -> Box<FieldError> {
    FieldError::new(
        offset,
        format!("a field of {what}"),
        format!("number {number}"),
    )
}
