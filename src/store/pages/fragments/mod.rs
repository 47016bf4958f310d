//! The texts that a page is made of, and where in memory they lie.

use bytes::{Bytes, BytesMut};

use crate::store::pages::buffer_pool;

/// Texts in order. Each is a slice of `base`, or lies loose since it was
/// written.
#[derive(Debug, Clone, Default)]
pub struct Fragments {
    base: Bytes,
    spans: Vec<Span>,
    /// Texts of loose spans. One that was removed leaves an empty index_in_loose.
    loose: Vec<Bytes>,
    /// Parts that are slices of `base`.
    slices: usize,
    /// Bytes of all texts.
    len: usize,
}

/// Where a fragment is: 8 bytes, since there may be very many.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// Offset in `base`, or with [`LOOSE`] the index_in_loose in `loose`.
    at: u32,
    len: u32,
}

const LOOSE: u32 = 1 << 31;

/// Texts in so many pieces are few.
const FEW_PIECES: usize = 12;

/// Places of removed spans that are left alone.
const SPARE_PLACES: usize = 16;

/// A text of so many bytes is small: an allocation of its own is dear for it,
/// and so is looking for it all over the memory.
const SMALL: usize = 1024;

/// So many small texts may lie loose, or a quarter of all fragments where that
/// is more, before a writer joins them.
const MANY_LOOSE: usize = 16;

/// A writer joins no more bytes than that.
const JOINED_BY_WRITERS: usize = 64 * 1024;

/// MemoryBudget that is left for texts that grow where they lie: one byte in so many.
const ROOM: usize = 64;

impl Span {
    fn loose_place(self) -> Option<usize> {
        (self.at & LOOSE != 0).then_some((self.at & !LOOSE) as usize)
    }
}

