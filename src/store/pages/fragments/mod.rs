//! The texts of a page, and where they are in memory.

use bytes::{Bytes, BytesMut};

use crate::store::pages::buffer_pool;

/// Texts in order. Each is a slice of `base`, or a loose text that was set since the last join.
#[derive(Debug, Clone, Default)]
pub struct Fragments {
    base: Bytes,
    spans: Vec<Span>,
    /// The loose texts. One that was removed leaves an empty entry.
    loose: Vec<Bytes>,
    /// The number of spans that are slices of `base`.
    slices: usize,
    /// Bytes of all texts.
    len: usize,
}

/// Where a fragment is, in 8 bytes, since a store may hold millions.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// The offset in `base`; with the bit [`LOOSE`], the index in `loose`.
    at: u32,
    len: u32,
}

const LOOSE: u32 = 1 << 31;

/// Maximum number of pieces that are read without joining them.
const FEW_PIECES: usize = 12;

/// Empty entries of `loose` that are tolerated beside two per fragment.
const EMPTY_LOOSE_ENTRIES: usize = 16;

/// The size of a small text, in bytes. Small texts are joined early, since each
/// allocation and each cache miss costs more than copying them.
const SMALL: usize = 1024;

/// The number of small loose texts, or a quarter of all fragments if that is more, past
/// which a writer joins them.
const MANY_LOOSE: usize = 16;

/// Maximum number of bytes that a writer joins.
const MAX_JOINED_BY_WRITERS: usize = 64 * 1024;

/// The share of `base` that is reserved for growth when it is rewritten: 1/64.
const GROWTH_SHARE: usize = 64;

impl Span {
    fn loose_index(self) -> Option<usize> {
        (self.at & LOOSE != 0).then_some((self.at & !LOOSE) as usize)
    }
}

impl Fragments {
    /// Fragments of texts that are set together, joined if they are small enough.
    pub fn of(texts: impl Iterator<Item = Bytes>) -> Self {
        let mut fragments = Fragments::default();
        for text in texts {
            let text = own(text);
            fragments.len += text.len();
            fragments.spans.push(Span {
                at: fragments.loose.len() as u32 | LOOSE,
                len: text.len() as u32,
            });
            fragments.loose.push(text);
        }
        let most = match fragments.len <= MAX_JOINED_BY_WRITERS {
            true => usize::MAX,
            false => SMALL,
        };
        fragments.join(most);
        fragments.spans.shrink_to_fit();
        fragments
    }

