//! Lists of rules in YAML, as Prometheus has them below `relabel_configs`.

use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};

use super::settings::{Action, MAX_RULES, RuleSettings};
use super::{Rule, Rules};
use crate::yaml::YamlProblem;

/// A rule as it is written. Fields that are `null` have their defaults, apart from `regex`,
/// which is empty then, as in Prometheus.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    action: Option<Spanned<String>>,
    source_labels: Option<Spanned<Vec<String>>>,
    separator: Option<Spanned<String>>,
    #[serde(deserialize_with = "written_or_null")]
    regex: Option<Spanned<Option<String>>>,
    modulus: Option<Spanned<u64>>,
    target_label: Option<Spanned<String>>,
    replacement: Option<Spanned<String>>,
}

impl Rules {
    /// Reads a list of rules in Prometheus' own form. An empty text has none.
    ///
    /// # Errors
    ///
    /// All errors in it, but at most one of the format of YAML.
    pub fn parse_yaml(text: &str) -> Result<Self, Vec<YamlProblem>> {
        let written: Option<Vec<Spanned<Written>>> = match text.trim().is_empty() {
            true => None,
            false => {
                serde_saphyr::from_str(text).map_err(|error| vec![YamlProblem::from(&error)])?
            }
        };
        let written = written.unwrap_or_default();
        if written.len() > MAX_RULES {
            return Err(vec![YamlProblem {
                at: None,
                message: format!("has {} rules; the limit is {MAX_RULES}", written.len()),
            }]);
        }
        let mut problems = Vec::new();
        let mut rules = Vec::new();
        for rule in written {
            match settle(&rule.value) {
                Ok(rule) => rules.push(rule),
                Err((at, message)) => {
                    problems.push(YamlProblem::at(&at.unwrap_or(rule.referenced), message));
                }
            }
        }
        match problems.is_empty() {
            true => Ok(Rules(rules)),
            false => Err(problems),
        }
    }
}

/// A field that is written, even if it is `null`.
fn written_or_null<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Spanned<Option<String>>>, D::Error> {
    Spanned::deserialize(from).map(Some)
}

/// A field's value, or the default if it is not written.
fn value<T: Clone>(field: Option<&Spanned<T>>, default: T) -> T {
    field.map_or(default, |field| field.value.clone())
}

fn settle(written: &Written) -> Result<Rule, (Option<Location>, String)> {
    let default = RuleSettings::default();
    let action = match &written.action {
        Some(action) => Action::parse(&action.value)
            .map_err(|problem| (Some(action.referenced), format!("action {problem}")))?,
        None => Action::Replace,
    };
    let settings = RuleSettings {
        action,
        source_labels: value(written.source_labels.as_ref(), Vec::new()),
        separator: value(written.separator.as_ref(), default.separator),
        regex: value(written.regex.as_ref(), Some(default.regex)).unwrap_or_default(),
        modulus: value(written.modulus.as_ref(), 0),
        target_label: value(written.target_label.as_ref(), String::new()),
        replacement: value(written.replacement.as_ref(), default.replacement),
    };
    Rule::new(settings).map_err(|(field, problem)| {
        let at = match field {
            "source_labels" => written.source_labels.as_ref().map(|it| it.referenced),
            "separator" => written.separator.as_ref().map(|it| it.referenced),
            "regex" => written.regex.as_ref().map(|it| it.referenced),
            "modulus" => written.modulus.as_ref().map(|it| it.referenced),
            "target_label" => written.target_label.as_ref().map(|it| it.referenced),
            "replacement" => written.replacement.as_ref().map(|it| it.referenced),
            _ => None,
        };
        (at, format!("{field} {problem}"))
    })
}
