//! Completes the histograms and summaries of groups.
//!
//! Like Pushgateway, which keeps the components of a metric rather than the lines of
//! the text, this fills in missing components and writes each bound in one way.
//! Prometheus compares bounds as text: `le="1"` of one sender and `le="1.0"` of
//! another would be two series.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::BuildHasher;

use super::config::PushTimestamps;
use super::{Admission, Group, Rejection, reject_family};
use crate::exposition::{
    FamilyText, Kind, MetricValue, Metrics, Text, hash_series, labels_text, needs_quotes,
    write_bound, write_number, write_series,
};
use crate::reason::Reason;

impl Admission {
    /// Completes a histogram or a summary of a group, and leaves other families as
    /// they are. For each set of labels, the result has the buckets by bound, ending
    /// with `+Inf`, or the quantiles; then `_sum` and `_count`.
    ///
    /// A missing `_count` is the count of `+Inf`, and the reverse. Without both, the
    /// count is 0, and so is a missing sum. Samples that are not part of the kind, such
    /// as a bucket without `le`, are dropped if the family has others.
    ///
    /// # Errors
    ///
    /// No sample is part of the kind, or two lines become one series.
    pub fn complete_family(&self, group: &Group, family: &mut FamilyText) -> Result<(), Rejection> {
        // A completed metric has one timestamp for all its components. Lines with timestamps of
        // their own are kept as they are.
        if self.aggregation.timestamps == PushTimestamps::Keep && has_timestamps(family) {
            return Ok(());
        }
        complete(family, &self.hash)
            .map_err(|(reason, problem)| reject_family(group, family, reason, &problem))
    }
}

fn complete(family: &mut FamilyText, hash: &impl BuildHasher) -> Result<(), (Reason, String)> {
    if !matches!(family.kind, Kind::Histogram | Kind::Summary) {
        return Ok(());
    }
    let label = component_label(family.kind);
    let metrics = Metrics::of_text(family);
    if let Some(series) = metrics.first_duplicate {
        let problem = format!("{series} has one {label} twice: 1 and 1.0 are one number");
        return Err((Reason::DuplicateSeries, problem));
    }
    if metrics.metrics.is_empty()
        && let Some(sample) = metrics.first_unmatched
    {
        let kind = family.kind.with_article();
        let problem = format!("{sample} is not part of {kind}");
        return Err((Reason::InvalidText, problem));
    }
    let mut lines = LineWriter {
        name: &family.name,
        quoted: needs_quotes(&family.name),
        hash,
        // Most families are complete already.
        text: String::with_capacity(family.samples.len()),
        series: Vec::with_capacity(family.series.len()),
        identity: String::new(),
    };
    for metric in &metrics.metrics {
        let labels = SplitLabels::new(&metric.labels, label);
        lines.write_metric(&labels, &metric.value);
    }
    let LineWriter { text, series, .. } = lines;
    // A completed component can equal one of another metric whose labels differ only
    // in empty ones.
    let mut seen = HashSet::with_capacity(series.len());
    if let Some(index) = series.iter().position(|series| !seen.insert(*series)) {
        let line = text.lines().nth(index).unwrap_or_default();
        let series = line.rsplit_once(' ').map_or(line, |(series, _)| series);
        let problem = format!("{series} is given twice");
        return Err((Reason::DuplicateSeries, problem));
    }
    family.samples = Text::new(&text);
    family.series = series.into();
    Ok(())
}

/// Whether a sample has a timestamp.
fn has_timestamps(family: &FamilyText) -> bool {
    family.samples.as_str().lines().any(|line| {
        let labels_end = memchr::memrchr(b'}', line.as_bytes()).map_or(0, |brace| brace + 1);
        line[labels_end..].trim_start().contains(' ')
            && (labels_end > 0 || line.split(' ').count() > 2)
    })
}

/// The label that distinguishes the components of a metric.
fn component_label(kind: Kind) -> &'static str {
    match kind {
        Kind::Histogram => "le",
        _ => "quantile",
    }
}