impl Fragments {
    /// Texts that come together: in one piece, as far as it is small enough to
    /// be copied at once.
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
        let most = match fragments.len <= JOINED_BY_WRITERS {
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

    /// The same where it lies.
    pub fn text_at(&self, index: usize) -> &[u8] {
        self.text(self.spans[index])
    }

    /// All texts, where they lie in one piece.
    pub fn single(&self) -> Option<Bytes> {
        let mut pieces = self.pieces();
        let first = pieces.next()?;
        pieces.next().is_none().then_some(first)
    }

    /// Puts a copy of all texts at the end of `out`.
    pub fn copy_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.len);
        for run in self.runs() {
            out.extend_from_slice(self.text(run));
        }
    }

    /// Whether a fragment is this text. Long texts are not compared, and said
    /// to be another: a lock is held meanwhile.
    pub fn is(&self, index: usize, text: &[u8]) -> bool {
        const LONGEST_COMPARED: usize = 64 * 1024;
        let span = self.spans[index];
        span.len as usize == text.len() && text.len() <= LONGEST_COMPARED && self.text(span) == text
    }

    /// All texts in the pieces they lie in: slices that follow one another in
    /// memory are one.
    pub fn pieces(&self) -> impl Iterator<Item = Bytes> {
        self.runs().map(|run| self.bytes(run))
    }

    pub fn is_in_few_pieces(&self) -> bool {
        self.runs().nth(FEW_PIECES).is_none()
    }

    /// Puts a text before the one at `index`.
    pub fn insert(&mut self, index: usize, text: Bytes) {
        let text = own(text);
        self.len += text.len();
        let span = self.add_loose(text);
        make_room(&mut self.spans);
        self.spans.insert(index, span);
        self.tidy();
    }

    /// Replaces a text, and returns what is to be freed.
    pub fn replace(&mut self, index: usize, text: Bytes) -> Bytes {
        if text.len() <= SMALL {
            return self.renew(index, &text);
        }
        let text = own(text);
        self.replace_with(index, text.len(), |old| (text, old))
    }

    /// The same with a copy of `text`, which is the old one with small changes.
    /// It is written over that, in the one piece that all texts then lie in, as
    /// far as they are small enough to be copied at once.
    pub fn rewrite(&mut self, index: usize, text: &[u8]) -> Bytes {
        if self.len > JOINED_BY_WRITERS {
            return self.renew(index, text);
        }
        // Whatever lock is held: it is not much, and mostly nothing.
        drop(self.join(usize::MAX));
        self.write_into_base(index, text);
        Bytes::new()
    }

    /// The same with a copy of `text`, in the memory of the old one where that
    /// lies loose and fits, and nobody else reads it.
    fn renew(&mut self, index: usize, text: &[u8]) -> Bytes {
        self.replace_with(index, text.len(), |old| written_over(old, text))
    }

    /// Writes a text over another in `base`, where all lie, one after the
    /// other. What others read of it stays as it is.
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
                let mut new = buffer_pool::take(new_len + new_len / ROOM);
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

    /// Replaces a text by what `renew` makes of the old one, as far as that
    /// lies loose. It gives what is to be freed with it.
    fn replace_with(
        &mut self,
        index: usize,
        len: usize,
        renew: impl FnOnce(Bytes) -> (Bytes, Bytes),
    ) -> Bytes {
        let old = self.spans[index];
        self.len = self.len + len - old.len as usize;
        let freed = match old.loose_place() {
            Some(index_in_loose) => {
                self.spans[index].len = len as u32;
                let old = std::mem::take(&mut self.loose[index_in_loose]);
                let (text, freed) = renew(old);
                self.loose[index_in_loose] = text;
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

    /// Removes a text, and returns what is to be freed.
    pub fn remove(&mut self, index: usize) -> Bytes {
        let span = self.spans.remove(index);
        self.drop_part(span)
    }

    /// Takes the texts from `index` on. Neither half then holds memory of what
    /// is the other's, as far as it is small enough to be copied at once.
    pub fn split_off(&mut self, index: usize) -> Fragments {
        let mut rest = Fragments {
            base: self.base.clone(),
            spans: self.spans.split_off(index),
            ..Fragments::default()
        };
        self.spans.shrink_to_fit();
        for span in &mut rest.spans {
            rest.len += span.len as usize;
            match span.loose_place() {
                Some(index_in_loose) => {
                    span.at = rest.loose.len() as u32 | LOOSE;
                    rest.loose
                        .push(std::mem::take(&mut self.loose[index_in_loose]));
                }
                None => rest.slices += 1,
            }
        }
        self.len -= rest.len;
        self.slices -= rest.slices;
        for half in [&mut *self, &mut rest] {
            if half.len <= JOINED_BY_WRITERS {
                half.join(SMALL);
            }
        }
        rest
    }

    /// All texts in one piece. What is to be freed comes with it.
    pub fn joined(&mut self) -> (Bytes, Vec<Bytes>) {
        let freed = self.join(usize::MAX);
        (self.base.clone(), freed)
    }

    fn bytes(&self, span: Span) -> Bytes {
        match span.loose_place() {
            Some(index_in_loose) => self.loose[index_in_loose].clone(),
            None => self
                .base
                .slice(span.at as usize..(span.at + span.len) as usize),
        }
    }

    fn text(&self, span: Span) -> &[u8] {
        match span.loose_place() {
            Some(index_in_loose) => &self.loose[index_in_loose],
            None => &self.base[span.at as usize..(span.at + span.len) as usize],
        }
    }

    /// Parts, with slices that follow one another in `base` made one.
    fn runs(&self) -> impl Iterator<Item = Span> {
        let mut spans = self.spans.iter().copied().peekable();
        std::iter::from_fn(move || {
            let mut run = spans.next()?;
            if run.loose_place().is_none() {
                while let Some(next) = spans.next_if(|next| next.at == run.at + run.len) {
                    run.len += next.len;
                }
            }
            Some(run)
        })
    }

    fn add_loose(&mut self, text: Bytes) -> Span {
        // Places of removed spans are taken up now and then: nobody may ever
        // join them.
        if self.loose.len() > 2 * self.spans.len() + SPARE_PLACES {
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

    /// Leaves out the places of loose spans that were removed.
    fn compact(&mut self) {
        let mut loose = Vec::with_capacity(self.spans.len() + SPARE_PLACES);
        for span in &mut self.spans {
            if let Some(index_in_loose) = span.loose_place() {
                span.at = loose.len() as u32 | LOOSE;
                loose.push(std::mem::take(&mut self.loose[index_in_loose]));
            }
        }
        self.loose = loose;
    }

    /// Notes that a span is no longer there. Returns what is to be freed.
    fn drop_part(&mut self, span: Span) -> Bytes {
        self.len -= span.len as usize;
        match span.loose_place() {
            Some(index_in_loose) => std::mem::take(&mut self.loose[index_in_loose]),
            None => self.drop_slice(),
        }
    }

    /// Notes that a slice is no longer there. Returns what is to be freed: the
    /// last one takes `base` with it.
    fn drop_slice(&mut self) -> Bytes {
        self.slices -= 1;
        if self.slices > 0 {
            return Bytes::new();
        }
        std::mem::take(&mut self.base)
    }

    /// Joins small texts where many lie loose. That costs each writer a few
    /// times its own text, and saves readers far more.
    fn tidy(&mut self) {
        let many = MANY_LOOSE.max(self.spans.len() / 4);
        if self.spans.len() - self.slices <= many || self.len > JOINED_BY_WRITERS {
            return;
        }
        let is_small = |span: &&Span| span.loose_place().is_some() && span.len as usize <= SMALL;
        if self.spans.iter().filter(is_small).nth(many).is_some() {
            // Small texts cost little to free, whatever lock is held.
            self.join(SMALL);
        }
    }

    /// Makes loose texts of `most` bytes and less slices of `base`, beside
    /// those that are. Returns what is to be freed.
    fn join(&mut self, most: usize) -> Vec<Bytes> {
        let is_joined = |span: &Span| span.loose_place().is_none() || span.len as usize <= most;
        let joined = self.spans.iter().filter(|span| is_joined(span));
        let (count, len) = joined.fold((0, 0), |(count, len), span| {
            (count + 1, len + span.len as usize)
        });
        // Slices never change places among themselves.
        if count == self.slices && len == self.base.len() {
            return Vec::new();
        }
        // What lies in one piece already need not be copied.
        if let [span] = self.spans.as_mut_slice()
            && let Some(index_in_loose) = span.loose_place()
        {
            span.at = 0;
            self.slices = 1;
            self.base = std::mem::take(&mut self.loose[index_in_loose]);
            return std::mem::take(&mut self.loose);
        }
        let mut base = buffer_pool::take(len);
        let mut loose = Vec::new();
        for span in &mut self.spans {
            let text: &[u8] = match span.loose_place() {
                Some(index_in_loose) if !is_joined(span) => {
                    span.at = loose.len() as u32 | LOOSE;
                    loose.push(std::mem::take(&mut self.loose[index_in_loose]));
                    continue;
                }
                Some(index_in_loose) => &self.loose[index_in_loose],
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

/// A text in memory of its own, where it may be a small span of a large one,
/// which it would keep.
fn own(text: Bytes) -> Bytes {
    assert!(text.len() < LOOSE as usize, "a fragment is below 2 GiB");
    match text.len() {
        0..=SMALL => Bytes::copy_from_slice(&text),
        _ => text,
    }
}

/// A copy of `text`, in the memory of `old` where it nearly fills it and nobody
/// else reads that. What is to be freed comes with it.
///
/// Only a small text is sure to have memory of its own: one that is larger may
/// be the last that is left of something far larger still.
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

/// Makes room for one more, and few beyond: there are very many such lists, of
/// a few hundred entries at most, and twice what is needed would be a large
/// span of all memory.
pub fn make_room<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 8 + 4);
    }
}

#[cfg(test)]
mod tests;
