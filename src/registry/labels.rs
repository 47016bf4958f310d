//! The labels of a block's series, by place.

use std::sync::Arc;

use super::block::PLACES;

/// The labels of a block's series, in one allocation. It is shared with copies
/// that are being rendered.
#[derive(Debug, Clone)]
pub struct LabelTexts {
    /// Longer than what is used, so that it need not be made anew for each.
    text: Arc<[u8]>,
    used: u32,
    /// Bytes of those that belong to no series any more.
    dead: u32,
    /// Places that have ever had a series.
    places: u32,
    /// Where each place's labels are. Inline: a look-up that has to wait for
    /// memory waits once less.
    spans: [Span; PLACES],
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

/// A place without a series.
const HOLE: Span = Span {
    start: u32::MAX,
    end: u32::MAX,
};

impl LabelTexts {
    pub fn new() -> Self {
        LabelTexts {
            text: Arc::default(),
            used: 0,
            dead: 0,
            places: 0,
            spans: [HOLE; PLACES],
        }
    }

    /// The labels of the series in that place, if there is one.
    pub fn get(&self, place: usize) -> Option<&str> {
        std::str::from_utf8(self.bytes(place)?).ok()
    }

    /// Whether the series in that place has these labels.
    pub fn is(&self, place: usize, labels: &str) -> bool {
        self.bytes(place) == Some(labels.as_bytes())
    }

    /// The places that have a series, with their labels.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &str)> {
        // Looked through once, and not once for each.
        let text = std::str::from_utf8(&self.text[..self.used as usize]).unwrap_or_default();
        let places = self.spans.iter().enumerate().take(self.places as usize);
        places.filter_map(move |(place, span)| {
            Some((place, text.get(span.start as usize..span.end as usize)?))
        })
    }

    /// Bytes of text.
    pub fn len(&self) -> usize {
        (self.used - self.dead) as usize
    }

    /// Bytes of text that there is memory for.
    #[cfg(test)]
    pub fn room(&self) -> usize {
        self.text.len()
    }

    pub fn bytes(&self, place: usize) -> Option<&[u8]> {
        let Span { start, end } = *self.spans.get(place)?;
        self.text.get(start as usize..end as usize)
    }

    /// Takes the labels of one more series, and returns its place. There is room:
    /// see [`Block::has_room`](super::block::Block::has_room).
    pub fn insert(&mut self, labels: &str) -> usize {
        let used = self.used as usize;
        let end = used + labels.len();
        match Arc::get_mut(&mut self.text).filter(|text| text.len() >= end) {
            Some(text) => text[used..end].copy_from_slice(labels.as_bytes()),
            None => {
                let room = (2 * self.len()).max(self.len() + labels.len());
                self.rebuild(room);
                let (used, text) = (self.used as usize, Arc::get_mut(&mut self.text));
                if let Some(text) = text {
                    text[used..used + labels.len()].copy_from_slice(labels.as_bytes());
                }
            }
        }
        let start = self.used;
        self.used += labels.len() as u32;
        let hole = self.spans.iter().position(|span| span.start == HOLE.start);
        let place = hole.unwrap_or_default();
        self.spans[place] = Span {
            start,
            end: self.used,
        };
        self.places = self.places.max(place as u32 + 1);
        place
    }

    pub fn remove(&mut self, place: usize) {
        let span = std::mem::replace(&mut self.spans[place], HOLE);
        self.dead += span.end - span.start;
        if self.dead > self.used / 2 {
            self.rebuild(self.len());
        }
    }

    /// Leaves out what belongs to no series, and takes so much room.
    pub fn rebuild(&mut self, room: usize) {
        let mut text = Vec::with_capacity(room);
        for place in 0..PLACES {
            if let Some(bytes) = self.bytes(place) {
                let start = text.len() as u32;
                text.extend_from_slice(bytes);
                let end = text.len() as u32;
                self.spans[place] = Span { start, end };
            }
        }
        self.used = text.len() as u32;
        self.dead = 0;
        text.resize(room, 0);
        self.text = Arc::from(text);
    }
}
