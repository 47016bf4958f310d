//! Applies labels and rules to a text, line by line.
//!
//! Lines that no rule touches are copied byte for byte, and whole runs of them at once. What a
//! rule can do is decided once for each name, so most lines are not parsed. A line that cannot
//! be read stays as it is: the parser of the text reports it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use memchr::{memchr, memchr_iter};

use super::ShapingProblem;
use super::heads::{Heads, Layout};
use crate::exposition::{
    AddedLabel, InputFormat, Kind, LabelConflict, Labels, ParsedLine, Parser, bare_name,
    is_component, is_plain_label, is_plain_name, unescape, write_label_value,
};
use crate::reason::Reason;
use crate::relabel::{LabelSet, NAME_LABEL, NameScreen, Rules, Screen, Touch};
use crate::settings::pattern::Pattern;

/// What is done to each sample of a text.
#[derive(Debug, Clone, Copy)]
pub struct Step<'s> {
    /// Labels that samples get.
    pub added: &'s [AddedLabel<'s>],
    /// Patterns of families, of which one must match; empty for all families.
    pub keep: &'s [Pattern],
    /// Patterns of families that are dropped.
    pub drop: &'s [Pattern],
    /// Rules that are applied after that.
    pub rules: &'s Rules,
    /// What is known of them beforehand.
    pub screen: &'s Screen,
    /// Labels that samples get later and that override theirs, unescaped. Rules find them, and
    /// cannot change them.
    pub group: &'s [(&'s str, &'s str)],
}

impl Default for Step<'_> {
    fn default() -> Self {
        static NONE: Rules = Rules::NONE;
        static SCREEN: LazyLock<Screen> = LazyLock::new(|| Screen::new(&NONE));
        Step {
            added: &[],
            keep: &[],
            drop: &[],
            rules: &NONE,
            screen: &SCREEN,
            group: &[],
        }
    }
}

/// A text that a step has changed.
#[derive(Debug)]
pub struct Rewritten {
    /// The text. Its last line has a line feed.
    pub text: String,
    /// Samples that were dropped.
    pub dropped: u64,
    /// Samples whose name or labels were changed.
    pub changed: u64,
}

impl Step<'_> {
    /// Applies the step to a text. `None` if it changes nothing.
    ///
    /// # Errors
    ///
    /// A rule leaves a sample without a valid name.
    pub fn apply(
        &self,
        text: &str,
        format: InputFormat,
        layout: Layout,
    ) -> Result<Option<Rewritten>, ShapingProblem> {
        let mut rewriter = Rewriter {
            step: self,
            format,
            text,
            out: String::new(),
            copied: 0,
            verdicts: Vec::new(),
            by_name: HashMap::new(),
            current: None,
            kinds: HashMap::new(),
            heads: Heads::new(layout, self.rules.may_rename()),
            labels: Labels::new(),
            sets: Default::default(),
            may_have_labels: None,
            dropped: 0,
            changed: 0,
        };
        let mut start = 0;
        let mut number = 0;
        while start < text.len() {
            let (passed, next) = rewriter.pass(start);
            number += passed;
            start = next;
            if start == text.len() {
                break;
            }
            let rest = &text.as_bytes()[start..];
            let end = start + memchr(b'\n', rest).unwrap_or(rest.len());
            number += 1;
            rewriter
                .line(start, end)
                .map_err(|message| ShapingProblem {
                    line: number,
                    reason: Reason::BadSeries,
                    message,
                })?;
            start = (end + 1).min(text.len());
        }
        Ok(rewriter.finish())
    }

    /// Whether samples of a family are kept.
    pub fn keeps(&self, family: &str) -> bool {
        let matches = |patterns: &[Pattern]| patterns.iter().any(|it| it.matches(family));
        (self.keep.is_empty() || matches(self.keep)) && !matches(self.drop)
    }

    /// What the step can do to samples of that name.
    fn touch(&self, family: &str, screen: &NameScreen) -> VerdictTouch {
        if !self.keeps(&unescape(family)) {
            return VerdictTouch::Drop;
        }
        match &screen.touch {
            Touch::Never | Touch::IfPresent(_) if !self.added.is_empty() => VerdictTouch::Always,
            // Each sample has the labels of the group.
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

    /// Adds labels to a set, which has none of the group.
    fn add_labels(&self, set: &mut LabelSet<'_>) {
        for label in self.added {
            let name = unescape(label.name);
            let value = unescape(label.value).into_owned();
            let own = set.get(&name).to_owned();
            match (own.is_empty(), label.conflict) {
                (false, LabelConflict::Keep) => continue,
                (false, LabelConflict::Rename) => {
                    let is_taken = |set: &LabelSet<'_>, exported: &str| {
                        let is_added = |label: &&AddedLabel<'_>| unescape(label.name) == exported;
                        !set.get(exported).is_empty() || self.added.iter().any(|it| is_added(&it))
                    };
                    let mut exported = format!("exported_{name}");
                    while is_taken(set, &exported) {
                        exported.insert_str(0, "exported_");
                    }
                    set.set(exported, own);
                }
                _ => {}
            }
            set.set(name.into_owned(), value);
        }
    }

    /// Applies the step to the labels of one series, with its name. Returns whether it is
    /// kept.
    pub fn apply_to_labels(&self, family: &str, set: &mut LabelSet<'_>) -> bool {
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
    /// Adds the labels of the step and of the group.
    fn add_sender_labels(&self, set: &mut LabelSet<'s>) {
        self.add_labels(set);
        for (name, value) in self.group {
            set.set(*name, *value);
        }
    }
}

/// What happens to the samples of one name.
struct Verdict<'t> {
    name: &'t str,
    /// The family, as far as the text has named it.
    family: &'t str,
    touch: VerdictTouch,
    screen: Arc<NameScreen>,
}

