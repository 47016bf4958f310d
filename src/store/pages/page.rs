//! A page: neighbouring fragments of the output, joined and compressed at most once
//! for all readers.

use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use memchr::memmem;

use crate::exposition::{
    Escaping, InputFormat, Kind, Labels, OutputFormat, ParsedLine, Parser, is_plain,
};
use crate::store::pages::compressed::Compressed;
use crate::store::pages::fragments::Fragments;

/// Contiguous text of the output, made of fragments.
///
/// Joining puts the fragments into one allocation, and they become slices of it, so
/// the text is held once. Readers share a page and never see it change: a writer
/// that finds it shared changes a copy, which copies the list of fragments and not
/// their text.
#[derive(Debug, Default)]
pub struct Page {
    fragments: Mutex<Fragments>,
    len: usize,
    /// Whether the text is verbatim: not parsed, and the same in every format.
    is_verbatim: bool,
    canonical: Rendition,
    /// The offset of the first family head in the text, once computed.
    first_head: OnceLock<Option<usize>>,
    /// The families that begin in the text, once computed.
    heads: OnceLock<Box<[PageHead]>>,
    /// Whether all names need no quotes, so that the text is the same in every text
    /// format, once computed.
    plain: OnceLock<bool>,
    /// The family of the samples before the first head, set by [`Page::continues`] for
    /// formats that need it.
    family: OnceLock<Box<str>>,
    /// The page in other formats, each made for its first reader.
    variants: OnceLock<Box<Variants>>,
}

type Variants = [OnceLock<Box<Rendition>>; OutputFormat::VARIANTS];

/// A family that begins in a page.
#[derive(Debug)]
pub struct PageHead {
    /// The offset of its first line in the canonical text.
    pub at: usize,
    /// The family's name, escaped, without quotes.
    pub name: Box<str>,
    pub kind: Kind,
}

/// Pages up to this size, in bytes, are copied before they are compressed.
const MAX_COPIED: usize = 64 * 1024;

/// A page in one format. Each part is made for its first reader.
#[derive(Debug, Default)]
struct Rendition {
    text: OnceLock<Bytes>,
    compressed: OnceLock<Compressed>,
}

impl Page {
    /// A page of one text.
    pub fn of(text: Bytes) -> Self {
        let mut page = Page::default();
        page.insert(0, text);
        page
    }

    /// A page of verbatim text, which is the same in every format.
    pub fn verbatim(text: Bytes) -> Self {
        let mut page = Page::of(text);
        page.is_verbatim = true;
        page
    }

    pub fn is_verbatim(&self) -> bool {
        self.is_verbatim
    }

    /// A page of several texts.
    pub(in crate::store) fn of_texts(
        texts: impl Iterator<Item = Bytes>,
        is_verbatim: bool,
    ) -> Self {
        let fragments = Fragments::of(texts);
        Page {
            len: fragments.len(),
            fragments: Mutex::new(fragments),
            is_verbatim,
            ..Page::default()
        }
    }

    /// Bytes of canonical text.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of text in a format. Makes the text, unless the format is the canonical one.
    pub fn len_in(&self, format: OutputFormat) -> usize {
        match self.simplest(format) {
            OutputFormat::Canonical => self.len,
            format => self.text(format).len(),
        }
    }

    /// The simplest format in which the text is the same: the canonical one if no names need
    /// quotes. The fragments are searched where they are: names with quotes are rare, and joining
    /// the text to find none would hold it twice for a while.
    fn simplest(&self, format: OutputFormat) -> OutputFormat {
        if self.is_verbatim {
            return OutputFormat::Canonical;
        }
        let plain_format = match format {
            OutputFormat::Canonical | OutputFormat::OpenMetrics(Escaping::AllowUtf8) => {
                return format;
            }
            OutputFormat::Text(_) => OutputFormat::Canonical,
            OutputFormat::OpenMetrics(_) => OutputFormat::OpenMetrics(Escaping::AllowUtf8),
        };
        let plain = self.plain.get_or_init(|| {
            let pieces = self.pieces(OutputFormat::Canonical);
            pieces.iter().all(|piece| is_plain(piece))
        });
        if *plain { plain_format } else { format }
    }

    /// The text in a format, in pieces. A few fragments are not joined for it, which
    /// would only move the text in memory.
    pub fn pieces(&self, format: OutputFormat) -> Vec<Bytes> {
        let format = self.simplest(format);
        if format == OutputFormat::Canonical && self.canonical.text.get().is_none() {
            let fragments = self.fragments();
            if fragments.is_in_few_pieces() {
                return fragments.pieces().collect();
            }
        }
        vec![self.text(format).clone()]
    }

