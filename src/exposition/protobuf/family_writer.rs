//! Writes the message of one family as lines of text.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::mem;

use bytes::Bytes;

use super::decode::{DecodedNative, TextOutput};
use super::error::{FieldError, shown};
use super::field::{family, metric, quantile, single, summary};
use super::metric_type;
use super::native::{Count, HistogramMessage, known_fields, read_label};
use super::wire::{Field, Reader};
use crate::exposition::canonical::{is_plain_label, is_plain_name};
use crate::exposition::{FamilyText, Kind, NativeHistogram, write_label_value};
use crate::exposition::{write_bound, write_number};

/// Writes the lines of one family.
pub(super) struct FamilyWriter<'o, 'b> {
    out: &'o mut TextOutput,
    /// The family's name, escaped.
    name: Cow<'b, str>,
    kind: u64,
    /// The labels of the current metric by escaped name, and the same as text.
    labels: Vec<(Cow<'b, str>, &'b str)>,
    text: String,
}

impl<'o, 'b> FamilyWriter<'o, 'b> {
    /// `kind` is a known `MetricType`.
    pub(super) fn new(out: &'o mut TextOutput, name: &'b str, kind: u64) -> Self {
        FamilyWriter {
            out,
            name: escaped(name, is_plain_name),
            kind,
            labels: Vec::new(),
            text: String::new(),
        }
    }

    /// Writes the metadata and the samples of all metrics in the message.
    pub(super) fn write(&mut self, family: &Reader<'b>, help: &str) -> Result<(), Box<FieldError>> {
        let kind = match self.kind {
            metric_type::COUNTER => Kind::Counter,
            metric_type::GAUGE => Kind::Gauge,
            metric_type::SUMMARY => Kind::Summary,
            // Text has no gauge histograms: they are written like others.
            metric_type::HISTOGRAM | metric_type::GAUGE_HISTOGRAM => Kind::Histogram,
            _ => Kind::Untyped,
        };
        // A line must not end in a carriage return.
        let help = help.trim_end_matches('\r');
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let help = Some(help.as_str()).filter(|help| !help.is_empty());
        let head = FamilyText::head_of(&self.name, kind, help, None);
        self.out.check_length(head.len(), family.offset())?;
        self.out.text.push_str(&String::from_utf8_lossy(&head));
        let mut fields = family.clone();
        while let Some(field) = fields.next()? {
            if field.number == family::METRIC {
                self.metric(&field)?;
            }
        }
        Ok(())
    }

    fn metric(&mut self, field: &Field<'b>) -> Result<(), Box<FieldError>> {
        let (number, what) = match self.kind {
            metric_type::COUNTER => (metric::COUNTER, "a counter"),
            metric_type::GAUGE => (metric::GAUGE, "a gauge"),
            metric_type::SUMMARY => (metric::SUMMARY, "a summary"),
            metric_type::UNTYPED => (metric::UNTYPED, "an untyped value"),
            _ => (metric::HISTOGRAM, "a histogram"),
        };
        self.labels.clear();
        let mut message = field.message("a metric")?;
        let mut timestamp = None;
        let mut other = None;
        let mut values = 0;
        let fields = message.clone();
        while let Some(field) = message.next()? {
            match field.number {
                metric::LABEL => self.label(&field)?,
                metric::TIMESTAMP_MS => {
                    let millis = field.unsigned("a timestamp")? as i64;
                    if millis < 0 {
                        let expected = "a time from 1970 on, since text cannot show earlier ones";
                        return Err(FieldError::new(field.offset, expected, millis.to_string()));
                    }
                    timestamp = Some(millis);
                }
                it if it == number => values += 1,
                metric::COUNTER => other = Some("a counter"),
                metric::GAUGE => other = Some("a gauge"),
                metric::SUMMARY => other = Some("a summary"),
                metric::UNTYPED => other = Some("an untyped value"),
                metric::HISTOGRAM => other = Some("a histogram"),
                _ => {}
            }
        }
        if values == 0 {
            let found = other.unwrap_or("no value");
            let expected = format!("{what}, by the family's type");
            return Err(FieldError::new(field.offset, expected, found));
        }
        self.finish_labels(field.offset)?;
        // A message that comes in several pieces is merged from all of them.
        let pieces = MessagePieces {
            fields,
            number,
            what,
        };
        let offset = field.offset;
        match self.kind {
            metric_type::SUMMARY => self.summary(pieces, timestamp, offset),
            metric_type::HISTOGRAM | metric_type::GAUGE_HISTOGRAM => {
                self.histogram(&pieces, timestamp, offset)
            }
            _ => {
                let mut value = 0.0;
                for piece in pieces {
                    let mut piece = piece?;
                    while let Some(field) = piece.next()? {
                        if field.number == single::VALUE {
                            value = field.double("a value")?;
                        }
                    }
                }
                self.line("", None, Count::Float(value), timestamp, offset)
            }
        }
    }

