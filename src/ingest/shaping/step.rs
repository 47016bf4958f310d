//! One step: labels and rules for the samples of one sender.

use std::borrow::Cow;
use std::sync::LazyLock;

use crate::exposition::{
    FamilyNames, LabelConflict, SampleLabels, is_plain_label, is_plain_name, unescape,
    write_label_value,
};
use crate::relabel::{LabelSet, NAME_LABEL, NameScreen, Rules, Screen, Touch};
use crate::settings::pattern::Pattern;

/// A step: the changes made to each sample of a text.
#[derive(Debug, Clone, Copy)]
pub struct Step<'s> {
    /// Labels to add.
    pub added: &'s SampleLabels,
    /// Patterns of families to keep; empty keeps all.
    pub keep: &'s [Pattern],
    /// Patterns of families to drop.
    pub drop: &'s [Pattern],
    /// Rules to apply after that.
    pub rules: &'s Rules,
    /// What the rules can do, by the name of a metric.
    pub screen: &'s Screen,
    /// Labels that samples get later and that override their own, unescaped. Rules can match them
    /// but not change them.
    pub group: &'s [(&'s str, &'s str)],
}

impl Default for Step<'_> {
    fn default() -> Self {
        static NONE: Rules = Rules::NONE;
        static NO_LABELS: LazyLock<SampleLabels> = LazyLock::new(SampleLabels::default);
        static SCREEN: LazyLock<Screen> = LazyLock::new(|| Screen::new(&NONE));
        Step {
            added: &NO_LABELS,
            keep: &[],
            drop: &[],
            rules: &NONE,
            screen: &SCREEN,
            group: &[],
        }
    }
}

/// What a step can do to the samples of one name; like [`Touch`], in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VerdictTouch {
    /// It leaves all of them alone.
    Never,
    /// It can change or drop those that have certain labels.
    IfPresent,
    /// It drops all of them.
    Drop,
    /// It can change or drop each of them.
    Always,
}

/// What a step does to a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is dropped.
    Dropped,
    /// It stays as it is.
    Same,
    /// It is changed.
    Changed,
}

impl Step<'_> {
    /// Whether the step can do more than add labels.
    pub fn does_more(&self) -> bool {
        !(self.keep.is_empty() && self.drop.is_empty() && self.rules.is_empty())
    }

    /// Whether samples of a family are kept.
    pub fn keeps(&self, family: FamilyNames<'_>) -> bool {
        let matches = |patterns: &[Pattern]| {
            patterns
                .iter()
                .any(|it| family.any(|name| it.matches(name)))
        };
        (self.keep.is_empty() || matches(self.keep)) && !matches(self.drop)
    }

    /// What the step can do to the samples of one name.
    pub fn touch(&self, family: FamilyNames<'_>, screen: &NameScreen) -> VerdictTouch {
        if !self.keeps(family) {
            return VerdictTouch::Drop;
        }
        match &screen.touch {
            Touch::Never | Touch::IfPresent(_) if !self.added.is_empty() => VerdictTouch::Always,
            // Each sample will have the labels of the group.
            Touch::IfPresent(parts)
                if self
                    .group
                    .iter()
                    .any(|(name, _)| parts.iter().any(|part| name.contains(&**part))) =>
            {
                VerdictTouch::Always
            }
            Touch::Never => VerdictTouch::Never,
            Touch::Drop => VerdictTouch::Drop,
            Touch::IfPresent(_) => VerdictTouch::IfPresent,
            Touch::Always => VerdictTouch::Always,
        }
    }

    /// Adds the step's labels to a set, which has no labels of the group yet.
    pub fn add_labels(&self, set: &mut LabelSet<'_>) {
        for label in self.added.added() {
            let name = unescape(label.name);
            let value = unescape(label.value).into_owned();
            let own = set.get(&name).to_owned();
            match (own.is_empty(), label.conflict) {
                (false, LabelConflict::Keep) => continue,
                (false, LabelConflict::Rename) => {
                    let is_taken = |set: &LabelSet<'_>, exported: &str| {
                        let mut added = self.added.added();
                        !set.get(exported).is_empty()
                            || added.any(|label| unescape(label.name) == exported)
                    };
                    let mut exported = format!("exported_{name}");
                    while is_taken(set, &exported) {
                        exported.insert_str(0, "exported_");
                    }
                    set.set(exported, own);
                }
                (true, _) | (false, LabelConflict::Override) => {}
            }
            set.set(name.into_owned(), value);
        }
    }

    /// Applies the step to one series, whose labels include its name. Returns whether to keep it.
    pub fn apply_to_labels(&self, family: FamilyNames<'_>, set: &mut LabelSet<'_>) -> bool {
        if !self.keeps(family) {
            return false;
        }
        self.add_labels(set);
        for (name, value) in self.group {
            set.set((*name).to_owned(), (*value).to_owned());
        }
        self.rules.apply(set)
    }
}

