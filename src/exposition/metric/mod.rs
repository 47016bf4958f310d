//! The metrics of a family: its samples brought together by their labels, so
//! that a histogram is one thing again. How text is read is not known here,
//! nor what becomes of a metric.

use std::borrow::Cow;
use std::collections::HashMap;

use super::canonical::is_plain_label;
use super::parse::float;
use super::{
    FamilyText, FamilyView, InputFormat, Kind, Label, Labels, Sample, parse, unescape,
    write_label_value,
};

/// All that a family says of one set of labels at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric<'t> {
    /// Names and values as they are meant, without escapes, and without `le`
    /// and `quantile` where these tell parts apart. They are in the order of
    /// the escaped names, which is that of normal text.
    pub labels: Vec<(Cow<'t, str>, Cow<'t, str>)>,
    /// Milliseconds since 1970; the latest, where parts have several.
    pub timestamp: Option<i64>,
    pub value: MetricValue,
}

/// What is told of a set of labels.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricValue {
    Counter(f64),
    /// OpenMetrics' info and state sets too.
    Gauge(f64),
    Untyped(f64),
    Histogram {
        /// Upper bound and cumulative count, by bound, each bound once. There
        /// may be none for `+Inf`.
        buckets: Vec<(f64, f64)>,
        sum: Option<f64>,
        count: Option<f64>,
    },
    Summary {
        /// Quantile and value, by quantile, each once.
        quantiles: Vec<(f64, f64)>,
        sum: Option<f64>,
        count: Option<f64>,
    },
}

/// The metrics of one family, in the order of their first samples.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics<'t> {
    pub metrics: Vec<Metric<'t>>,
    /// Samples that are no part of a metric of the family's kind: `h` itself
    /// beside a histogram's `h_sum`, a bucket without a bound, a bound that is
    /// there twice, as `1` and `1.0`. Readers that want metrics pass them over.
    pub unmatched: usize,
    /// Name and labels of the first of these.
    pub first_unmatched: Option<String>,
    /// The family's name and the labels of the first metric that has a bound
    /// twice. It is the only kind of stray whose value somebody may miss.
    pub first_duplicate: Option<String>,
}

impl Metric<'_> {
    /// The labels as text: `a="b",c="d"`, sorted, escaped, without braces.
    /// Two metrics of a family have the same text exactly where they have the
    /// same labels.
    pub fn labels_text(&self) -> String {
        let mut out = String::new();
        write_labels(&mut out, &self.labels);
        out
    }
}

/// The text of labels in any order, as [`Metric::labels_text`] has it. Names
/// and values are without escapes.
pub fn labels_text<N: AsRef<str>, V: AsRef<str>>(labels: &[(N, V)]) -> String {
    let mut escaped: Vec<(String, &str)> = labels
        .iter()
        .map(|(name, value)| {
            let mut escaped = String::with_capacity(name.as_ref().len());
            write_label_value(&mut escaped, name.as_ref());
            (escaped, value.as_ref())
        })
        .collect();
    escaped.sort_unstable();
    let mut out = String::new();
    for (name, value) in escaped {
        let escaped_name = true;
        write_label(&mut out, &name, escaped_name, value);
    }
    out
}

/// Names and values, without escapes, of a text that [`labels_text`] made.
/// `None` where it is no such text.
pub fn parse_labels(text: &str) -> Option<Vec<(String, String)>> {
    let line = format!("m{{{text}}} 0");
    let mut labels = Labels::new();
    let sample = parse::sample(&line, InputFormat::Text, &mut labels)?;
    (sample.name == "m" && sample.timestamp.is_none()).then(|| {
        let meant = |text| unescape(text).into_owned();
        let pairs = labels.iter();
        pairs
            .map(|label| (meant(label.name), meant(label.value)))
            .collect()
    })
}

fn write_labels(out: &mut String, labels: &[(Cow<'_, str>, Cow<'_, str>)]) {
    for (name, value) in labels {
        write_label(out, name, false, value);
    }
}

fn write_label(out: &mut String, name: &str, escaped: bool, value: &str) {
    if !out.is_empty() {
        out.push(',');
    }
    if is_plain_label(name) {
        out.push_str(name);
    } else {
        out.push('"');
        if escaped {
            out.push_str(name);
        } else {
            write_label_value(out, name);
        }
        out.push('"');
    }
    out.push_str("=\"");
    write_label_value(out, value);
    out.push('"');
}

