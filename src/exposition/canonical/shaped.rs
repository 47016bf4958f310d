//! Shapes samples while their text is read: settings change or drop them.
//!
//! What happens to a sample depends on its name, on the names of its labels, and on the values of a
//! few of them. The shaper is asked once for all samples that agree in these; the others are
//! written in the [form](LabelCache) that was found. Samples that cannot be touched are recognized
//! by the first one of their name, and the others are read as without settings.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::AddAssign;
use std::sync::Arc;

use super::label_cache::{LabelCache, PLAIN};
use super::{is_plain_label, is_plain_name};
use crate::exposition::added::{AddedLabel, merge_added};
use crate::exposition::{Label, Labels, TextLimits};

/// Changes or drops samples. Names and values are escaped.
pub trait SampleShaper {
    /// The class of the samples of a metric in a family. Within a class, only their labels decide
    /// what happens to samples.
    fn class(&mut self, family: &str, name: &str) -> usize;

    /// Whether anything can happen to samples of a class with labels of these names.
    fn can_touch(&self, class: usize, labels: &[&str]) -> bool;

    /// Whether the value of a label decides what happens, or ends up in another label. All other
    /// labels keep their values, lose them, or get values that do not depend on them.
    fn reads(&self, label: &str) -> bool;

    /// Shapes a sample of a class. `None` if the sample alone does not decide the result.
    fn shape<'l>(
        &'l self,
        class: usize,
        name: &'l str,
        labels: &Labels<'l>,
    ) -> Option<ShapedSample<'l>>;
}

/// A sample after shaping.
#[derive(Debug)]
pub struct ShapedSample<'l> {
    /// How often rules have changed it.
    pub changed: u64,
    /// The sample's series now; `None` if it is dropped.
    pub kept: Option<ShapedSeries<'l>>,
}

/// The series of a sample.
#[derive(Debug)]
pub struct ShapedSeries<'l> {
    /// The name, if it changed.
    pub name: Option<String>,
    /// The labels, sorted by name. An unchanged value is a slice of the text.
    pub labels: Vec<(Cow<'l, str>, Cow<'l, str>)>,
}

/// Counts of shaped samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShapedCounts {
    /// Dropped samples.
    pub dropped: u64,
    /// Samples that rules have changed, counted once for each entry of the settings.
    pub changed: u64,
}

impl AddAssign for ShapedCounts {
    fn add_assign(&mut self, more: ShapedCounts) {
        self.dropped += more.dropped;
        self.changed += more.changed;
    }
}

/// Maximum number of kinds of samples in one text.
const MAX_KINDS: usize = 4096;

/// Maximum number of remembered fates.
const MAX_FATES: usize = 512;

/// Remembers what happens to the samples of a text.
pub(super) struct Memory<'s> {
    shaper: &'s mut (dyn SampleShaper + 's),
    /// The classes of the names of the last family.
    classes: Vec<(SampleName, usize)>,
    /// Indices in `kinds`, by class and names of labels.
    by_names: HashMap<Box<[u8]>, usize>,
    kinds: Vec<SampleKind>,
    /// The kind of the last sample, unless labels with other names came since.
    kind: Option<usize>,
    /// The name of the samples of that kind.
    current: Option<SampleName>,
    /// Whether anything can happen to them.
    is_touched: bool,
    /// Fates by kind and by the values that decide.
    fates: HashMap<Box<[u8]>, Fate>,
    key: Vec<u8>,
    /// Counts so far.
    pub counts: ShapedCounts,
}

/// A name in a text: its family's number, and its length. A family has no two names of one length.
type SampleName = (usize, usize);

/// Samples of one class, with labels of the same names.
struct SampleKind {
    class: usize,
    is_touched: bool,
    /// Indices of the labels whose values decide.
    reads: Vec<usize>,
}

/// What happens to samples.
#[derive(Clone, Copy)]
struct Fate {
    changed: u64,
    /// The form in which they are written; `None` if they are dropped.
    form: Option<usize>,
}

