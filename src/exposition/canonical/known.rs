//! Reads texts that differ from the one before only in values, as most texts of a polled target do.
//!
//! [`KnownText`] remembers for each line a hash of the part before its value, and where labels are
//! added. A text with the same lines needs no parser then: no label is read, sorted or checked, no
//! series is hashed, and no series can come twice. Values are checked as always. The result equals
//! that of [`canonicalize_as`].

use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::Bytes;
use memchr::memchr;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::fast_path::MORE_FAMILIES;
use super::{CanonicalOptions, LONGEST_SHARED, SampleText, TimestampPolicy, canonicalize_as};
use crate::exposition::added::{AddedLabel, LabelConflict};
use crate::exposition::parse::float;
use crate::exposition::series::series_of;
use crate::exposition::{
    FamilyText, InputFormat, Kind, ParseError, SeriesHashes, Text, TextLimits,
};

/// The lines of the last text of one sender.
#[derive(Debug, Default)]
pub struct KnownText {
    lines: Option<Box<KnownLines>>,
    /// How many texts in a row had other lines.
    misses: u32,
    memory: KeptMemory,
}

/// Memory for the samples of long texts, reused from text to text. The allocator returns free
/// memory to the system soon, and page faults for new memory would take much of a poll's time.
#[derive(Debug, Default)]
struct KeptMemory {
    /// The samples of each family of the last text, which are in use.
    last: Vec<Bytes>,
    /// The samples of the text before. The next text overwrites those that are not in use.
    before: Vec<Bytes>,
}

/// Memory is kept for texts whose families average at least this many bytes. With smaller
/// families, the list of buffers itself would take more than a few percent.
const LARGE_FAMILY: usize = 1024;

/// After this many texts in a row with other lines, lines are remembered rarely: this takes a
/// fraction of the time of parsing, which would never pay off for such a sender.
const PATIENCE: u32 = 4;

/// Lines are then remembered of one text in this many.
const RARELY: u32 = 16;

#[derive(Debug)]
struct KnownLines {
    options: Options,
    /// For each line, the hash of the part that is the same in the next text.
    hashes: Box<[u64]>,
    shapes: Box<[Shape]>,
    /// Labels that are added to series, such as `instance="a",`.
    insertions: Box<[Box<str>]>,
    /// In the order of the text.
    families: Box<[KnownFamily]>,
}

/// The options with which the lines were read.
#[derive(Debug, PartialEq)]
struct Options {
    limits: TextLimits,
    timestamps: TimestampPolicy,
    added: Box<[KnownLabel]>,
    /// The key of the hashes, which nobody else knows.
    seed: u64,
}

/// An added label: name and value.
type KnownLabel = (Box<str>, Box<str>, LabelConflict);

/// How a line is written in canonical form.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Bytes of the series; 0 for a line without a sample.
    series: u16,
    /// Where labels are added to it.
    at: u16,
    /// Index of these labels in `insertions`.
    insertion: u8,
}

const NO_SAMPLE: Shape = Shape {
    series: 0,
    at: 0,
    insertion: 0,
};

#[derive(Debug)]
struct KnownFamily {
    name: Arc<str>,
    kind: Kind,
    has_help: bool,
    /// Line on which its samples begin.
    line: usize,
    /// Bytes of its samples when they were remembered.
    bytes: usize,
    series: SeriesHashes,
}

impl KnownText {
    /// Like [`canonicalize_as`], and remembers the lines of the text for the next one.
    ///
    /// # Errors
    ///
    /// As for [`canonicalize_as`].
    pub fn canonicalize<H: BuildHasher>(
        &mut self,
        text: &str,
        format: InputFormat,
        options: &CanonicalOptions<'_, H>,
    ) -> Result<Vec<FamilyText>, ParseError> {
        if format != InputFormat::Text {
            return canonicalize_as(text, format, options);
        }
        let before = std::mem::take(&mut self.memory.before);
        let known = self.lines.as_ref();
        if let Some(families) = known.and_then(|known| known.read(text, options, before)) {
            self.misses = 0;
            self.memory.note(&families, text.len());
            return Ok(families);
        }
        self.memory = KeptMemory::default();
        let families = canonicalize_as(text, format, options)?;
        self.misses = self.misses.saturating_add(1);
        let is_worth_it = self.misses <= PATIENCE || self.misses.is_multiple_of(RARELY);
        let lines = is_worth_it.then(|| KnownLines::of(text, &families, options));
        self.lines = lines.flatten().map(Box::new);
        Ok(families)
    }

