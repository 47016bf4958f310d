//! What rules can do to the series of a metric, decided by its name alone.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use regex::Regex;

use super::pattern::{Pattern, is_special};
use super::{Action, LabelSet, NAME_LABEL, Plan, Rule, Rules};

/// Maximum number of names for which results are remembered.
const MAX_NAMES: usize = 4096;

/// The longest name that is remembered, in bytes.
const MAX_NAME: usize = 200;

/// What rules can do to the series of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touch {
    /// They do nothing.
    Never,
    /// They drop all of them.
    Drop,
    /// They may change or drop those with a label whose name contains one of these texts. The texts
    /// have no characters that are escaped.
    IfPresent(Vec<String>),
    /// They may change or drop each of them.
    Always,
}

impl Rules {
    /// What the rules can do to the series of the metric `name`, so that the labels of most
    /// series need not be read.
    pub fn touch(&self, name: &str) -> Touch {
        Screen::new(self).touch(self, name)
    }
}

/// What rules can do, before a name is known. Most rules ask for labels alone.
#[derive(Debug, Clone, Default)]
pub struct Screen {
    /// For each rule, what it can do to series of any name; `None` if the name decides.
    of_any: Vec<Option<Touch>>,
    /// Finds labels that rules ask for in a text or a line. `None` if they ask for none, or if it
    /// is not known for which.
    labels: Option<Regex>,
    /// Results by name. Most names come again with the next text.
    names: Arc<RwLock<HashMap<Box<str>, Arc<NameScreen>>>>,
}

/// What rules can do to the series of one name.
#[derive(Debug)]
pub struct NameScreen {
    /// What they can do.
    pub touch: Touch,
    /// The rules that can matter.
    pub plan: Plan,
}

/// Screens of equal rules are equal, so comparing the rules is enough.
impl PartialEq for Screen {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Screen {}

impl Screen {
    /// Examines rules.
    pub fn new(rules: &Rules) -> Self {
        let asks_for_name = |rule: &Rule| {
            let settings = &rule.settings;
            let mut sources = settings.source_labels.iter();
            sources.any(|label| label == NAME_LABEL) || settings.target_label == NAME_LABEL
        };
        let of_any = |rule: &Rule| (!asks_for_name(rule)).then(|| rule.touch("m"));
        let of_any: Vec<Option<Touch>> = rules.iter().map(of_any).collect();
        // Labels that rules can read or write, for series of any name.
        let mut needles: Vec<String> = Vec::new();
        let mut is_open = false;
        for rule in rules.iter() {
            let settings = &rule.settings;
            let names = settings.source_labels.iter().map(String::as_str);
            let names = names.chain([&*settings.target_label]);
            let names = names.filter(|name| !name.is_empty() && *name != NAME_LABEL);
            // The value decides which label `$1` is.
            is_open |= settings.target_label.contains('$');
            needles.extend(names.map(|name| format!("{name}=")));
            match &rule.pattern {
                Pattern::OneOf(names) if !settings.action.has_sources() => {
                    needles.extend(names.iter().map(|name| format!("{name}=")));
                }
                Pattern::Prefix(begin) if !settings.action.has_sources() => {
                    needles.push(begin.to_string());
                }
                Pattern::All { .. }
                | Pattern::OneOf(_)
                | Pattern::Prefix(_)
                | Pattern::Regex(_) => {}
            }
        }
        needles.retain(|needle| !["", "="].contains(&&**needle));
        let asks_for_labels = !needles.is_empty() && !is_open;
        // Either the name is directly before the sign, or one of these is.
        needles.extend([" =", "\t=", "\"="].map(str::to_owned));
        let needles: Vec<String> = needles.iter().map(|needle| regex::escape(needle)).collect();
        let labels = asks_for_labels.then(|| Regex::new(&needles.join("|")).ok());
        Screen {
            of_any,
            labels: labels.flatten(),
            names: Arc::default(),
        }
    }

    /// What the rules can do to series of the metric `name`, computed once for most names. `rules`
    /// are those that the screen was made for.
    pub fn of_name(&self, rules: &Rules, name: &str) -> Arc<NameScreen> {
        static NONE: LazyLock<Arc<NameScreen>> = LazyLock::new(|| {
            let plan = Rules::NONE.plan("");
            let touch = Touch::Never;
            Arc::new(NameScreen { touch, plan })
        });
        if rules.is_empty() {
            return Arc::clone(&NONE);
        }
        let known = self.names.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(name) {
            return Arc::clone(known);
        }
        drop(known);
        let new = Arc::new(NameScreen {
            touch: self.touch(rules, name),
            plan: rules.plan(name),
        });
        if name.len() <= MAX_NAME {
            let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
            if names.len() >= MAX_NAMES {
                names.clear();
            }
            names.insert(Box::from(name), Arc::clone(&new));
        }
        new
    }