    fn label(&mut self, field: &Field<'b>) -> Result<(), Box<FieldError>> {
        let (name, value) = read_label(field.message("a label")?)?;
        let part = match self.kind {
            metric_type::SUMMARY => "quantile",
            metric_type::HISTOGRAM | metric_type::GAUGE_HISTOGRAM => "le",
            _ => "",
        };
        let found = if name.is_empty() {
            "none"
        } else if name.contains('\0') {
            "NUL in it"
        } else if name == "__name__" {
            "the reserved __name__"
        } else if name == part {
            "the label of its components"
        } else {
            self.labels.push((escaped(name, is_plain_label), value));
            return Ok(());
        };
        Err(FieldError::new(field.offset, "a label's name", found))
    }

    fn finish_labels(&mut self, offset: usize) -> Result<(), Box<FieldError>> {
        self.labels.sort_unstable();
        let mut pairs = self.labels.windows(2);
        if let Some(pair) = pairs.find(|pair| pair[0].0 == pair[1].0) {
            let found = format!("a second {:?}", shown(&pair[0].0));
            return Err(FieldError::new(offset, "each label once", found));
        }
        self.text.clear();
        for (name, value) in &self.labels {
            let quote = if is_plain_label(name) { "" } else { "\"" };
            if !self.text.is_empty() {
                self.text.push(',');
            }
            for piece in [quote, name, quote, "=\""] {
                self.text.push_str(piece);
            }
            write_label_value(&mut self.text, value);
            self.text.push('"');
        }
        Ok(())
    }

    fn summary(
        &mut self,
        pieces: MessagePieces<'b>,
        timestamp: Option<i64>,
        offset: usize,
    ) -> Result<(), Box<FieldError>> {
        let (mut count, mut sum) = (0, 0.0);
        for piece in pieces {
            let mut piece = piece?;
            while let Some(field) = piece.next()? {
                match field.number {
                    summary::COUNT => count = field.unsigned("a summary's count")?,
                    summary::SUM => sum = field.double("a summary's sum")?,
                    summary::QUANTILE => {
                        let (at, value) = read_quantile(field.message("a quantile")?)?;
                        let label = Some(("quantile", at));
                        self.line("", label, Count::Float(value), timestamp, offset)?;
                    }
                    _ => {}
                }
            }
        }
        self.line("_sum", None, Count::Float(sum), timestamp, offset)?;
        self.line("_count", None, Count::Whole(count), timestamp, offset)
    }

