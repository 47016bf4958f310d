//! The label texts of one block.

use std::sync::Arc;

use super::block::SLOTS;

/// The labels of a block's series by slot, in one allocation. Copies share it,
/// so a block can be rendered while it changes.
#[derive(Debug, Clone)]
pub struct LabelTexts {
    /// Has spare room at its end, so that it need not grow for each series.
    text: Arc<[u8]>,
    /// Bytes in use, including dead ones.
    used: u32,
    /// Bytes that belong to removed series.
    dead: u32,
    /// Slots below this have had a series.
    slots: u32,
    /// Where each slot's labels are. Inline, since a look-up then waits for
    /// memory once less.
    spans: [Span; SLOTS],
}

/// A range of bytes.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

/// The span of a slot without a series.
const EMPTY: Span = Span {
    start: u32::MAX,
    end: u32::MAX,
};

impl LabelTexts {
    pub fn new() -> Self {
        LabelTexts {
            text: Arc::default(),
            used: 0,
            dead: 0,
            slots: 0,
            spans: [EMPTY; SLOTS],
        }
    }

    /// The labels of series in ascending slots below [`SLOTS`].
    pub fn of<'l>(series: impl Iterator<Item = (usize, &'l str)>) -> Self {
        let mut texts = LabelTexts::new();
        let mut joined = Vec::new();
        for (slot, labels) in series {
            let start = joined.len() as u32;
            joined.extend_from_slice(labels.as_bytes());
            let end = joined.len() as u32;
            texts.spans[slot] = Span { start, end };
            texts.slots = slot as u32 + 1;
        }
        texts.used = joined.len() as u32;
        texts.text = Arc::from(joined);
        texts
    }

    /// The labels of the series in a slot.
    pub fn get(&self, slot: usize) -> Option<&str> {
        std::str::from_utf8(self.bytes(slot)?).ok()
    }

    /// Whether the series in a slot has these labels.
    pub fn is(&self, slot: usize, labels: &str) -> bool {
        self.bytes(slot) == Some(labels.as_bytes())
    }

    /// The occupied slots with their labels, in order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &str)> {
        // Validated once as a whole, instead of once for each slot.
        let text = std::str::from_utf8(&self.text[..self.used as usize]).unwrap_or_default();
        let slots = self.spans.iter().enumerate().take(self.slots as usize);
        slots.filter_map(move |(slot, span)| {
            Some((slot, text.get(span.start as usize..span.end as usize)?))
        })
    }

    /// Bytes of all labels.
    pub fn len(&self) -> usize {
        (self.used - self.dead) as usize
    }

    /// Allocated bytes.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.text.len()
    }

    /// The labels of the series in a slot, as bytes.
    pub fn bytes(&self, slot: usize) -> Option<&[u8]> {
        let Span { start, end } = *self.spans.get(slot)?;
        self.text.get(start as usize..end as usize)
    }

    /// Adds the labels of a series, and returns its slot: the first free one.
    /// The caller makes sure that there is one: see
    /// [`Block::has_room`](super::block::Block::has_room).
    pub fn insert(&mut self, labels: &str) -> usize {
        let used = self.used as usize;
        let end = used + labels.len();
        match Arc::get_mut(&mut self.text).filter(|text| text.len() >= end) {
            Some(text) => text[used..end].copy_from_slice(labels.as_bytes()),
            None => {
                let capacity = (2 * self.len()).max(self.len() + labels.len());
                self.rebuild(capacity);
                let (used, text) = (self.used as usize, Arc::get_mut(&mut self.text));
                if let Some(text) = text {
                    text[used..used + labels.len()].copy_from_slice(labels.as_bytes());
                }
            }
        }
        let start = self.used;
        self.used += labels.len() as u32;
        let free = self.spans.iter().position(|span| span.start == EMPTY.start);
        let slot = free.unwrap_or_default();
        self.spans[slot] = Span {
            start,
            end: self.used,
        };
        self.slots = self.slots.max(slot as u32 + 1);
        slot
    }

    /// Removes the labels of a slot.
    pub fn remove(&mut self, slot: usize) {
        let span = std::mem::replace(&mut self.spans[slot], EMPTY);
        self.dead += span.end - span.start;
        if self.dead > self.used / 2 {
            self.rebuild(self.len());
        }
    }

    /// Drops dead bytes, and reallocates to `capacity` bytes.
    pub fn rebuild(&mut self, capacity: usize) {
        let mut text = Vec::with_capacity(capacity);
        for slot in 0..SLOTS {
            if let Some(bytes) = self.bytes(slot) {
                let start = text.len() as u32;
                text.extend_from_slice(bytes);
                let end = text.len() as u32;
                self.spans[slot] = Span { start, end };
            }
        }
        self.used = text.len() as u32;
        self.dead = 0;
        text.resize(capacity, 0);
        self.text = Arc::from(text);
    }
}
