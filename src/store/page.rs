//! A page: neighbouring fragments of the output, joined and compressed at
//! most once for all who read it.

use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::{Bytes, BytesMut};
use flate2::{Compress, Compression, FlushCompress};
use memchr::memmem;

use super::crc::Crc;
use crate::exposition::Form;

/// Some contiguous text of the output, made of fragments.
///
/// Joining puts the fragments into one allocation, of which they are slices
/// from then on: the text is held once. Readers share a page and never see it
/// change; a writer that finds it shared changes a copy, which costs the list
/// of its parts and not their text.
#[derive(Debug, Default)]
pub struct Page {
    body: Mutex<Body>,
    len: usize,
    normal: Made,
    /// Where the first head of a family stands in the text, once it was asked.
    first_head: OnceLock<Option<usize>>,
    /// The page in other forms, made when the first reader asks for one.
    variants: OnceLock<Box<[Made; Form::VARIANTS]>>,
}

/// What has been made of a page, in one form.
#[derive(Debug, Default)]
struct Made {
    /// Whether the text is the normal one.
    same: OnceLock<bool>,
    text: OnceLock<Bytes>,
    packed: OnceLock<Packed>,
}

/// A page's text as one raw deflate block that ends on a byte boundary (a sync
/// flush, RFC 1951 section 3.2.4), so that blocks can be put one after the
/// other, and its CRC-32.
#[derive(Debug, Clone)]
pub struct Packed {
    pub block: Bytes,
    pub crc: Crc,
}

/// The fragments in order. Each is a slice of `base`, or lies loose since it
/// was written.
#[derive(Debug, Clone, Default)]
struct Body {
    base: Bytes,
    parts: Vec<Part>,
    /// Texts of loose parts. One that was removed leaves an empty place.
    loose: Vec<Bytes>,
    /// Parts that are slices of `base`.
    slices: usize,
    /// What `base` was before all of it was replaced: most often the next one
    /// has its size, and memory that is at hand is cheaper than fresh memory.
    spare: Bytes,
}

/// Where a fragment is: 8 bytes, since there may be very many.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// Offset in `base`, or with [`LOOSE`] the place in `loose`.
    at: u32,
    len: u32,
}

const LOOSE: u32 = 1 << 31;

/// A page of so many fragments is given out in pieces.
const FEW_PARTS: usize = 12;

/// Places of removed parts that are left alone.
const SPARE_PLACES: usize = 16;

impl Part {
    fn loose_place(self) -> Option<usize> {
        (self.at & LOOSE != 0).then_some((self.at & !LOOSE) as usize)
    }
}

impl Page {
    /// A page of one text, for what is shown beside the store.
    pub fn of(text: Bytes) -> Self {
        let mut page = Page::default();
        page.insert(0, text);
        page
    }

    /// Bytes of normal text.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of text in a form, which is made for it unless it is the normal one.
    pub fn len_in(&self, form: Form) -> usize {
        match self.simplest(form) {
            Form::NORMAL => self.len,
            form => self.text(form).len(),
        }
    }

    /// The normal form, where the text is the same in it. That is looked at
    /// where it lies: names that need another form are rare, and joining text
    /// to find none would hold it twice for a while.
    fn simplest(&self, form: Form) -> Form {
        let Some(variant) = form.variant().filter(|_| !form.open_metrics) else {
            return form;
        };
        let same = self.variants()[variant].same.get_or_init(|| {
            let is_same = |piece: &Bytes| {
                let text = std::str::from_utf8(piece);
                text.is_ok_and(|text| form.show(text).is_none())
            };
            self.pieces(Form::NORMAL).iter().all(is_same)
        });
        if *same { Form::NORMAL } else { form }
    }

    /// The text in a form, in the pieces it lies in. A page of few fragments is
    /// not joined for it: that would only move its text in memory.
    pub fn pieces(&self, form: Form) -> Vec<Bytes> {
        let form = self.simplest(form);
        if form == Form::NORMAL && self.normal.text.get().is_none() {
            let body = self.body();
            if body.parts.len() <= FEW_PARTS {
                return (0..body.parts.len())
                    .map(|index| body.fragment(index))
                    .collect();
            }
        }
        vec![self.text(form).clone()]
    }