impl<'s> Memory<'s> {
    pub(super) fn new(shaper: &'s mut (dyn SampleShaper + 's)) -> Self {
        Memory {
            shaper,
            classes: Vec::new(),
            by_names: HashMap::new(),
            kinds: Vec::new(),
            kind: None,
            current: None,
            is_touched: false,
            fates: HashMap::new(),
            key: Vec::new(),
            counts: ShapedCounts::default(),
        }
    }

    /// Notes that the cache was filled with labels that can have other names.
    pub(super) fn note_other_labels(&mut self) {
        self.kind = None;
        self.current = None;
    }

    /// Whether samples with this name and the labels in the cache are known to stay as they are.
    #[inline]
    pub(super) fn passes(&self, name: SampleName) -> bool {
        !self.is_touched && self.current == Some(name)
    }

    /// The form for a sample whose labels are in the cache, and that does not [pass](Self::passes).
    /// The inner `None` is for a sample that is dropped, the outer one for a text that must be
    /// shaped before it is parsed.
    pub(super) fn form(
        &mut self,
        cache: &mut LabelCache<'_>,
        (family, name): ((usize, &str), &str),
        added: &[AddedLabel<'_>],
        limits: &TextLimits,
    ) -> Option<Option<usize>> {
        let (number, family) = family;
        let current = (number, name.len());
        let kind = match self.kind {
            Some(kind) if self.current == Some(current) => kind,
            _ => self.kind(cache, current, (family, name))?,
        };
        self.current = Some(current);
        let SampleKind {
            is_touched, reads, ..
        } = &self.kinds[kind];
        self.is_touched = *is_touched;
        if !is_touched {
            return Some(Some(PLAIN));
        }
        self.key.clear();
        self.key.extend_from_slice(&kind.to_ne_bytes());
        for place in reads {
            self.key.extend_from_slice(cache.value(*place).as_bytes());
            // No value contains an unescaped quote.
            self.key.push(b'"');
        }
        let fate = match self.fates.get(&*self.key) {
            Some(known) => *known,
            None => self.find_out(cache, kind, name, added, limits)?,
        };
        self.counts.changed += fate.changed;
        if fate.form.is_none() {
            self.counts.dropped += 1;
            cache.skip();
        }
        Some(fate.form)
    }

    /// The kind of a sample whose name or whose labels' names differ from those before.
    fn kind(
        &mut self,
        cache: &LabelCache<'_>,
        current: SampleName,
        (family, name): (&str, &str),
    ) -> Option<usize> {
        self.classes.retain(|((family, _), _)| *family == current.0);
        let known = self.classes.iter().find(|(known, _)| *known == current);
        let class = match known {
            Some((_, class)) => *class,
            None => {
                let class = self.shaper.class(family, name);
                self.classes.push((current, class));
                class
            }
        };
        if let Some(kind) = self.kind.filter(|kind| self.kinds[*kind].class == class) {
            return Some(kind);
        }
        self.key.clear();
        self.key.extend_from_slice(&class.to_ne_bytes());
        for label in cache.names() {
            self.key.extend_from_slice(label.as_bytes());
            self.key.push(b'"');
        }
        let kind = match self.by_names.get(&*self.key) {
            Some(known) => *known,
            None => {
                (self.kinds.len() < MAX_KINDS).then_some(())?;
                let names = cache.names();
                let reads = |place: &usize| self.shaper.reads(names[*place]);
                self.kinds.push(SampleKind {
                    class,
                    is_touched: self.shaper.can_touch(class, names),
                    reads: (0..names.len()).filter(reads).collect(),
                });
                let kind = self.kinds.len() - 1;
                self.by_names.insert(Box::from(&*self.key), kind);
                kind
            }
        };
        // A label without a value counts as absent, so names alone do not decide what happens.
        let has_none = |place: usize| cache.value(place).is_empty();
        if self.kinds[kind].is_touched && (0..cache.names().len()).any(has_none) {
            return None;
        }
        self.kind = Some(kind);
        Some(kind)
    }

    /// Finds out what happens to a sample, and remembers it under the key if it holds for others.
    #[cold]
    fn find_out(
        &mut self,
        cache: &mut LabelCache<'_>,
        kind: usize,
        name: &str,
        added: &[AddedLabel<'_>],
        limits: &TextLimits,
    ) -> Option<Fate> {
        let sent = cache.labels();
        let shaped = self.shaper.shape(self.kinds[kind].class, name, &sent)?;
        // Shaping unescapes values, so an escaped one is no longer a slice of the text.
        let is_plain = |label: &Label<'_>| !label.value.contains('\\');
        let again = self.fates.len() < MAX_FATES && sent.iter().all(is_plain);
        let changed = shaped.changed;
        let form = match &shaped.kept {
            None => None,
            Some(series) => {
                let labels = checked(series, &sent, limits)?;
                let mut shown = Vec::with_capacity(labels.len() + added.len());
                merge_added(&mut shown, &labels, added);
                let name = series.name.as_deref().map(Arc::from);
                Some(cache.add_form(name, &shown, again)?)
            }
        };
        let fate = Fate { changed, form };
        if again {
            self.fates.insert(Box::from(&*self.key), fate);
        }
        Some(fate)
    }
}

/// The labels of a shaped series, if they are usual and within the limits.
fn checked<'l>(
    series: &'l ShapedSeries<'_>,
    sent: &Labels<'_>,
    limits: &TextLimits,
) -> Option<Labels<'l>> {
    let labels = series.labels.iter();
    let labels: Labels<'l> = labels.map(|(name, value)| Label { name, value }).collect();
    let is_within = |label: &Label<'_>| {
        label.name.len() <= limits.label_name && label.value.len() <= limits.label_value
    };
    let is_usual = labels.len() <= limits.labels
        && labels
            .iter()
            .all(|label| is_plain_label(label.name) && is_within(label))
        && series
            .name
            .as_ref()
            .is_none_or(|name| is_plain_name(name) && name.len() <= limits.label_value);
    // Histograms and summaries are checked as sent, so these labels must not change.
    let is_kept = |name: &str| match (sent.value(name), labels.value(name)) {
        (None, None) => true,
        (Some(sent), Some(value)) => std::ptr::eq(sent, value),
        _ => false,
    };
    (is_usual && is_kept("le") && is_kept("quantile")).then_some(labels)
}