impl<'t> Metrics<'t> {
    /// The metrics of a family of a text. Of OpenMetrics, `_created` is
    /// counted among the unmatched samples.
    pub fn of(family: &FamilyView<'_, 't>) -> Self {
        let mut grouping = Grouping::new(family.name(), family.kind());
        let mut labels = Labels::new();
        let mut samples = family.samples();
        while let Some(sample) = samples.next(&mut labels) {
            grouping.add(&sample, &mut labels);
        }
        grouping.finish()
    }

    /// The metrics of a family in normal text.
    pub fn of_text(family: &'t FamilyText) -> Self {
        Metrics::of_lines(&family.name, family.kind, family.samples.as_str())
    }

    /// The metrics of lines of normal text that are all of one family. The
    /// name is as text has it, escaped.
    pub fn of_lines(name: &str, kind: Kind, lines: &'t str) -> Self {
        let mut grouping = Grouping::new(name, kind);
        let mut labels = Labels::new();
        for line in lines.lines() {
            if line.starts_with('#') {
                continue;
            }
            if let Some(sample) = parse::sample(line, InputFormat::Text, &mut labels) {
                grouping.add(&sample, &mut labels);
            }
        }
        grouping.finish()
    }
}

/// What a sample is to its metric.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Whole,
    /// A bucket of that bound.
    Bucket(f64),
    Quantile(f64),
    Sum,
    Count,
}

/// Metrics, while they grow. Each sample costs its own size, wherever it
/// stands.
#[derive(Debug)]
pub(super) struct Grouping<'n, 't> {
    name: &'n str,
    kind: Kind,
    out: Metrics<'t>,
    /// Metrics of several samples, by their labels as text.
    by_labels: HashMap<Box<str>, usize>,
    /// The labels of the sample before, and its metric: most of a metric's
    /// samples follow one another.
    last: Option<usize>,
    last_labels: String,
    labels: String,
    /// The part before: its metric, and when it was. Points of one series
    /// follow one another.
    before: Option<(usize, Part, i64)>,
}

impl<'n, 't> Grouping<'n, 't> {
    pub(super) fn new(name: &'n str, kind: Kind) -> Self {
        Grouping {
            name,
            kind,
            out: Metrics::default(),
            by_labels: HashMap::new(),
            last: None,
            last_labels: String::new(),
            labels: String::new(),
            before: None,
        }
    }

    pub(super) fn add(&mut self, sample: &Sample<'t>, labels: &mut Labels<'t>) {
        let Some(part) = self.part(sample, labels) else {
            self.stray(|| series(sample));
            return;
        };
        labels.sort();
        let left_out = match part {
            Part::Bucket(_) => "le",
            Part::Quantile(_) => "quantile",
            _ => "",
        };
        let own = labels.iter().filter(|label| label.name != left_out);
        let place = match part {
            Part::Whole => self.begin(own),
            _ => self.place(own),
        };
        let metric = &mut self.out.metrics[place];
        let timestamp = sample.timestamp.map(|timestamp| timestamp.milliseconds);
        metric.timestamp = metric.timestamp.max(timestamp);
        let now = timestamp.map(|time| (place, part, time));
        let newer = matches!(
            (self.before, now),
            (Some((metric, part, before)), Some((place, same, time)))
                if metric == place && part == same && time > before
        );
        self.before = now;
        if newer {
            renew(&mut metric.value, part, sample.value);
        } else if !put(&mut metric.value, part, sample.value) {
            self.stray(|| series(sample));
        }
    }

    /// The metric of these labels, which may be a new one.
    fn place<'l>(&mut self, labels: impl Iterator<Item = &'l Label<'t>> + Clone) -> usize
    where
        't: 'l,
    {
        self.labels.clear();
        for label in labels.clone() {
            // As written: what is escaped can be written in one way only.
            for piece in [label.name, "=\"", label.value, "\","] {
                self.labels.push_str(piece);
            }
        }
        if let Some(last) = self.last.filter(|_| self.last_labels == self.labels) {
            return last;
        }
        let place = match self.by_labels.get(&*self.labels) {
            Some(place) => *place,
            None => {
                let place = self.begin(labels);
                self.by_labels.insert(Box::from(&*self.labels), place);
                place
            }
        };
        self.last = Some(place);
        std::mem::swap(&mut self.last_labels, &mut self.labels);
        place
    }

    /// Begins a metric.
    fn begin<'l>(&mut self, labels: impl Iterator<Item = &'l Label<'t>>) -> usize
    where
        't: 'l,
    {
        let value = match self.kind {
            Kind::Counter => MetricValue::Counter(0.0),
            Kind::Gauge | Kind::Info | Kind::StateSet => MetricValue::Gauge(0.0),
            Kind::Untyped => MetricValue::Untyped(0.0),
            Kind::Histogram | Kind::GaugeHistogram => MetricValue::Histogram {
                buckets: Vec::new(),
                sum: None,
                count: None,
            },
            Kind::Summary => MetricValue::Summary {
                quantiles: Vec::new(),
                sum: None,
                count: None,
            },
        };
        self.out.metrics.push(Metric {
            labels: labels
                .map(|label| (unescape(label.name), unescape(label.value)))
                .collect(),
            timestamp: None,
            value,
        });
        self.out.metrics.len() - 1
    }

