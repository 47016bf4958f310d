//! All sections of the store, read a few at a time.

use std::iter::Peekable;
use std::sync::Arc;
use std::vec;

use crate::store::{Section, SectionId, Store};

/// The number of sections that are read from the store at once.
pub const PAGE_SECTIONS: usize = 256;

/// All sections in order, or the chosen ones, in batches of bounded size.
#[derive(Debug)]
pub struct SectionBatches {
    store: Arc<Store>,
    /// The limit on text in a batch, in bytes. A larger section is a batch of its own.
    max_bytes: usize,
    page: Peekable<vec::IntoIter<(SectionId, Section)>>,
    last: Option<SectionId>,
    /// The chosen sections that have not been read yet; `None` for all.
    chosen: Option<vec::IntoIter<SectionId>>,
}

impl SectionBatches {
    /// All sections of the store, with up to `max_bytes` bytes of text in a batch.
    pub fn new(store: &Arc<Store>, max_bytes: usize) -> Self {
        SectionBatches {
            store: Arc::clone(store),
            max_bytes,
            page: Vec::new().into_iter().peekable(),
            last: None,
            chosen: None,
        }
    }

    /// These sections. Those that no longer exist are left out.
    pub fn of(store: &Arc<Store>, ids: Vec<SectionId>, max_bytes: usize) -> Self {
        SectionBatches {
            chosen: Some(ids.into_iter()),
            ..SectionBatches::new(store, max_bytes)
        }
    }

    /// Reads more sections. Returns nothing at the end.
    fn read_page(&mut self) -> Vec<(SectionId, Section)> {
        let Some(chosen) = &mut self.chosen else {
            let page = self.store.sections(self.last.as_ref(), PAGE_SECTIONS);
            self.last = page.last().map(|(id, _)| id.clone());
            return page;
        };
        let found = chosen.filter_map(|id| Some((self.store.section_of(&id)?, id)));
        let found = found.map(|(section, id)| (id, section));
        found.take(PAGE_SECTIONS).collect()
    }
}

impl Iterator for SectionBatches {
    type Item = Vec<(SectionId, Section)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.peek().is_none() {
            self.page = self.read_page().into_iter().peekable();
        }
        let mut batch = vec![self.page.next()?];
        let mut bytes = batch[0].1.bytes;
        while let Some(next) = self.page.next_if(|(_, section)| {
            bytes = bytes.saturating_add(section.bytes);
            bytes <= self.max_bytes
        }) {
            batch.push(next);
        }
        Some(batch)
    }
}