    /// Bytes of all texts.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn count(&self) -> usize {
        self.spans.len()
    }

    pub fn get(&self, index: usize) -> Bytes {
        self.bytes(self.spans[index])
    }

    /// Like [`get`](Self::get), borrowed.
    pub fn text_at(&self, index: usize) -> &[u8] {
        self.text(self.spans[index])
    }

    /// All texts, if they are in one piece.
    pub fn single(&self) -> Option<Bytes> {
        let mut pieces = self.pieces();
        let first = pieces.next()?;
        pieces.next().is_none().then_some(first)
    }

    /// Appends a copy of all texts to `out`.
    pub fn copy_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.len);
        for run in self.runs() {
            out.extend_from_slice(self.text(run));
        }
    }

    /// Whether the fragment at `index` equals `text`. Long texts are not compared,
    /// because a lock is held; they count as different.
    pub fn is(&self, index: usize, text: &[u8]) -> bool {
        const LONGEST_COMPARED: usize = 64 * 1024;
        let span = self.spans[index];
        span.len as usize == text.len() && text.len() <= LONGEST_COMPARED && self.text(span) == text
    }

    /// All texts in as few pieces as possible: adjacent slices of `base` are one
    /// piece.
    pub fn pieces(&self) -> impl Iterator<Item = Bytes> {
        self.runs().map(|run| self.bytes(run))
    }

    pub fn is_in_few_pieces(&self) -> bool {
        self.runs().nth(FEW_PIECES).is_none()
    }

    /// Inserts a text before the one at `index`.
    pub fn insert(&mut self, index: usize, text: Bytes) {
        let text = own(text);
        self.len += text.len();
        let span = self.add_loose(text);
        make_room(&mut self.spans);
        self.spans.insert(index, span);
        self.tidy();
    }

    /// Replaces a text. Returns memory for the caller to free.
    pub fn replace(&mut self, index: usize, text: Bytes) -> Bytes {
        if text.len() <= SMALL {
            return self.renew(index, &text);
        }
        let text = own(text);
        self.replace_with(index, text.len(), |old| (text, old))
    }

    /// Replaces a text by a copy of `text`, which differs little from the old one.
    /// If the page is small enough, its texts are joined and the old one is
    /// overwritten in place. Returns memory for the caller to free.
    pub fn rewrite(&mut self, index: usize, text: &[u8]) -> Bytes {
        if self.len > MAX_JOINED_BY_WRITERS {
            return self.renew(index, text);
        }
        // Freed under the caller's lock: it is little, and mostly nothing.
        drop(self.join(usize::MAX));
        self.write_into_base(index, text);
        Bytes::new()
    }

    /// Replaces a text by a copy of `text`. If the old text is loose, of about the
    /// same size, and read by nobody else, its memory is used again.
    fn renew(&mut self, index: usize, text: &[u8]) -> Bytes {
        self.replace_with(index, text.len(), |old| written_over(old, text))
    }

    /// Overwrites a text in `base`, which all texts are slices of. If others read
    /// `base`, a copy is changed.
    fn write_into_base(&mut self, index: usize, text: &[u8]) {
        let Span { at, len } = self.spans[index];
        let (start, end) = (at as usize, (at + len) as usize);
        let new_end = start + text.len();
        let new_len = self.len - len as usize + text.len();
        let base = std::mem::take(&mut self.base);
        let base = match base.try_into_mut() {
            Ok(mut base) if base.capacity() >= new_len => {
                let old_len = base.len();
                base.resize(new_len.max(old_len), 0);
                base.copy_within(end..old_len, new_end);
                base.truncate(new_len);
                base[start..new_end].copy_from_slice(text);
                base
            }
            other => {
                let base = other.map_or_else(|shared| shared, BytesMut::freeze);
                let mut new = buffer_pool::take(new_len + new_len / GROWTH_SHARE);
                new.extend_from_slice(&base[..start]);
                new.extend_from_slice(text);
                new.extend_from_slice(&base[end..]);
                buffer_pool::recycle(base);
                new
            }
        };
        self.base = base.freeze();
        self.len = new_len;
        self.spans[index].len = text.len() as u32;
        for span in &mut self.spans[index + 1..] {
            span.at = span.at - len + text.len() as u32;
        }
    }

    /// Replaces a text of `len` bytes. `renew` takes the old text, empty if it is
    /// not loose, and returns the new one and memory to free.
    fn replace_with(
        &mut self,
        index: usize,
        len: usize,
        renew: impl FnOnce(Bytes) -> (Bytes, Bytes),
    ) -> Bytes {
        let old = self.spans[index];
        self.len = self.len + len - old.len as usize;
        let freed = match old.loose_index() {
            Some(loose_index) => {
                self.spans[index].len = len as u32;
                let old = std::mem::take(&mut self.loose[loose_index]);
                let (text, freed) = renew(old);
                self.loose[loose_index] = text;
                freed
            }
            None => {
                let (text, _) = renew(Bytes::new());
                self.spans[index] = self.add_loose(text);
                self.drop_slice()
            }
        };
        self.tidy();
        freed
    }

    /// Removes a text. Returns memory for the caller to free.
    pub fn remove(&mut self, index: usize) -> Bytes {
        let span = self.spans.remove(index);
        self.drop_part(span)
    }

    /// Splits off the texts from `index` on. A half that is small enough is joined,
    /// so that it keeps no memory of the other half.
    pub fn split_off(&mut self, index: usize) -> Fragments {
        let mut rest = Fragments {
            base: self.base.clone(),
            spans: self.spans.split_off(index),
            ..Fragments::default()
        };
        self.spans.shrink_to_fit();
        for span in &mut rest.spans {
            rest.len += span.len as usize;
            match span.loose_index() {
                Some(loose_index) => {
                    span.at = rest.loose.len() as u32 | LOOSE;
                    rest.loose
                        .push(std::mem::take(&mut self.loose[loose_index]));
                }
                None => rest.slices += 1,
            }
        }
        self.len -= rest.len;
        self.slices -= rest.slices;
        for half in [&mut *self, &mut rest] {
            if half.len <= MAX_JOINED_BY_WRITERS {
                half.join(SMALL);
            }
        }
        rest
    }

    /// Joins all texts into one piece. Also returns memory for the caller to free.
    pub fn joined(&mut self) -> (Bytes, Vec<Bytes>) {
        let freed = self.join(usize::MAX);
        (self.base.clone(), freed)
    }

    fn bytes(&self, span: Span) -> Bytes {
        match span.loose_index() {
            Some(loose_index) => self.loose[loose_index].clone(),
            None => self
                .base
                .slice(span.at as usize..(span.at + span.len) as usize),
        }
    }

    fn text(&self, span: Span) -> &[u8] {
        match span.loose_index() {
            Some(loose_index) => &self.loose[loose_index],
            None => &self.base[span.at as usize..(span.at + span.len) as usize],
        }
    }

    /// The spans, with adjacent slices of `base` merged into one.
    fn runs(&self) -> impl Iterator<Item = Span> {
        let mut spans = self.spans.iter().copied().peekable();
        std::iter::from_fn(move || {
            let mut run = spans.next()?;
            if run.loose_index().is_none() {
                while let Some(next) = spans.next_if(|next| next.at == run.at + run.len) {
                    run.len += next.len;
                }
            }
            Some(run)
        })
    }

    fn add_loose(&mut self, text: Bytes) -> Span {
        // Empty entries are dropped here, since the texts may never be joined.
        if self.loose.len() > 2 * self.spans.len() + EMPTY_LOOSE_ENTRIES {
            self.compact();
        }
        let span = Span {
            at: self.loose.len() as u32 | LOOSE,
            len: text.len() as u32,
        };
        make_room(&mut self.loose);
        self.loose.push(text);
        span
    }

    /// Drops the empty entries of `loose`.
    fn compact(&mut self) {
        let mut loose = Vec::with_capacity(self.spans.len() + EMPTY_LOOSE_ENTRIES);
        for span in &mut self.spans {
            if let Some(loose_index) = span.loose_index() {
                span.at = loose.len() as u32 | LOOSE;
                loose.push(std::mem::take(&mut self.loose[loose_index]));
            }
        }
        self.loose = loose;
    }

    /// Accounts for a removed span. Returns memory for the caller to free.
    fn drop_part(&mut self, span: Span) -> Bytes {
        self.len -= span.len as usize;
        match span.loose_index() {
            Some(loose_index) => std::mem::take(&mut self.loose[loose_index]),
            None => self.drop_slice(),
        }
    }

    /// Accounts for a removed slice of `base`. Returns memory for the caller to
    /// free: `base` itself after the last slice.
    fn drop_slice(&mut self) -> Bytes {
        self.slices -= 1;
        if self.slices > 0 {
            return Bytes::new();
        }
        std::mem::take(&mut self.base)
    }

    /// Joins small texts if many are loose. That costs each writer a few times the
    /// size of its own text, and saves readers far more.
    fn tidy(&mut self) {
        let many = MANY_LOOSE.max(self.spans.len() / 4);
        if self.spans.len() - self.slices <= many || self.len > MAX_JOINED_BY_WRITERS {
            return;
        }
        let is_small = |span: &&Span| span.loose_index().is_some() && span.len as usize <= SMALL;
        if self.spans.iter().filter(is_small).nth(many).is_some() {
            // Freed under the caller's lock: small texts cost little to free.
            self.join(SMALL);
        }
    }

    /// Moves loose texts of up to `most` bytes into `base`. Returns memory for the
    /// caller to free.
    fn join(&mut self, most: usize) -> Vec<Bytes> {
        let is_joined = |span: &Span| span.loose_index().is_none() || span.len as usize <= most;
        let joined = self.spans.iter().filter(|span| is_joined(span));
        let (count, len) = joined.fold((0, 0), |(count, len), span| {
            (count + 1, len + span.len as usize)
        });
        // Slices keep their order, so an unchanged count and size mean that there
        // is nothing to join and nothing unused in `base`.
        if count == self.slices && len == self.base.len() {
            return Vec::new();
        }
        // A single loose text becomes `base` without a copy.
        if let [span] = self.spans.as_mut_slice()
            && let Some(loose_index) = span.loose_index()
        {
            span.at = 0;
            self.slices = 1;
            self.base = std::mem::take(&mut self.loose[loose_index]);
            return std::mem::take(&mut self.loose);
        }
        let mut base = buffer_pool::take(len);
        let mut loose = Vec::new();
        for span in &mut self.spans {
            let text: &[u8] = match span.loose_index() {
                Some(loose_index) if !is_joined(span) => {
                    span.at = loose.len() as u32 | LOOSE;
                    loose.push(std::mem::take(&mut self.loose[loose_index]));
                    continue;
                }
                Some(loose_index) => &self.loose[loose_index],
                None => &self.base[span.at as usize..(span.at + span.len) as usize],
            };
            span.at = base.len() as u32;
            base.extend_from_slice(text);
        }
        self.slices = count;
        buffer_pool::recycle(std::mem::replace(&mut self.base, base.freeze()));
        std::mem::replace(&mut self.loose, loose)
    }
}