    fn part(&self, sample: &Sample<'t>, labels: &Labels<'t>) -> Option<Part> {
        let suffix = sample.name.strip_prefix(self.name)?;
        let number = |label| {
            let number = labels.value(label).and_then(float);
            number.filter(|number| !number.is_nan())
        };
        let without = |label: &str, part| labels.value(label).is_none().then_some(part);
        match (self.kind, suffix) {
            (Kind::Histogram | Kind::GaugeHistogram, "_bucket") => number("le").map(Part::Bucket),
            (Kind::Histogram, "_sum") | (Kind::GaugeHistogram, "_gsum") => without("le", Part::Sum),
            (Kind::Histogram, "_count") | (Kind::GaugeHistogram, "_gcount") => {
                without("le", Part::Count)
            }
            (Kind::Histogram | Kind::GaugeHistogram, _) => None,
            (Kind::Summary, "") => number("quantile").map(Part::Quantile),
            (Kind::Summary, "_sum") => without("quantile", Part::Sum),
            (Kind::Summary, "_count") => without("quantile", Part::Count),
            (Kind::Summary, _) => None,
            (_, "") | (Kind::Counter, "_total") | (Kind::Info, "_info") => Some(Part::Whole),
            _ => None,
        }
    }

    fn stray(&mut self, series: impl FnOnce() -> String) {
        self.out.unmatched += 1;
        self.out.first_unmatched.get_or_insert_with(series);
    }

    pub(super) fn finish(mut self) -> Metrics<'t> {
        let mut metrics = std::mem::take(&mut self.out.metrics);
        for metric in &mut metrics {
            let points = match &mut metric.value {
                MetricValue::Histogram { buckets, .. } => buckets,
                MetricValue::Summary { quantiles, .. } => quantiles,
                _ => continue,
            };
            // Stable, so that the first of two stays. They are sorted as a rule.
            points.sort_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
            let before = points.len();
            points.dedup_by_key(|(at, _)| *at);
            let twice = before - points.len();
            if twice > 0 {
                let labels = metric.labels_text();
                let series = format!("{}{{{labels}}}", self.name);
                self.stray(|| series.clone());
                self.out.unmatched += twice - 1;
                self.out.first_duplicate.get_or_insert(series);
            }
        }
        self.out.metrics = metrics;
        self.out
    }
}

/// Name and labels, as they were written.
fn series(sample: &Sample<'_>) -> String {
    let end = parse::offset(sample.raw, sample.value_text);
    sample.raw[..end].trim().to_owned()
}

/// Replaces a part by the same part at a later time.
fn renew(value: &mut MetricValue, part: Part, number: f64) {
    let place = match (part, value) {
        (
            Part::Bucket(_),
            MetricValue::Histogram {
                buckets: points, ..
            },
        )
        | (
            Part::Quantile(_),
            MetricValue::Summary {
                quantiles: points, ..
            },
        ) => points.last_mut().map(|(_, value)| value),
        (Part::Sum, MetricValue::Histogram { sum, .. } | MetricValue::Summary { sum, .. }) => {
            sum.as_mut()
        }
        (
            Part::Count,
            MetricValue::Histogram { count, .. } | MetricValue::Summary { count, .. },
        ) => count.as_mut(),
        _ => None,
    };
    if let Some(place) = place {
        *place = number;
    }
}

/// Whether there was place for it.
fn put(value: &mut MetricValue, part: Part, number: f64) -> bool {
    match (part, value) {
        (
            Part::Whole,
            MetricValue::Counter(value) | MetricValue::Gauge(value) | MetricValue::Untyped(value),
        ) => {
            *value = number;
        }
        (
            Part::Bucket(at),
            MetricValue::Histogram {
                buckets: points, ..
            },
        )
        | (
            Part::Quantile(at),
            MetricValue::Summary {
                quantiles: points, ..
            },
        ) => {
            points.push((at, number));
        }
        (
            Part::Sum,
            MetricValue::Histogram { sum: place, .. } | MetricValue::Summary { sum: place, .. },
        )
        | (
            Part::Count,
            MetricValue::Histogram { count: place, .. } | MetricValue::Summary { count: place, .. },
        ) if place.is_none() => {
            *place = Some(number);
        }
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests;
