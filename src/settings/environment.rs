//! Settings from the environment: `EXPORTER_PROXY_<TABLE>_<KEY>`.

use std::collections::BTreeMap;

use super::document::{Entry, Node, Place, Value};

const PREFIX: &str = "EXPORTER_PROXY_";

/// The tables that variables may name.
const TABLES: [&str; 6] = [
    "exporter",
    "exposition",
    "operations",
    "poll_external",
    "push",
    "receiver",
];

/// What Kubernetes sets in every container beside a service that is called
/// `exporter-proxy`, or `exporter-proxy-receiver`. It is nobody's mistake, so
/// nothing is said of it.
const SERVICE_LINKS: [&str; 2] = ["SERVICE_", "PORT"];

/// Puts variables over what the file says. A variable of one of our tables is
/// checked like a key of the file. One that names no table of ours is left
/// alone, and told in the warnings returned.
pub fn overlay(
    entries: &mut BTreeMap<String, Entry>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    for (variable, text) in environment {
        let Some(rest) = variable.strip_prefix(PREFIX) else {
            continue;
        };
        let lower = rest.to_ascii_lowercase();
        let named = TABLES.iter().find_map(|table| {
            let key = lower.strip_prefix(table)?.strip_prefix('_')?;
            let link = SERVICE_LINKS
                .iter()
                .any(|link| key.to_ascii_uppercase().starts_with(link));
            (!key.is_empty() && !link).then_some((*table, key))
        });
        let place = Place::Variable(variable.clone());
        match named {
            Some((table, key)) => put(entries, table, key, place, text),
            None if SERVICE_LINKS.iter().any(|link| without_table(rest).starts_with(link)) => {}
            None => warnings.push(format!(
                "environment variable {variable} does not name a setting: the name must be {PREFIX}<TABLE>_<KEY>, and the tables are {}",
                TABLES.join(", ").to_ascii_uppercase()
            )),
        }
    }
    warnings
}

/// The variable's name without prefix and table.
fn without_table(rest: &str) -> &str {
    let after = |table: &&str| {
        let (head, tail) = rest.split_at_checked(table.len())?;
        head.eq_ignore_ascii_case(table)
            .then(|| tail.strip_prefix('_'))?
    };
    TABLES.iter().find_map(after).unwrap_or(rest)
}

fn put(entries: &mut BTreeMap<String, Entry>, table: &str, key: &str, place: Place, text: String) {
    let entry = entries.entry(table.to_owned()).or_insert_with(|| Entry {
        key: place.clone(),
        node: Node {
            value: Value::Table(BTreeMap::new()),
            place: place.clone(),
        },
    });
    // A table that the file gives as something else is reported from there.
    if let Value::Table(keys) = &mut entry.node.value {
        keys.insert(
            key.to_owned(),
            Entry {
                key: place.clone(),
                node: Node {
                    value: Value::Variable(text),
                    place,
                },
            },
        );
    }
}
