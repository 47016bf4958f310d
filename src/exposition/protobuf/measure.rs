//! Measures a body as text before any of it is written.

use super::error::FieldError;
use super::field::{family, histogram, metric, summary};
use super::wire::{Field, Reader};

/// The least that a body takes as text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measured {
    /// Bytes of text, at least.
    pub bytes: usize,
    /// Samples, at least.
    pub samples: usize,
}

/// Measures a body as far as it can be read; `decode` reports what is wrong
/// with the rest. A body can become hundreds of times its size, since each
/// bucket repeats all labels of its histogram in text. Names and values are
/// counted without escapes, numbers with one digit.
pub fn measure(body: &[u8]) -> Measured {
    let mut measured = Measured::default();
    let mut messages = Reader::new(body, 0);
    while !messages.is_empty() {
        let Ok((message, start)) = messages.delimited("a family") else {
            break;
        };
        if measure_family(Reader::new(message, start), &mut measured).is_err() {
            break;
        }
    }
    measured
}

fn measure_family(mut fields: Reader<'_>, out: &mut Measured) -> Result<(), Box<FieldError>> {
    // A blank, a digit and a line feed.
    const REST: usize = 3;
    let mut name = 0;
    let (mut lines, mut labels) = (0_usize, 0_usize);
    while let Some(field) = fields.next()? {
        match field.number {
            family::NAME => name = length(&field),
            family::METRIC => {
                let (metric_lines, metric_labels) = measure_metric(field.message("a metric")?)?;
                lines += metric_lines;
                labels = labels.saturating_add(metric_lines.saturating_mul(metric_labels));
            }
            _ => {}
        }
    }
    out.samples += lines;
    let named = lines.saturating_mul(name + REST);
    out.bytes = out.bytes.saturating_add(named.saturating_add(labels));
    Ok(())
}

/// The lines of a metric, and the bytes that its labels take on each of them.
fn measure_metric(mut fields: Reader<'_>) -> Result<(usize, usize), Box<FieldError>> {
    // The marks of `name="value",`.
    const MARKS: usize = 4;
    let (mut lines, mut labels) = (0, 0);
    while let Some(field) = fields.next()? {
        match field.number {
            metric::LABEL => {
                let mut parts = field.message("a label")?;
                while let Some(part) = parts.next()? {
                    labels += length(&part);
                }
                labels += MARKS;
            }
            metric::SUMMARY => lines += 2 + count(&field, summary::QUANTILE)?,
            metric::HISTOGRAM => lines += 2 + count(&field, histogram::BUCKET)?,
            metric::COUNTER | metric::GAUGE | metric::UNTYPED => lines += 1,
            _ => {}
        }
    }
    Ok((lines, labels))
}

fn count(message: &Field<'_>, number: u32) -> Result<usize, Box<FieldError>> {
    let mut fields = message.message("a message")?;
    let mut count = 0;
    while let Some(field) = fields.next()? {
        count += usize::from(field.number == number);
    }
    Ok(count)
}

fn length(field: &Field<'_>) -> usize {
    field.message("a text").map_or(0, |text| text.len())
}
