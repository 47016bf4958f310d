//! Metrics of a family: its samples grouped by labels, so that a histogram is
//! one value again. This module neither parses text nor decides what happens to
//! a metric.

use std::borrow::Cow;
use std::collections::HashMap;

use super::canonical::is_plain_label;
use super::parse::float;
use super::{
    FamilyText, FamilyView, InputFormat, Kind, Label, Labels, Sample, parse, unescape,
    write_label_value,
};

/// All samples of a family with one set of labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric<'t> {
    /// Names and values without escapes, and without the `le` or `quantile`
    /// that tells components apart. They are in the order of the escaped names,
    /// as in canonical text.
    pub labels: Vec<(Cow<'t, str>, Cow<'t, str>)>,
    /// Milliseconds since 1970; the latest, if components have several.
    pub timestamp: Option<i64>,
    /// The value.
    pub value: MetricValue,
}

/// The value of a metric, by kind.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricValue {
    /// A counter.
    Counter(f64),
    /// A gauge, or an info or state set of OpenMetrics.
    Gauge(f64),
    /// A value whose kind is not known.
    Untyped(f64),
    /// A histogram or gauge histogram.
    Histogram {
        /// Upper bound and cumulative count, by bound, each bound once. The
        /// bucket for `+Inf` may be missing.
        buckets: Vec<(f64, f64)>,
        /// Sum of all observations.
        sum: Option<f64>,
        /// Number of all observations.
        count: Option<f64>,
    },
    /// A summary.
    Summary {
        /// Quantile and value, by quantile, each once.
        quantiles: Vec<(f64, f64)>,
        /// Sum of all observations.
        sum: Option<f64>,
        /// Number of all observations.
        count: Option<f64>,
    },
}

/// The metrics of one family, in the order of their first samples.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics<'t> {
    /// The metrics.
    pub metrics: Vec<Metric<'t>>,
    /// Number of samples that belong to no metric of the family's kind: `h`
    /// itself beside a histogram's `h_sum`, a bucket without a bound, a bound
    /// given twice, as `1` and `1.0`. Readers of metrics skip them.
    pub unmatched: usize,
    /// Name and labels of the first unmatched sample.
    pub first_unmatched: Option<String>,
    /// The family's name and the labels of the first metric that has a bound
    /// twice. Of all unmatched samples, only these have a value that a reader
    /// may miss.
    pub first_duplicate: Option<String>,
}

impl Metric<'_> {
    /// The labels as text: `a="b",c="d"`, sorted, escaped, without braces. Two
    /// metrics of a family have the same text if and only if they have the same
    /// labels.
    pub fn labels_text(&self) -> String {
        let mut out = String::new();
        write_labels(&mut out, &self.labels);
        out
    }
}

/// Labels in any order as text, in the form of [`Metric::labels_text`]. Names
/// and values have no escapes.
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