impl<'s> Step<'s> {
    /// Applies the step to a sample with the labels `set`, which it changes; `before` gets the
    /// original ones. `screen` is that of the sample's name, if known.
    pub fn apply_to_sample(
        &self,
        (family, name): (FamilyNames<'_>, &str),
        screen: Option<&NameScreen>,
        (set, before): (&mut LabelSet<'s>, &mut LabelSet<'s>),
    ) -> Outcome {
        before.copy_from(set);
        let kept = match screen {
            Some(screen) => {
                self.add_labels(set);
                for (name, value) in self.group {
                    set.set(*name, *value);
                }
                self.rules.apply_planned(&screen.plan, name, set)
            }
            None => self.apply_to_labels(family, set),
        };
        if !kept {
            return Outcome::Dropped;
        }
        // The group's labels are added later.
        for (name, _) in self.group {
            set.set(*name, before.get(name).to_owned());
        }
        match set.has_same(before) {
            true => Outcome::Same,
            false => Outcome::Changed,
        }
    }
}

/// Checks that the series that `before` has become can be exposed.
pub fn check(before: &LabelSet<'_>, set: &LabelSet<'_>) -> Result<(), String> {
    if set.get(NAME_LABEL).is_empty() {
        return Err(problem(before, "without a name"));
    }
    if set.iter().any(|(name, _)| name.contains('\0')) || set.get(NAME_LABEL).contains('\0') {
        return Err(problem(before, "with NUL in a name"));
    }
    Ok(())
}

/// The message for a series that rules leave in a form that cannot be exposed.
pub fn problem(before: &LabelSet<'_>, what: &str) -> String {
    let mut series = String::new();
    let mut before = before.clone();
    before.sort();
    write_series(&mut series, &before);
    format!("relabelling leaves {series} {what} (shape.metric_relabel)")
}

/// A name or a value as written between quotes.
pub fn escaped<'t>(text: impl Into<Cow<'t, str>>) -> Cow<'t, str> {
    let text = text.into();
    if !text.contains(['\\', '"', '\n']) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 4);
    write_label_value(&mut out, &text);
    Cow::Owned(out)
}

/// Writes a name and its sorted labels.
pub fn write_series(out: &mut String, set: &LabelSet<'_>) {
    let name = set.get(NAME_LABEL);
    let quoted = !is_plain_name(name);
    let mut before = "{";
    if quoted {
        out.push_str("{\"");
        write_label_value(out, name);
        out.push('"');
        before = ",";
    } else {
        out.push_str(name);
    }
    for (name, value) in set.iter().filter(|(name, _)| *name != NAME_LABEL) {
        out.push_str(before);
        if is_plain_label(name) {
            out.push_str(name);
        } else {
            out.push('"');
            write_label_value(out, name);
            out.push('"');
        }
        out.push_str("=\"");
        write_label_value(out, value);
        out.push('"');
        before = ",";
    }
    if before == "," {
        out.push('}');
    }
}
