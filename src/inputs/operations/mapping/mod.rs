//! Maps StatsD names to families and labels by rules, like statsd_exporter.
//!
//! [`yaml`] reads statsd_exporter's file, and [`check`] checks its rules. [`globs`] and
//! [`regexes`] find the rule for a name, and [`cache`] remembers the results. [`Mapper`]
//! combines them for one set of settings.
//!
//! Source of the behaviour: <https://github.com/prometheus/statsd_exporter#metric-mapping-and-configuration>.

mod cache;
mod check;
mod globs;
mod regexes;
#[cfg(test)]
mod tests;
mod yaml;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use self::cache::Cache;
use self::globs::Globs;
use self::regexes::Regexes;
use crate::exposition::LabelText;
use crate::registry::{NativeSpec, QuantileSpec};
use crate::relabel::template::Template;
use crate::telemetry::LoadedMapping;
use crate::yaml::YamlProblem;

/// The type of a value, for rules that match by type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SourceType {
    Counter,
    /// Also sets, whose size is a gauge.
    Gauge,
    /// Timers, histograms and distributions.
    Observer,
}

impl SourceType {
    pub(super) const COUNT: usize = 3;
}

/// A checked mapping file.
#[derive(Debug)]
pub struct Mapping {
    /// The text of the file, for comparison.
    text: Box<str>,
    rules: Vec<Rule>,
    globs: Globs,
    regexes: Regexes,
    /// The options for names that no rule matches.
    unmapped: RuleOptions,
}

impl PartialEq for Mapping {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Mapping {}

/// A checked rule.
#[derive(Debug)]
struct Rule {
    /// The name of the family; `None` to drop matching lines.
    name: Option<Template>,
    /// Label names, and templates for their values.
    labels: Vec<(String, Template)>,
    options: RuleOptions,
}

/// The options of a rule besides name and labels.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RuleOptions {
    /// Whether tags win over the labels of the rule.
    pub(super) honor_labels: bool,
    /// The factor for values.
    pub(super) scale: Option<f64>,
    /// Overrides the configured time to live.
    pub(super) ttl: Option<Duration>,
    /// Escaped as in the text format.
    pub(super) help: Option<Arc<str>>,
    pub(super) observer: Observer,
}

/// The kind of family for timers, histograms and distributions.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Observer {
    /// A histogram with these bounds, and perhaps native buckets.
    Histogram(Arc<[f64]>, Option<NativeSpec>),
    /// A summary with quantiles.
    Summary(Arc<QuantileSpec>),
}

/// The result for lines with one name and type.
#[derive(Debug)]
pub(super) struct Mapped {
    /// The number of the rule that matched, from 0.
    rule: Option<u32>,
    pub(super) outcome: Outcome,
}

/// The family and labels of a line, unless a rule drops it.
#[derive(Debug)]
pub(super) enum Outcome {
    Dropped,
    /// Also for a name that no rule matches; it then has no labels.
    Series {
        /// This may not be a valid family name.
        family: Arc<str>,
        labels: Vec<(String, String)>,
        /// The text of `labels`, for a series without others; `None` if they are invalid.
        label_text: Option<LabelText>,
    },
}

/// The outcome of a look-up, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Matched {
    /// A rule gave a family.
    Mapped,
    /// A rule dropped the line.
    Dropped,
    /// No rule matched.
    Unmapped,
}

/// Counts of look-ups by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) mapped: u64,
    pub(super) dropped: u64,
    pub(super) unmapped: u64,
    pub(super) cache_hits: u64,
    pub(super) cache_misses: u64,
}

impl Tally {
    fn count(&mut self, matched: Matched) {
        match matched {
            Matched::Dropped => self.dropped += 1,
            Matched::Mapped => self.mapped += 1,
            Matched::Unmapped => self.unmapped += 1,
        }
    }

    /// Counts a line whose mapping was known without a look-up.
    pub(super) fn count_known(&mut self, matched: Matched) {
        self.cache_hits += 1;
        self.count(matched);
    }
}

impl Mapping {
    /// Parses a mapping file.
    ///
    /// # Errors
    ///
    /// All errors in it, with their positions.
    pub fn parse(text: &str) -> Result<Self, Vec<YamlProblem>> {
        check::mapping(text)
    }

    /// The number of rules.
    pub fn rules(&self) -> usize {
        self.rules.len()
    }