/// The unescaped names and values of a text made by [`labels_text`]; `None` for
/// any other text.
pub fn parse_labels(text: &str) -> Option<Vec<(String, String)>> {
    let line = format!("m{{{text}}} 0");
    let mut labels = Labels::new();
    let sample = parse::sample(&line, InputFormat::Text, &mut labels)?;
    (sample.name == "m" && sample.timestamp.is_none()).then(|| {
        let unescaped = |text| unescape(text).into_owned();
        let pairs = labels.iter();
        pairs
            .map(|label| (unescaped(label.name), unescaped(label.value)))
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
    /// The metrics of a parsed family. The `_created` samples of OpenMetrics
    /// count as unmatched.
    pub fn of(family: &FamilyView<'_, 't>) -> Self {
        let mut collector = MetricCollector::new(family.name(), family.kind());
        let mut labels = Labels::new();
        let mut samples = family.samples();
        while let Some(sample) = samples.next(&mut labels) {
            collector.add(&sample, &mut labels);
        }
        collector.finish()
    }

    /// The metrics of a canonical family.
    pub fn of_text(family: &'t FamilyText) -> Self {
        Metrics::of_lines(&family.name, family.kind, family.samples.as_str())
    }

    /// The metrics of canonical lines that all belong to one family. `name` is
    /// escaped.
    pub fn of_lines(name: &str, kind: Kind, lines: &'t str) -> Self {
        let mut collector = MetricCollector::new(name, kind);
        let mut labels = Labels::new();
        for line in lines.lines() {
            if line.starts_with('#') {
                continue;
            }
            if let Some(sample) = parse::sample(line, InputFormat::Text, &mut labels) {
                collector.add(&sample, &mut labels);
            }
        }
        collector.finish()
    }
}

/// The component of a metric that a sample holds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Component {
    Whole,
    /// The bucket with that upper bound.
    Bucket(f64),
    Quantile(f64),
    Sum,
    Count,
}

/// Metrics while samples are added. The cost is linear in the size of the
/// samples, in any order.
#[derive(Debug)]
pub(super) struct MetricCollector<'n, 't> {
    name: &'n str,
    kind: Kind,
    out: Metrics<'t>,
    /// Metrics of several samples, by their labels as text.
    by_labels: HashMap<Box<str>, usize>,
    /// The metric of the previous sample, with its labels in `last_labels`:
    /// most samples of one metric are consecutive.
    last: Option<usize>,
    last_labels: String,
    labels: String,
    /// The previous sample's metric, component and time. The points of one
    /// series are consecutive.
    before: Option<(usize, Component, i64)>,
}

impl<'n, 't> MetricCollector<'n, 't> {
    pub(super) fn new(name: &'n str, kind: Kind) -> Self {
        MetricCollector {
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
        let Some(component) = self.component(sample, labels) else {
            self.unmatched_sample(|| series(sample));
            return;
        };
        labels.sort();
        let left_out = match component {
            Component::Bucket(_) => "le",
            Component::Quantile(_) => "quantile",
            _ => "",
        };
        let own = labels.iter().filter(|label| label.name != left_out);
        let place = match component {
            Component::Whole => self.begin(own),
            _ => self.place(own),
        };
        let metric = &mut self.out.metrics[place];
        let timestamp = sample.timestamp.map(|timestamp| timestamp.milliseconds);
        metric.timestamp = metric.timestamp.max(timestamp);
        let now = timestamp.map(|time| (place, component, time));
        let newer = matches!(
            (self.before, now),
            (Some((metric, component, before)), Some((place, same, time)))
                if metric == place && component == same && time > before
        );
        self.before = now;
        if newer {
            renew(&mut metric.value, component, sample.value);
        } else if !put(&mut metric.value, component, sample.value) {
            self.unmatched_sample(|| series(sample));
        }
    }

    /// The index of the metric with these labels, which is begun if it is new.
    fn place<'l>(&mut self, labels: impl Iterator<Item = &'l Label<'t>> + Clone) -> usize
    where
        't: 'l,
    {
        self.labels.clear();
        for label in labels.clone() {
            // As written: an escaped text has only one spelling.
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

    /// Begins a metric and returns its index.
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

    fn component(&self, sample: &Sample<'t>, labels: &Labels<'t>) -> Option<Component> {
        let suffix = sample.name.strip_prefix(self.name)?;
        let number = |label| {
            let number = labels.value(label).and_then(float);
            number.filter(|number| !number.is_nan())
        };
        let without = |label: &str, component| labels.value(label).is_none().then_some(component);
        match (self.kind, suffix) {
            (Kind::Histogram | Kind::GaugeHistogram, "_bucket") => {
                number("le").map(Component::Bucket)
            }
            (Kind::Histogram, "_sum") | (Kind::GaugeHistogram, "_gsum") => {
                without("le", Component::Sum)
            }
            (Kind::Histogram, "_count") | (Kind::GaugeHistogram, "_gcount") => {
                without("le", Component::Count)
            }
            (Kind::Histogram | Kind::GaugeHistogram, _) => None,
            (Kind::Summary, "") => number("quantile").map(Component::Quantile),
            (Kind::Summary, "_sum") => without("quantile", Component::Sum),
            (Kind::Summary, "_count") => without("quantile", Component::Count),
            (Kind::Summary, _) => None,
            (_, "") | (Kind::Counter, "_total") | (Kind::Info, "_info") => Some(Component::Whole),
            _ => None,
        }
    }

    fn unmatched_sample(&mut self, series: impl FnOnce() -> String) {
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
            // A stable sort, so that the first of two equal bounds is kept.
            // Most are sorted already.
            points.sort_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
            let before = points.len();
            points.dedup_by_key(|(at, _)| *at);
            let twice = before - points.len();
            if twice > 0 {
                let labels = metric.labels_text();
                let series = format!("{}{{{labels}}}", self.name);
                self.unmatched_sample(|| series.clone());
                self.out.unmatched += twice - 1;
                self.out.first_duplicate.get_or_insert(series);
            }
        }
        self.out.metrics = metrics;
        self.out
    }
}

/// Name and labels as written.
fn series(sample: &Sample<'_>) -> String {
    let end = parse::offset(sample.raw, sample.value_text);
    sample.raw[..end].trim().to_owned()
}

/// Replaces a component with the same component at a later time.
fn renew(value: &mut MetricValue, component: Component, number: f64) {
    let place = match (component, value) {
        (
            Component::Bucket(_),
            MetricValue::Histogram {
                buckets: points, ..
            },
        )
        | (
            Component::Quantile(_),
            MetricValue::Summary {
                quantiles: points, ..
            },
        ) => points.last_mut().map(|(_, value)| value),
        (Component::Sum, MetricValue::Histogram { sum, .. } | MetricValue::Summary { sum, .. }) => {
            sum.as_mut()
        }
        (
            Component::Count,
            MetricValue::Histogram { count, .. } | MetricValue::Summary { count, .. },
        ) => count.as_mut(),
        _ => None,
    };
    if let Some(place) = place {
        *place = number;
    }
}

/// Sets a component. Returns false if the metric has no such component, or if its sum or count is
/// set already.
fn put(value: &mut MetricValue, component: Component, number: f64) -> bool {
    match (component, value) {
        (
            Component::Whole,
            MetricValue::Counter(value) | MetricValue::Gauge(value) | MetricValue::Untyped(value),
        ) => {
            *value = number;
        }
        (
            Component::Bucket(at),
            MetricValue::Histogram {
                buckets: points, ..
            },
        )
        | (
            Component::Quantile(at),
            MetricValue::Summary {
                quantiles: points, ..
            },
        ) => {
            points.push((at, number));
        }
        (
            Component::Sum,
            MetricValue::Histogram { sum: place, .. } | MetricValue::Summary { sum: place, .. },
        )
        | (
            Component::Count,
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
