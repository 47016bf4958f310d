//! The rules that can matter to the series of one name.

use super::{LabelSet, NAME_LABEL, Rules, Touch};

/// The rules of a list that can do something to the series of one name. Most of them look at few
/// labels.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan(Vec<Planned>);

#[derive(Debug, PartialEq, Eq)]
struct Planned {
    /// Index of the rule in the list.
    place: usize,
    /// Labels without which the rule does nothing; empty if it can always do something.
    needs: Vec<String>,
    /// Whether it can change the name.
    renames: bool,
    /// Whether the name can decide what it does.
    reads_name: bool,
}

impl Plan {
    /// Whether series that differ only in these two names are changed alike.
    pub fn is_alike(&self, other: &Plan) -> bool {
        self == other && !self.0.iter().any(|planned| planned.reads_name)
    }
}

impl Rules {
    /// The rules that can matter to series of the metric `name`.
    pub fn plan(&self, name: &str) -> Plan {
        let planned = self.0.iter().enumerate().filter_map(|(place, rule)| {
            let needs = match rule.touch(name) {
                Touch::Never => return None,
                // Rules for names of labels look at all labels in any case.
                Touch::IfPresent(labels) if rule.settings.action.has_sources() => labels,
                Touch::IfPresent(_) | Touch::Drop | Touch::Always => Vec::new(),
            };
            let renames = rule.may_rename();
            Some(Planned {
                place,
                needs,
                renames,
                reads_name: rule.reads(NAME_LABEL),
            })
        });
        Plan(planned.collect())
    }

    /// Like [`apply`](Self::apply), for a series of the metric `name`, for which `plan` was made.
    pub fn apply_planned(&self, plan: &Plan, name: &str, labels: &mut LabelSet<'_>) -> bool {
        for planned in &plan.0 {
            let is_missing = |label: &String| labels.get(label).is_empty();
            if !planned.needs.is_empty() && planned.needs.iter().all(is_missing) {
                continue;
            }
            if !self.0[planned.place].apply(labels) {
                return false;
            }
            if planned.renames && labels.get(NAME_LABEL) != name {
                // The plan was made for another name.
                let mut others = self.0[planned.place + 1..].iter();
                return others.all(|rule| rule.apply(labels));
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relabel::tests::series;

    /// Rules that ask for names, values and names of labels, and rename.
    const RULES: &[&str] = &[
        "{action: drop, source_labels: [__name__, a], regex: 'm;1'}",
        "{action: keep, source_labels: [a], regex: '1?'}",
        "{action: drop, source_labels: [__name__], regex: x}",
        "{source_labels: [a], regex: (.+), target_label: b}",
        "{source_labels: [a, b], separator: '', target_label: c}",
        "{source_labels: [__name__], regex: m, target_label: __name__, replacement: n}",
        "{source_labels: [a], regex: '1', target_label: __name__, replacement: x}",
        "{source_labels: [__name__], regex: n, target_label: c, replacement: ''}",
        "{action: lowercase, source_labels: [a], target_label: c}",
        "{action: keepequal, source_labels: [a], target_label: b}",
        "{action: labelmap, regex: (a), replacement: d}",
        "{action: labelmap, regex: b, replacement: __name__}",
        "{action: labeldrop, regex: c|d}",
        "{action: labeldrop, regex: __name__}",
    ];

    #[test]
    fn planned_rules_do_what_all_rules_do() {
        let mut skipped = 0;
        for first in RULES {
            for second in RULES {
                for third in RULES {
                    let rules = format!("- {first}\n- {second}\n- {third}\n");
                    let rules = Rules::parse_yaml(&rules).unwrap();
                    for set in 0..32 {
                        let (mut all, mut planned) = (series(set), series(set));
                        let name = all.get(NAME_LABEL).to_owned();
                        let plan = rules.plan(&name);
                        skipped += usize::from(plan.0.len() < 3);
                        let kept = rules.apply(&mut all);
                        let is_kept = rules.apply_planned(&plan, &name, &mut planned);
                        assert_eq!(is_kept, kept, "{first} {second} {third} {set}");
                        all.sort();
                        planned.sort();
                        assert!(!kept || planned == all, "{first} {second} {third} {set}");
                    }
                }
            }
        }
        assert!(skipped > 10_000, "{skipped}");
    }
}
