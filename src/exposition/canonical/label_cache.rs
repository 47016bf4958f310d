//! The labels of the line before, as a template for those of the next one.
//!
//! Lines of one text are mostly alike: the same labels, most of them with the
//! same values. What two lines have in common was looked at in the first of
//! them, so of the second only the values are read that differ.

use std::borrow::Cow;

use crate::exposition::families::parts_label;
use crate::exposition::parse::{self, offset};
use crate::exposition::{AddedLabel, Kind, LabelConflict, Labels, Sample};

/// How the labels of a line are written, by the sender and in normal text.
///
/// The labels of a line are what stands between its name and the blanks before
/// its value, braces included. Places in them are counted from their beginning,
/// so the name may be another one.
#[derive(Debug, Default)]
pub(super) struct LabelCache<'t> {
    /// Whether there is one.
    is_made: bool,
    /// The labels of the line before, as sent.
    sent: &'t str,
    /// Names, in the order in which they were sent.
    names: Vec<&'t str>,
    /// Where their values are in `sent`.
    values: Vec<Span>,
    /// What stands before each of the values in normal text, and after the
    /// last one.
    pieces: Vec<Span>,
    pieces_text: String,
    /// The values in normal text, in its order.
    slots: Vec<Slot>,
    /// The labels of the line before, in the text that is being written.
    written: Span,
    /// What is no label to a reader, since it has no value.
    empty: Option<Empty>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
}

impl Span {
    fn of(self, text: &str) -> &str {
        &text[self.start..self.end]
    }
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// The value's place among `values`.
    value: usize,
    /// Where it is in the labels as they were written last.
    at: usize,
}

/// An added label without a value.
#[derive(Debug, Clone, Copy)]
struct Empty {
    /// The piece that it is in.
    piece: usize,
    /// How far before the end of that piece it begins.
    back: usize,
    len: usize,
}

/// What one line has, beside its name.
#[derive(Debug)]
pub(super) struct Read<'t> {
    pub value: f64,
    pub value_text: &'t str,
    /// From this value in normal text on, they are others than before.
    changed: usize,
}

impl<'t> LabelCache<'t> {
    /// Reads what follows a name. `None` where the line is of another form, or
    /// has a time, or something is wrong with it; then the next template has to
    /// be made of that line.
    pub(super) fn read(&mut self, rest: &'t str, longest: usize) -> Option<Read<'t>> {
        if !self.is_made {
            return None;
        }
        let bytes = rest.as_bytes();
        let same = common(bytes, self.sent.as_bytes());
        let mut at = self.sent.len();
        let mut changed = self.slots.len();
        if same < at {
            // The first value whose end is not the same.
            let first = self.values.iter().position(|value| value.end >= same)?;
            at = self.values[first].start;
            if same < at {
                return None;
            }
            let slots = self.slots.iter();
            let first_changed = slots.clone().position(|slot| slot.value >= first);
            changed = first_changed.unwrap_or(changed);
            let mut before = self.values[first].end;
            for place in first..self.values.len() {
                let end = parse::quote_or_backslash(bytes, at);
                // An empty value is no label, and an escape is to be looked at.
                if bytes.get(end) != Some(&b'"') || end == at || end - at > longest {
                    return None;
                }
                let sent = self.sent.len();
                let next = self.values.get(place + 1);
                let next = next.map_or((sent, sent), |value| (value.start, value.end));
                let between = &self.sent[before..next.0];
                if !rest[end..].starts_with(between) {
                    return None;
                }
                self.values[place] = Span { start: at, end };
                at = end + between.len();
                before = next.1;
            }
            self.sent = &rest[..at];
        }
        while let Some(b' ' | b'\t') = bytes.get(at) {
            at += 1;
        }
        let value_text = &rest[at..];
        let value = parse::float(value_text)?;
        Some(Read {
            value,
            value_text,
            changed,
        })
    }

    /// Writes the labels that were read, in normal text.
    pub(super) fn write(&mut self, out: &mut String, read: &Read<'_>) {
        let start = out.len();
        let kept = self
            .slots
            .get(read.changed)
            .map_or(self.written.end, |slot| self.written.start + slot.at);
        out.extend_from_within(self.written.start..kept);
        let pieces = self.pieces.iter().skip(read.changed + 1);
        for (slot, piece) in self.slots.iter_mut().skip(read.changed).zip(pieces) {
            slot.at = out.len() - start;
            out.push_str(self.values[slot.value].of(self.sent));
            out.push_str(piece.of(&self.pieces_text));
        }
        self.written = Span {
            start,
            end: out.len(),
        };
    }

    /// The series that was written last, its name from `start` on, as readers
    /// know it: without the label that has no value. `full` is there to write
    /// it in.
    pub(super) fn series<'s>(&self, out: &'s str, start: usize, full: &'s mut String) -> &'s str {
        let Some(empty) = self.empty else {
            return &out[start..];
        };
        let slot = self.slots.get(empty.piece);
        let end = slot.map_or(self.written.end, |slot| self.written.start + slot.at);
        let cut = end - empty.back;
        full.clear();
        full.push_str(&out[start..cut]);
        full.push_str(&out[cut + empty.len..]);
        full
    }

    /// What is written in the label that tells parts of such a family apart.
    pub(super) fn part(&self, kind: Kind) -> Option<&'t str> {
        let (label, _) = parts_label(kind)?;
        let place = self.names.iter().position(|name| *name == label)?;
        Some(self.values[place].of(self.sent))
    }

