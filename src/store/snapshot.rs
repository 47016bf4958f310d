//! A snapshot: everything that is exposed at one moment.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::vec;

use bytes::Bytes;

use crate::exposition::{OutputFormat, Text};
use crate::store::pages::gzip;
use crate::store::pages::page::Page;
use crate::store::pages::page_run::PageRuns;
use crate::store::sections::natives::FamilyNatives;

/// The output at one moment, as pages. Taking it copies no text, and later writes do
/// not change it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pages: Vec<Arc<Page>>,
    /// Bytes of canonical text.
    len: usize,
    format: OutputFormat,
    /// Whether all of it is families in canonical text.
    merged: bool,
    /// Native histograms by family, if they were asked for.
    natives: Vec<FamilyNatives>,
    /// The index of the page that the next worker takes in [`Snapshot::render_some`].
    next: Arc<AtomicUsize>,
    /// Compressed pages of the last responses.
    page_runs: Arc<PageRuns>,
}

/// An iterator over the texts of a snapshot. It drops each page after its text.
#[derive(Debug)]
pub struct Texts {
    pages: vec::IntoIter<Arc<Page>>,
    format: OutputFormat,
    /// The rest of the current page.
    pieces: vec::IntoIter<Bytes>,
}

/// A page of a snapshot, for readers that keep what they made of it until it changes.
#[derive(Debug, Clone, Copy)]
pub struct PageView<'s>(&'s Arc<Page>);

/// Identifies a page without keeping its text. A page that changes gets another identity.
#[derive(Debug, Clone, Default)]
pub struct PageId(Weak<Page>);

impl PageView<'_> {
    /// The page's identity.
    pub fn id(&self) -> PageId {
        PageId(Arc::downgrade(self.0))
    }

    /// The page's address, which equals [`PageId::address`] of its identity.
    pub fn address(&self) -> usize {
        Arc::as_ptr(self.0).addr()
    }

    /// The canonical text in pieces of whole lines.
    pub fn pieces(&self) -> Vec<Bytes> {
        self.0.pieces(OutputFormat::Canonical)
    }
}

impl PageId {
    /// An address that no other page has while this identity exists.
    pub fn address(&self) -> usize {
        self.0.as_ptr().addr()
    }
}

impl Iterator for Texts {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.pieces.next() {
                return Some(piece);
            }
            self.pieces = self.pages.next()?.pieces(self.format).into_iter();
        }
    }
}

impl Snapshot {
    pub(in crate::store) fn new(
        pages: Vec<Arc<Page>>,
        len: usize,
        page_runs: Arc<PageRuns>,
    ) -> Self {
        Snapshot {
            pages,
            len,
            format: OutputFormat::Canonical,
            merged: false,
            natives: Vec::new(),
            next: Arc::default(),
            page_runs,
        }
    }

    /// Sets whether all of it is families.
    #[must_use]
    pub(in crate::store) fn mark_merged(mut self, merged: bool) -> Self {
        self.merged = merged;
        self
    }

    /// Adds native histograms. Those of unknown families and labels are ignored.
    #[must_use]
    pub fn with_natives(mut self, natives: Vec<FamilyNatives>) -> Self {
        self.natives = natives;
        self
    }

    /// Whether all of it is families and nothing is verbatim text. Then it can be shown
    /// in any format.
    pub fn is_merged(&self) -> bool {
        self.merged
    }

    pub(in crate::store) fn pages(&self) -> &[Arc<Page>] {
        &self.pages
    }