    /// Bytes of the last long text. As many are kept for the next one once other code has let go
    /// of the text before.
    pub fn kept_memory(&self) -> usize {
        self.memory.last.iter().map(Bytes::len).sum()
    }

    /// Frees the memory that is kept for the next text.
    pub fn free_memory(&mut self) {
        self.memory = KeptMemory::default();
    }

    /// Whether a text is read without the parser.
    #[cfg(test)]
    pub(super) fn knows<H: BuildHasher>(
        &self,
        text: &str,
        options: &CanonicalOptions<'_, H>,
    ) -> bool {
        let known = self.lines.as_ref();
        known.is_some_and(|known| known.read(text, options, Vec::new()).is_some())
    }
}

impl KeptMemory {
    /// Holds the samples of a text until the next but one.
    fn note(&mut self, families: &[FamilyText], length: usize) {
        let samples = families.iter().map(|it| it.samples.bytes().clone());
        let samples = match keeps_memory(families.len(), length) {
            true => samples.collect(),
            false => Vec::new(),
        };
        self.before = std::mem::replace(&mut self.last, samples);
    }
}

fn keeps_memory(families: usize, length: usize) -> bool {
    length > LONGEST_SHARED && families * LARGE_FAMILY <= length
}

impl Options {
    fn of<H: BuildHasher>(options: &CanonicalOptions<'_, H>) -> Self {
        let added = options.added.iter();
        Options {
            limits: options.limits,
            timestamps: options.timestamps,
            added: added
                .map(|it| (it.name.into(), it.value.into(), it.conflict))
                .collect(),
            seed: seed(options.hash),
        }
    }

    fn are<H: BuildHasher>(&self, options: &CanonicalOptions<'_, H>) -> bool {
        let added = self.added.iter();
        let added = added.map(|(name, value, conflict)| AddedLabel {
            name,
            value,
            conflict: *conflict,
        });
        self.limits == options.limits
            && self.timestamps == options.timestamps
            && added.eq(options.added.iter().copied())
            && self.seed == seed(options.hash)
    }
}

fn seed(hash: &impl BuildHasher) -> u64 {
    hash.hash_one("lines of a text")
}

impl KnownLines {
    /// Remembers the lines and the families of a text. `None` if a line is unusual: out of order,
    /// with a timestamp, or with labels that are not simply added.
    fn of<H: BuildHasher>(
        text: &str,
        families: &[FamilyText],
        options: &CanonicalOptions<'_, H>,
    ) -> Option<Self> {
        if families.iter().any(|family| family.series.is_empty()) {
            return None;
        }
        let mut known = KnownLines {
            options: Options::of(options),
            hashes: Box::default(),
            shapes: Box::default(),
            insertions: Box::default(),
            families: families.iter().map(KnownFamily::of).collect(),
        };
        let seed = known.options.seed;
        let (mut hashes, mut shapes) = (Vec::new(), Vec::new());
        let mut insertions: Vec<Box<str>> = Vec::new();
        let mut samples = families.iter().flat_map(|it| it.samples.as_str().lines());
        let mut rest = text;
        while let Some(line) = next_line(&mut rest) {
            let start = line.trim_start_matches([' ', '\t']);
            let (same, shape) = if start.is_empty() || start.starts_with('#') {
                (line, NO_SAMPLE)
            } else {
                let shape = Shape::of(line, samples.next()?, &mut insertions)?;
                (&line[..usize::from(shape.series)], shape)
            };
            hashes.push(xxh3_64_with_seed(same.as_bytes(), seed));
            shapes.push(shape);
        }
        known.hashes = hashes.into();
        known.shapes = shapes.into();
        known.insertions = insertions.into();
        // Reading the text by these lines must give the same families.
        (samples.next().is_none() && known.read(text, options, Vec::new())? == families)
            .then_some(known)
    }

