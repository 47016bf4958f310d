//! Everything that is exposed at one moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::vec;

use bytes::Bytes;

use crate::exposition::{OutputFormat, Text};
use crate::store::pages::gzip;
use crate::store::pages::page::Page;
use crate::store::pages::page_run::PageRuns;
use crate::store::sections::natives::FamilyNatives;

/// The output as its pages, in order. Taking one copies no text, and what is
/// written later does not touch it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pages: Vec<Arc<Page>>,
    /// Bytes of normal text.
    len: usize,
    form: OutputFormat,
    /// Whether all of it is families in normal text.
    merged: bool,
    /// Native histograms by family, where they were asked for.
    natives: Vec<FamilyNatives>,
    /// The page that the next worker takes in [`Snapshot::render_some`].
    next: Arc<AtomicUsize>,
    /// Where compressed pages lie together.
    page_runs: Arc<PageRuns>,
}

/// Texts of pages, one after the other. Each page is let go once its text is
/// taken.
#[derive(Debug)]
pub struct Texts {
    pages: vec::IntoIter<Arc<Page>>,
    form: OutputFormat,
    /// What is left of the page that was taken last.
    pieces: vec::IntoIter<Bytes>,
}

impl Iterator for Texts {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.pieces.next() {
                return Some(piece);
            }
            self.pieces = self.pages.next()?.pieces(self.form).into_iter();
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
            form: OutputFormat::Canonical,
            merged: false,
            natives: Vec::new(),
            next: Arc::default(),
            page_runs,
        }
    }

    /// Says whether all of it is known to be families: then it can be shown in
    /// any form.
    #[must_use]
    pub(in crate::store) fn with_merged(mut self, merged: bool) -> Self {
        self.merged = merged;
        self
    }

    /// The same with what its text cannot show. Those of families and labels
    /// that are not there do no harm.
    #[must_use]
    pub fn with_natives(mut self, natives: Vec<FamilyNatives>) -> Self {
        self.natives = natives;
        self
    }

    /// Whether it is known that all of it is families, none of it text that
    /// was passed through: then it can be shown in any form.
    pub fn is_merged(&self) -> bool {
        self.merged
    }

    pub(in crate::store) fn pages(&self) -> &[Arc<Page>] {
        &self.pages
    }

    pub(in crate::store) fn natives(&self) -> &[FamilyNatives] {
        &self.natives
    }

    /// Families in normal text, shown like the store's own, and after them text
    /// that is shown as it is.
    pub fn of(families: Bytes, verbatim: Bytes) -> Self {
        let len = families.len() + verbatim.len();
        let merged = verbatim.is_empty();
        let pages = [Page::of(families), Page::verbatim(verbatim)];
        let pages = pages.into_iter().filter(|page| page.len() > 0);
        Snapshot::new(pages.map(Arc::new).collect(), len, Arc::default()).with_merged(merged)
    }

    /// The families in normal text, and the text that is shown as it is, each
    /// in one piece.
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

    /// The same in a form that a reader asked for.
    #[must_use]
    pub fn in_form(mut self, form: OutputFormat) -> Self {
        const END: &[u8] = b"# EOF\n";
        self.form = form;
        if form.needs_family() {
            self.name_continued_families();
        }
        if form.is_open_metrics() {
            self.pages.push(Arc::new(Page::of(Bytes::from_static(END))));
            self.len += END.len();
        }
        self
    }

    /// Tells each page that begins with samples which family they are of: that
    /// of the last head before them.
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

    /// The pages' texts, each made when its turn comes.
    pub fn texts(&self) -> Texts {
        Texts {
            pages: self.pages.clone().into_iter(),
            form: self.form,
            pieces: Vec::new().into_iter(),
        }
    }

    /// Bytes of text. Forms other than the normal one are made for it.
    pub fn len(&self) -> usize {
        if self.form == OutputFormat::Canonical {
            return self.len;
        }
        self.pages.iter().map(|page| page.len_in(self.form)).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The whole text in one piece.
    pub fn text(&self) -> Vec<u8> {
        self.texts()
            .fold(Vec::with_capacity(self.len), |mut whole, text| {
                whole.extend_from_slice(&text);
                whole
            })
    }

    /// Bytes of pages that have yet to be brought into the form, and compressed
    /// where `packed`. Normal text, which is only to be joined, is not counted:
    /// that is done as it is sent, in memory that is at hand. Other threads
    /// would take fresh memory for it, which costs more than they save.
    pub fn pending_bytes(&self, packed: bool) -> usize {
        if !packed && self.form == OutputFormat::Canonical {
            return 0;
        }
        let made = |page: &&Arc<Page>| match packed {
            true => page.is_compressed(self.form),
            false => page.is_shown(self.form),
        };
        let unmade = self.pages.iter().filter(|page| !made(page));
        unmade.map(|page| page.len()).sum()
    }

    /// Makes pages until none is left that no other caller has taken. Any
    /// number of threads may do this at once on clones.
    pub fn render_some(&self, packed: bool) {
        while let Some(page) = self.pages.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            self.make(page, packed);
        }
    }

    /// The same, and waits for what other callers are at.
    pub fn render_all(&self, packed: bool) {
        self.render_some(packed);
        for page in &self.pages {
            self.make(page, packed);
        }
    }

    fn make(&self, page: &Page, packed: bool) {
        if packed {
            page.compressed(self.form);
        } else if !page.is_shown(self.form) {
            page.pieces(self.form);
        }
    }

    /// One gzip member of the whole text, in pieces. What is compressed already
    /// is shared; the rest is compressed now.
    ///
    /// The member is the pages' blocks one after the other, an empty final
    /// block, and the CRC-32 combined from the pages'. Readers that stop after
    /// a first member would lose the rest of several.
    pub fn gzip(&self) -> Vec<Bytes> {
        gzip::member(&self.page_runs.of(&self.pages, self.form))
    }
}