    /// The pages in order. Text in other formats than the canonical one is not shown.
    pub fn page_views(&self) -> impl Iterator<Item = PageView<'_>> {
        self.pages.iter().map(PageView)
    }

    /// The native histograms by family, if they were asked for.
    pub fn natives(&self) -> &[FamilyNatives] {
        &self.natives
    }

    /// A snapshot of canonical text, followed by verbatim text.
    pub fn of(families: Bytes, verbatim: Bytes) -> Self {
        let len = families.len() + verbatim.len();
        let merged = verbatim.is_empty();
        let pages = [Page::of(families), Page::verbatim(verbatim)];
        let pages = pages.into_iter().filter(|page| page.len() > 0);
        Snapshot::new(pages.map(Arc::new).collect(), len, Arc::default()).mark_merged(merged)
    }

    /// The canonical text and the verbatim text, each in one piece.
    pub fn parts(&self) -> (Text, Text) {
        let of = |verbatim| {
            let pages = self.pages.iter();
            let pieces = pages
                .filter(|page| page.is_verbatim() == verbatim)
                .flat_map(|page| page.pieces(OutputFormat::Canonical));
            Text::concat(&pieces.collect::<Vec<_>>())
        };
        (of(false), of(true))
    }

    /// The snapshot in a format that a reader negotiated.
    #[must_use]
    pub fn in_format(mut self, format: OutputFormat) -> Self {
        const END: &[u8] = b"# EOF\n";
        self.format = format;
        if format.needs_family() {
            self.name_continued_families();
        }
        if format.is_open_metrics() {
            self.pages.push(Arc::new(Page::of(Bytes::from_static(END))));
            self.len += END.len();
        }
        self
    }

    /// Sets the family of each page that begins with samples: that of the last head
    /// before it.
    fn name_continued_families(&self) {
        for pair in self.pages.windows(2) {
            let [before, page] = pair else { continue };
            if page.is_verbatim() || page.is_continued() || page.begins_with_head() {
                continue;
            }
            if let Some(family) = before.last_family() {
                page.continues(&family);
            }
        }
    }

    /// The text of each page in turn, made when it is asked for.
    pub fn texts(&self) -> Texts {
        Texts {
            pages: self.pages.clone().into_iter(),
            format: self.format,
            pieces: Vec::new().into_iter(),
        }
    }

    /// Bytes of text. Makes the text, unless the format is the canonical one.
    pub fn len(&self) -> usize {
        if self.format == OutputFormat::Canonical {
            return self.len;
        }
        self.pages.iter().map(|page| page.len_in(self.format)).sum()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The whole text in one piece, copied.
    pub fn text(&self) -> Vec<u8> {
        self.texts()
            .fold(Vec::with_capacity(self.len), |mut whole, text| {
                whole.extend_from_slice(&text);
                whole
            })
    }

    /// Bytes of pages that are not yet made in the format, or compressed if
    /// `compressed`. Canonical text that only has to be joined is not counted. It is
    /// joined as it is sent, in memory that is at hand; other threads would take fresh
    /// memory for it, which costs more than they save.
    pub fn pending_bytes(&self, compressed: bool) -> usize {
        if !compressed && self.format == OutputFormat::Canonical {
            return 0;
        }
        let made = |page: &&Arc<Page>| match compressed {
            true => page.is_compressed(self.format),
            false => page.is_shown(self.format),
        };
        let unmade = self.pages.iter().filter(|page| !made(page));
        unmade.map(|page| page.len()).sum()
    }

    /// Makes pages until all are taken by this or another caller. Any number of threads
    /// may do so at once, each on a clone.
    pub fn render_some(&self, compressed: bool) {
        while let Some(page) = self.pages.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            self.render(page, compressed);
        }
    }

    /// Like [`render_some`](Self::render_some), but also waits for the pages that other
    /// callers are making.
    pub fn render_all(&self, compressed: bool) {
        self.render_some(compressed);
        for page in &self.pages {
            self.render(page, compressed);
        }
    }

    fn render(&self, page: &Page, compressed: bool) {
        if compressed {
            page.compressed(self.format);
        } else if !page.is_shown(self.format) {
            page.pieces(self.format);
        }
    }

    /// The whole text as one gzip member, in pieces. Pages that are compressed already
    /// are shared, the others are compressed here.
    pub fn gzip(&self) -> Vec<Bytes> {
        gzip::member(&self.page_runs.of(&self.pages, self.format))
    }
}
