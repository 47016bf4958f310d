//! `[[push.rules]]`: settings for aggregated families by name.

use serde::Serialize;

use super::config::{POLICIES, Policy};
use crate::settings::document::{Node, Place};
use crate::settings::reader::Table;
use crate::settings::value::{choice, text};

/// Settings for the families that a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// A family name, in which `*` matches any characters.
    #[serde(rename = "match")]
    pub pattern: String,
    /// How values combine; if not set, the kind of the family decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Labels removed from each series before it is added.
    pub drop_labels: Vec<String>,
}

/// Reads a rule. `None` if it has no valid pattern; its errors are added to the table.
pub fn read(mut table: Table<'_>, place: &Place) -> Option<Rule> {
    let is_set = |table: &Table<'_>, key| table.place(key).is_some();
    let has_pattern = is_set(&table, "match");
    let has_effect = is_set(&table, "policy") || is_set(&table, "drop_labels");
    let pattern = table.take_option("match", pattern);
    let rule = Rule {
        pattern: pattern.unwrap_or_default(),
        policy: table.take_option("policy", choice(POLICIES)),
        drop_labels: table.take_list("drop_labels", label),
    };
    if !has_pattern {
        let problem = "an entry of `push.rules` needs `match`: a family name, in which `*` matches any characters";
        table.fault(place.clone(), problem);
    } else if !has_effect {
        let problem = "an entry of `push.rules` needs `policy` or `drop_labels`";
        table.fault(place.clone(), problem);
    }
    table.finish();
    (!rule.pattern.is_empty()).then_some(rule)
}

fn pattern(node: &Node) -> Result<String, String> {
    let pattern = text(node)?;
    if pattern.is_empty() || pattern.chars().any(char::is_control) {
        return Err(format!(
            "must be a family name such as \"jobs_*\", not {pattern:?}"
        ));
    }
    Ok(pattern)
}

fn label(node: &Node) -> Result<String, String> {
    let label = text(node)?;
    if label.is_empty() || label.starts_with("__") {
        return Err(format!(
            "must be a label name such as \"pod\" (\"__*\" is reserved), not {label:?}"
        ));
    }
    Ok(label)
}