    /// Makes the template of a sample whose labels are in the order in which
    /// they were sent, `rest` being what follows the name. It is not ready
    /// before [`LabelCache::finish`].
    pub(super) fn begin(&mut self, rest: &'t str, sample: &Sample<'t>, labels: &Labels<'t>) {
        self.is_made = false;
        let end = offset(rest, sample.value_text);
        self.sent = rest[..end].trim_end_matches([' ', '\t']);
        self.names.clear();
        self.values.clear();
        for label in labels {
            self.names.push(label.name);
            let start = offset(rest, label.value);
            let end = start + label.value.len();
            self.values.push(Span { start, end });
        }
    }

    /// Goes on with the same labels and those that are `added`, as they are
    /// shown, in order; `start` is where they were written in `out`.
    ///
    /// There is no template where labels were renamed or have no value, nor
    /// where several of those that are added have none.
    pub(super) fn finish(
        &mut self,
        shown: &[(Cow<'_, str>, &str)],
        added: &[AddedLabel<'_>],
        (out, start): (&str, usize),
    ) {
        self.written = Span {
            start,
            end: out.len(),
        };
        self.is_made = self.cut(shown, added).is_some();
        debug_assert!(
            !self.is_made || {
                let mut again = String::new();
                let mut pieces = self.pieces.iter().map(|piece| piece.of(&self.pieces_text));
                again.extend(pieces.next());
                for (slot, piece) in self.slots.iter().zip(pieces) {
                    assert_eq!(again.len(), slot.at);
                    again += self.values[slot.value].of(self.sent);
                    again += piece;
                }
                again == out[start..]
            }
        );
    }

    /// Cuts the labels that are shown into values and what stands between.
    fn cut(&mut self, shown: &[(Cow<'_, str>, &str)], added: &[AddedLabel<'_>]) -> Option<()> {
        let clash = |clash, name: &str| {
            let mut added = added.iter();
            added.any(|added| added.clash == clash && added.name == name)
        };
        if self
            .names
            .iter()
            .any(|name| clash(LabelConflict::Rename, name))
        {
            return None;
        }
        let text = &mut self.pieces_text;
        text.clear();
        self.pieces.clear();
        self.slots.clear();
        self.empty = None;
        let mut start = 0;
        let mut values = 0;
        // Where the label without a value begins.
        let mut empty_at = 0;
        for (place, (name, value)) in shown.iter().enumerate() {
            let first = place == 0;
            let label_at = text.len();
            text.push(if first { '{' } else { ',' });
            text.push_str(name);
            text.push_str("=\"");
            let sent = self.names.iter().position(|sent| sent == name);
            if let Some(sent) = sent.filter(|_| !clash(LabelConflict::Override, name)) {
                if value.is_empty() {
                    return None;
                }
                self.slots.push(Slot {
                    value: sent,
                    at: text.len() + values,
                });
                values += value.len();
                self.pieces.push(Span {
                    start,
                    end: text.len(),
                });
                start = text.len();
                text.push('"');
                continue;
            }
            text.push_str(value);
            text.push('"');
            if value.is_empty() {
                if self.empty.is_some() {
                    return None;
                }
                let alone = shown.len() == 1;
                // With the comma on one of its sides, or with both braces.
                empty_at = label_at + usize::from(first && !alone);
                self.empty = Some(Empty {
                    piece: self.slots.len(),
                    back: 0,
                    len: text.len() - label_at + usize::from(alone),
                });
            }
        }
        if !shown.is_empty() {
            text.push('}');
        }
        self.pieces.push(Span {
            start,
            end: text.len(),
        });
        if let Some(empty) = &mut self.empty {
            empty.back = self.pieces[empty.piece].end - empty_at;
        }
        Some(())
    }
}

/// How many bytes two texts have in common at their beginning.
fn common(a: &[u8], b: &[u8]) -> usize {
    let mut at = 0;
    while let (Some(x), Some(y)) = (
        a.get(at..).and_then(<[u8]>::first_chunk::<8>),
        b.get(at..).and_then(<[u8]>::first_chunk::<8>),
    ) {
        let differing = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differing != 0 {
            return at + (differing.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = a[at..].iter().zip(&b[at..]);
    at + rest.take_while(|(x, y)| x == y).count()
}