/// Copies a small text, since it may be a slice of a large one, whose memory it would
/// keep.
fn own(text: Bytes) -> Bytes {
    assert!(text.len() < LOOSE as usize, "a fragment is below 2 GiB");
    match text.len() {
        0..=SMALL => Bytes::copy_from_slice(&text),
        _ => text,
    }
}

/// A copy of `text`, in the memory of `old` if it nearly fills it and nobody else
/// reads it. Also returns memory for the caller to free.
///
/// Only a small text surely has memory of its own (see [`own`]). A larger one may
/// be a slice of something far larger.
fn written_over(old: Bytes, text: &[u8]) -> (Bytes, Bytes) {
    if old.len() > SMALL {
        return (Bytes::copy_from_slice(text), old);
    }
    let fits = |memory: &BytesMut| buffer_pool::fits(memory.capacity(), text.len());
    match old.try_into_mut() {
        Ok(mut memory) if fits(&memory) => {
            memory.clear();
            memory.extend_from_slice(text);
            (memory.freeze(), Bytes::new())
        }
        Ok(memory) => (Bytes::copy_from_slice(text), memory.freeze()),
        Err(old) => (Bytes::copy_from_slice(text), old),
    }
}

/// Reserves memory for one more entry, and few beyond. There are very many such lists,
/// of a few hundred entries at most, so doubling them would be a large part of all
/// memory.
pub fn make_room<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 8 + 4);
    }
}

#[cfg(test)]
mod tests;