    /// The text in a format in one piece, made on the first call. Canonical text is
    /// joined, and a format in which it is the same shares it.
    pub fn text(&self, format: OutputFormat) -> &Bytes {
        let Some(variant) = self.simplest(format).variant() else {
            return self.canonical.text.get_or_init(|| self.join());
        };
        self.variant(variant).text.get_or_init(|| {
            let canonical = self.text(OutputFormat::Canonical);
            let family = self.family.get().map(|family| &**family);
            // Pages hold whole texts, which are UTF-8.
            let shown = std::str::from_utf8(canonical)
                .ok()
                .and_then(|text| format.convert(text, family));
            shown.map_or_else(|| canonical.clone(), Bytes::from)
        })
    }

    /// The offset of the first family head in the canonical text.
    pub fn first_head(&self) -> Option<usize> {
        *self.first_head.get_or_init(|| {
            let text = self.text(OutputFormat::Canonical);
            // No other line begins with `#`, and line feeds in values are escaped.
            if text.first() == Some(&b'#') {
                return Some(0);
            }
            memmem::find(text, b"\n#").map(|at| at + 1)
        })
    }

    /// The families that begin in the canonical text. The page must not be verbatim.
    pub fn heads(&self) -> &[PageHead] {
        self.heads.get_or_init(|| {
            let text = self.text(OutputFormat::Canonical);
            std::str::from_utf8(text).map(heads_of).unwrap_or_default()
        })
    }

    /// The text in a format, compressed on the first call.
    pub fn compressed(&self, format: OutputFormat) -> &Compressed {
        let format = self.simplest(format);
        let made = match format.variant() {
            None => &self.canonical,
            Some(variant) => self.variant(variant),
        };
        made.compressed.get_or_init(|| {
            if format != OutputFormat::Canonical
                && self.text(format).as_ptr() == self.text(OutputFormat::Canonical).as_ptr()
            {
                return self.compressed(OutputFormat::Canonical).clone();
            }
            if format == OutputFormat::Canonical && self.len <= MAX_COPIED {
                return self.compressed_copy();
            }
            Compressed::new(self.text(format))
        })
    }