    /// Whether a text or a line can have a label that [`Touch::IfPresent`] asks for.
    pub fn may_have_labels(&self, text: &str) -> bool {
        self.labels
            .as_ref()
            .is_none_or(|labels| labels.is_match(text))
    }

    /// [`Rules::touch`] for the rules that the screen was made for.
    pub fn touch(&self, rules: &Rules, name: &str) -> Touch {
        let mut parts = Vec::new();
        for (rule, of_any) in rules.iter().zip(&self.of_any) {
            let touch = match of_any {
                Some(touch) => touch.clone(),
                None => rule.touch(name),
            };
            match touch {
                Touch::Never => {}
                Touch::IfPresent(more) => parts.extend(more),
                Touch::Drop if parts.is_empty() => return Touch::Drop,
                Touch::Drop | Touch::Always => return Touch::Always,
            }
        }
        parts.sort_unstable();
        parts.dedup();
        match parts.is_empty() {
            true => Touch::Never,
            false => Touch::IfPresent(parts),
        }
    }
}

impl Rule {
    /// What this rule alone can do. If each rule does nothing to a series, neither do all rules
    /// together, since none finds a series that another has changed.
    pub(super) fn touch(&self, name: &str) -> Touch {
        let settings = &self.settings;
        if let [source] = settings.source_labels.as_slice()
            && source == NAME_LABEL
            && !self.pattern.is_match(name)
        {
            // The usual case needs no set of labels.
            match settings.action {
                Action::Drop | Action::Replace => return Touch::Never,
                Action::Keep => return Touch::Drop,
                Action::KeepEqual
                | Action::DropEqual
                | Action::HashMod
                | Action::LabelMap
                | Action::LabelDrop
                | Action::LabelKeep
                | Action::Lowercase
                | Action::Uppercase => {}
            }
        }
        if self.needs_other_name(name) {
            return Touch::Never;
        }
        let mut bare = LabelSet::new();
        bare.set(NAME_LABEL, name);
        let sources = settings.source_labels.iter();
        let mut others: Vec<&str> = sources
            .map(String::as_str)
            .filter(|it| *it != NAME_LABEL)
            .collect();
        let of_all = others.is_empty();
        let target = settings.target_label.as_str();
        // Whether a series without the other labels is changed or dropped. If not, only series with
        // one of them are.
        let changes_bare = match settings.action {
            Action::Keep | Action::Drop => {
                let drops = !self.apply(&mut bare);
                if drops && of_all {
                    return Touch::Drop;
                }
                drops
            }
            Action::Replace => {
                let value = self.value(&bare).into_owned();
                match self.pattern.captures(&value) {
                    None => false,
                    Some(captures) => {
                        // The rule removes the target, if the series has it.
                        let target = self.target.expand(&captures).into_owned();
                        let removes = self.replacement.expand(&captures).is_empty();
                        if !removes || target == NAME_LABEL {
                            return Touch::Always;
                        }
                        if !target.is_empty() {
                            return if_present(others.into_iter().chain([&*target]));
                        }
                        false
                    }
                }
            }
            Action::Lowercase | Action::Uppercase | Action::KeepEqual | Action::DropEqual => {
                let before = bare.clone();
                others.push(target);
                !self.apply(&mut bare) || bare != before
            }
            Action::LabelDrop | Action::LabelMap => {
                let parts = match &self.pattern {
                    _ if self.pattern.is_match(NAME_LABEL) => return Touch::Always,
                    Pattern::OneOf(names) => names.iter().map(|name| &**name).collect(),
                    Pattern::Prefix(begin) => vec![&**begin],
                    _ => return Touch::Always,
                };
                return if_present(parts.into_iter().filter(|part| !part.is_empty()));
            }
            Action::HashMod | Action::LabelKeep => true,
        };
        match changes_bare {
            true => Touch::Always,
            false => if_present(others.into_iter()),
        }
    }
}

impl Rule {
    /// Whether the regular expression begins with the name of another metric, as in
    /// `other_bucket;5`, and values that do not match are left alone.
    fn needs_other_name(&self, name: &str) -> bool {
        let settings = &self.settings;
        let is_first = settings
            .source_labels
            .first()
            .is_some_and(|it| it == NAME_LABEL);
        let leaves_others = matches!(settings.action, Action::Drop | Action::Replace);
        if !is_first || !leaves_others || settings.source_labels.len() < 2 {
            return false;
        }
        let begin = literal_begin(&settings.regex).as_bytes();
        let value = [name.as_bytes(), settings.separator.as_bytes()].concat();
        let length = begin.len().min(value.len());
        begin[..length] != value[..length]
    }
}

/// The plain text that each match of a regular expression begins with.
fn literal_begin(regex: &str) -> &str {
    if regex.contains('|') {
        return "";
    }
    let end = regex.find(is_special).unwrap_or(regex.len());
    let is_repeated = regex[end..].starts_with(['*', '?', '{', '+']);
    match regex[..end].char_indices().next_back() {
        // The last character may be left out.
        Some((last, _)) if is_repeated => &regex[..last],
        _ => &regex[..end],
    }
}

fn if_present<'n>(parts: impl Iterator<Item = &'n str>) -> Touch {
    let parts: Vec<String> = parts.map(str::to_owned).collect();
    let is_escaped = |c| matches!(c, '"' | '\\' | '\n');
    // Every series has a name, and escaped texts cannot be searched for.
    if parts
        .iter()
        .any(|part| part.contains(is_escaped) || part == NAME_LABEL)
    {
        return Touch::Always;
    }
    match parts.is_empty() {
        true => Touch::Never,
        false => Touch::IfPresent(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relabel::tests::series;

    fn touch(rules: &str, name: &str) -> Touch {
        Rules::parse_yaml(rules).unwrap().touch(name)
    }

    fn present(parts: &[&str]) -> Touch {
        Touch::IfPresent(parts.iter().map(|part| (*part).to_owned()).collect())
    }

    #[test]
    fn names_decide_what_rules_can_do() {
        for (rule, expected) in [
            (
                "{action: drop, source_labels: [__name__], regex: go_.*}",
                Touch::Never,
            ),
            (
                "{action: drop, source_labels: [__name__], regex: m}",
                Touch::Drop,
            ),
            (
                "{action: keep, source_labels: [__name__], regex: m}",
                Touch::Never,
            ),
            (
                "{action: keep, source_labels: [__name__], regex: n}",
                Touch::Drop,
            ),
            (
                "{action: drop, source_labels: [a], regex: x}",
                present(&["a"]),
            ),
            (
                "{action: drop, source_labels: [a], regex: x?}",
                Touch::Always,
            ),
            (
                "{action: keep, source_labels: [a], regex: x}",
                Touch::Always,
            ),
            (
                "{action: keep, source_labels: [a], regex: x?}",
                present(&["a"]),
            ),
            (
                "{action: drop, source_labels: [__name__, le], regex: m;5}",
                present(&["le"]),
            ),
            (
                "{action: drop, source_labels: [__name__, le], regex: m;.*}",
                Touch::Always,
            ),
            (
                "{action: drop, source_labels: [__name__, le], regex: n;5}",
                Touch::Never,
            ),
            (
                "{action: keep, source_labels: [__name__, le], regex: n;5}",
                Touch::Always,
            ),
            (
                "{action: drop, source_labels: [__name__, le], regex: n*m;5}",
                present(&["le"]),
            ),
            (
                "{action: drop, source_labels: [__name__, le], regex: n;5|m;5}",
                present(&["le"]),
            ),
            (
                "{source_labels: [__name__, le], regex: 'mn.*', target_label: x}",
                Touch::Never,
            ),
            (
                "{source_labels: [__name__, le], regex: 'm;7.*', target_label: x}",
                present(&["le"]),
            ),
            (
                "{source_labels: [a], target_label: b}",
                present(&["a", "b"]),
            ),
            (
                "{source_labels: [a], regex: (.+), target_label: b}",
                present(&["a"]),
            ),
            (
                "{source_labels: [__name__], target_label: b}",
                Touch::Always,
            ),
            (
                "{source_labels: [__name__], regex: n, target_label: b}",
                Touch::Never,
            ),
            ("{target_label: b, replacement: x}", Touch::Always),
            ("{target_label: b, replacement: ''}", present(&["b"])),
            ("{target_label: __name__, replacement: ''}", Touch::Always),
            ("{action: labeldrop, regex: a|b}", present(&["a", "b"])),
            ("{action: labeldrop, regex: pod_.*}", present(&["pod_"])),
            ("{action: labeldrop, regex: .*x}", Touch::Always),
            ("{action: labeldrop, regex: __name__}", Touch::Always),
            ("{action: labelkeep, regex: a|__name__}", Touch::Always),
            (
                "{action: labelmap, regex: a, replacement: b}",
                present(&["a"]),
            ),
            (
                "{action: lowercase, source_labels: [a], target_label: b}",
                present(&["a", "b"]),
            ),
            (
                "{action: lowercase, source_labels: [__name__], target_label: b}",
                Touch::Always,
            ),
            (
                "{action: dropequal, source_labels: [a], target_label: b}",
                Touch::Always,
            ),
            (
                "{action: keepequal, source_labels: [a], target_label: b}",
                present(&["a", "b"]),
            ),
            (
                "{action: hashmod, source_labels: [a], target_label: b, modulus: 2}",
                Touch::Always,
            ),
            ("{action: labeldrop, regex: 'a\"'}", Touch::Always),
        ] {
            assert_eq!(touch(&format!("- {rule}"), "m"), expected, "{rule}");
        }
    }

    #[test]
    fn texts_are_searched_for_labels_that_rules_ask_for() {
        let rules = "- {action: drop, source_labels: [le], regex: '5'}\n\
                     - {action: labeldrop, regex: pod|}\n- {action: labeldrop, regex: kube_.*}\n";
        let rules = Rules::parse_yaml(rules).unwrap();
        let screen = Screen::new(&rules);
        for (text, has_one) in [
            ("m{handler=\"le\",sole_x=\"pod\"} 1\n", false),
            ("m{a=\"1\",le=\"5\"} 1\n", true),
            ("m{pod=\"5\"} 1\n", true),
            ("m{ pod = \"5\"} 1\n", true),
            ("m{\"pod\"=\"5\"} 1\n", true),
            ("m{pod\t=\"5\"} 1\n", true),
            ("m{my_kube_x=\"5\"} 1\n", true),
        ] {
            assert_eq!(screen.may_have_labels(text), has_one, "{text}");
        }
        let open = "- {source_labels: [a], target_label: '$1'}";
        let open = Screen::new(&Rules::parse_yaml(open).unwrap());
        assert!(open.may_have_labels("m{b=\"1\"} 1\n"));
    }

    #[test]
    fn rules_together_touch_what_each_of_them_touches() {
        let drop = "- {action: drop, source_labels: [__name__], regex: m}\n";
        let label = "- {action: labeldrop, regex: a}\n";
        let other = "- {action: labeldrop, regex: b}\n";
        assert_eq!(touch(&[drop, label].concat(), "m"), Touch::Drop);
        assert_eq!(touch(&[label, drop].concat(), "m"), Touch::Always);
        assert_eq!(touch(&[label, drop].concat(), "n"), present(&["a"]));
        assert_eq!(
            touch(&[other, label, label].concat(), "n"),
            present(&["a", "b"])
        );
        assert_eq!(Rules::default().touch("m"), Touch::Never);
    }

    /// Rules leave a series alone if `touch` says so.
    #[test]
    fn series_that_are_not_touched_stay_the_same() {
        let rules = [
            "{action: drop, source_labels: [__name__, a], regex: 'm;.*'}",
            "{action: keep, source_labels: [a], regex: '1?'}",
            "{source_labels: [a], target_label: b}",
            "{source_labels: [a, b], separator: '', target_label: c}",
            "{source_labels: [__name__], regex: (.)(.*), target_label: '$2', replacement: $1}",
            "{action: lowercase, source_labels: [a], target_label: c}",
            "{action: keepequal, source_labels: [a], target_label: b}",
            "{action: dropequal, source_labels: [__name__], target_label: b}",
            "{action: labelmap, regex: a.*, replacement: x}",
            "{action: labeldrop, regex: c}",
        ];
        let mut left_alone = 0;
        for first in rules {
            for second in rules {
                let rules = Rules::parse_yaml(&format!("- {first}\n- {second}\n")).unwrap();
                for set in 0..32 {
                    let before = series(set);
                    let mut after = before.clone();
                    let kept = rules.apply(&mut after);
                    let is_same = kept && after == before;
                    let has = |part: &String| {
                        let mut labels = before.iter();
                        labels.any(|(name, _)| name != NAME_LABEL && name.contains(&**part))
                    };
                    match rules.touch(before.get(NAME_LABEL)) {
                        Touch::Never => assert!(is_same, "{first} {second} {before:?}"),
                        Touch::Drop => assert!(!kept, "{first} {second} {before:?}"),
                        Touch::IfPresent(parts) if !parts.iter().any(has) => {
                            assert!(is_same, "{first} {second} {before:?}");
                            left_alone += 1;
                        }
                        Touch::IfPresent(_) | Touch::Always => {}
                    }
                }
            }
        }
        assert!(left_alone > 100, "{left_alone}");
    }
}
