//! Compressed pages put together into larger pieces, kept from one answer to
//! the next.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::{Bytes, BytesMut};

use super::crc::Crc;
use super::packed::Packed;
use super::page::Page;
use crate::exposition::Form;

/// Pages to a bundle. A page's block is one to three KiB, so sending bundles
/// takes few system calls, and a bundle is put together again in microseconds
/// when one of its pages changes.
const RUN: usize = 16;

/// The blocks of a run of pages in one piece.
///
/// Without them every answer would gather all blocks into memory of its own,
/// which cost more than sending them: the allocator gives what was freed back
/// to the system, and fresh memory comes page by page.
#[derive(Debug)]
pub struct Bundle {
    /// Which pages: they may be gone, but no page takes their place in memory
    /// while they are remembered here.
    pages: Vec<Weak<Page>>,
    pub block: Bytes,
    pub crc: Crc,
    /// Bytes of text.
    pub len: usize,
}

/// The bundles of the last answer in each form.
#[derive(Debug, Default)]
pub struct Bundles {
    forms: Mutex<[Vec<Arc<Bundle>>; 1 + Form::VARIANTS]>,
}

impl Bundles {
    /// The pages in a form as bundles: those of the last answer where their
    /// pages are the same, new ones elsewhere.
    pub fn of(&self, pages: &[Arc<Page>], form: Form) -> Vec<Arc<Bundle>> {
        let place = form.variant().map_or(0, |variant| variant + 1);
        let last = self.lock()[place].clone();
        let runs = pages.chunks(RUN).enumerate();
        let bundles: Vec<_> = runs
            .map(
                |(at, run)| match last.get(at).filter(|last| last.is_of(run)) {
                    Some(same) => Arc::clone(same),
                    None => Arc::new(Bundle::new(run, form)),
                },
            )
            .collect();
        let same = last.len() == bundles.len();
        let mut pairs = last.iter().zip(&bundles);
        if !same || pairs.any(|(last, new)| !Arc::ptr_eq(last, new)) {
            let replaced = mem::replace(&mut self.lock()[place], bundles.clone());
            // Freed without the lock.
            drop(replaced);
        }
        bundles
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, [Vec<Arc<Bundle>>; 1 + Form::VARIANTS]> {
        self.forms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bundle {
    fn new(run: &[Arc<Page>], form: Form) -> Self {
        let packed: Vec<&Packed> = run.iter().map(|page| page.packed(form)).collect();
        let size = packed.iter().map(|packed| packed.block.len()).sum();
        let mut block = BytesMut::with_capacity(size);
        let mut crc = Crc::EMPTY;
        for packed in packed {
            block.extend_from_slice(&packed.block);
            crc = packed.crc.joined_to(crc);
        }
        Bundle {
            pages: run.iter().map(Arc::downgrade).collect(),
            block: block.freeze(),
            crc,
            len: run.iter().map(|page| page.len_in(form)).sum(),
        }
    }

    fn is_of(&self, run: &[Arc<Page>]) -> bool {
        self.pages.len() == run.len()
            && run
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
    fn a_bundle_is_kept_for_as_long_as_its_pages_are_the_same() {
        let bundles = Bundles::default();
        let mut pages: Vec<_> = (0..2 * RUN).map(|n| page(&format!("m{n} 1\n"))).collect();
        let first = bundles.of(&pages, Form::Normal);
        let second = bundles.of(&pages, Form::Normal);
        assert!(first.iter().zip(&second).all(|(a, b)| Arc::ptr_eq(a, b)));

        pages[RUN + 3] = page("other 1\n");
        let third = bundles.of(&pages, Form::Normal);
        assert!(Arc::ptr_eq(&first[0], &third[0]));
        assert!(!Arc::ptr_eq(&first[1], &third[1]));
    }

    #[test]
    fn a_page_that_is_changed_where_it_lies_is_another() {
        let bundles = Bundles::default();
        let mut pages = vec![page("m 1\n")];
        let before = bundles.of(&pages, Form::Normal);
        Arc::make_mut(&mut pages[0]).replace(0, Bytes::from_static(b"m 2\n"));
        let after = bundles.of(&pages, Form::Normal);
        assert_ne!(before[0].crc, after[0].crc);
        assert_ne!(before[0].block, after[0].block);
    }
}