/// A [`Touch`] for the labels that samples of a text have.
#[derive(Clone, Copy)]
enum VerdictTouch {
    Never,
    Drop,
    IfPresent,
    Always,
}

struct Rewriter<'t> {
    step: &'t Step<'t>,
    format: InputFormat,
    text: &'t str,
    out: String,
    /// Bytes of the text that are done: in `out`, or dropped.
    copied: usize,
    verdicts: Vec<Verdict<'t>>,
    by_name: HashMap<&'t str, usize>,
    /// The verdict on the sample before.
    current: Option<usize>,
    /// Kinds of families, of which samples can have other names.
    kinds: HashMap<&'t str, Kind>,
    heads: Heads<'t>,
    labels: Labels<'t>,
    /// The labels of a sample after the step and before it, in memory that is used again.
    sets: [LabelSet<'t>; 2],
    may_have_labels: Option<bool>,
    dropped: u64,
    changed: u64,
}

impl<'t> Rewriter<'t> {
    /// Passes the lines from an offset on that have the name of the one before, if samples of
    /// that name stay as they are. Returns their number, and where the next line begins.
    fn pass(&mut self, start: usize) -> (usize, usize) {
        let Some(Verdict {
            name,
            family,
            touch: VerdictTouch::Never,
            ..
        }) = self.current.map(|current| &self.verdicts[current])
        else {
            return (0, start);
        };
        let (name, family) = (name.as_bytes(), *family);
        let bytes = self.text.as_bytes();
        let (mut number, mut at) = (0, start);
        let mut ends = memchr_iter(b'\n', &bytes[start..]);
        while bytes[at..].starts_with(name)
            && matches!(bytes.get(at + name.len()), Some(b'{' | b' '))
        {
            at = ends.next().map_or(bytes.len(), |end| start + end + 1);
            number += 1;
        }
        if number > 0 && self.heads.note_kept_lines(family, number) {
            self.copy_until(start);
            self.heads.repeat(family, &mut self.out);
        }
        (number, at)
    }

    /// Handles the line between two offsets of the text.
    fn line(&mut self, start: usize, end: usize) -> Result<(), String> {
        let line = &self.text[start..end];
        let Some(first) = line
            .bytes()
            .find(|byte| !matches!(byte, b' ' | b'\t' | b'\r'))
        else {
            return Ok(());
        };
        if first == b'#' {
            self.head(start, end);
            return Ok(());
        }
        let Some(verdict) = self.verdict(line) else {
            return self.read(start, end, None);
        };
        self.current = Some(verdict);
        let Verdict {
            name,
            family,
            touch,
            ..
        } = &self.verdicts[verdict];
        let is_touched = match touch {
            VerdictTouch::Never => false,
            VerdictTouch::Drop => {
                let family = *family;
                self.drop_line(start, end, family);
                return Ok(());
            }
            VerdictTouch::IfPresent => self.step.screen.may_have_labels(&line[name.len()..]),
            VerdictTouch::Always => true,
        };
        let family = *family;
        match is_touched {
            true => self.read(start, end, Some(verdict)),
            false => {
                self.keep_line(start, family);
                Ok(())
            }
        }
    }