    /// Maps a name.
    fn find(&self, name: &str, source: SourceType) -> Mapped {
        if let Some(index) = self.globs.find(name, source) {
            let captures = self.globs.captures(index, name);
            return self.mapped(index, |number| match number {
                0 => name,
                number => captures.get(number - 1).copied().unwrap_or_default(),
            });
        }
        if let Some(index) = self.regexes.find(name, source) {
            let captures = self.regexes.captures(index, name);
            return self.mapped(index, |number| {
                let found = captures.as_ref().and_then(|captures| captures.get(number));
                found.map_or("", |found| found.as_str())
            });
        }
        Mapped {
            rule: None,
            outcome: Outcome::Series {
                family: Arc::from(&*family_name(name)),
                labels: Vec::new(),
                label_text: Some(LabelText::default()),
            },
        }
    }

    fn mapped<'n>(&'n self, index: u32, capture: impl Fn(usize) -> &'n str) -> Mapped {
        let rule = &self.rules[index as usize];
        let outcome = match &rule.name {
            None => Outcome::Dropped,
            Some(name) => {
                let labels = rule.labels.iter().map(|(label, value)| {
                    let value = value.expand_with(&capture).into_owned();
                    (label.clone(), value)
                });
                let labels: Vec<(String, String)> = labels.collect();
                let mut sorted: Vec<(&str, &str)> = labels
                    .iter()
                    .filter(|(_, value)| !value.is_empty())
                    .map(|(name, value)| (&**name, &**value))
                    .collect();
                sorted.sort_unstable();
                Outcome::Series {
                    family: Arc::from(&*family_name(&name.expand_with(&capture))),
                    label_text: LabelText::from_plain(sorted).ok(),
                    labels,
                }
            }
        };
        Mapped {
            rule: Some(index),
            outcome,
        }
    }
}

/// A mapping with its cache.
#[derive(Debug)]
pub(super) struct Mapper {
    mapping: Arc<Mapping>,
    cache: Cache,
}

impl Mapper {
    /// A mapper that caches up to `cache_size` names of each type.
    pub(super) fn new(mapping: &Arc<Mapping>, cache_size: usize) -> Self {
        Mapper {
            mapping: Arc::clone(mapping),
            cache: Cache::new(cache_size),
        }
    }

    /// The values for the metrics about the mapping.
    pub(super) fn loaded(&self) -> Arc<LoadedMapping> {
        Arc::new(LoadedMapping::new(
            self.mapping.rules(),
            Arc::clone(self.cache.entries()),
        ))
    }

    /// Maps the name of a line, and counts the outcome.
    pub(super) fn look_up(&self, name: &str, source: SourceType, tally: &mut Tally) -> Arc<Mapped> {
        let mapped = match self.cache.get(name, source) {
            Some(known) => {
                tally.cache_hits += 1;
                known
            }
            None => {
                tally.cache_misses += 1;
                let mapped = Arc::new(self.mapping.find(name, source));
                self.cache.insert(name, source, &mapped);
                mapped
            }
        };
        tally.count(mapped.matched());
        mapped
    }

    /// The options of the matching rule, or those for names without a rule.
    pub(super) fn options(&self, mapped: &Mapped) -> &RuleOptions {
        match mapped.rule {
            Some(rule) => &self.mapping.rules[rule as usize].options,
            None => &self.mapping.unmapped,
        }
    }
}

impl Mapped {
    pub(super) fn matched(&self) -> Matched {
        match (&self.outcome, self.rule) {
            (Outcome::Dropped, _) => Matched::Dropped,
            (_, Some(_)) => Matched::Mapped,
            (_, None) => Matched::Unmapped,
        }
    }

    /// The number of the matching rule, counting from 1.
    pub(super) fn rule_number(&self) -> Option<u32> {
        self.rule.map(|rule| rule + 1)
    }
}

/// The name of a family, as statsd_exporter writes it: characters other than letters and
/// digits become underscores, several hyphens in a row become one underscore, and a leading
/// digit gets one before it.
fn family_name(name: &str) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let digit_first = name.starts_with(|c: char| c.is_ascii_digit());
    if !digit_first && name.chars().all(fits) {
        return Cow::Borrowed(name);
    }
    let mut escaped = String::with_capacity(name.len() + 1);
    if digit_first {
        escaped.push('_');
    }
    let mut before = ' ';
    for c in name.chars() {
        match c {
            c if fits(c) => escaped.push(c),
            '-' if before == '-' => {}
            _ => escaped.push('_'),
        }
        before = c;
    }
    Cow::Owned(escaped)
}
