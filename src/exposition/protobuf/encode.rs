//! Encodes canonical text and its native histograms as delimited messages.

use std::borrow::Cow;
use std::collections::HashMap;

use super::field::{bucket, family, histogram, label, metric, quantile, single, summary};
use super::metric_type;
use super::wire::{put_bytes, put_double, put_unsigned, put_varint};
use crate::exposition::canonical::is_plain_label;
use crate::exposition::metric::MetricCollector;
use crate::exposition::{
    Escaping, InputFormat, Kind, Labels, Metric, MetricValue, NativeHistogram, ParsedLine, Parser,
    unescape, unescape_help,
};

/// Native histograms by family and labels.
#[derive(Debug, Default)]
pub struct NativeHistograms<'n> {
    by_family: HashMap<&'n str, HashMap<&'n str, &'n NativeHistogram>>,
}

impl<'n> NativeHistograms<'n> {
    /// Adds the native histograms of a family. `family` is its escaped name.
    pub fn add(&mut self, family: &'n str, natives: &'n [NativeHistogram]) {
        let family = self.by_family.entry(family).or_default();
        family.extend(natives.iter().map(|native| (&*native.labels, native)));
    }
}

/// Encodes whole families of canonical text as messages, each after its length.
/// A native histogram replaces the classic one with the same labels.
///
/// The schema cannot hold everything: unmatched samples of histograms and
/// summaries are left out ([`Metrics::unmatched`](crate::exposition::Metrics)),
/// and the count of a summary loses its fraction. A missing sum reads as 0, and
/// a missing count as that of the highest bucket. Lines that are not canonical
/// text are skipped.
pub fn encode(text: &str, natives: &NativeHistograms<'_>, escaping: Escaping) -> Vec<u8> {
    let mut writer = MessageWriter {
        out: Vec::with_capacity(text.len() / 2),
        natives,
        escaping,
        family: Vec::new(),
        metric: Vec::new(),
        value: Vec::new(),
        part: Vec::new(),
    };
    let mut parser = Parser::new(text, InputFormat::Text);
    let mut labels = Labels::new();
    let mut open: Option<(&str, Kind, Option<&str>, MetricCollector<'_, '_>)> = None;
    let mut help = None;
    loop {
        match parser.next(&mut labels) {
            Ok(Some(ParsedLine::Help { name, help: text })) => help = Some((name, text)),
            Ok(Some(ParsedLine::Type { name, kind })) => {
                writer.close(open.take());
                let help = help.take().filter(|(of, _)| *of == name);
                let help = help.map(|(_, text)| text);
                open = Some((name, kind, help, MetricCollector::new(name, kind)));
            }
            Ok(Some(ParsedLine::Sample(sample))) => {
                if let Some((name, kind, _, grouping)) = &mut open {
                    // Of untyped families, only gauge histograms have samples
                    // with longer names.
                    if *kind == Kind::Untyped && sample.name != *name {
                        *kind = Kind::GaugeHistogram;
                        *grouping = MetricCollector::new(name, *kind);
                    }
                    grouping.add(&sample, &mut labels);
                }
            }
            Ok(Some(_)) | Err(_) => {}
            Ok(None) => break,
        }
    }
    writer.close(open);
    writer.out
}

/// Messages while they are written, with buffers for nested ones: a message can
/// only be put into another once its length is known.
struct MessageWriter<'n> {
    out: Vec<u8>,
    natives: &'n NativeHistograms<'n>,
    escaping: Escaping,
    family: Vec<u8>,
    metric: Vec<u8>,
    value: Vec<u8>,
    part: Vec<u8>,
}

