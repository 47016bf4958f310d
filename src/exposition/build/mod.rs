//! Builds families as values, in the canonical form that the store takes.
//!
//! A [`FamilyBuilder`] checks names, labels and kinds, and writes canonical
//! lines directly; no text is parsed. Text, OpenMetrics and protobuf are then
//! made from the result as from every other family.

mod error;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::hash::BuildHasher;
use std::sync::Arc;

pub use self::error::BuildError;
use super::canonical::{is_plain_label, is_plain_name};
use super::series::{series_of, without_empty_labels};
use super::{
    FamilyText, Kind, LabelError, LabelText, OpenMetricsHead, SeriesHashes, Text, hash_series,
    is_family_name, label_pairs, write_bound, write_help, write_label_value, write_number,
    write_series,
};

/// Room in bytes for the first samples of a family: most families have few.
const SAMPLES_CAPACITY: usize = 512;

/// Builds one family, sample by sample.
///
/// Names, label values and help texts are given without escapes. The first
/// mistake is kept and returned by [`build`](Self::build), so calls need no check
/// of their own.
///
/// ```
/// use exporter_proxy::exposition::{BuildError, Escaping, FamilyBuilder, Kind, OutputFormat};
///
/// let mut requests = FamilyBuilder::new("requests_total", Kind::Counter, "Requests answered.");
/// requests.sample(&[("path", "/a\"b"), ("code", "200")], 12.0);
/// let family = requests.build_unhashed()?;
/// assert_eq!(
///     family.head(),
///     "# HELP requests_total Requests answered.\n# TYPE requests_total counter\n",
/// );
/// assert_eq!(family.samples.as_str(), "requests_total{code=\"200\",path=\"/a\\\"b\"} 12\n");
///
/// let text = String::from_utf8_lossy(&family.head()).into_owned() + family.samples.as_str();
/// let open_metrics = OutputFormat::OpenMetrics(Escaping::AllowUtf8).convert(&text, None);
/// assert!(open_metrics.is_some_and(|text| text.contains("# TYPE requests counter\n")));
///
/// let mut latency = FamilyBuilder::new("latency_seconds", Kind::Histogram, "");
/// latency.histogram(&[], &[0.1, 1.0], &[2, 5, 6], 3.5);
/// latency.sample(&[], 1.0);
/// assert!(matches!(latency.build_unhashed(), Err(BuildError::Kind { .. })));
/// # Ok::<(), BuildError>(())
/// ```
#[derive(Debug)]
pub struct FamilyBuilder {
    /// The name, escaped.
    name: String,
    /// Whether the name needs quotes.
    quoted: bool,
    kind: Kind,
    /// The help, escaped; empty for none.
    help: String,
    unit: Option<Box<str>>,
    samples: String,
    /// The labels of each metric without empty ones, one line each: the
    /// identity of a metric in the family.
    identities: String,
    /// Whether a label's name needs quotes.
    quoted_labels: bool,
    /// Whether a label's value is empty.
    empty_labels: bool,
    /// Buffers for a sample's labels, and for its `le` or `quantile`.
    labels: String,
    component: String,
    /// The timestamp of the last sample.
    time: Option<i64>,
    problem: Option<BuildError>,
}

impl FamilyBuilder {
    /// Begins a family. An empty help counts as none.
    ///
    /// OpenMetrics shows a counter whose name does not end in `_total` as
    /// unknown, and an info whose name does not end in `_info` as a gauge.
    pub fn new(name: &str, kind: Kind, help: &str) -> Self {
        let mut escaped = String::with_capacity(name.len());
        write_label_value(&mut escaped, name);
        let mut escaped_help = String::with_capacity(help.len());
        write_help(&mut escaped_help, help);
        let problem = (!is_family_name(&escaped)).then(|| BuildError::Name {
            name: name.to_owned(),
        });
        FamilyBuilder {
            quoted: !is_plain_name(&escaped),
            name: escaped,
            kind,
            help: escaped_help,
            unit: None,
            samples: String::with_capacity(SAMPLES_CAPACITY),
            identities: String::new(),
            quoted_labels: false,
            empty_labels: false,
            labels: String::new(),
            component: String::new(),
            time: None,
            problem,
        }
    }

