//! Mapping of StatsD names to families and labels, as statsd_exporter has it.
//!
//! [`yaml`] reads statsd_exporter's file, and [`check`] checks its rules; [`globs`] and [`regexes`] find the rule of a name;
//! [`cache`] remembers the results. [`Mapper`] puts them together for one set of settings.
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

pub use self::yaml::MappingError;

/// The type of a value, as rules match it.
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

/// A mapping file that was read and checked.
#[derive(Debug)]
pub struct Mapping {
    /// What makes two mappings equal.
    text: Box<str>,
    rules: Vec<Rule>,
    globs: Globs,
    regexes: Regexes,
    /// For names that no rule matches.
    unmapped: RuleOptions,
}

impl PartialEq for Mapping {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Mapping {}

/// A rule that was checked.
#[derive(Debug)]
struct Rule {
    /// The name of the family; `None` to drop what matches.
    name: Option<Template>,
    /// Names and values of labels.
    labels: Vec<(String, Template)>,
    options: RuleOptions,
}

/// What a rule says besides the name and the labels.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RuleOptions {
    /// Whether tags win over the labels of the rule.
    pub(super) honor_labels: bool,
    /// What values are multiplied by.
    pub(super) scale: Option<f64>,
    /// Overrides the time to live of the settings.
    pub(super) ttl: Option<Duration>,
    /// Escaped as in the text format.
    pub(super) help: Option<Arc<str>>,
    pub(super) observer: Observer,
}

/// What timers, histograms and distributions become.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Observer {
    /// A histogram with these bounds, and perhaps native buckets.
    Histogram(Arc<[f64]>, Option<NativeSpec>),
    /// A summary with quantiles.
    Summary(Arc<QuantileSpec>),
}

/// What becomes of lines with one name and type.
#[derive(Debug)]
pub(super) struct Mapped {
    /// The number of the rule that matched, from 0.
    rule: Option<u32>,
    pub(super) outcome: Outcome,
}

/// See [`Mapped`].
#[derive(Debug)]
pub(super) enum Outcome {
    Dropped,
    /// Also of a name without a rule, which has no labels then.
    Series {
        /// May be no valid name of a family.
        family: Arc<str>,
        labels: Vec<(String, String)>,
        /// The labels of a series that has no others; `None` if they are not valid.
        label_text: Option<LabelText>,
    },
}

/// How a lookup ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Matched {
    /// A rule named a family.
    Mapped,
    /// A rule drops the line.
    Dropped,
    /// No rule matched.
    Unmapped,
}

/// How lookups ended.
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

    /// Counts a line whose result was remembered with the whole line.
    pub(super) fn count_known(&mut self, matched: Matched) {
        self.cache_hits += 1;
        self.count(matched);
    }
}

impl Mapping {
    /// Reads a mapping file.
    ///
    /// # Errors
    ///
    /// What is wrong in it, with the places.
    pub fn parse(text: &str) -> Result<Self, Vec<MappingError>> {
        check::mapping(text)
    }

    /// The number of rules.
    pub fn rules(&self) -> usize {
        self.rules.len()
    }

    /// What becomes of a name.
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
    /// A mapper whose cache remembers up to `cache_size` names of a type.
    pub(super) fn new(mapping: &Arc<Mapping>, cache_size: usize) -> Self {
        Mapper {
            mapping: Arc::clone(mapping),
            cache: Cache::new(cache_size),
        }
    }

    /// What the metrics show of it.
    pub(super) fn loaded(&self) -> Arc<LoadedMapping> {
        Arc::new(LoadedMapping::new(
            self.mapping.rules(),
            Arc::clone(self.cache.entries()),
        ))
    }

    /// What becomes of lines with a name.
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

    /// The options of the rule that matched, or of names without a rule.
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

    /// The number of the rule that matched, from 1.
    pub(super) fn rule_number(&self) -> Option<u32> {
        self.rule.map(|rule| rule + 1)
    }
}

/// The name of a family as statsd_exporter writes it: other characters than letters and digits become an underscore, several
/// hyphens become one, and a digit is never first.
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
