//! Page runs: neighbouring compressed pages in one piece, kept from one response
//! to the next.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::{Bytes, BytesMut};

use crate::exposition::OutputFormat;
use crate::store::pages::compressed::Compressed;
use crate::store::pages::crc::Crc;
use crate::store::pages::page::Page;

/// Pages in a run. A page's block has one to three KiB, so a response of runs
/// takes few system calls, and a run is joined again within microseconds when one
/// of its pages changes.
const PAGES_PER_RUN: usize = 16;

/// The compressed blocks of neighbouring pages, in one piece.
///
/// Without runs, each response would copy all blocks into memory of its own. That
/// costs more than sending them, because the allocator returns freed memory to the
/// system and fresh memory is mapped page by page.
#[derive(Debug)]
pub struct PageRun {
    /// The run's pages. The weak reference keeps the address of a dropped page from being
    /// used by another.
    pages: Vec<Weak<Page>>,
    /// Deflate blocks; see [`Compressed::block`].
    pub block: Bytes,
    /// The checksum of the uncompressed text.
    pub crc: Crc,
    /// Bytes of uncompressed text.
    pub len: usize,
}

/// The page runs of the last response in each format.
#[derive(Debug, Default)]
pub struct PageRuns {
    by_format: Mutex<[Vec<Arc<PageRun>>; 1 + OutputFormat::VARIANTS]>,
}

impl PageRuns {
    /// The runs of `pages` in a format. A run whose pages have not changed since
    /// the last response is reused.
    pub fn of(&self, pages: &[Arc<Page>], format: OutputFormat) -> Vec<Arc<PageRun>> {
        let index = format.variant().map_or(0, |variant| variant + 1);
        let last = self.lock()[index].clone();
        let chunks = pages.chunks(PAGES_PER_RUN).enumerate();
        let runs: Vec<_> = chunks
            .map(
                |(at, pages)| match last.get(at).filter(|last| last.is_of(pages)) {
                    Some(same) => Arc::clone(same),
                    None => Arc::new(PageRun::new(pages, format)),
                },
            )
            .collect();
        let same = last.len() == runs.len();
        let mut pairs = last.iter().zip(&runs);
        if !same || pairs.any(|(last, new)| !Arc::ptr_eq(last, new)) {
            let replaced = mem::replace(&mut self.lock()[index], runs.clone());
            // Freed after the lock is released.
            drop(replaced);
        }
        runs
    }

    fn lock(&self) -> MutexGuard<'_, [Vec<Arc<PageRun>>; 1 + OutputFormat::VARIANTS]> {
        self.by_format
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl PageRun {
    fn new(pages: &[Arc<Page>], format: OutputFormat) -> Self {
        let compressed: Vec<&Compressed> =
            pages.iter().map(|page| page.compressed(format)).collect();
        let size = compressed.iter().map(|page| page.block.len()).sum();
        let mut block = BytesMut::with_capacity(size);
        let mut crc = Crc::EMPTY;
        for page in compressed {
            block.extend_from_slice(&page.block);
            crc = page.crc.joined_to(crc);
        }
        PageRun {
            pages: pages.iter().map(Arc::downgrade).collect(),
            block: block.freeze(),
            crc,
            len: pages.iter().map(|page| page.len_in(format)).sum(),
        }
    }

    fn is_of(&self, pages: &[Arc<Page>]) -> bool {
        self.pages.len() == pages.len()
            && pages
                .iter()
                .zip(&self.pages)
                .all(|(page, known)| Arc::as_ptr(page) == known.as_ptr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Arc<Page> {
        Arc::new(Page::of(Bytes::from(text.to_owned())))
    }

    #[test]
    fn a_run_is_kept_while_its_pages_are_the_same() {
        let page_runs = PageRuns::default();
        let mut pages: Vec<_> = (0..2 * PAGES_PER_RUN)
            .map(|n| page(&format!("m{n} 1\n")))
            .collect();
        let first = page_runs.of(&pages, OutputFormat::Canonical);
        let second = page_runs.of(&pages, OutputFormat::Canonical);
        assert!(first.iter().zip(&second).all(|(a, b)| Arc::ptr_eq(a, b)));

        pages[PAGES_PER_RUN + 3] = page("other 1\n");
        let third = page_runs.of(&pages, OutputFormat::Canonical);
        assert!(Arc::ptr_eq(&first[0], &third[0]));
        assert!(!Arc::ptr_eq(&first[1], &third[1]));
    }

    #[test]
    fn a_page_changed_in_place_makes_a_new_run() {
        let page_runs = PageRuns::default();
        let mut pages = vec![page("m 1\n")];
        let before = page_runs.of(&pages, OutputFormat::Canonical);
        Arc::make_mut(&mut pages[0]).replace(0, Bytes::from_static(b"m 2\n"));
        let after = page_runs.of(&pages, OutputFormat::Canonical);
        assert_ne!(before[0].crc, after[0].crc);
        assert_ne!(before[0].block, after[0].block);
    }
}