    /// Sets the family's unit, such as `seconds`. Its name must end in the
    /// unit: `_seconds`, or `_seconds_total` for a counter. Only OpenMetrics
    /// shows units.
    pub fn unit(&mut self, unit: &str) -> &mut Self {
        let stem = match self.kind {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(&self.name),
            _ => &self.name,
        };
        let stem = stem.strip_suffix(unit);
        if unit.is_empty() || !is_plain_label(unit) || !stem.is_some_and(|it| it.ends_with('_')) {
            self.fail(|family| BuildError::Unit {
                family,
                unit: unit.to_owned(),
            });
        } else {
            self.unit = Some(Box::from(unit));
        }
        self
    }

    /// Adds a sample of a counter, gauge, untyped family, info or state set.
    /// Labels may be in any order.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) -> &mut Self {
        if self.is_compound() {
            return self.wrong_kind("a single value");
        }
        if self.begin_metric(labels, None).is_some() {
            self.write_line("", None, |out| write_number(out, value));
        }
        self
    }

    /// Like [`sample`](Self::sample), with a timestamp in milliseconds since 1970.
    /// One series may have points at several times, one after the other and in
    /// ascending order.
    ///
    /// ```
    /// use exporter_proxy::exposition::{BuildError, FamilyBuilder, Kind};
    ///
    /// let mut levels = FamilyBuilder::new("level", Kind::Gauge, "");
    /// levels.sample_at(&[("tank", "a")], 3.5, 1_700_000_000_000);
    /// levels.sample_at(&[("tank", "a")], 3.25, 1_700_000_060_000);
    /// let family = levels.build_unhashed()?;
    /// assert_eq!(
    ///     family.samples.as_str(),
    ///     "level{tank=\"a\"} 3.5 1700000000000\nlevel{tank=\"a\"} 3.25 1700000060000\n",
    /// );
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn sample_at(
        &mut self,
        labels: &[(&str, &str)],
        value: f64,
        milliseconds: i64,
    ) -> &mut Self {
        if self.is_compound() {
            return self.wrong_kind("a single value");
        }
        if milliseconds < 0 {
            self.fail(|family| BuildError::Time {
                family,
                milliseconds,
            });
            return self;
        }
        let (time, end) = (self.time, self.identities.len());
        if self.begin_metric(labels, None).is_some() {
            let (known, added) = self.identities.split_at(end);
            let last = known.trim_end_matches('\n').rsplit('\n').next();
            let is_same = !known.is_empty() && last == added.strip_suffix('\n');
            // A later point of the same series is not another metric.
            if is_same && time.is_some_and(|time| time < milliseconds) {
                self.identities.truncate(end);
            }
            self.write_line("", None, |out| {
                write_number(out, value);
                let _ = write!(out, " {milliseconds}");
            });
            self.time = Some(milliseconds);
        }
        self
    }

    /// Whether a metric of the family has several lines.
    fn is_compound(&self) -> bool {
        matches!(
            self.kind,
            Kind::Histogram | Kind::GaugeHistogram | Kind::Summary
        )
    }

    /// Adds a histogram or gauge histogram. `bounds` are the finite upper bounds of its buckets, in
    /// ascending order. `counts` are the cumulative counts of these buckets, followed by the number
    /// of all observations.
    pub fn histogram(
        &mut self,
        labels: &[(&str, &str)],
        bounds: &[f64],
        counts: &[u64],
        sum: f64,
    ) -> &mut Self {
        let (sum_suffix, count_suffix) = match self.kind {
            Kind::Histogram => ("_sum", "_count"),
            Kind::GaugeHistogram => ("_gsum", "_gcount"),
            _ => return self.wrong_kind("a histogram"),
        };
        let finite = bounds.iter().all(|bound| bound.is_finite());
        let (Some(total), true) = (counts.last(), finite && ascends(bounds.iter())) else {
            self.fail(|family| BuildError::Bounds { family });
            return self;
        };
        if counts.len() != bounds.len() + 1 || !counts.is_sorted() {
            self.fail(|family| BuildError::Counts { family });
            return self;
        }
        if let Some(split) = self.begin_metric(labels, Some("le")) {
            let bounds = bounds.iter().copied().chain([f64::INFINITY]);
            for (bound, count) in bounds.zip(counts) {
                self.set_component("le", bound);
                self.write_line("_bucket", Some(split), |out| write_count(out, *count));
            }
            self.write_line(sum_suffix, None, |out| write_number(out, sum));
            self.write_line(count_suffix, None, |out| write_count(out, *total));
        }
        self
    }

    /// Adds a summary: quantiles from 0 to 1 in ascending order with their
    /// values, and the sum and number of all observations.
    pub fn summary(
        &mut self,
        labels: &[(&str, &str)],
        quantiles: &[(f64, f64)],
        sum: f64,
        count: u64,
    ) -> &mut Self {
        if self.kind != Kind::Summary {
            return self.wrong_kind("a summary");
        }
        let ranks = quantiles.iter().map(|(rank, _)| rank);
        if !ascends(ranks.clone()) || !ranks.clone().all(|rank| (0.0..=1.0).contains(rank)) {
            self.fail(|family| BuildError::Bounds { family });
            return self;
        }
        if let Some(split) = self.begin_metric(labels, Some("quantile")) {
            for (rank, value) in quantiles {
                self.set_component("quantile", *rank);
                self.write_line("", Some(split), |out| write_number(out, *value));
            }
            self.write_line("_sum", None, |out| write_number(out, sum));
            self.write_line("_count", None, |out| write_count(out, count));
        }
        self
    }

    /// Whether the family has no samples. Such a family must not be exposed.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Finishes the family and hashes its series, so that the store finds those
    /// that another producer exposes too. `hash` is the store's hasher.
    ///
    /// # Errors
    ///
    /// The first mistake: a bad name, label or unit, a value of another kind,
    /// bounds that do not ascend, or labels that come twice.
    pub fn build(self, hash: &impl BuildHasher) -> Result<FamilyText, BuildError> {
        let plain = !self.quoted && !self.quoted_labels;
        let mut hashes: Vec<u64> = Vec::new();
        let mut before = None;
        for line in self.samples.lines() {
            let series = series_of(line);
            // Points of one series follow one another.
            if before == Some(series) {
                continue;
            }
            before = Some(series);
            hashes.push(match self.empty_labels {
                false => hash_series(hash, series, plain),
                true => hash_series(hash, &without_empty_labels(line), plain),
            });
        }
        self.finish(hashes.into())
    }

    /// Finishes the family without hashes of its series: the store does not
    /// compare them with those of other producers.
    ///
    /// # Errors
    ///
    /// As for [`build`](Self::build).
    pub fn build_unhashed(self) -> Result<FamilyText, BuildError> {
        self.finish(SeriesHashes::default())
    }

    fn finish(mut self, series: SeriesHashes) -> Result<FamilyText, BuildError> {
        self.check_identities();
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        // Text 0.0.4 lacks these kinds; OpenMetrics shows them.
        let (kind, open_kind) = match self.kind {
            kind @ (Kind::Info | Kind::StateSet) => (Kind::Gauge, Some(kind)),
            kind => (kind, None),
        };
        let open = (open_kind.is_some() || self.unit.is_some()).then(|| {
            Box::new(OpenMetricsHead {
                kind: open_kind,
                unit: self.unit,
            })
        });
        Ok(FamilyText {
            name: Arc::from(self.name),
            kind,
            help: Some(self.help).filter(|help| !help.is_empty()),
            line: 0,
            samples: Text::new(&self.samples),
            series,
            natives: Vec::new(),
            open,
        })
    }

    /// Records an error if two metrics have the same labels. Most families have
    /// theirs in order, so that one comparison each is enough.
    fn check_identities(&mut self) {
        let mut before = None;
        let ascend = self.identities.lines().all(|labels| {
            let ascends = before.is_none_or(|before| before < labels);
            before = Some(labels);
            ascends
        });
        if ascend {
            return;
        }
        let mut seen = HashSet::new();
        let repeated = self.identities.lines().find(|labels| !seen.insert(*labels));
        if let Some(labels) = repeated.map(str::to_owned) {
            self.fail(|family| BuildError::Repeated { family, labels });
        }
    }

    /// Puts the labels of a metric into `labels`, in canonical form. Returns
    /// the byte at which the label `component` belongs; `None` after a mistake.
    fn begin_metric(&mut self, labels: &[(&str, &str)], component: Option<&str>) -> Option<usize> {
        if self.problem.is_some() {
            return None;
        }
        self.labels.clear();
        self.time = None;
        let is_ready = |(name, _): &(&str, &str)| is_plain_label(name) && *name != "__name__";
        if labels.iter().all(is_ready) && ascends(labels.iter().map(|(name, _)| name)) {
            for (name, value) in labels {
                if !self.labels.is_empty() {
                    self.labels.push(',');
                }
                self.labels.push_str(name);
                self.labels.push_str("=\"");
                write_label_value(&mut self.labels, value);
                self.labels.push('"');
            }
        } else {
            match LabelText::from_plain(labels.iter().copied()) {
                Ok(text) => self.labels.push_str(text.as_str()),
                Err(problem) => {
                    self.fail(|family| BuildError::Label { family, problem });
                    return None;
                }
            }
            self.quoted_labels |= labels.iter().any(|(name, _)| !is_plain_label(name));
        }
        let split = match component {
            None => self.labels.len(),
            Some(component) => match component_place(&self.labels, component) {
                Ok(split) => split,
                Err(problem) => {
                    self.fail(|family| BuildError::Label { family, problem });
                    return None;
                }
            },
        };
        if labels.iter().any(|(_, value)| value.is_empty()) {
            self.empty_labels = true;
            let pairs = label_pairs(&self.labels).filter(|label| !label.value.is_empty());
            // Their names have been checked by now.
            let known = LabelText::from_escaped(pairs.map(|label| (label.name, label.value)));
            self.identities.push_str(known.unwrap_or_default().as_str());
        } else {
            self.identities.push_str(&self.labels);
        }
        self.identities.push('\n');
        Some(split)
    }

    fn set_component(&mut self, label: &str, value: f64) {
        self.component.clear();
        self.component.push_str(label);
        self.component.push_str("=\"");
        write_bound(&mut self.component, value);
        self.component.push('"');
    }

    /// Writes one line, with the component's label at `split`, if any.
    fn write_line(&mut self, suffix: &str, split: Option<usize>, value: impl FnOnce(&mut String)) {
        let pieces = match split {
            None => [&*self.labels, "", ""],
            Some(split) => {
                let (before, after) = self.labels.split_at(split);
                let before = before.strip_suffix(',').unwrap_or(before);
                [before, &self.component, after]
            }
        };
        let out = &mut self.samples;
        write_series(out, [&self.name, suffix], self.quoted, pieces);
        out.push(' ');
        value(out);
        out.push('\n');
    }

    fn wrong_kind(&mut self, given: &'static str) -> &mut Self {
        let kind = self.kind;
        self.fail(|family| BuildError::Kind {
            family,
            kind,
            given,
        });
        self
    }

    /// Records the first mistake.
    fn fail(&mut self, problem: impl FnOnce(String) -> BuildError) {
        if self.problem.is_none() {
            self.problem = Some(problem(self.name.clone()));
        }
    }
}

/// The byte at which the label `component` belongs among sorted labels.
fn component_place(labels: &str, component: &str) -> Result<usize, LabelError> {
    let mut pairs = label_pairs(labels);
    loop {
        let place = pairs.offset();
        match pairs.next() {
            Some(label) if label.name == component => {
                return Err(LabelError::Repeated(component.to_owned()));
            }
            Some(label) if label.name < component => {}
            _ => return Ok(place),
        }
    }
}

fn write_count(out: &mut String, count: u64) {
    let _ = write!(out, "{count}");
}

fn ascends<T: PartialOrd>(values: impl Iterator<Item = T>) -> bool {
    values.is_sorted_by(|a, b| a < b)
}
