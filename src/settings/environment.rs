//! Settings from the environment: `EXPORTER_PROXY_<TABLE>_<KEY>`.

use super::document::{Entries, Entry, Node, Place, Value};

const PREFIX: &str = "EXPORTER_PROXY_";

/// The tables that variables can name.
const TABLES: [&str; 13] = [
    "exporter",
    "exposition",
    "lifecycle",
    "limits",
    "log",
    "operations",
    "poll_external",
    "profiling",
    "push",
    "receiver",
    "sinks",
    "storage",
    "web",
];

/// Beginnings of the keys of variables that Kubernetes sets for a service with the name
/// `exporter-proxy` or `exporter-proxy-receiver`. They are ignored without a warning.
const SERVICE_LINKS: [&str; 2] = ["SERVICE_", "PORT"];

/// Overrides the settings of the file with those of environment variables. A variable
/// that names a table is checked like a key of the file. Returns a warning for each
/// variable with our prefix that names no table.
pub fn overlay(
    entries: &mut Entries,
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

/// The name of a variable without its prefix and table.
fn without_table(rest: &str) -> &str {
    let after = |table: &&str| {
        let (head, tail) = rest.split_at_checked(table.len())?;
        head.eq_ignore_ascii_case(table)
            .then(|| tail.strip_prefix('_'))?
    };
    TABLES.iter().find_map(after).unwrap_or(rest)
}

fn put(entries: &mut Entries, table: &str, key: &str, place: Place, text: String) {
    let entry = entries.get_or_insert_with(table, || Entry {
        key: place.clone(),
        node: Node {
            value: Value::Table(Entries::default()),
            place: place.clone(),
        },
    });
    // If the file has another type of value for the table, that is reported.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_can_name_each_table_of_the_shipped_file() {
        let shipped = include_str!("../../config.toml");
        let tables = shipped.lines();
        let tables = tables.filter_map(|line| line.strip_prefix('[')?.strip_suffix(']'));
        let tables: Vec<&str> = tables.collect();
        assert!(tables.contains(&"log"), "{tables:?}");
        for table in tables {
            let variable = format!("{PREFIX}{}_KEY", table.to_ascii_uppercase());
            let warnings = overlay(&mut Entries::default(), [(variable, "x".to_owned())]);
            assert_eq!(warnings, [""; 0], "{table}");
        }
    }
}