    /// The families of a text with these lines; `None` for any other text. `memory` is
    /// written over.
    fn read<H: BuildHasher>(
        &self,
        text: &str,
        options: &CanonicalOptions<'_, H>,
        memory: Vec<Bytes>,
    ) -> Option<Vec<FamilyText>> {
        if !self.options.are(options) {
            return None;
        }
        let added: usize = options.added.iter().map(AddedLabel::len).sum();
        let samples = self.families.iter().map(|it| it.series.len()).sum();
        let added = added.checked_mul(samples)?;
        options
            .limits
            .text
            .checked_sub(text.len())?
            .checked_sub(added)?;
        let seed = self.options.seed;
        let mut writer = Writer::new(self, text.len(), memory);
        let mut lines = self.hashes.iter().zip(&self.shapes);
        let (mut rest, mut help) = (text, "");
        while let Some(line) = next_line(&mut rest) {
            let (hash, shape) = lines.next()?;
            let length = usize::from(shape.series);
            let is_sample = length > 0;
            let same = if is_sample { line.get(..length)? } else { line };
            if xxh3_64_with_seed(same.as_bytes(), seed) != *hash {
                return None;
            }
            if !is_sample {
                if line.starts_with(HELP) {
                    help = line;
                }
                continue;
            }
            let after = &line[length..];
            let blanks = after
                .bytes()
                .take_while(|byte| matches!(byte, b' ' | b'\t'));
            let value_text = &after[blanks.count()..];
            if value_text.len() == after.len() {
                return None;
            }
            let value = float(value_text)?;
            // Buckets and counts cannot be below zero.
            if writer.enter(help)? == Kind::Histogram && value < 0.0 {
                return None;
            }
            let (before, behind) = same.split_at_checked(usize::from(shape.at))?;
            let insertion = self.insertions.get(usize::from(shape.insertion))?;
            writer.add([before, insertion, behind], value_text);
        }
        lines.next().is_none().then(|| writer.finish())?
    }
}

const HELP: &str = "# HELP ";

/// The next line without its line feed.
#[inline]
fn next_line<'t>(rest: &mut &'t str) -> Option<&'t str> {
    if rest.is_empty() {
        return None;
    }
    let end = memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len());
    let line = &rest[..end];
    *rest = rest.get(end + 1..).unwrap_or_default();
    Some(line)
}

impl Shape {
    /// How `line` becomes the line `canonical`. `None` if that takes more than adding labels in one
    /// place.
    fn of(line: &str, canonical: &str, insertions: &mut Vec<Box<str>>) -> Option<Self> {
        let series = series_of(canonical);
        let value = canonical.get(series.len() + 1..)?;
        let sent = line.strip_suffix(value)?.trim_end_matches([' ', '\t']);
        let added = series.len().checked_sub(sent.len())?;
        let pairs = sent.char_indices().zip(series.chars());
        let differ = pairs.clone().find(|((_, sent), shown)| sent != shown);
        let at = differ.map_or(sent.len(), |((at, _), _)| at);
        let insertion = series.get(at..at + added)?;
        if series.get(at + added..)? != &sent[at..] {
            return None;
        }
        let same = insertions.iter().position(|it| **it == *insertion);
        let insertion = match same {
            Some(same) => same,
            None => {
                insertions.push(insertion.into());
                insertions.len() - 1
            }
        };
        Some(Shape {
            series: u16::try_from(sent.len())
                .ok()
                .filter(|length| *length > 0)?,
            at: u16::try_from(at).ok()?,
            insertion: u8::try_from(insertion).ok()?,
        })
    }
}

impl KnownFamily {
    fn of(family: &FamilyText) -> Self {
        KnownFamily {
            name: Arc::clone(&family.name),
            kind: family.kind,
            has_help: family.help.is_some(),
            line: family.line,
            bytes: family.samples.len(),
            series: family.series.clone(),
        }
    }