/// The labels of a metric as text, split where the label of a component belongs.
struct SplitLabels {
    /// The labels as exposed.
    exposed: [String; 2],
    /// The labels that identify the series: those that are not empty. `None` if none is empty.
    identifying: Option<[String; 2]>,
    /// Whether no name needs quotes.
    plain: bool,
    /// `le` or `quantile`.
    component_label: &'static str,
}

impl SplitLabels {
    /// `labels` are unescaped and in the order of their escaped names.
    fn new(labels: &[(Cow<'_, str>, Cow<'_, str>)], component_label: &'static str) -> Self {
        // Backslashes and the characters that need escapes sort before all letters of
        // `component_label`, so unescaped names compare with it as escaped ones do.
        let index = labels.partition_point(|(name, _)| &**name < component_label);
        let (before, after) = labels.split_at(index);
        let identifying = |labels: &[(Cow<'_, str>, Cow<'_, str>)]| {
            let non_empty: Vec<(&str, &str)> = labels
                .iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| (&**name, &**value))
                .collect();
            labels_text(&non_empty)
        };
        let has_empty = labels.iter().any(|(_, value)| value.is_empty());
        SplitLabels {
            exposed: [labels_text(before), labels_text(after)],
            identifying: has_empty.then(|| [identifying(before), identifying(after)]),
            plain: labels
                .iter()
                .all(|(name, _)| !needs_quotes(name) && !name.contains(':')),
            component_label,
        }
    }
}

/// Writes the lines of a family, and the hashes of their series.
struct LineWriter<'f, H> {
    name: &'f str,
    quoted: bool,
    hash: &'f H,
    text: String,
    series: Vec<u64>,
    /// Reused buffer for the text of a series without empty labels.
    identity: String,
}

impl<H: BuildHasher> LineWriter<'_, H> {
    fn write_metric(&mut self, labels: &SplitLabels, value: &MetricValue) {
        match value {
            MetricValue::Histogram {
                buckets,
                sum,
                count,
            } => {
                let infinite = buckets
                    .last()
                    .filter(|(bound, _)| *bound == f64::INFINITY)
                    .map(|(_, count)| *count);
                let count = count.or(infinite).unwrap_or_default();
                for (bound, count) in buckets {
                    self.write_line(labels, "_bucket", Some(*bound), *count);
                }
                if infinite.is_none() {
                    self.write_line(labels, "_bucket", Some(f64::INFINITY), count);
                }
                self.write_line(labels, "_sum", None, sum.unwrap_or_default());
                self.write_line(labels, "_count", None, count);
            }
            MetricValue::Summary {
                quantiles,
                sum,
                count,
            } => {
                for (quantile, value) in quantiles {
                    self.write_line(labels, "", Some(*quantile), *value);
                }
                self.write_line(labels, "_sum", None, sum.unwrap_or_default());
                self.write_line(labels, "_count", None, count.unwrap_or_default());
            }
            // Metrics of histograms and summaries never have these values.
            MetricValue::Counter(_) | MetricValue::Gauge(_) | MetricValue::Untyped(_) => {}
        }
    }

    fn write_line(&mut self, labels: &SplitLabels, suffix: &str, bound: Option<f64>, value: f64) {
        let mut component = String::new();
        if let Some(bound) = bound {
            component.push_str(labels.component_label);
            component.push_str("=\"");
            write_bound(&mut component, bound);
            component.push('"');
        }
        let name = [self.name, suffix];
        let start = self.text.len();
        let [before, after] = &labels.exposed;
        write_series(
            &mut self.text,
            name,
            self.quoted,
            [before, &component, after],
        );
        let mut series = &self.text[start..];
        if let Some([before, after]) = &labels.identifying {
            self.identity.clear();
            write_series(
                &mut self.identity,
                name,
                self.quoted,
                [before, &component, after],
            );
            series = &self.identity;
        }
        let plain = labels.plain && !self.quoted;
        self.series.push(hash_series(self.hash, series, plain));
        self.text.push(' ');
        write_number(&mut self.text, value);
        self.text.push('\n');
    }
}

#[cfg(test)]
mod tests;