    /// The text in a form, made now if it was not yet. Normal text is joined;
    /// a form in which it is the same shares it.
    pub fn text(&self, form: Form) -> &Bytes {
        let Some(variant) = self.simplest(form).variant() else {
            return self.normal.text.get_or_init(|| self.join());
        };
        self.variants()[variant].text.get_or_init(|| {
            let normal = self.text(Form::NORMAL);
            // Whole texts are UTF-8, and pages hold whole texts.
            let shown = std::str::from_utf8(normal)
                .ok()
                .and_then(|text| form.show(text));
            shown.map_or_else(|| normal.clone(), Bytes::from)
        })
    }

    /// Where the first head of a family begins in the normal text, if one does.
    pub fn first_head(&self) -> Option<usize> {
        *self.first_head.get_or_init(|| {
            let text = self.text(Form::NORMAL);
            // No other line begins so, and line feeds in values are escaped.
            if text.first() == Some(&b'#') {
                return Some(0);
            }
            memmem::find(text, b"\n#").map(|at| at + 1)
        })
    }

    /// The text in a form, compressed, now if it was not yet.
    pub fn packed(&self, form: Form) -> &Packed {
        let form = self.simplest(form);
        let made = match form.variant() {
            None => &self.normal,
            Some(variant) => &self.variants()[variant],
        };
        made.packed.get_or_init(|| {
            if form != Form::NORMAL && self.text(form).as_ptr() == self.text(Form::NORMAL).as_ptr()
            {
                return self.packed(Form::NORMAL).clone();
            }
            Packed::new(&self.pieces(form))
        })
    }

    pub fn is_packed(&self, form: Form) -> bool {
        let made = self.made(form);
        made.is_some_and(|made| made.packed.get().is_some())
    }

    /// What was made in a form, as far as something was.
    fn made(&self, form: Form) -> Option<&Made> {
        let Some(variant) = form.variant() else {
            return Some(&self.normal);
        };
        let made = &self.variants.get()?[variant];
        match made.same.get() {
            Some(true) => Some(&self.normal),
            _ => Some(made),
        }
    }

    /// Whether the text is there in a form, ready to be given out.
    pub fn is_shown(&self, form: Form) -> bool {
        self.made(form).is_some_and(|made| {
            made.text.get().is_some()
                || std::ptr::eq(made, &self.normal) && self.body().parts.len() <= FEW_PARTS
        })
    }

    fn variants(&self) -> &[Made; Form::VARIANTS] {
        self.variants.get_or_init(Box::default)
    }

    fn join(&self) -> Bytes {
        // The lock is this page's alone, and held for microseconds. A copy of
        // the list of fragments would cost more than copying their text.
        let mut body = self.body();
        let spare = std::mem::take(&mut body.spare);
        let joined = body.join(spare);
        let sliced = body.sliced(joined.clone());
        let old = std::mem::replace(&mut *body, sliced);
        drop(body);
        drop(old);
        joined
    }

    /// The text of one fragment.
    pub(super) fn fragment(&self, index: usize) -> Bytes {
        self.body().fragment(index)
    }

    /// Whether the fragment is this text already. Long texts are not compared:
    /// a lock is held meanwhile.
    pub(super) fn has(&self, index: usize, text: &[u8]) -> bool {
        const LONGEST_COMPARED: usize = 64 * 1024;
        let body = self.body();
        let part = body.parts[index];
        part.len as usize == text.len() && text.len() <= LONGEST_COMPARED && body.text(part) == text
    }

    /// Puts a fragment before the one at `index`.
    pub(super) fn insert(&mut self, index: usize, text: Bytes) {
        self.len += text.len();
        let body = self.stale_body();
        let part = body.add_loose(text);
        make_room(&mut body.parts);
        body.parts.insert(index, part);
    }