    /// The help in the last line with one.
    fn help(&self, line: &str) -> Option<Option<String>> {
        if !self.has_help {
            return Some(None);
        }
        let rest = line.get(HELP.len() + self.name.len()..)?;
        Some(Some(rest.strip_prefix(' ')?.to_owned()))
    }
}

/// Writes families.
struct Writer<'k> {
    known: std::slice::Iter<'k, KnownFamily>,
    /// Samples of the current family that are yet to come.
    left: usize,
    kind: Kind,
    families: Vec<FamilyText>,
    /// Where the families are in `out`.
    ends: Vec<usize>,
    /// The samples of all families or, in a long text, those of the current one.
    out: String,
    is_long: bool,
    /// Memory for the samples of the families of a long text.
    memory: std::vec::IntoIter<Bytes>,
    /// Whether the memory of this text will be written over.
    keeps_memory: bool,
}

/// Bytes by which each value may have become longer.
const LONGER: usize = 2;

impl<'k> Writer<'k> {
    fn new(known: &'k KnownLines, length: usize, memory: Vec<Bytes>) -> Self {
        let is_long = length > LONGEST_SHARED;
        let all = known.families.iter();
        let bytes = all.clone().map(|it| it.bytes + LONGER * it.series.len());
        Writer {
            left: 0,
            kind: Kind::Untyped,
            families: Vec::with_capacity(all.len() + MORE_FAMILIES),
            ends: Vec::new(),
            out: match is_long {
                true => String::new(),
                false => String::with_capacity(bytes.sum()),
            },
            keeps_memory: keeps_memory(all.len(), length),
            known: all,
            is_long,
            memory: memory.into_iter(),
        }
    }

    /// Begins a sample, and its family if it is the first.
    #[inline]
    fn enter(&mut self, help: &str) -> Option<Kind> {
        if self.left == 0 {
            self.complete();
            let known = self.known.next()?;
            self.left = known.series.len();
            self.kind = known.kind;
            if self.is_long {
                self.out = room(self.memory.next(), known.bytes + LONGER * self.left);
            }
            self.families.push(FamilyText {
                name: Arc::clone(&known.name),
                kind: known.kind,
                help: known.help(help)?,
                line: known.line,
                samples: Text::default(),
                series: known.series.clone(),
                natives: Vec::new(),
                open: None,
            });
        }
        self.left -= 1;
        Some(self.kind)
    }

    #[inline]
    fn add(&mut self, series: [&str; 3], value: &str) {
        for piece in series {
            self.out.push_str(piece);
        }
        self.out.push(' ');
        self.out.push_str(value);
        self.out.push('\n');
    }

    /// Takes the samples of the current family.
    fn complete(&mut self) {
        let Some(family) = self.families.last_mut() else {
            return;
        };
        match self.is_long {
            true => {
                let samples = std::mem::take(&mut self.out);
                family.samples = match self.keeps_memory {
                    // The next value may be longer.
                    true => Text::of_lines(Bytes::from(samples)),
                    false => Text::of_string(samples),
                };
            }
            false => self.ends.push(self.out.len()),
        }
    }

    /// The families. `None` if samples are missing.
    fn finish(mut self) -> Option<Vec<FamilyText>> {
        if self.left > 0 || self.known.next().is_some() {
            return None;
        }
        self.complete();
        if !self.is_long {
            let samples = SampleText::new(self.out);
            let mut start = 0;
            for (family, end) in self.families.iter_mut().zip(self.ends) {
                family.samples = samples.lines(start..end);
                start = end;
            }
        }
        Some(self.families)
    }
}

/// An empty text with room for `length` bytes: the memory of `before`, unless it is still in use.
fn room(before: Option<Bytes>, length: usize) -> String {
    let memory = before.and_then(|before| before.try_into_mut().ok());
    let mut memory = memory.map(Vec::from).unwrap_or_default();
    memory.clear();
    memory.reserve_exact(length);
    String::from_utf8(memory).unwrap_or_default()
}