    /// The canonical text compressed. Text in several pieces is copied first, so that
    /// the page need not be joined.
    fn compressed_copy(&self) -> Compressed {
        thread_local! {
            static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let fragments = self.fragments();
        if let Some(single) = fragments.single() {
            drop(fragments);
            return Compressed::new(&single);
        }
        TEXT.with_borrow_mut(|text| {
            text.clear();
            fragments.copy_to(text);
            drop(fragments);
            Compressed::new(text)
        })
    }

    pub fn is_compressed(&self, format: OutputFormat) -> bool {
        let made = self.made(format);
        made.is_some_and(|made| made.compressed.get().is_some())
    }

    /// The page in a format, if anything was made in it.
    fn made(&self, format: OutputFormat) -> Option<&Rendition> {
        let is_known =
            format == OutputFormat::Canonical || self.is_verbatim || self.plain.get().is_some();
        let format = if is_known {
            self.simplest(format)
        } else {
            format
        };
        match format.variant() {
            None => Some(&self.canonical),
            Some(variant) => Some(&**self.variants.get()?[variant].get()?),
        }
    }

    /// Whether the text in a format is made, or has only to be joined.
    pub fn is_shown(&self, format: OutputFormat) -> bool {
        let made = self.made(format);
        made.is_some_and(|made| made.text.get().is_some() || std::ptr::eq(made, &self.canonical))
    }

    fn variant(&self, variant: usize) -> &Rendition {
        let variants = self.variants.get_or_init(Box::default);
        variants[variant].get_or_init(Box::default)
    }

    /// Whether the text begins with a family head.
    pub fn begins_with_head(&self) -> bool {
        let fragments = self.fragments();
        fragments.count() > 0 && fragments.text_at(0).first() == Some(&b'#')
    }

    /// Whether [`continues`](Self::continues) was called.
    pub fn is_continued(&self) -> bool {
        self.family.get().is_some()
    }

    /// Sets the family of the samples before the first head. It holds until the
    /// page is changed.
    pub fn continues(&self, family: &str) {
        self.family.get_or_init(|| Box::from(family));
    }

    /// The family of the last samples, escaped. `None` if no head in this page or
    /// one before names it.
    pub fn last_family(&self) -> Option<Box<str>> {
        let text = std::str::from_utf8(self.text(OutputFormat::Canonical)).ok()?;
        let at = match text.rfind("\n# TYPE ") {
            Some(at) => at + 1,
            None if text.starts_with("# TYPE ") => 0,
            None => return self.family.get().cloned(),
        };
        match Parser::new(&text[at..], InputFormat::Text).next(&mut Labels::new()) {
            Ok(Some(ParsedLine::Type { name, .. })) => Some(Box::from(name)),
            _ => None,
        }
    }

    fn join(&self) -> Bytes {
        // The lock is this page's own, and held for microseconds. Copying the list
        // of fragments would cost more than copying their text.
        let (joined, freed) = self.fragments().joined();
        drop(freed);
        joined
    }

    /// The text of one fragment.
    pub(in crate::store) fn fragment(&self, index: usize) -> Bytes {
        self.fragments().get(index)
    }

    #[cfg(test)]
    pub(in crate::store) fn count(&self) -> usize {
        self.fragments().count()
    }

    /// Whether the fragment equals `text`; see [`Fragments::is`].
    pub(in crate::store) fn has(&self, index: usize, text: &[u8]) -> bool {
        self.fragments().is(index, text)
    }

    /// Calls `make` with the text of one fragment.
    pub(in crate::store) fn with_text<T>(&self, index: usize, make: impl FnOnce(&[u8]) -> T) -> T {
        make(self.fragments().text_at(index))
    }

    /// Inserts a fragment before the one at `index`.
    pub(in crate::store) fn insert(&mut self, index: usize, text: Bytes) {
        self.change(|fragments| fragments.insert(index, text));
    }

    /// Replaces a fragment. Returns memory for the caller to free.
    pub(in crate::store) fn replace(&mut self, index: usize, text: Bytes) -> Bytes {
        self.change(|fragments| fragments.replace(index, text))
    }

    /// Replaces a fragment by a copy of `text`, which differs from it in values
    /// only. Returns memory for the caller to free.
    pub(in crate::store) fn rewrite(&mut self, index: usize, text: &[u8]) -> Bytes {
        let plain = std::mem::take(&mut self.plain);
        let freed = self.change(|fragments| fragments.rewrite(index, text));
        self.plain = plain;
        freed
    }

    /// Removes a fragment. Returns memory for the caller to free.
    pub(in crate::store) fn remove(&mut self, index: usize) -> Bytes {
        self.change(|fragments| fragments.remove(index))
    }

    /// Splits the fragments from `index` on off into a page of their own.
    pub(in crate::store) fn split_off(&mut self, index: usize) -> Page {
        let rest = self.change(|fragments| fragments.split_off(index));
        Page {
            len: rest.len(),
            fragments: Mutex::new(rest),
            is_verbatim: self.is_verbatim,
            ..Page::default()
        }
    }

    /// Appends all fragments of `other`.
    pub(in crate::store) fn append(&mut self, other: &Page) {
        let other = other.fragments();
        self.change(|fragments| {
            for index in 0..other.count() {
                fragments.insert(fragments.count(), other.get(index));
            }
        });
    }

    fn fragments(&self) -> MutexGuard<'_, Fragments> {
        self.fragments
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the fragments, and drops everything made from them.
    fn change<T>(&mut self, change: impl FnOnce(&mut Fragments) -> T) -> T {
        self.canonical = Rendition::default();
        self.first_head = OnceLock::new();
        self.heads = OnceLock::new();
        self.plain = OnceLock::new();
        self.family = OnceLock::new();
        self.variants = OnceLock::new();
        let fragments = self.fragments.get_mut();
        let fragments = fragments.unwrap_or_else(PoisonError::into_inner);
        let done = change(fragments);
        self.len = fragments.len();
        done
    }
}

/// The family heads in a text of whole lines. Only lines that begin with `#` are
/// parsed.
fn heads_of(text: &str) -> Box<[PageHead]> {
    let mut heads = Vec::new();
    let mut help = None;
    let first = text.starts_with('#').then_some(0);
    let others = memmem::find_iter(text.as_bytes(), b"\n#").map(|at| at + 1);
    for at in first.into_iter().chain(others) {
        let line = text[at..].lines().next().unwrap_or_default();
        match Parser::new(line, InputFormat::Text).next(&mut Labels::new()) {
            Ok(Some(ParsedLine::Help { name, .. })) => help = Some((at, name)),
            Ok(Some(ParsedLine::Type { name, kind })) => {
                let begin = help.take().filter(|(_, of)| *of == name);
                heads.push(PageHead {
                    at: begin.map_or(at, |(at, _)| at),
                    name: name.into(),
                    kind,
                });
            }
            _ => {}
        }
    }
    heads.into()
}

/// A copy to change: the same fragments, with nothing made of them.
impl Clone for Page {
    fn clone(&self) -> Self {
        Page {
            fragments: Mutex::new(self.fragments().clone()),
            len: self.len,
            is_verbatim: self.is_verbatim,
            canonical: Rendition::default(),
            first_head: OnceLock::new(),
            heads: OnceLock::new(),
            plain: self.plain.clone(),
            family: OnceLock::new(),
            variants: OnceLock::new(),
        }
    }
}
