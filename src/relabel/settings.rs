//! A rule as it is written.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{Rule, Rules};
use crate::settings::Place;
use crate::settings::reader::Table;
use crate::settings::value::{integer, text};

/// Maximum number of rules in one list. Each is applied to each series.
pub const MAX_RULES: usize = 1000;

/// The fields of a rule, under Prometheus' names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleSettings {
    /// What the rule does.
    pub action: Action,
    /// Labels whose values are joined and compared with `regex`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_labels: Vec<String>,
    /// The separator between these values.
    #[serde(skip_serializing_if = "is_default_separator")]
    pub separator: String,
    /// The regular expression, in Go's syntax.
    #[serde(skip_serializing_if = "is_default_regex")]
    pub regex: String,
    /// The divisor of `hashmod`; 0 if it is not given.
    #[serde(skip_serializing_if = "is_zero")]
    pub modulus: u64,
    /// The label to set.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target_label: String,
    /// The text to set it to.
    #[serde(skip_serializing_if = "is_default_replacement")]
    pub replacement: String,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Sets the target label to the replacement, if the regular expression matches.
    #[default]
    Replace,
    /// Drops series that do not match.
    Keep,
    /// Drops series that match.
    Drop,
    /// Drops series whose target label differs from the source labels.
    KeepEqual,
    /// Drops series whose target label equals the source labels.
    DropEqual,
    /// Sets the target label to a hash of the source labels, modulo `modulus`.
    HashMod,
    /// Copies labels whose names match to the names that the replacement gives.
    LabelMap,
    /// Removes labels whose names match.
    LabelDrop,
    /// Removes labels whose names do not match.
    LabelKeep,
    /// Sets the target label to the source labels in lower case.
    Lowercase,
    /// Sets the target label to the source labels in upper case.
    Uppercase,
}

const SEPARATOR: &str = ";";
const REGEX: &str = "(.*)";
const REPLACEMENT: &str = "$1";

impl Default for RuleSettings {
    fn default() -> Self {
        RuleSettings {
            action: Action::Replace,
            source_labels: Vec::new(),
            separator: SEPARATOR.to_owned(),
            regex: REGEX.to_owned(),
            modulus: 0,
            target_label: String::new(),
            replacement: REPLACEMENT.to_owned(),
        }
    }
}

fn is_default_separator(separator: &str) -> bool {
    separator == SEPARATOR
}

fn is_default_regex(regex: &str) -> bool {
    regex == REGEX
}

fn is_default_replacement(replacement: &str) -> bool {
    replacement == REPLACEMENT
}

fn is_zero(modulus: &u64) -> bool {
    *modulus == 0
}

impl Action {
    const ALL: [Action; 11] = [
        Action::Replace,
        Action::Keep,
        Action::Drop,
        Action::KeepEqual,
        Action::DropEqual,
        Action::HashMod,
        Action::LabelMap,
        Action::LabelDrop,
        Action::LabelKeep,
        Action::Lowercase,
        Action::Uppercase,
    ];

    /// The word in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Replace => "replace",
            Action::Keep => "keep",
            Action::Drop => "drop",
            Action::KeepEqual => "keepequal",
            Action::DropEqual => "dropequal",
            Action::HashMod => "hashmod",
            Action::LabelMap => "labelmap",
            Action::LabelDrop => "labeldrop",
            Action::LabelKeep => "labelkeep",
            Action::Lowercase => "lowercase",
            Action::Uppercase => "uppercase",
        }
    }

    /// Whether the values of labels decide, instead of their names.
    pub(super) fn has_sources(self) -> bool {
        !matches!(
            self,
            Action::LabelMap | Action::LabelDrop | Action::LabelKeep
        )
    }

    /// The action of a word, in any case.
    ///
    /// # Errors
    ///
    /// There is no such action, as the rest of a sentence.
    pub fn parse(word: &str) -> Result<Self, String> {
        let found = Action::ALL
            .into_iter()
            .find(|it| it.as_str().eq_ignore_ascii_case(word));
        found.ok_or_else(|| {
            let words = Action::ALL.map(Action::as_str).join(", ");
            format!("must be one of {words}, not {word:?}")
        })
    }
}

