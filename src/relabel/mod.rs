//! Prometheus' relabelling: rules that change the labels of a series or drop it.
//!
//! Rules are written as in Prometheus' `relabel_config`, in TOML ([`take`]) or in YAML
//! ([`Rules::parse_yaml`]), checked as Prometheus checks them, and compiled once.
//! [`Rules::apply`] then applies them to a [`LabelSet`].
//!
//! The name of a metric is the label `__name__`. A label without a value does not exist.
//!
//! - [`settings`]: a rule as it is written, and what makes it valid;
//! - [`yaml`]: lists of rules in Prometheus' own form;
//! - [`labels`]: the labels of one series; [`bounds`]: how large rules can make them;
//! - [`pattern`]: regular expressions, and what captures they find;
//! - [`go_syntax`]: translates regular expressions of Go;
//! - [`template`]: replacements with `$1` and `${name}`;
//! - [`touch`]: what rules can do to the series of a metric; [`plan`]: the rules that can matter;
//! - [`tool`]: what each rule does, for people.
//!
//! Source of the behaviour:
//! <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#relabel_config>.

mod bounds;
pub mod go_syntax;
mod labels;
mod pattern;
mod plan;
mod settings;
pub mod template;
pub mod tool;
mod touch;
mod yaml;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use md5::{Digest, Md5};
use serde::{Serialize, Serializer};

pub use labels::LabelSet;
pub use plan::Plan;
pub use settings::{Action, MAX_RULES, RuleSettings, RulesFile, take, take_file};
pub use touch::{NameScreen, Screen, Touch};

use bounds::write;
use pattern::Pattern;
use template::Template;

/// The label that holds the name of the metric.
pub const NAME_LABEL: &str = "__name__";

/// Rules in the order in which they are applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules(Vec<Rule>);

/// A rule that was checked and compiled.
#[derive(Debug, Clone)]
pub struct Rule {
    settings: RuleSettings,
    pattern: Pattern,
    target: Template,
    replacement: Template,
}

/// Rules are equal if they are written alike.
impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Eq for Rule {}

impl Serialize for Rules {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(|rule| &rule.settings))
    }
}

impl FromIterator<Rule> for Rules {
    fn from_iter<T: IntoIterator<Item = Rule>>(rules: T) -> Self {
        Rules(rules.into_iter().collect())
    }
}

impl Rules {
    /// No rules.
    pub const NONE: Rules = Rules(Vec::new());

    /// These rules and then others.
    #[must_use]
    pub fn followed_by(&self, others: &Rules) -> Rules {
        self.0.iter().chain(&others.0).cloned().collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rules in order.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter()
    }

    /// Applies all rules in order. Returns whether the series is kept. A dropped series has the
    /// labels that it had when the rule dropped it.
    pub fn apply(&self, labels: &mut LabelSet<'_>) -> bool {
        self.0.iter().all(|rule| rule.apply(labels))
    }

    /// Whether a rule can change the name of a metric.
    pub fn may_rename(&self) -> bool {
        self.0.iter().any(Rule::may_rename)
    }

    /// Whether the value of a label can decide what a rule does, or become the value of another
    /// label. Rules keep, remove or replace any other label, and do not look at its value.
    pub fn reads(&self, label: &str) -> bool {
        self.0.iter().any(|rule| rule.reads(label))
    }
}

impl Rule {
    /// Checks and compiles a rule.
    ///
    /// # Errors
    ///
    /// The field that is wrong, and what is wrong with it, as the rest of a sentence that
    /// begins with the name of the field.
    pub fn new(settings: RuleSettings) -> Result<Self, (&'static str, String)> {
        settings.check()?;
        let pattern = Pattern::new(&settings.regex).map_err(|problem| ("regex", problem))?;
        let template = |text: &str| Template::new(text, |name| pattern.group(name));
        Ok(Rule {
            target: template(&settings.target_label),
            replacement: template(&settings.replacement),
            pattern,
            settings,
        })
    }

