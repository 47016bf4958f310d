//! Bounds on the labels that rules write. Without them, a few rules that double a label could
//! exhaust memory.

use super::LabelSet;

/// Maximum size in bytes of the labels of a series that rules write to. A series that would
/// become larger is dropped.
pub const MAX_SERIES: usize = 4 << 20;

/// Maximum number of labels of such a series.
const MAX_LABELS: usize = 4096;

/// Sets a label, unless the series then becomes too large. Returns whether to keep the series.
pub fn write(labels: &mut LabelSet<'_>, name: String, value: String) -> bool {
    let size = labels.iter().map(|(name, value)| name.len() + value.len());
    let before = labels.get(&name);
    let size = size.sum::<usize>() + name.len() + value.len() - before.len();
    let has_room = labels.len() < MAX_LABELS || !before.is_empty();
    let is_small = has_room && size <= MAX_SERIES;
    if is_small || value.is_empty() {
        labels.set(name, value);
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relabel::{NAME_LABEL, Rules};

    #[test]
    fn a_series_that_rules_would_make_too_large_is_dropped() {
        let doubled = "- {source_labels: [a], target_label: a, replacement: '$1$1'}\n".repeat(64);
        let copied: String = (0..64)
            .map(|number| {
                format!("- {{action: labelmap, regex: (.+), replacement: '${{1}}_{number}'}}\n")
            })
            .collect();
        let repeated = format!(
            "- {{source_labels: [a], target_label: b, replacement: '{}'}}\n",
            "$1".repeat(5000)
        );
        let joined =
            "- {action: lowercase, source_labels: [a, a, a, a], target_label: a}\n".repeat(12);
        for rules in [&doubled, &copied, &repeated, &joined] {
            let rules = Rules::parse_yaml(rules).unwrap();
            let value = "v".repeat(1000);
            let mut labels = LabelSet::from_iter([(NAME_LABEL, "m"), ("a", &value)]);
            assert!(!rules.apply(&mut labels), "{}", labels.len());
            let size = labels.iter().map(|(name, value)| name.len() + value.len());
            assert!(size.sum::<usize>() <= MAX_SERIES);
            assert!(labels.len() <= MAX_LABELS);
        }
    }

    #[test]
    fn rules_can_make_a_large_series_smaller() {
        let rules = "- {target_label: a, replacement: ''}\n- {target_label: b, replacement: x}\n";
        let value = "v".repeat(MAX_SERIES);
        let mut labels = LabelSet::from_iter([(NAME_LABEL, "m"), ("a", &value)]);
        assert!(Rules::parse_yaml(rules).unwrap().apply(&mut labels));
        assert_eq!(labels, LabelSet::from_iter([(NAME_LABEL, "m"), ("b", "x")]));
    }

    #[test]
    fn a_series_with_the_maximum_of_labels_can_change_but_not_grow() {
        let names: Vec<String> = (0..MAX_LABELS).map(|number| format!("l{number}")).collect();
        let mut labels: LabelSet<'_> = names.iter().map(|name| (name.as_str(), "1")).collect();
        assert!(write(&mut labels, "l7".to_owned(), "2".to_owned()));
        assert_eq!(labels.get("l7"), "2");
        assert!(!write(&mut labels, "more".to_owned(), "2".to_owned()));
        assert_eq!(labels.len(), MAX_LABELS);
    }
}