impl RuleSettings {
    /// Checks which fields the action needs and which it excludes, as Prometheus does.
    /// Returns the name of the wrong field and the rest of a sentence about it.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let action = self.action.as_str();
        let needs_target = matches!(
            self.action,
            Action::Replace
                | Action::HashMod
                | Action::Lowercase
                | Action::Uppercase
                | Action::KeepEqual
                | Action::DropEqual
        );
        if needs_target && self.target_label.is_empty() {
            let problem = format!("must be set for the action {action:?}");
            return Err(("target_label", problem));
        }
        if self.action == Action::HashMod && self.modulus == 0 {
            let problem = "must be set for the action \"hashmod\", and above zero";
            return Err(("modulus", problem.to_owned()));
        }
        if self.action == Action::LabelMap && self.replacement.is_empty() {
            let problem = "must not be empty for the action \"labelmap\": it gives the names";
            return Err(("replacement", problem.to_owned()));
        }
        // Fields that an action does not use are errors where Prometheus rejects them.
        let unused: &[&str] = match self.action {
            Action::Lowercase | Action::Uppercase => &["replacement"],
            Action::KeepEqual | Action::DropEqual => {
                &["regex", "modulus", "separator", "replacement"]
            }
            Action::LabelDrop | Action::LabelKeep => &[
                "source_labels",
                "target_label",
                "modulus",
                "separator",
                "replacement",
            ],
            _ => &[],
        };
        match unused.iter().find(|field| self.is_set(field)) {
            Some(field) => Err((field, format!("is not used by the action {action:?}"))),
            None => Ok(()),
        }
    }

    /// Whether a field differs from its default.
    fn is_set(&self, field: &str) -> bool {
        match field {
            "source_labels" => !self.source_labels.is_empty(),
            "separator" => !is_default_separator(&self.separator),
            "regex" => !is_default_regex(&self.regex),
            "modulus" => self.modulus != 0,
            "target_label" => !self.target_label.is_empty(),
            "replacement" => !is_default_replacement(&self.replacement),
            _ => false,
        }
    }
}

/// Takes the list of rules under `key` out of a table: an array of tables with Prometheus'
/// names. Errors are reported at their places.
pub fn take(table: &mut Table<'_>, key: &'static str) -> Rules {
    let place = table.place(key);
    let name = format!("{}.{key}", table.name());
    let mut count = 0;
    let rules = table.take_tables(key, |table, _| {
        count += 1;
        take_rule(table)
    });
    if let Some(place) = place.filter(|_| count > MAX_RULES) {
        let problem = format!("`{name}` has {count} rules; the limit is {MAX_RULES}");
        table.fault(place, problem);
    }
    rules.into_iter().collect()
}

/// A file with rules in Prometheus' own form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulesFile {
    /// The path.
    pub path: PathBuf,
    /// What it holds.
    pub rules: Rules,
}

impl Serialize for RulesFile {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.path.display())
    }
}

/// Reads the file with rules whose path is under `key`. Errors in it are reported at their
/// places in the file.
pub fn take_file(table: &mut Table<'_>, key: &'static str) -> Option<RulesFile> {
    let (path, text) = table.take_option(key, |node| {
        let path = text(node)?;
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok((path, text)),
            Err(problem) => Err(format!("{path} cannot be read: {problem}")),
        }
    })?;
    match Rules::parse_yaml(&text) {
        Ok(rules) => Some(RulesFile {
            path: PathBuf::from(path),
            rules,
        }),
        Err(problems) => {
            for problem in problems {
                let (line, column) = problem.at.unwrap_or((1, 1));
                let place = Place::File {
                    name: Arc::from(path.as_str()),
                    line,
                    column,
                };
                table.fault(place, problem.message);
            }
            None
        }
    }
}

fn take_rule(mut table: Table<'_>) -> Option<Rule> {
    const FIELDS: [&str; 6] = [
        "source_labels",
        "separator",
        "regex",
        "modulus",
        "target_label",
        "replacement",
    ];
    let places = FIELDS.map(|field| (field, table.place(field)));
    let own = table.own_place().cloned();
    let name = table.name().to_owned();
    let default = RuleSettings::default();
    let errors = table.error_count();
    let action = table.take_option("action", |node| Action::parse(&text(node)?));
    let settings = RuleSettings {
        action: action.unwrap_or_default(),
        source_labels: table.take_list("source_labels", text),
        separator: table.take("separator", default.separator, text),
        regex: table.take("regex", default.regex, text),
        modulus: table.take("modulus", 0, integer(1, i64::MAX as usize)) as u64,
        target_label: table.take("target_label", default.target_label, text),
        replacement: table.take("replacement", default.replacement, text),
    };
    // A field that is wrong has its default here, which would cause a second error.
    let is_readable = table.error_count() == errors;
    let rule = is_readable.then(|| Rule::new(settings));
    let rule = rule.and_then(|rule| match rule {
        Ok(rule) => Some(rule),
        Err((field, problem)) => {
            let written = places.into_iter().find(|(known, _)| *known == field);
            let place = written.and_then(|(_, place)| place).or(own);
            if let Some(place) = place {
                table.fault(place, format!("`{name}.{field}` {problem}"));
            }
            None
        }
    });
    table.finish();
    rule
}
