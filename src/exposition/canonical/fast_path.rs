//! Parses usual texts and writes them in canonical form, in one pass.
//!
//! It returns `None` for anything unusual or wrong. The text then goes through
//! [`Families`](crate::exposition::Families), which handles every case and reports mistakes. Both
//! ways give the same result.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::Bytes;
use memchr::memchr;

use super::label_cache::{LabelCache, PLAIN};
use super::series_set::SeriesSet;
use super::shaped::{Memory, SampleShaper, ShapedCounts};
use super::{
    CanonicalOptions, LONGEST_SHARED, SampleText, TimestampPolicy, is_plain_label, write_hashed,
};
use crate::exposition::added::{AddedLabel, merge_added};
use crate::exposition::families::{SampleRole, component_label, misfit, role_of};
use crate::exposition::parse::{bare_name, offset};
use crate::exposition::series::{SeriesHashes, hash_series};
use crate::exposition::{FamilyText, InputFormat, Kind, Labels, ParsedLine, Parser, Text};

/// The families of a text 0.0.4; `None` if it is unusual or wrong.
pub(super) fn read<H: BuildHasher>(
    text: &str,
    options: &CanonicalOptions<'_, H>,
) -> Option<Vec<FamilyText>> {
    let (families, _) = read_sharing(text, options, LONGEST_SHARED, None)?;
    Some(families)
}

/// Like [`read`]. Families of a text of up to `longest_shared` bytes share one
/// allocation. `shaper` changes or drops samples.
pub(super) fn read_sharing<'n, H: BuildHasher>(
    text: &str,
    options: &'n CanonicalOptions<'n, H>,
    longest_shared: usize,
    shaper: Option<&'n mut (dyn SampleShaper + 'n)>,
) -> Option<(Vec<FamilyText>, ShapedCounts)> {
    u32::try_from(text.len()).ok()?;
    let is_long = text.len() > longest_shared;
    let mut reader = FastPath {
        options,
        left: options.limits.text.checked_sub(text.len())?,
        added: options.added.iter().map(AddedLabel::len).sum(),
        families: Vec::with_capacity(text.len() / BYTES_A_FAMILY + 1),
        by_name: HashMap::new(),
        is_sorted: true,
        current: 0,
        sampled: None,
        labels: LabelCache::new(),
        out: match is_long {
            true => String::new(),
            // Most texts fit, with the labels that are added.
            false => String::with_capacity(text.len() + text.len() / 2),
        },
        is_long,
        longest_shared,
        full: String::new(),
        seen: SeriesSet::new(text.len() / BYTES_A_LINE),
        samples: 0,
        line: 0,
        shaped: shaper.map(Memory::new),
        head: None,
        renamed: HashSet::new(),
    };
    let mut labels = Labels::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        reader.line += 1;
        reader.line(line, &mut labels)?;
    }
    let counts = reader.shaped.as_ref().map(|shaped| shaped.counts);
    Some((reader.finish(), counts.unwrap_or_default()))
}

/// Typical sizes of short lines and families in large texts. Lists begin with room for that many
/// and grow if there are more.
const BYTES_A_LINE: usize = 48;
const BYTES_A_FAMILY: usize = 160;

/// A text while it is read.
struct FastPath<'t, 'n, H> {
    options: &'n CanonicalOptions<'n, H>,
    /// Bytes that may still be added to the text, and bytes added to each
    /// sample.
    left: usize,
    added: usize,
    families: Vec<PendingFamily<'t>>,
    /// Filled once a family's name does not follow the one before in order.
    by_name: HashMap<&'t str, usize>,
    is_sorted: bool,
    /// The family that was named last.
    current: usize,
    /// The family of the previous sample.
    sampled: Option<usize>,
    labels: LabelCache<'t>,
    /// The samples of all families or, in a long text, those of the current one: reused memory
    /// needs no new pages.
    out: String,
    is_long: bool,
    longest_shared: usize,
    /// Buffer for a series without its empty labels.
    full: String,
    /// The series of the current family.
    seen: SeriesSet,
    /// Samples of all families so far.
    samples: usize,
    /// Line number, from 1.
    line: usize,
    /// What happens to samples, if they are shaped.
    shaped: Option<Memory<'n>>,
    /// The family of the last metadata, and how many samples were kept and dropped before it.
    head: Option<(usize, usize, u64)>,
    /// New names of renamed families.
    renamed: HashSet<Arc<str>>,
}