    /// Replaces a fragment, and returns what is to be freed.
    pub(super) fn replace(&mut self, index: usize, text: Bytes) -> Bytes {
        self.len += text.len();
        let body = self.stale_body();
        let old = body.parts[index];
        let freed = match old.loose_place() {
            Some(place) => {
                body.parts[index].len = text.len() as u32;
                std::mem::replace(&mut body.loose[place], text)
            }
            None => {
                body.parts[index] = body.add_loose(text);
                body.drop_slice()
            }
        };
        self.len -= old.len as usize;
        freed
    }

    /// Removes a fragment, and returns what is to be freed.
    pub(super) fn remove(&mut self, index: usize) -> Bytes {
        let body = self.stale_body();
        let old = body.parts.remove(index);
        let freed = match old.loose_place() {
            Some(place) => std::mem::take(&mut body.loose[place]),
            None => body.drop_slice(),
        };
        self.len -= old.len as usize;
        freed
    }

    /// Takes the fragments from `index` on into a page of their own.
    pub(super) fn split_off(&mut self, index: usize) -> Page {
        let mut page = Page::default();
        let count = self.stale_body().parts.len();
        for (place, index) in (index..count).enumerate() {
            page.insert(place, self.fragment(index));
        }
        for index in (index..count).rev() {
            self.remove(index);
        }
        page
    }

    /// Puts all fragments of `other` at the end.
    pub(super) fn append(&mut self, other: &Page) {
        let body = other.body();
        let count = self.stale_body().parts.len();
        for index in 0..body.parts.len() {
            self.insert(count + index, body.fragment(index));
        }
    }

    fn body(&self) -> MutexGuard<'_, Body> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body, to be changed: what was made of it before holds no longer.
    fn stale_body(&mut self) -> &mut Body {
        self.normal = Made::default();
        self.first_head = OnceLock::new();
        self.variants = OnceLock::new();
        self.body.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes room for one more, and few beyond: there are very many such lists, of
/// a few hundred entries at most, and twice what is needed would be a large
/// part of all memory.
pub(super) fn make_room<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 8 + 4);
    }
}

/// A copy to change: the same fragments, with nothing made of them yet.
impl Clone for Page {
    fn clone(&self) -> Self {
        Page {
            body: Mutex::new(self.body().clone()),
            len: self.len,
            normal: Made::default(),
            first_head: OnceLock::new(),
            variants: OnceLock::new(),
        }
    }
}

impl Body {
    fn fragment(&self, index: usize) -> Bytes {
        let part = self.parts[index];
        match part.loose_place() {
            Some(place) => self.loose[place].clone(),
            None => self
                .base
                .slice(part.at as usize..(part.at + part.len) as usize),
        }
    }

    fn text(&self, part: Part) -> &[u8] {
        match part.loose_place() {
            Some(place) => &self.loose[place],
            None => &self.base[part.at as usize..(part.at + part.len) as usize],
        }
    }

    fn add_loose(&mut self, text: Bytes) -> Part {
        assert!(text.len() < LOOSE as usize, "a fragment is below 2 GiB");
        // Places of removed parts are taken up now and then: nobody may ever
        // join the page.
        if self.loose.len() > 2 * self.parts.len() + SPARE_PLACES {
            self.compact();
        }
        let part = Part {
            at: self.loose.len() as u32 | LOOSE,
            len: text.len() as u32,
        };
        make_room(&mut self.loose);
        self.loose.push(text);
        part
    }

    /// Leaves out the places of loose parts that were removed.
    fn compact(&mut self) {
        let mut loose = Vec::with_capacity(self.parts.len() + SPARE_PLACES);
        for part in &mut self.parts {
            if let Some(place) = part.loose_place() {
                part.at = loose.len() as u32 | LOOSE;
                loose.push(std::mem::take(&mut self.loose[place]));
            }
        }
        self.loose = loose;
    }

