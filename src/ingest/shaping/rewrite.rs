//! Applies labels and rules to a text, line by line.
//!
//! Lines that no rule touches are copied byte for byte, in whole runs. Whether rules can touch a
//! sample is decided once per name, so most lines are not parsed. A line that cannot be read stays
//! as it is, for the parser to report.

use std::collections::HashMap;
use std::sync::Arc;

use memchr::{memchr, memchr_iter};

use super::ShapingProblem;
use super::heads::{Heads, Layout};
use super::step::{Outcome, Step, VerdictTouch, check, escaped, write_series};
use crate::exposition::{
    FamilyNames, InputFormat, Kind, Labels, ParsedLine, Parser, bare_name, is_component, unescape,
};
use crate::reason::Reason;
use crate::relabel::{LabelSet, NAME_LABEL, NameScreen};

/// What a step has done to a text.
#[derive(Debug)]
pub struct Rewritten {
    /// The text, if it has changed. Its last line has a line feed.
    pub text: Option<String>,
    /// Lines that the step could concern and that cannot be read.
    pub unread: u64,
    /// Samples that were dropped.
    pub dropped: u64,
    /// Samples whose name or labels were changed.
    pub changed: u64,
}

impl Step<'_> {
    /// Applies the step to a text.
    ///
    /// # Errors
    ///
    /// A rule leaves a sample without a valid name.
    pub fn apply(
        &self,
        text: &str,
        format: InputFormat,
        layout: Layout,
    ) -> Result<Rewritten, ShapingProblem> {
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
            unread: 0,
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
}

/// What a step can do to the samples of one name.
struct Verdict<'t> {
    name: &'t str,
    /// The family, according to the metadata so far.
    family: &'t str,
    touch: VerdictTouch,
    screen: Arc<NameScreen>,
}

struct Rewriter<'t> {
    step: &'t Step<'t>,
    format: InputFormat,
    text: &'t str,
    out: String,
    /// Bytes of the text already handled: copied to `out`, or dropped.
    copied: usize,
    verdicts: Vec<Verdict<'t>>,
    by_name: HashMap<&'t str, usize>,
    /// The verdict on the previous sample.
    current: Option<usize>,
    /// Kinds of families, by which samples with a suffix find their family.
    kinds: HashMap<&'t str, Kind>,
    heads: Heads<'t>,
    labels: Labels<'t>,
    /// The labels of a sample after the step and before it; the memory is reused.
    sets: [LabelSet<'t>; 2],
    may_have_labels: Option<bool>,
    unread: u64,
    dropped: u64,
    changed: u64,
}

impl<'t> Rewriter<'t> {
    /// Passes over lines from an offset on that have the name of the previous sample, if samples of
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

    /// The verdict on a line with an unquoted name.
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
        let touch = match self
            .step
            .touch(self.names_of(family, &unescape(family)), &screen)
        {
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

    /// Whether the text can have labels that rules look at.
    fn may_have_labels(&mut self) -> bool {
        let (screen, text) = (self.step.screen, self.text);
        *self
            .may_have_labels
            .get_or_insert_with(|| screen.may_have_labels(text))
    }

    /// The family of a sample with this name.
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

    /// The names of a family that is `unescaped` without escapes.
    fn names_of<'n>(&self, family: &str, unescaped: &'n str) -> FamilyNames<'n> {
        FamilyNames::new(self.format, self.kinds.get(family).copied(), unescaped)
    }

    /// Handles a line that begins with `#`.
    fn head(&mut self, start: usize, end: usize) {
        let line = &self.text[start..end];
        let parsed = Parser::new(line, self.format).next(&mut self.labels);
        let family = match parsed {
            Ok(Some(ParsedLine::Help { name, .. } | ParsedLine::Unit { name, .. })) => name,
            Ok(Some(ParsedLine::Type { name, kind })) => {
                if self.kinds.insert(name, kind).is_none() {
                    // Samples of the family may have come before its type.
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

    /// Ends the current metadata, unless the family `next` continues it.
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
            // The metadata in the output has another name now.
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

    /// Copies the text before a line.
    fn copy_until(&mut self, start: usize) {
        if self.out.capacity() == 0 {
            self.out.reserve(self.text.len() + self.text.len() / 4);
        }
        self.out.push_str(&self.text[self.copied..start]);
        self.copied = start;
    }

    /// Parses a sample and applies the step to it.
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
            self.unread += 1;
            self.heads.note_unread();
            return Ok(());
        };
        set.add(NAME_LABEL, unescape(sample.name));
        for label in &self.labels {
            // The parser has checked that names are unique.
            set.add(unescape(label.name), unescape(label.value));
        }
        let verdict = verdict.map(|verdict| &self.verdicts[verdict]);
        let (family, screen) = match verdict {
            Some(verdict) => (verdict.family, Some(&*verdict.screen)),
            None => (self.family_of(sample.name), None),
        };
        let unescaped = unescape(family);
        let series = (self.names_of(family, &unescaped), sample.name);
        match self.step.apply_to_sample(series, screen, (set, before)) {
            Outcome::Dropped => {
                self.drop_line(start, end, family);
                return Ok(());
            }
            Outcome::Same => {
                self.keep_line(start, family);
                return Ok(());
            }
            Outcome::Changed => {}
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

    fn finish(mut self) -> Rewritten {
        self.end_family(self.text.len(), None);
        let is_changed = self.copied > 0;
        if is_changed {
            self.copy_until(self.text.len());
            if !self.out.is_empty() && !self.out.ends_with('\n') {
                self.out.push('\n');
            }
        }
        Rewritten {
            text: is_changed.then_some(self.out),
            unread: self.unread,
            dropped: self.dropped,
            changed: self.changed,
        }
    }
}