/// A name, and whether it belongs to the current family.
struct NameMatch<'t> {
    name: &'t str,
    is_current: bool,
}

struct PendingFamily<'t> {
    name: &'t str,
    kind: Option<Kind>,
    help: &'t str,
    /// The line of its first sample.
    line: usize,
    /// Its samples in `out`, and in a long text, once they are complete.
    text: (usize, usize),
    lines: Text,
    series: SeriesHashes,
    /// Its new name, if shaping renames it.
    new_name: Option<Arc<str>>,
    has_head: bool,
    /// Whether its metadata is in several places.
    is_split: bool,
}

impl<'t, H: BuildHasher> FastPath<'t, '_, H> {
    fn line(&mut self, line: &'t str, labels: &mut Labels<'t>) -> Option<()> {
        if line.is_empty() {
            return Some(());
        }
        if line.starts_with('#') {
            return self.head(line, labels);
        }
        let longest = self.options.limits.label_value;
        let Some(named) = self.name(line).filter(|it| it.name.len() <= longest) else {
            return self.other_line(line, labels);
        };
        let name = named.name;
        let Some(read) = self.labels.read(&line[name.len()..], longest) else {
            return self.other_line(line, labels);
        };
        let (family, role) = self.family_of(named)?;
        let Some(form) = self.form(family, name)? else {
            return Some(());
        };
        let kind = self.enter(family)?;
        if component_label(kind).is_some()
            && misfit(kind, role, self.labels.component(kind), read.value).is_some()
        {
            return None;
        }
        let start = self.out.len();
        self.write_series(name, form, read.changed)?;
        let series = self.labels.series(&self.out, start, &mut self.full);
        let hash = hash_series(self.options.hash, series, true);
        self.leave(family, hash, read.value_text, None)
    }

    /// The name that a text begins with: in most cases the current family's.
    fn name(&self, text: &'t str) -> Option<NameMatch<'t>> {
        if let Some(current) = self.families.get(self.current) {
            let name = current.name;
            let after = text.as_bytes().get(name.len());
            if matches!(after, Some(b'{' | b' ')) && text.starts_with(name) {
                return Some(NameMatch {
                    name: &text[..name.len()],
                    is_current: true,
                });
            }
        }
        Some(NameMatch {
            name: bare_name(text)?,
            is_current: false,
        })
    }

    /// Reads a line that the label cache does not match.
    fn other_line(&mut self, line: &'t str, labels: &mut Labels<'t>) -> Option<()> {
        let options = self.options;
        let sample = match Parser::new(line, InputFormat::Text).next(labels) {
            Ok(None) => return Some(()),
            Ok(Some(ParsedLine::Sample(sample))) => sample,
            Ok(Some(_)) | Err(_) => return None,
        };
        options.limits.check(&sample, labels).ok()?;
        // A quoted name is among the labels.
        let at = offset(line, sample.name);
        let before = &line[..at];
        if !before.bytes().all(|byte| matches!(byte, b' ' | b'\t'))
            || !labels.iter().all(|label| is_plain_label(label.name))
        {
            return None;
        }
        let (family, role) = self.family(sample.name)?;
        let timestamp = match options.timestamps {
            TimestampPolicy::Keep => sample.timestamp,
            TimestampPolicy::Strip => None,
            TimestampPolicy::Refuse if sample.timestamp.is_some() => return None,
            TimestampPolicy::Refuse => None,
        };
        let rest = &line[at + sample.name.len()..];
        self.labels.begin(rest, &sample, labels);
        labels.sort();
        let mut shown = Vec::with_capacity(labels.len() + options.added.len());
        merge_added(&mut shown, labels, options.added);
        if !shown.iter().all(|(name, _)| is_plain_label(name)) {
            return None;
        }
        self.labels.finish(&shown);
        if let Some(shaped) = &mut self.shaped {
            shaped.note_other_labels();
        }
        let Some(form) = self.form(family, sample.name)? else {
            return Some(());
        };
        let kind = self.enter(family)?;
        if let Some((label, _)) = component_label(kind)
            && misfit(kind, role, labels.value(label), sample.value).is_some()
        {
            return None;
        }
        let start = self.out.len();
        let hash = if form == PLAIN {
            let plain = true;
            let series = (sample.name, &*shown);
            let out = (&mut self.out, &mut self.full);
            let hash = write_hashed(out, series, plain, options.hash);
            self.labels.note_plain(&self.out, start + sample.name.len());
            hash
        } else {
            self.write_series(sample.name, form, 0)?;
            let series = self.labels.series(&self.out, start, &mut self.full);
            hash_series(options.hash, series, true)
        };
        let milliseconds = timestamp.map(|timestamp| timestamp.milliseconds);
        self.leave(family, hash, sample.value_text, milliseconds)
    }

    fn head(&mut self, line: &'t str, labels: &mut Labels<'t>) -> Option<()> {
        let entry = match self.plain_head(line) {
            Some(entry) => Some(entry),
            None => Parser::new(line, InputFormat::Text).next(labels).ok()?,
        };
        match entry {
            None => {}
            Some(ParsedLine::Help { name, help }) => {
                let (family, _) = self.family(name)?;
                self.note_head(family)?;
                let family = &mut self.families[family];
                if !help.is_empty() {
                    if !family.help.is_empty() {
                        return None;
                    }
                    family.help = help;
                }
            }
            Some(ParsedLine::Type { name, kind }) => {
                let (family, _) = self.family(name)?;
                self.note_head(family)?;
                let before = self.families[family].kind.replace(kind);
                if before.is_some() {
                    return None;
                }
            }
            Some(_) => return None,
        }
        Some(())
    }

    /// Reads a metadata line with single blanks and without escapes.
    fn plain_head(&self, line: &'t str) -> Option<ParsedLine<'t>> {
        let rest = line.strip_prefix("# ")?;
        let (word, rest) = rest.split_at_checked("HELP ".len())?;
        let name = self.name(rest)?.name;
        let rest = rest[name.len()..].strip_prefix(' ')?;
        match word {
            "HELP " => {
                let plain =
                    !rest.starts_with([' ', '\t']) && !rest.contains('\\') && !rest.ends_with('\r');
                plain.then_some(ParsedLine::Help { name, help: rest })
            }
            "TYPE " => Kind::of_text(rest).map(|kind| ParsedLine::Type { name, kind }),
            _ => None,
        }
    }

    /// The family of this name, or the family that the name is a component of. It becomes the
    /// current one.
    fn family(&mut self, name: &'t str) -> Option<(usize, SampleRole)> {
        let current = self.families.get(self.current);
        let is_current = current.is_some_and(|current| current.name == name);
        self.family_of(NameMatch { name, is_current })
    }

    /// Like [`FastPath::family`]. `None` if it exceeds the limit on families.
    fn family_of(
        &mut self,
        NameMatch { name, is_current }: NameMatch<'t>,
    ) -> Option<(usize, SampleRole)> {
        if is_current {
            return Some((self.current, SampleRole::Value));
        }
        let comes_last = self.is_sorted && self.families.last().is_none_or(|it| it.name < name);
        let known = (!comes_last).then(|| self.named(name)).flatten();
        let (family, role) = match known {
            // Shaping would take it for a component of the other family.
            Some(_) if self.shaped.is_some() && self.whole(name).is_some() => return None,
            Some(family) => (family, SampleRole::Value),
            None => match self.whole(name) {
                Some(whole) => whole,
                None => self.add(name, comes_last)?,
            },
        };
        self.current = family;
        Some((family, role))
    }

    /// The family that the name is a component of.
    fn whole(&self, name: &str) -> Option<(usize, SampleRole)> {
        let mut cut = COMPONENTS
            .into_iter()
            .filter_map(|suffix| Some((name.strip_suffix(suffix)?, suffix)));
        let (base, suffix) = cut.next()?;
        let family = self.named(base)?;
        let kind = self.families[family].kind?;
        Some((family, role_of(InputFormat::Text, kind, suffix)?))
    }

    /// The family of exactly that name.
    fn named(&self, name: &str) -> Option<usize> {
        if self.is_sorted {
            let place = self.families.binary_search_by(|it| it.name.cmp(name));
            place.ok()
        } else {
            self.by_name.get(name).copied()
        }
    }

    fn add(&mut self, name: &'t str, comes_last: bool) -> Option<(usize, SampleRole)> {
        let family = self.families.len();
        (family < self.options.limits.families).then_some(())?;
        if !self.renamed.is_empty() && self.clashes(name, |name| self.renamed.contains(name)) {
            return None;
        }
        if self.is_sorted && !comes_last {
            self.is_sorted = false;
            let names = self.families.iter().map(|family| family.name);
            self.by_name = names.zip(0..).collect();
        }
        if !self.is_sorted {
            self.by_name.insert(name, family);
        }
        self.families.push(PendingFamily {
            name,
            kind: None,
            help: "",
            line: 0,
            text: (0, 0),
            lines: Text::default(),
            series: SeriesHashes::default(),
            new_name: None,
            has_head: false,
            is_split: false,
        });
        Some((family, SampleRole::Value))
    }

    /// The form for a sample whose labels are in the cache; the inner `None` if it is dropped.
    #[inline]
    fn form(&mut self, family: usize, name: &'t str) -> Option<Option<usize>> {
        let Some(shaped) = &mut self.shaped else {
            return Some(Some(PLAIN));
        };
        if shaped.passes((family, name.len())) {
            return Some(Some(PLAIN));
        }
        let it = &self.families[family];
        let (added, limits) = (self.options.added, &self.options.limits);
        let series = ((family, it.name), name);
        let form = shaped.form(&mut self.labels, series, added, limits)?;
        if let Some(form) = form {
            match self.labels.name(form) {
                None if it.new_name.is_some() => return None,
                None => {}
                Some(new) => {
                    let new = Arc::clone(new);
                    self.rename(family, name, &new)?;
                }
            }
        }
        Some(form)
    }

    /// Notes that a sample of a family gets another name. The first such sample renames the family.
    /// `None` if its samples are not all renamed alike, if its metadata is elsewhere, or if another
    /// family has the name.
    fn rename(&mut self, family: usize, name: &str, new: &str) -> Option<()> {
        let it = &self.families[family];
        let new = new.strip_suffix(name.strip_prefix(it.name)?)?;
        if let Some(known) = &it.new_name {
            return (**known == *new).then_some(());
        }
        let is_headed = !it.is_split
            && self
                .head
                .is_some_and(|(head, samples, _)| head == family && samples == self.samples);
        let is_free = !self.clashes(new, |name| {
            self.named(name).is_some() || self.renamed.contains(name)
        });
        let is_first = it.line == 0 && (!it.has_head || is_headed);
        (is_first && is_free && !new.is_empty()).then_some(())?;
        let new = Arc::from(new);
        self.renamed.insert(Arc::clone(&new));
        self.families[family].new_name = Some(new);
        Some(())
    }

    /// Whether a family of this name would share samples with one whose name is taken.
    fn clashes(&self, name: &str, is_taken: impl Fn(&str) -> bool) -> bool {
        let mut parts = COMPONENTS.into_iter();
        let is_part = |part| name.strip_suffix(part).is_some_and(&is_taken);
        is_taken(name) || parts.any(|part| is_part(part) || is_taken(&format!("{name}{part}")))
    }

    /// Notes metadata of a family. `None` if it comes after renamed samples.
    fn note_head(&mut self, family: usize) -> Option<()> {
        let Some(shaped) = &self.shaped else {
            return Some(());
        };
        let head = Some((family, self.samples, shaped.counts.dropped));
        let it = &mut self.families[family];
        it.is_split |= it.has_head && self.head != head;
        it.has_head = true;
        self.head = head;
        it.new_name.is_none().then_some(())
    }

    /// Writes the name and the labels of a sample in a form.
    #[inline]
    fn write_series(&mut self, name: &str, form: usize, changed: usize) -> Option<()> {
        if form == PLAIN {
            self.out.push_str(name);
            self.labels.write(&mut self.out, PLAIN, changed);
            return Some(());
        }
        let start = self.out.len();
        let new = self.labels.name(form);
        self.out.push_str(new.map_or(name, |new| new));
        self.labels.write(&mut self.out, form, changed);
        // The text may become longer.
        self.left = self.left.checked_sub(self.out.len() - start)?;
        Some(())
    }

    /// Begins a sample of a family. `None` if samples of other families came
    /// between those of this one.
    fn enter(&mut self, family: usize) -> Option<Kind> {
        if self.sampled != Some(family) {
            self.complete();
            let it = &mut self.families[family];
            if it.line > 0 {
                return None;
            }
            self.sampled = Some(family);
            it.line = self.line;
            it.text = (self.out.len(), self.out.len());
        }
        self.left = self.left.checked_sub(self.added)?;
        (self.samples < self.options.limits.samples).then_some(())?;
        self.samples += 1;
        let it = &mut self.families[family];
        Some(*it.kind.get_or_insert(Kind::Untyped))
    }

    /// Finishes the family whose samples end here.
    fn complete(&mut self) {
        let Some(family) = self.sampled.take() else {
            return;
        };
        let family = &mut self.families[family];
        family.series = self.seen.take();
        if !self.is_long {
            return;
        }
        let (start, end) = family.text;
        // The next family begins with the labels of this one's last line.
        let last_labels = self.labels.written_at();
        if end - start > self.longest_shared {
            let next = self.out[last_labels..].to_owned();
            let mut lines = std::mem::replace(&mut self.out, next);
            lines.shrink_to_fit();
            family.lines = Text::of_lines(Bytes::from(lines).slice(start..end));
        } else {
            family.lines = Text::new(&self.out[start..end]);
            self.out.drain(..last_labels);
        }
        self.labels.move_back(last_labels);
    }

    /// Writes the rest of a sample's line.
    fn leave(&mut self, family: usize, hash: u64, value: &str, time: Option<i64>) -> Option<()> {
        self.out.push(' ');
        self.out.push_str(value);
        if let Some(time) = time {
            self.out.push(' ');
            self.out.push_str(&time.to_string());
        }
        self.out.push('\n');
        self.seen.add(hash)?;
        let family = &mut self.families[family];
        family.text.1 = self.out.len();
        Some(())
    }

    fn finish(mut self) -> Vec<FamilyText> {
        self.complete();
        let samples = SampleText::new(self.out);
        let mut families = Vec::with_capacity(self.families.len() + MORE_FAMILIES);
        let with_samples = self.families.into_iter().filter(|family| family.line > 0);
        families.extend(with_samples.map(|family| FamilyText {
            name: family.new_name.unwrap_or_else(|| Arc::from(family.name)),
            kind: family.kind.unwrap_or(Kind::Untyped),
            help: (!family.help.is_empty()).then(|| family.help.to_owned()),
            line: family.line,
            samples: match self.is_long {
                true => family.lines,
                false => samples.lines(family.text.0..family.text.1),
            },
            series: family.series,
            natives: Vec::new(),
            open: None,
        }));
        families
    }
}

/// The endings of the names of components.
pub(super) const COMPONENTS: [&str; 3] = ["_bucket", "_count", "_sum"];

/// Room for the families that are added to a pushed text later: the times of
/// the push.
pub(super) const MORE_FAMILIES: usize = 2;
