//! The metrics of a family: its samples brought together by their labels, so
//! that a histogram is one thing again. How text is read is not known here,
//! nor what becomes of a metric.

use std::borrow::Cow;
use std::collections::HashMap;

use super::normal::is_plain_label;
use super::parse::float;
use super::{
    FamilyText, FamilyView, Format, Kind, Label, Labels, Sample, parse, unescape, write_label_value,
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
    pub value: Value,
}

/// What is told of a set of labels.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
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
    pub strays: usize,
    /// Name and labels of the first of these.
    pub first_stray: Option<String>,
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
pub fn labels_of(text: &str) -> Option<Vec<(String, String)>> {
    let line = format!("m{{{text}}} 0");
    let mut labels = Labels::new();
    let sample = parse::sample(&line, Format::Text, &mut labels)?;
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
    /// counted among the strays.
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
            if let Some(sample) = parse::sample(line, Format::Text, &mut labels) {
                grouping.add(&sample, &mut labels);
            }
        }
        grouping.finish()
    }
}

/// What a sample is to its metric.
#[derive(Debug, Clone, Copy)]
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
        if !put(&mut metric.value, part, sample.value) {
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
            Kind::Counter => Value::Counter(0.0),
            Kind::Gauge | Kind::Info | Kind::StateSet => Value::Gauge(0.0),
            Kind::Untyped => Value::Untyped(0.0),
            Kind::Histogram | Kind::GaugeHistogram => Value::Histogram {
                buckets: Vec::new(),
                sum: None,
                count: None,
            },
            Kind::Summary => Value::Summary {
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
        self.out.strays += 1;
        self.out.first_stray.get_or_insert_with(series);
    }

    pub(super) fn finish(mut self) -> Metrics<'t> {
        let mut metrics = std::mem::take(&mut self.out.metrics);
        for metric in &mut metrics {
            let points = match &mut metric.value {
                Value::Histogram { buckets, .. } => buckets,
                Value::Summary { quantiles, .. } => quantiles,
                _ => continue,
            };
            // Stable, so that the first of two stays. They are sorted as a rule.
            points.sort_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
            let before = points.len();
            points.dedup_by_key(|(at, _)| *at);
            let twice = before - points.len();
            if twice > 0 {
                let labels = metric.labels_text();
                let name = self.name;
                self.stray(|| format!("{name}{{{labels}}}"));
                self.out.strays += twice - 1;
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

/// Whether there was place for it.
fn put(value: &mut Value, part: Part, number: f64) -> bool {
    match (part, value) {
        (Part::Whole, Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value)) => {
            *value = number;
        }
        (
            Part::Bucket(at),
            Value::Histogram {
                buckets: points, ..
            },
        )
        | (
            Part::Quantile(at),
            Value::Summary {
                quantiles: points, ..
            },
        ) => {
            points.push((at, number));
        }
        (Part::Sum, Value::Histogram { sum: place, .. } | Value::Summary { sum: place, .. })
        | (
            Part::Count,
            Value::Histogram { count: place, .. } | Value::Summary { count: place, .. },
        ) if place.is_none() => {
            *place = Some(number);
        }
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{Families, Limits};

    fn shown(text: &str, format: Format) -> Vec<String> {
        let families = Families::parse(text, format, &Limits::default()).expect("valid");
        let mut out = Vec::new();
        for family in families.iter() {
            let metrics = Metrics::of(&family);
            for metric in &metrics.metrics {
                out.push(format!(
                    "{}{{{}}} {:?} {:?}",
                    family.name(),
                    metric.labels_text(),
                    metric.value,
                    metric.timestamp
                ));
            }
            if let Some(first) = metrics.first_stray {
                out.push(format!("{} strays: {first}", metrics.strays));
            }
        }
        out
    }

    #[test]
    fn histograms_and_summaries_are_whole_wherever_their_samples_stand() {
        let text = "# TYPE h histogram\nh_sum{b=\"2\",a=\"1\"} 3\nh_bucket{le=\"+Inf\",a=\"1\",b=\"2\"} 4\n\
                    h_bucket{le=\"1\"} 5\nh_bucket{a=\"1\",le=\"0.5\",b=\"2\"} 2 7\nh_count{a=\"1\",b=\"2\"} 4 6\n\
                    # TYPE s summary\ns{quantile=\"0.5\"} 1\ns_count 2\ns{x=\"y\",quantile=\"0.9\"} 3\ns_sum 4\n";
        assert_eq!(
            shown(text, Format::Text),
            [
                "h{a=\"1\",b=\"2\"} Histogram { buckets: [(0.5, 2.0), (inf, 4.0)], sum: Some(3.0), count: Some(4.0) } Some(7)",
                "h{} Histogram { buckets: [(1.0, 5.0)], sum: None, count: None } None",
                "s{} Summary { quantiles: [(0.5, 1.0)], sum: Some(4.0), count: Some(2.0) } None",
                "s{x=\"y\"} Summary { quantiles: [(0.9, 3.0)], sum: None, count: None } None",
            ]
        );
    }

    #[test]
    fn single_values_are_of_their_familys_kind() {
        let text = "# TYPE c counter\nc 1 5\n# TYPE g gauge\ng{le=\"x\"} NaN\nu -1\n";
        assert_eq!(
            shown(text, Format::Text),
            [
                "c{} Counter(1.0) Some(5)",
                "g{le=\"x\"} Gauge(NaN) None",
                "u{} Untyped(-1.0) None",
            ]
        );
    }

    #[test]
    fn what_is_no_part_of_a_metric_is_a_stray() {
        for (text, stray) in [
            ("# TYPE h histogram\nh 1\n", "1 strays: h"),
            (
                "# TYPE h histogram\nh_bucket{a=\"b\"} 1\n",
                "1 strays: h_bucket{a=\"b\"}",
            ),
            (
                "# TYPE h histogram\nh_bucket{le=\"NaN\"} 1\n",
                "1 strays: h_bucket{le=\"NaN\"}",
            ),
            (
                "# TYPE h histogram\nh_sum{le=\"1\"} 1\n",
                "1 strays: h_sum{le=\"1\"}",
            ),
            ("# TYPE s summary\ns 1\n", "1 strays: s"),
            (
                "# TYPE s summary\ns_count{quantile=\"1\"} 1\n",
                "1 strays: s_count{quantile=\"1\"}",
            ),
        ] {
            assert_eq!(shown(text, Format::Text), [stray], "{text}");
        }
        let twice = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"0.5\"} 0\nh_bucket{le=\"1.0\"} 2\n";
        assert_eq!(
            shown(twice, Format::Text),
            [
                "h{} Histogram { buckets: [(0.5, 0.0), (1.0, 1.0)], sum: None, count: None } None",
                "1 strays: h{}"
            ]
        );
    }

    #[test]
    fn open_metrics_names_its_parts_otherwise() {
        let text = "# TYPE c counter\nc_total 1\nc_created 2\n# TYPE i info\ni_info{v=\"1\"} 1\n\
                    # TYPE g gaugehistogram\ng_bucket{le=\"+Inf\"} 1\ng_gcount 1\ng_gsum 2\n# EOF\n";
        assert_eq!(
            shown(text, Format::OpenMetrics),
            [
                "c{} Counter(1.0) None",
                "1 strays: c_created",
                "i{v=\"1\"} Gauge(1.0) None",
                "g{} Histogram { buckets: [(inf, 1.0)], sum: Some(2.0), count: Some(1.0) } None",
            ]
        );
    }

    #[test]
    fn labels_have_one_text_and_are_read_back_from_it() {
        let line = "m{\"z z\"=\"1\",b=\"x\\\\y\\\"\\n\",\"a\\\"\"=\"\"} 1\n";
        let metrics = Metrics::of_lines("m", Kind::Gauge, line);
        let metric = &metrics.metrics[0];
        assert_eq!(metric.labels[1], ("b".into(), "x\\y\"\n".into()));
        let text = metric.labels_text();
        assert_eq!(text, "\"a\\\"\"=\"\",b=\"x\\\\y\\\"\\n\",\"z z\"=\"1\"");
        let pairs = labels_of(&text).expect("labels");
        let reversed: Vec<_> = pairs.iter().rev().cloned().collect();
        assert_eq!(labels_text(&reversed), text);
        assert_eq!(labels_of(""), Some(Vec::new()));
        assert_eq!(labels_of("a"), None);
        assert_eq!(labels_of("} 1 2"), None);
    }

    #[test]
    fn a_familys_text_needs_no_second_parse() {
        let lines = "# TYPE \"h.x\" histogram\n{\"h.x_bucket\",le=\"1\"} 1\n{\"h.x_sum\"} 2\n";
        let metrics = Metrics::of_lines("h.x", Kind::Histogram, lines);
        assert_eq!(metrics.strays, 0);
        assert_eq!(
            metrics.metrics[0].value,
            Value::Histogram {
                buckets: vec![(1.0, 1.0)],
                sum: Some(2.0),
                count: None
            }
        );
    }
}
