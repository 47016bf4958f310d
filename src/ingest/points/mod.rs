//! Histograms and summaries of groups are made whole, as Pushgateway shows
//! them, which keeps their parts rather than their lines: what is missing is
//! filled in, and bounds are written in one way only. Prometheus compares them
//! as text, so `le="1"` of one sender and `le="1.0"` of another would be two
//! series.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::BuildHasher;

use crate::exposition::{
    FamilyText, Kind, MetricValue, Metrics, Text, hash_series, labels_text, needs_quotes,
    write_bound, write_number, write_series,
};
use crate::reason::Reason;

/// Why a family has no such form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub reason: Reason,
    pub text: String,
}

/// Brings a histogram or summary into its one form: for each set of labels the
/// buckets by bound, `+Inf` the last, or the quantiles; then `_sum`, `_count`.
/// Families of other kinds are left as they are.
///
/// Without a `_count`, the count is that of `+Inf`, and the other way round;
/// without both it is 0, and so is a missing sum. Samples that are no part of
/// the family, such as a bucket without `le`, are dropped where there are
/// parts beside them.
pub fn complete(family: &mut FamilyText, hash: &impl BuildHasher) -> Result<(), Problem> {
    if !matches!(family.kind, Kind::Histogram | Kind::Summary) {
        return Ok(());
    }
    let metrics = Metrics::of_text(family);
    if let Some(series) = metrics.first_duplicate {
        let part = part_of(family.kind);
        return Err(Problem {
            reason: Reason::DuplicateSeries,
            text: format!("two parts of {series} have the same {part}: 1 and 1.0 are one number"),
        });
    }
    if metrics.metrics.is_empty()
        && let Some(stray) = metrics.first_unmatched
    {
        let kind = family.kind.with_article();
        return Err(Problem {
            reason: Reason::InvalidText,
            text: format!("{stray} is no part of {kind}"),
        });
    }
    let mut lines = Lines {
        name: &family.name,
        quoted: needs_quotes(&family.name),
        hash,
        // Most have all of their lines.
        text: String::with_capacity(family.samples.len()),
        series: Vec::with_capacity(family.series.len()),
        full: String::new(),
    };
    for metric in &metrics.metrics {
        let labels = Split::of(&metric.labels, part_of(family.kind));
        lines.metric(&labels, &metric.value);
    }
    let Lines { text, series, .. } = lines;
    // A part that was filled in may be another's, where labels differ only in
    // what is none to a reader.
    let mut seen = HashSet::with_capacity(series.len());
    if let Some(place) = series.iter().position(|series| !seen.insert(*series)) {
        let line = text.lines().nth(place).unwrap_or_default();
        let series = line.rsplit_once(' ').map_or(line, |(series, _)| series);
        return Err(Problem {
            reason: Reason::DuplicateSeries,
            text: format!("{series} is there twice"),
        });
    }
    family.samples = Text::new(&text);
    family.series = series.into();
    Ok(())
}

/// The label that tells the parts apart.
fn part_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Histogram => "le",
        _ => "quantile",
    }
}

/// The labels of a metric, cut where that of its parts goes.
struct Split {
    /// As they are shown.
    shown: [String; 2],
    /// Without empty ones, which to a reader are none, where there are any.
    meant: Option<[String; 2]>,
    /// Whether no name needs quotes.
    plain: bool,
    part: &'static str,
}

impl Split {
    /// Of labels in the order of their names.
    fn of(labels: &[(Cow<'_, str>, Cow<'_, str>)], part: &'static str) -> Self {
        // Escapes begin with a backslash, which like the characters that have
        // them is before all letters of `part`: the order is the same.
        let place = labels.partition_point(|(name, _)| &**name < part);
        let (before, after) = labels.split_at(place);
        let meant = |labels: &[(Cow<'_, str>, Cow<'_, str>)]| {
            let full: Vec<(&str, &str)> = labels
                .iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| (&**name, &**value))
                .collect();
            labels_text(&full)
        };
        let has_empty = labels.iter().any(|(_, value)| value.is_empty());
        Split {
            shown: [labels_text(before), labels_text(after)],
            meant: has_empty.then(|| [meant(before), meant(after)]),
            plain: labels
                .iter()
                .all(|(name, _)| !needs_quotes(name) && !name.contains(':')),
            part,
        }
    }
}

/// Lines of a family, while they are written.
struct Lines<'f, H> {
    name: &'f str,
    quoted: bool,
    hash: &'f H,
    text: String,
    series: Vec<u64>,
    /// A series that is to be hashed.
    full: String,
}

impl<H: BuildHasher> Lines<'_, H> {
    fn metric(&mut self, labels: &Split, value: &MetricValue) {
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
                    self.line(labels, "_bucket", Some(*bound), *count);
                }
                if infinite.is_none() {
                    self.line(labels, "_bucket", Some(f64::INFINITY), count);
                }
                self.line(labels, "_sum", None, sum.unwrap_or_default());
                self.line(labels, "_count", None, count);
            }
            MetricValue::Summary {
                quantiles,
                sum,
                count,
            } => {
                for (quantile, value) in quantiles {
                    self.line(labels, "", Some(*quantile), *value);
                }
                self.line(labels, "_sum", None, sum.unwrap_or_default());
                self.line(labels, "_count", None, count.unwrap_or_default());
            }
            // No family of the two kinds has these.
            MetricValue::Counter(_) | MetricValue::Gauge(_) | MetricValue::Untyped(_) => {}
        }
    }

    fn line(&mut self, labels: &Split, suffix: &str, bound: Option<f64>, value: f64) {
        let mut part = String::new();
        if let Some(bound) = bound {
            part.push_str(labels.part);
            part.push_str("=\"");
            write_bound(&mut part, bound);
            part.push('"');
        }
        let name = [self.name, suffix];
        let start = self.text.len();
        let [before, after] = &labels.shown;
        write_series(&mut self.text, name, self.quoted, [before, &part, after]);
        let mut series = &self.text[start..];
        if let Some([before, after]) = &labels.meant {
            self.full.clear();
            write_series(&mut self.full, name, self.quoted, [before, &part, after]);
            series = &self.full;
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