    /// Whether it can change the name of a metric.
    fn may_rename(&self) -> bool {
        let target = &self.settings.target_label;
        let is_name = target == NAME_LABEL || target.contains('$');
        match self.settings.action {
            Action::Keep | Action::Drop | Action::KeepEqual | Action::DropEqual => false,
            Action::LabelMap => true,
            Action::LabelDrop => self.pattern.is_match(NAME_LABEL),
            Action::LabelKeep => !self.pattern.is_match(NAME_LABEL),
            _ => is_name,
        }
    }

    /// Like [`Rules::reads`].
    fn reads(&self, label: &str) -> bool {
        let settings = &self.settings;
        let mut sources = settings.source_labels.iter();
        // Some actions compare the value of the target label.
        sources.any(|source| source == label)
            || settings.target_label == label
            || settings.target_label.contains('$')
            || settings.action == Action::LabelMap && self.pattern.is_match(label)
    }

    /// The rule as it is written.
    pub fn settings(&self) -> &RuleSettings {
        &self.settings
    }

    /// Applies the rule. Returns whether the series is kept.
    pub fn apply(&self, labels: &mut LabelSet<'_>) -> bool {
        let target = &self.settings.target_label;
        match self.settings.action {
            Action::Replace => return self.replace(labels),
            Action::Keep => return self.pattern.is_match(&self.value(labels)),
            Action::Drop => return !self.pattern.is_match(&self.value(labels)),
            Action::KeepEqual => return *labels.get(target) == *self.value(labels),
            Action::DropEqual => return *labels.get(target) != *self.value(labels),
            Action::Lowercase => {
                let value = self.value(labels).to_lowercase();
                return write(labels, target.clone(), value);
            }
            Action::Uppercase => {
                let value = self.value(labels).to_uppercase();
                return write(labels, target.clone(), value);
            }
            Action::HashMod => {
                let hash = hash(&self.value(labels)) % self.settings.modulus;
                return write(labels, target.clone(), hash.to_string());
            }
            Action::LabelMap => return self.map_labels(labels),
            Action::LabelDrop => labels.retain(|name| !self.pattern.is_match(name)),
            Action::LabelKeep => labels.retain(|name| self.pattern.is_match(name)),
        }
        true
    }

    /// The values of the source labels, joined by the separator.
    fn value<'l>(&self, labels: &'l LabelSet<'_>) -> Cow<'l, str> {
        match self.settings.source_labels.as_slice() {
            [] => Cow::Borrowed(""),
            [one] => Cow::Borrowed(labels.get(one)),
            several => {
                let values: Vec<&str> = several.iter().map(|name| labels.get(name)).collect();
                Cow::Owned(values.join(&self.settings.separator))
            }
        }
    }

    fn replace(&self, labels: &mut LabelSet<'_>) -> bool {
        let value = self.value(labels);
        let (target, result) = match (self.target.literal(), self.replacement.literal()) {
            // Captures cost more than a match.
            (Some(target), Some(result)) if self.pattern.is_match(&value) => {
                (Cow::Borrowed(target), Cow::Borrowed(result))
            }
            (Some(_), Some(_)) => return true,
            _ => {
                let Some(captures) = self.pattern.captures(&value) else {
                    return true;
                };
                let result = self.replacement.expand(&captures);
                (self.target.expand(&captures), result)
            }
        };
        if target.is_empty() || labels.get(&target) == result {
            return true;
        }
        let (target, result) = (target.into_owned(), result.into_owned());
        write(labels, target, result)
    }

    fn map_labels(&self, labels: &mut LabelSet<'_>) -> bool {
        if !labels.iter().any(|(name, _)| self.pattern.is_match(name)) {
            return true;
        }
        // If several labels get the same new name, the last by old name wins.
        labels.sort();
        let before = labels.clone();
        for (name, value) in before.iter() {
            let Some(captures) = self.pattern.captures(name) else {
                continue;
            };
            let target = self.replacement.expand(&captures).into_owned();
            if !target.is_empty() && !write(labels, target, value.to_owned()) {
                return false;
            }
        }
        true
    }
}

/// The hash of `hashmod`: the last eight bytes of the MD5 digest.
fn hash(value: &str) -> u64 {
    let digest = Md5::digest(value.as_bytes());
    digest[8..]
        .iter()
        .fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}