    fn histogram(
        &mut self,
        pieces: &MessagePieces<'b>,
        timestamp: Option<i64>,
        offset: usize,
    ) -> Result<(), Box<FieldError>> {
        let mut histogram = HistogramMessage::default();
        for piece in pieces.clone() {
            histogram.read(piece?)?;
        }
        let count = histogram.count();
        let mut infinite = false;
        for (at, count) in mem::take(&mut histogram.buckets) {
            infinite |= at == f64::INFINITY;
            self.line("_bucket", Some(("le", at)), count, timestamp, offset)?;
        }
        if !infinite {
            let all = Some(("le", f64::INFINITY));
            self.line("_bucket", all, count, timestamp, offset)?;
        }
        let sum = Count::Float(histogram.sum);
        self.line("_sum", None, sum, timestamp, offset)?;
        self.line("_count", None, count, timestamp, offset)?;
        let native = histogram.native(offset)?;
        let mut kept = Vec::new();
        if native.is_some() {
            for piece in pieces.clone() {
                known_fields(piece?, native, &mut kept)?;
            }
            histogram.empty_buckets(native, &mut kept);
        }
        let gauge = self.kind == metric_type::GAUGE_HISTOGRAM;
        if native.is_some() || gauge {
            self.out.natives.push(DecodedNative {
                family: self.name.to_string(),
                native: NativeHistogram {
                    labels: Box::from(self.text.as_str()),
                    histogram: Bytes::from(kept),
                    gauge,
                },
            });
        }
        Ok(())
    }

    /// Writes one sample: `name{labels,label="bound"} value timestamp`.
    fn line(
        &mut self,
        suffix: &str,
        label: Option<(&str, f64)>,
        value: Count,
        timestamp: Option<i64>,
        offset: usize,
    ) -> Result<(), Box<FieldError>> {
        // An upper bound of the numbers and the text between the parts.
        const REST: usize = 128;
        self.out
            .check_length(self.name.len() + self.text.len() + REST, offset)?;
        let out = &mut self.out.text;
        let mut before = '{';
        if is_plain_name(&self.name) {
            out.push_str(&self.name);
            out.push_str(suffix);
        } else {
            for piece in ["{\"", &self.name, suffix, "\""] {
                out.push_str(piece);
            }
            before = ',';
        }
        if !self.text.is_empty() {
            out.push(before);
            out.push_str(&self.text);
            before = ',';
        }
        if let Some((name, at)) = label {
            out.push(before);
            out.push_str(name);
            out.push_str("=\"");
            write_bound(out, at);
            out.push('"');
            before = ',';
        }
        out.push_str(if before == ',' { "} " } else { " " });
        match value {
            Count::Whole(count) => drop(write!(out, "{count}")),
            Count::Float(value) => write_number(out, value),
        }
        if let Some(millis) = timestamp {
            let _ = write!(out, " {millis}");
        }
        out.push('\n');
        Ok(())
    }
}

/// The messages in one field of a metric: one, unless the sender wrote it in
/// several pieces.
#[derive(Debug, Clone)]
struct MessagePieces<'b> {
    fields: Reader<'b>,
    number: u32,
    what: &'static str,
}

impl<'b> Iterator for MessagePieces<'b> {
    type Item = Result<Reader<'b>, Box<FieldError>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.fields.next() {
                Ok(Some(field)) if field.number == self.number => {
                    return Some(field.message(self.what));
                }
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

fn read_quantile(mut message: Reader<'_>) -> Result<(f64, f64), Box<FieldError>> {
    let (mut at, mut value) = (0.0, 0.0);
    while let Some(field) = message.next()? {
        match field.number {
            quantile::QUANTILE => {
                at = field.double("a quantile")?;
                if at.is_nan() {
                    return Err(FieldError::new(field.offset, "a quantile", "NaN"));
                }
            }
            quantile::VALUE => value = field.double("a quantile's value")?,
            _ => {}
        }
    }
    Ok((at, value))
}

/// A name, escaped unless it needs no quotes.
fn escaped(name: &str, plain: impl Fn(&str) -> bool) -> Cow<'_, str> {
    if plain(name) {
        return Cow::Borrowed(name);
    }
    let mut escaped = String::with_capacity(name.len());
    write_label_value(&mut escaped, name);
    Cow::Owned(escaped)
}
