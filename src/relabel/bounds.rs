//! Bounds on what rules write to the labels of a series, which they could double again and again.

use super::LabelSet;

/// Maximum size of a series that rules write to, in bytes. One that would become larger is dropped.
pub const MAX_SERIES: usize = 4 << 20;

/// Maximum number of its labels.
const MAX_LABELS: usize = 4096;

/// Sets a label, unless the series then becomes too large. Returns whether to keep the series.
pub fn write(labels: &mut LabelSet<'_>, name: String, value: String) -> bool {
    let size = labels.iter().map(|(name, value)| name.len() + value.len());
    let size = size.sum::<usize>() + name.len() + value.len() - labels.get(&name).len();
    let is_small = labels.len() < MAX_LABELS && size <= MAX_SERIES;
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
}
