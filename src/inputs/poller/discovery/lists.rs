//! Lists of targets in the formats of Prometheus' `file_sd_configs` and `http_sd_configs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::found::{Findings, FoundReader, Room};
use crate::yaml::YamlProblem;

/// The format of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListFormat {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Targets that share labels.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Their addresses.
    pub targets: Vec<String>,
    /// Their labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Reads the targets of a list, as far as there is room. `found_in` names the list.
///
/// # Errors
///
/// The text is not such a list. Single invalid entries are only counted.
pub fn read(
    text: &str,
    format: ListFormat,
    reader: &FoundReader<'_>,
    found_in: &Arc<str>,
    mut room: Room,
) -> Result<Findings, String> {
    let mut findings = Findings::default();
    for group in parse(text, format)? {
        for address in &group.targets {
            findings.add_within(&mut room, || reader.found(address, &group.labels, found_in));
        }
    }
    Ok(findings)
}

/// Parses a list into its entries.
///
/// # Errors
///
/// The text is not such a list.
pub fn parse(text: &str, format: ListFormat) -> Result<Vec<Group>, String> {
    match format {
        ListFormat::Json => serde_json::from_str(text).map_err(|problem| problem.to_string()),
        // An empty document counts as an empty list.
        ListFormat::Yaml => serde_saphyr::from_str::<Option<_>>(text)
            .map_err(|error| YamlProblem::from(&error).to_string())
            .map(Option::unwrap_or_default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::poller::discovery::tests::template;

    fn urls(text: &str, format: ListFormat) -> Result<Vec<String>, String> {
        let template = template("");
        let reader = FoundReader::new(&template);
        let findings = read(text, format, &reader, &Arc::from("list"), Room::new(10))?;
        assert_eq!(findings.rejected, 0, "{:?}", findings.rejections);
        let labels = |labels: &str| labels.to_owned();
        Ok(findings
            .found
            .iter()
            .map(|it| format!("{} {}", it.url, labels(it.labels.labels().as_str())))
            .collect())
    }

    #[test]
    fn json_and_yaml_are_lists_of_groups() {
        let expected = [
            "http://a:1/metrics env=\"p\",instance=\"a:1\"",
            "http://b:2/metrics env=\"p\",instance=\"b:2\"",
            "http://c/metrics instance=\"c\"",
        ];
        let json = r#"[{"targets": ["a:1", "b:2"], "labels": {"env": "p"}}, {"targets": ["c"]}]"#;
        let yaml = "# two groups\n- targets: ['a:1', b:2]\n  labels:\n    env: p\n- targets: [c]\n";
        assert_eq!(urls(json, ListFormat::Json).unwrap(), expected);
        assert_eq!(urls(yaml, ListFormat::Yaml).unwrap(), expected);
        // JSON is also YAML.
        assert_eq!(urls(json, ListFormat::Yaml).unwrap(), expected);
        for (empty, format) in [
            ("[]", ListFormat::Json),
            ("[]", ListFormat::Yaml),
            ("", ListFormat::Yaml),
            ("# none yet\n", ListFormat::Yaml),
        ] {
            assert_eq!(urls(empty, format).unwrap(), [""; 0], "{empty}");
        }
    }

    #[test]
    fn other_documents_are_rejected_as_a_whole() {
        for (text, format) in [
            ("", ListFormat::Json),
            ("{}", ListFormat::Json),
            ("[null]", ListFormat::Json),
            ("[{}]", ListFormat::Json),
            ("[{\"targets\": \"a:1\"}]", ListFormat::Json),
            (
                "[{\"targets\": [\"a:1\"], \"label\": {}}]",
                ListFormat::Json,
            ),
            (
                "[{\"targets\": [\"a:1\"], \"labels\": {\"a\": 1}}]",
                ListFormat::Json,
            ),
            ("[{\"targets\": [\"a:1\"]}", ListFormat::Json),
            ("- targets: a:1\n", ListFormat::Yaml),
            ("targets: [a]\n", ListFormat::Yaml),
            ("- [", ListFormat::Yaml),
        ] {
            assert!(urls(text, format).is_err(), "{text}");
        }
    }
}