impl MessageWriter<'_> {
    fn close(&mut self, open: Option<(&str, Kind, Option<&str>, MetricCollector<'_, '_>)>) {
        let Some((name, kind, help, grouping)) = open else {
            return;
        };
        let metrics = grouping.finish().metrics;
        if metrics.is_empty() {
            return;
        }
        let natives = self.natives.by_family.get(name);
        let native_of = |metric: &Metric<'_>| {
            let native = natives.and_then(|natives| natives.get(&*metric.labels_text()));
            native.copied()
        };
        let number = match kind {
            Kind::Counter => metric_type::COUNTER,
            Kind::Gauge | Kind::Info | Kind::StateSet => metric_type::GAUGE,
            Kind::Summary => metric_type::SUMMARY,
            Kind::Untyped => metric_type::UNTYPED,
            Kind::Histogram => metric_type::HISTOGRAM,
            Kind::GaugeHistogram => metric_type::GAUGE_HISTOGRAM,
        };
        // All metrics of a family have one type. Prometheus 2 drops a gauge
        // histogram without a native part, so a family with one is written as
        // ordinary histograms.
        let is_gauge = |native: &NativeHistogram| native.gauge && !native.histogram.is_empty();
        let gauges =
            natives.is_some() && metrics.iter().all(|it| native_of(it).is_some_and(is_gauge));
        let number = if gauges {
            metric_type::GAUGE_HISTOGRAM
        } else {
            number
        };
        self.begin(name, number, help);
        for metric in &metrics {
            self.metric(metric, native_of(metric));
            put_bytes(&mut self.family, family::METRIC, &self.metric);
        }
        put_varint(&mut self.out, self.family.len() as u64);
        self.out.extend_from_slice(&self.family);
    }

    /// Begins the message of a family.
    fn begin(&mut self, name: &str, number: u64, help: Option<&str>) {
        let unescaped = unescape(name);
        self.family.clear();
        let shown = self.escaping.metric(&unescaped);
        put_bytes(&mut self.family, family::NAME, shown.as_bytes());
        if let Some(help) = help {
            let help = unescape_help(help, InputFormat::Text);
            put_bytes(&mut self.family, family::HELP, help.as_bytes());
        }
        put_unsigned(&mut self.family, family::TYPE, number);
    }

    fn metric(&mut self, metric: &Metric<'_>, native: Option<&NativeHistogram>) {
        self.metric.clear();
        self.labels(metric);
        self.value.clear();
        let field = match (&metric.value, native) {
            (MetricValue::Histogram { .. }, Some(native)) if !native.histogram.is_empty() => {
                self.value.extend_from_slice(&native.histogram);
                metric::HISTOGRAM
            }
            (
                MetricValue::Histogram {
                    buckets,
                    sum,
                    count,
                },
                _,
            ) => {
                self.histogram(buckets, *sum, *count);
                metric::HISTOGRAM
            }
            (
                MetricValue::Summary {
                    quantiles,
                    sum,
                    count,
                },
                _,
            ) => {
                self.summary(quantiles, *sum, *count);
                metric::SUMMARY
            }
            (MetricValue::Counter(value), _) => self.single(metric::COUNTER, *value),
            (MetricValue::Gauge(value), _) => self.single(metric::GAUGE, *value),
            (MetricValue::Untyped(value), _) => self.single(metric::UNTYPED, *value),
        };
        put_bytes(&mut self.metric, field, &self.value);
        if let Some(millis) = metric.timestamp {
            put_unsigned(&mut self.metric, metric::TIMESTAMP_MS, millis as u64);
        }
    }

    /// Writes the labels in the order of their unescaped names.
    fn labels(&mut self, metric: &Metric<'_>) {
        let escaping = self.escaping;
        let plain = |name: &str| escaping == Escaping::AllowUtf8 || is_plain_label(name);
        let names = || metric.labels.iter().map(|(name, _)| &**name);
        if names().all(plain) && names().is_sorted() {
            for (name, value) in &metric.labels {
                self.label(name, value);
            }
            return;
        }
        let labels = metric.labels.iter();
        let mut labels: Vec<(Cow<'_, str>, &str)> = labels
            .map(|(name, value)| (escaping.label(name), &**value))
            .collect();
        labels.sort_unstable();
        for (name, value) in labels {
            self.label(&name, value);
        }
    }

    fn label(&mut self, name: &str, value: &str) {
        self.part.clear();
        put_bytes(&mut self.part, label::NAME, name.as_bytes());
        put_bytes(&mut self.part, label::VALUE, value.as_bytes());
        put_bytes(&mut self.metric, metric::LABEL, &self.part);
    }

    fn single(&mut self, field: u32, value: f64) -> u32 {
        put_double(&mut self.value, single::VALUE, value);
        field
    }

    fn histogram(&mut self, buckets: &[(f64, f64)], sum: Option<f64>, count: Option<f64>) {
        let highest = buckets.last().map(|(_, count)| *count);
        let count = count.or(highest).unwrap_or_default();
        put_count(
            &mut self.value,
            histogram::COUNT,
            histogram::COUNT_FLOAT,
            count,
        );
        if let Some(sum) = sum {
            put_double(&mut self.value, histogram::SUM, sum);
        }
        for (at, count) in buckets {
            self.part.clear();
            put_count(&mut self.part, bucket::COUNT, bucket::COUNT_FLOAT, *count);
            put_double(&mut self.part, bucket::UPPER_BOUND, *at);
            put_bytes(&mut self.value, histogram::BUCKET, &self.part);
        }
    }

    fn summary(&mut self, quantiles: &[(f64, f64)], sum: Option<f64>, count: Option<f64>) {
        // A negative count, or one that is not a number, becomes 0.
        let count = count.unwrap_or_default() as u64;
        put_unsigned(&mut self.value, summary::COUNT, count);
        if let Some(sum) = sum {
            put_double(&mut self.value, summary::SUM, sum);
        }
        for (at, value) in quantiles {
            self.part.clear();
            put_double(&mut self.part, quantile::QUANTILE, *at);
            put_double(&mut self.part, quantile::VALUE, *value);
            put_bytes(&mut self.value, summary::QUANTILE, &self.part);
        }
    }
}

/// Writes a count as a whole number if it is one, since every reader accepts
/// that.
fn put_count(out: &mut Vec<u8>, whole: u32, float: u32, count: f64) {
    // 2 to the power of 64.
    const TOO_LARGE: f64 = 18_446_744_073_709_551_616.0;
    if (0.0..TOO_LARGE).contains(&count) && count.fract() == 0.0 {
        put_unsigned(out, whole, count as u64);
    } else {
        put_double(out, float, count);
    }
}
