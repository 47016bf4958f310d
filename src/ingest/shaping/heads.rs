//! Keeps the metadata of families in step with rules that rename or drop their samples.

use std::collections::HashSet;
use std::ops::Range;

use crate::exposition::{is_plain_name, unescape};

/// What takes the place of dropped samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Blank lines, so that errors have the line of the sender's text. OpenMetrics has no blank
    /// lines, so there the samples are removed.
    Lines,
    /// Nothing. Families that lose all samples lose their metadata too.
    Compact,
}

/// The metadata of the current family.
///
/// If rules rename all samples of a family alike, its `HELP` and `TYPE` get the new name. If they
/// rename only some, the metadata is repeated under the new name.
#[derive(Debug)]
pub struct Heads<'t> {
    layout: Layout,
    /// Whether samples can be renamed.
    renames: bool,
    current: Option<Head<'t>>,
    /// Families with metadata in the text.
    own: HashSet<&'t str>,
    /// New names that have got the metadata of renamed families.
    replaced: HashSet<String>,
}

#[derive(Debug)]
struct Head<'t> {
    family: &'t str,
    lines: Vec<&'t str>,
    /// Offset of the metadata in the output.
    start: usize,
    /// Offset after the last dropped sample in the output.
    end: usize,
    /// Whether the metadata in the output has the new name instead of the family's.
    renamed: bool,
    kept: usize,
    dropped: usize,
    /// Lines kept since the metadata that are not samples of this family.
    others: usize,
    /// Samples of other families dropped since the metadata.
    foreign: usize,
}

impl<'t> Heads<'t> {
    /// No metadata yet.
    pub fn new(layout: Layout, renames: bool) -> Self {
        Heads {
            layout,
            renames,
            current: None,
            own: HashSet::new(),
            replaced: HashSet::new(),
        }
    }

    /// What takes the place of dropped samples.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether the metadata of a family was written already, for renamed samples.
    pub fn is_replaced(&self, family: &str) -> bool {
        self.renames && self.replaced.contains(family)
    }

    /// Whether metadata of `family` continues the current metadata.
    pub fn goes_on(&self, family: Option<&str>) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|it| {
            let samples = it.kept + it.dropped + it.others + it.foreign;
            Some(it.family) == family && samples == 0
        })
    }

    /// Adds a line of metadata that begins at the offset `start` of the output.
    pub fn add(&mut self, family: &'t str, line: &'t str, start: usize) {
        if self.renames {
            self.own.insert(family);
        }
        match &mut self.current {
            Some(current) if current.family == family => current.lines.push(line),
            current => {
                *current = Some(Head {
                    family,
                    lines: vec![line],
                    start,
                    end: start,
                    renamed: false,
                    kept: 0,
                    dropped: 0,
                    others: 0,
                    foreign: 0,
                });
            }
        }
    }

    /// Ends the current family. Returns the range to cut out of the output if nothing of it is
    /// left.
    pub fn end(&mut self) -> Option<Range<usize>> {
        let head = self.current.take()?;
        let is_gone = head.kept + head.others == 0 && head.dropped > 0;
        (is_gone && self.layout == Layout::Compact).then_some(head.start..head.end)
    }

    /// Notes where the output ends after a dropped sample.
    pub fn note_end(&mut self, end: usize) {
        if let Some(head) = &mut self.current {
            head.end = end;
        }
    }

    /// Notes a line that cannot be read.
    pub fn note_unread(&mut self) {
        if let Some(head) = &mut self.current {
            head.others += 1;
        }
    }

    /// Notes a sample that keeps its name. Returns whether its family's metadata must be written
    /// again.
    pub fn note_kept(&mut self, family: &str) -> bool {
        self.note_kept_lines(family, 1)
    }

    /// Like [`note_kept`](Self::note_kept), for several samples of one family.
    pub fn note_kept_lines(&mut self, family: &str, lines: usize) -> bool {
        let Some(head) = &mut self.current else {
            return false;
        };
        if head.family != family {
            head.others += lines;
            return false;
        }
        head.kept += lines;
        std::mem::take(&mut head.renamed)
    }

    /// Notes a dropped sample.
    pub fn note_dropped(&mut self, family: &str) {
        match &mut self.current {
            Some(head) if head.family == family => head.dropped += 1,
            Some(head) => head.foreign += 1,
            None => {}
        }
    }

    /// Writes the metadata of the family again.
    pub fn repeat(&mut self, family: &str, out: &mut String) {
        if let Some(head) = self.current.as_ref().filter(|head| head.family == family) {
            write_lines(out, head, head.family);
        }
    }

    /// Notes a sample that is about to be written under a new name, and gives the new family the
    /// metadata. Names are escaped.
    pub fn note_renamed(&mut self, family: &str, name: &str, new: &str, out: &mut String) {
        let Some(head) = &mut self.current else {
            return;
        };
        if head.family != family {
            head.others += 1;
            return;
        }
        let suffix = name.strip_prefix(family).unwrap_or_default();
        let whole = new.strip_suffix(suffix).filter(|whole| !whole.is_empty());
        let is_first = head.kept + head.others == 0;
        head.kept += 1;
        let Some(whole) =
            whole.filter(|whole| !self.own.contains(whole) && !self.replaced.contains(*whole))
        else {
            return;
        };
        self.replaced.insert(whole.to_owned());
        if is_first {
            let tail = out.split_off(head.start);
            for line in tail.split_inclusive('\n') {
                match head.lines.contains(&line.trim_end_matches('\n')) {
                    true => write_line(out, line.trim_end_matches('\n'), head.family, whole),
                    false => out.push_str(line),
                }
            }
            head.renamed = true;
        } else {
            write_lines(out, head, whole);
        }
    }
}

fn write_lines(out: &mut String, head: &Head<'_>, name: &str) {
    for line in &head.lines {
        write_line(out, line, head.family, name);
    }
}

/// Writes a line of metadata for another family. `UNIT` is left out, since a family's name ends in
/// its unit.
fn write_line(out: &mut String, line: &str, family: &str, name: &str) {
    let words = line.trim_start_matches(['#', ' ', '\t']);
    let keyword = line.len() - words.len() + "TYPE".len();
    let at = line[keyword..].find(family).map(|at| keyword + at);
    let (Some(at), false) = (at, words.starts_with("UNIT")) else {
        return;
    };
    let (before, after) = (&line[..at], &line[at + family.len()..]);
    let was_quoted = before.ends_with('"');
    let before = before.strip_suffix('"').unwrap_or(before);
    let after = match was_quoted {
        true => after.strip_prefix('"').unwrap_or(after),
        false => after,
    };
    out.push_str(before);
    match is_plain_name(&unescape(name)) {
        true => out.push_str(name),
        false => {
            out.push('"');
            out.push_str(name);
            out.push('"');
        }
    }
    out.push_str(after);
    out.push('\n');
}