    /// The verdict on a line with a usual name.
    fn verdict(&mut self, line: &'t str) -> Option<usize> {
        if let Some(current) = self.current {
            let name = self.verdicts[current].name;
            let after = line.as_bytes().get(name.len());
            if matches!(after, Some(b'{' | b' ')) && line.starts_with(name) {
                return Some(current);
            }
        }
        let name = bare_name(line)?;
        if let Some(known) = self.by_name.get(name) {
            return Some(*known);
        }
        let family = self.family_of(name);
        let screen = self.step.screen.of_name(self.step.rules, name);
        let touch = match self.step.touch(family, &screen) {
            VerdictTouch::IfPresent if !self.may_have_labels() => VerdictTouch::Never,
            touch => touch,
        };
        self.verdicts.push(Verdict {
            name,
            family,
            touch,
            screen,
        });
        self.by_name.insert(name, self.verdicts.len() - 1);
        Some(self.verdicts.len() - 1)
    }

    /// Whether the text can have labels that rules ask for.
    fn may_have_labels(&mut self) -> bool {
        let (screen, text) = (self.step.screen, self.text);
        *self
            .may_have_labels
            .get_or_insert_with(|| screen.may_have_labels(text))
    }

    /// The family that a sample of that name belongs to.
    fn family_of(&self, name: &'t str) -> &'t str {
        if self.kinds.contains_key(name) {
            return name;
        }
        let at = name.rfind('_').filter(|at| *at > 0);
        let whole = at.map(|at| name.split_at(at)).filter(|(base, suffix)| {
            let kind = self.kinds.get(base);
            kind.is_some_and(|kind| is_component(self.format, *kind, suffix))
        });
        whole.map_or(name, |(base, _)| base)
    }

    /// Handles a line that begins with `#`.
    fn head(&mut self, start: usize, end: usize) {
        let line = &self.text[start..end];
        let parsed = Parser::new(line, self.format).next(&mut self.labels);
        let family = match parsed {
            Ok(Some(ParsedLine::Help { name, .. } | ParsedLine::Unit { name, .. })) => name,
            Ok(Some(ParsedLine::Type { name, kind })) => {
                if self.kinds.insert(name, kind).is_none() {
                    // A sample may have been seen before.
                    self.forget(name);
                }
                name
            }
            _ => return,
        };
        self.end_family(start, Some(family));
        if self.heads.is_replaced(family) {
            self.blank(start, end);
        } else {
            let at = self.out.len() + (start - self.copied);
            self.heads.add(family, line, at);
        }
    }

    /// Removes verdicts on samples that are components of a family.
    fn forget(&mut self, family: &str) {
        let is_of = |name: &str| name.starts_with(family) && name != family;
        if self.verdicts.iter().any(|it| is_of(it.name)) {
            self.by_name.clear();
            self.current = None;
        }
    }

    /// Ends what is known of the metadata before, unless it is of the family that goes on.
    fn end_family(&mut self, start: usize, next: Option<&str>) {
        if next.is_some() && self.heads.goes_on(next) {
            return;
        }
        if let Some(cut) = self.heads.end() {
            self.copy_until(start);
            self.out.replace_range(cut, "");
        }
    }

    fn keep_line(&mut self, start: usize, family: &'t str) {
        if self.heads.note_kept(family) {
            // The family's metadata has got another name.
            self.copy_until(start);
            self.heads.repeat(family, &mut self.out);
        }
    }

    fn drop_line(&mut self, start: usize, end: usize, family: &'t str) {
        self.dropped += 1;
        self.heads.note_dropped(family);
        self.blank(start, end);
        self.heads.note_end(self.out.len());
    }

    /// Leaves a line out.
    fn blank(&mut self, start: usize, end: usize) {
        self.copy_until(start);
        if self.heads.layout() == Layout::Lines && self.format == InputFormat::Text {
            self.out.push('\n');
        }
        self.copied = (end + 1).min(self.text.len());
    }

    /// Copies what comes before a line.
    fn copy_until(&mut self, start: usize) {
        if self.out.capacity() == 0 {
            self.out.reserve(self.text.len() + self.text.len() / 4);
        }
        self.out.push_str(&self.text[self.copied..start]);
        self.copied = start;
    }

    /// Reads a sample and applies the step to it.
    fn read(&mut self, start: usize, end: usize, verdict: Option<usize>) -> Result<(), String> {
        let [mut set, mut before] = std::mem::take(&mut self.sets);
        let result = self.read_into(start, end, verdict, (&mut set, &mut before));
        set.clear();
        before.clear();
        self.sets = [set, before];
        result
    }

    fn read_into(
        &mut self,
        start: usize,
        end: usize,
        verdict: Option<usize>,
        (set, before): (&mut LabelSet<'t>, &mut LabelSet<'t>),
    ) -> Result<(), String> {
        let line = &self.text[start..end];
        let Ok(Some(ParsedLine::Sample(sample))) =
            Parser::new(line, self.format).next(&mut self.labels)
        else {
            self.heads.note_unread();
            return Ok(());
        };
        set.add(NAME_LABEL, unescape(sample.name));
        for label in &self.labels {
            // The parser has found that each name comes once.
            set.add(unescape(label.name), unescape(label.value));
        }
        before.copy_from(set);
        let step = self.step;
        let (family, kept) = match verdict.map(|verdict| &self.verdicts[verdict]) {
            Some(verdict) => {
                step.add_sender_labels(set);
                let (plan, name) = (&verdict.screen.plan, verdict.name);
                let kept = step.rules.apply_planned(plan, name, set);
                (verdict.family, kept)
            }
            None => {
                let family = self.family_of(sample.name);
                (family, step.apply_to_labels(&unescape(family), set))
            }
        };
        if !kept {
            self.drop_line(start, end, family);
            return Ok(());
        }
        // The labels of the group come later.
        for (name, _) in step.group {
            set.set(*name, before.get(name).to_owned());
        }
        let is_same = set == before
            || set.len() == before.len()
                && before.iter().all(|(name, value)| set.get(name) == value);
        if is_same {
            self.keep_line(start, family);
            return Ok(());
        }
        self.changed += 1;
        set.sort();
        let name = set.get(NAME_LABEL);
        check(before, set)?;
        self.copy_until(start);
        if name == before.get(NAME_LABEL) {
            if self.heads.note_kept(family) {
                self.heads.repeat(family, &mut self.out);
            }
        } else {
            let name = escaped(name);
            self.heads
                .note_renamed(family, sample.name, &name, &mut self.out);
        }
        write_series(&mut self.out, set);
        self.out.push(' ');
        let value = sample.value_text.as_ptr() as usize - line.as_ptr() as usize;
        self.out.push_str(&line[value..]);
        self.out.push('\n');
        self.copied = (end + 1).min(self.text.len());
        Ok(())
    }

    fn finish(mut self) -> Option<Rewritten> {
        self.end_family(self.text.len(), None);
        if self.copied == 0 {
            return None;
        }
        self.copy_until(self.text.len());
        if !self.out.is_empty() && !self.out.ends_with('\n') {
            self.out.push('\n');
        }
        Some(Rewritten {
            text: self.out,
            dropped: self.dropped,
            changed: self.changed,
        })
    }
}

/// Checks that a series can be exposed.
fn check(before: &LabelSet<'_>, set: &LabelSet<'_>) -> Result<(), String> {
    let problem = |what: &str| {
        let mut series = String::new();
        let mut before = before.clone();
        before.sort();
        write_series(&mut series, &before);
        Err(format!(
            "relabelling leaves {series} {what} (shape.metric_relabel)"
        ))
    };
    if set.get(NAME_LABEL).is_empty() {
        return problem("without a name");
    }
    if set.iter().any(|(name, _)| name.contains('\0')) || set.get(NAME_LABEL).contains('\0') {
        return problem("with NUL in a name");
    }
    Ok(())
}

/// A name as it is written between quotes.
pub(super) fn escaped(name: &str) -> Cow<'_, str> {
    if is_plain_name(name) {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len() + 4);
    write_label_value(&mut out, name);
    Cow::Owned(out)
}

/// Writes name and labels. The labels are sorted.
fn write_series(out: &mut String, set: &LabelSet<'_>) {
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