    /// Notes that a slice is gone. Once it was the last, `base` is spare.
    /// Returns what is to be freed.
    fn drop_slice(&mut self) -> Bytes {
        self.slices -= 1;
        if self.slices == 0 {
            let base = std::mem::take(&mut self.base);
            return std::mem::replace(&mut self.spare, base);
        }
        Bytes::new()
    }

    /// The text in one piece, in `spare` memory where that is right for it.
    fn join(&self, spare: Bytes) -> Bytes {
        // What lies in one piece already need not be copied.
        if let [part] = self.parts.as_slice()
            && let Some(place) = part.loose_place()
        {
            return self.loose[place].clone();
        }
        let len: usize = self.parts.iter().map(|part| part.len as usize).sum();
        // Readers of what it held before may still have it.
        let spare = spare.try_into_mut().ok();
        let fits = |spare: &BytesMut| (len..=len + len / 4).contains(&spare.capacity());
        let mut joined = match spare.filter(fits) {
            Some(mut spare) => {
                spare.clear();
                spare
            }
            None => BytesMut::with_capacity(len),
        };
        for part in &self.parts {
            joined.extend_from_slice(self.text(*part));
        }
        joined.freeze()
    }

    /// The same fragments as slices of their joined text.
    fn sliced(&self, joined: Bytes) -> Body {
        let mut at = 0;
        let parts: Vec<Part> = self
            .parts
            .iter()
            .map(|part| {
                let sliced = Part { at, len: part.len };
                at += part.len;
                sliced
            })
            .collect();
        Body {
            base: joined,
            slices: parts.len(),
            parts,
            loose: Vec::new(),
            spare: Bytes::new(),
        }
    }
}

impl Packed {
    /// Compresses on the thread that asks. Making a compressor costs more than
    /// a page, so each thread keeps one.
    pub fn new(pieces: &[Bytes]) -> Self {
        thread_local! {
            static COMPRESSOR: RefCell<(Compress, Vec<u8>)> =
                RefCell::new((Compress::new(Compression::fast(), false), Vec::new()));
        }
        COMPRESSOR.with_borrow_mut(|(compressor, block)| {
            compressor.reset();
            block.clear();
            for (index, piece) in pieces.iter().enumerate() {
                let last = index + 1 == pieces.len();
                let flush = if last {
                    FlushCompress::Sync
                } else {
                    FlushCompress::None
                };
                let mut taken = 0;
                loop {
                    block.reserve(piece.len() / 8 + 256);
                    let before = compressor.total_in();
                    compressor
                        .compress_vec(&piece[taken..], block, flush)
                        .expect("deflating has no failing state");
                    taken += (compressor.total_in() - before) as usize;
                    // Room left over means that the flush is complete.
                    if taken == piece.len() && block.len() < block.capacity() {
                        break;
                    }
                }
            }
            Packed {
                block: Bytes::copy_from_slice(block),
                crc: Crc::of(pieces),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_nobody_reads_does_not_grow_with_what_was_removed() {
        let mut page = Page::default();
        for part in 0..10 {
            page.insert(part, Bytes::from_static(b"m 1\n"));
        }
        for round in 0..10_000 {
            page.remove(round % 10);
            page.insert(round % 10, Bytes::from(format!("m {round}\n")));
        }
        assert!(page.body().loose.len() <= 2 * 10 + SPARE_PLACES + 1);
        assert_eq!(page.fragment(9), Bytes::from_static(b"m 9999\n"));
        assert_eq!(page.text(Form::NORMAL).len(), page.len());
    }

    #[test]
    fn what_does_not_compress_is_packed_whole() {
        use std::io::Read;
        let mut state = 1_u64;
        let text: Vec<u8> = (0..300_000)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        let packed = Packed::new(&[Bytes::from(text.clone())]);
        let mut reader = flate2::read::DeflateDecoder::new(&packed.block[..]);
        let mut read = vec![0; text.len()];
        reader.read_exact(&mut read).unwrap();
        assert!(read == text);
    }
}
