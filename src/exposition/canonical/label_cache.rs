//! The labels of the previous line, reused for the next one.
//!
//! Most lines of one text have the same labels, and most labels the same
//! values. The cache compares a line with the one before and parses only the
//! values that differ.

use std::borrow::Cow;
use std::sync::Arc;

use crate::exposition::families::component_label;
use crate::exposition::parse::{self, offset};
use crate::exposition::{Kind, Label, Labels, Sample};

/// How the labels of a line are written by the sender and in canonical text.
///
/// The labels of a line are everything between its name and the blanks before
/// its value, with the braces. Positions are counted from their beginning, so
/// the name may change from line to line.
#[derive(Debug)]
pub(super) struct LabelCache<'t> {
    /// Whether the cache holds the labels of a line.
    is_filled: bool,
    /// The labels of the previous line, as sent.
    sent: &'t str,
    /// Label names, in the order of the sender.
    names: Vec<&'t str>,
    /// Positions of the values in `sent`.
    values: Vec<Span>,
    /// How the labels are written: as they are ([`PLAIN`]), and as shaping leaves them.
    forms: Vec<Form>,
    /// The form of the previous line; `None` if it was not written.
    last: Option<usize>,
    /// The previous line's labels in the output.
    written: Span,
}

/// The form of labels that shaping does not change.
pub(super) const PLAIN: usize = 0;

/// A form for one line alone.
const ONCE: usize = 1;

/// How labels are written: canonical text, and values between it.
#[derive(Debug, Default)]
struct Form {
    /// The name of the metric, if shaping changes it.
    name: Option<Arc<str>>,
    /// The canonical text before each value, and after the last one, as
    /// positions in `pieces_text`.
    pieces: Vec<Span>,
    pieces_text: String,
    /// The values in the order of canonical text.
    slots: Vec<ValuePlace>,
    /// An added label without a value, which readers treat as absent.
    empty: Option<EmptyLabel>,
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
struct ValuePlace {
    /// Index of the value in `values`.
    value: usize,
    /// Position of the value in the labels written last.
    at: usize,
}

/// An added label without a value.
#[derive(Debug, Clone, Copy)]
struct EmptyLabel {
    /// Index of the piece that has the label.
    piece: usize,
    /// Bytes from the label's beginning to the end of that piece.
    back: usize,
    len: usize,
}

/// The rest of a line after its name and labels.
#[derive(Debug)]
pub(super) struct CachedLine<'t> {
    pub value: f64,
    pub value_text: &'t str,
    /// Index of the first value, in the order of the sender, that may differ from the
    /// previous line.
    pub changed: usize,
}

impl<'t> LabelCache<'t> {
    /// An empty cache.
    pub(super) fn new() -> Self {
        LabelCache {
            is_filled: false,
            sent: "",
            names: Vec::new(),
            values: Vec::new(),
            forms: vec![Form::default(), Form::default()],
            last: None,
            written: Span::default(),
        }
    }

    /// Reads what follows a name. `None` if the cache does not match the line,
    /// or the line has a timestamp or a mistake; the cache is then filled anew
    /// from that line.
    pub(super) fn read(&mut self, rest: &'t str, longest: usize) -> Option<CachedLine<'t>> {
        if !self.is_filled {
            return None;
        }
        let bytes = rest.as_bytes();
        let same = common(bytes, self.sent.as_bytes());
        let mut at = self.sent.len();
        let mut changed = self.values.len();
        if same < at {
            // The first value whose end differs.
            let first = self.values.iter().position(|value| value.end >= same)?;
            at = self.values[first].start;
            if same < at {
                return None;
            }
            changed = first;
            let mut before = self.values[first].end;
            for place in first..self.values.len() {
                let end = parse::quote_or_backslash(bytes, at);
                // An empty value is no label, and escapes need the full parser.
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
        Some(CachedLine {
            value,
            value_text,
            changed,
        })
    }

    /// Writes the labels in a form. Values before the one numbered `changed` are those of the
    /// previous line.
    pub(super) fn write(&mut self, out: &mut String, form: usize, changed: usize) {
        let start = out.len();
        let is_last = self.last == Some(form);
        let it = &mut self.forms[form];
        let mut place = 0;
        if is_last {
            let mut slots = it.slots.iter();
            let first = slots.position(|slot| slot.value >= changed);
            place = first.unwrap_or(it.slots.len());
            let kept = it
                .slots
                .get(place)
                .map_or(self.written.end, |slot| self.written.start + slot.at);
            out.extend_from_within(self.written.start..kept);
        } else {
            out.push_str(it.pieces[0].of(&it.pieces_text));
        }
        let pieces = it.pieces.iter().skip(place + 1);
        for (slot, piece) in it.slots.iter_mut().skip(place).zip(pieces) {
            slot.at = out.len() - start;
            out.push_str(self.values[slot.value].of(self.sent));
            out.push_str(piece.of(&it.pieces_text));
        }
        self.note_written(form, (start, out.len()));
    }

    /// Notes where labels were written in a form.
    fn note_written(&mut self, form: usize, (start, end): (usize, usize)) {
        self.last = Some(form);
        self.written = Span { start, end };
    }

    /// Notes that the labels that were read are not written.
    pub(super) fn skip(&mut self) {
        self.last = None;
    }

    /// The name that a form gives the metric.
    pub(super) fn name(&self, form: usize) -> Option<&Arc<str>> {
        self.forms.get(form)?.name.as_ref()
    }

    /// The names of the labels, in the order of the sender.
    pub(super) fn names(&self) -> &[&'t str] {
        &self.names
    }

    /// The value of the label with that index.
    pub(super) fn value(&self, place: usize) -> &'t str {
        self.values[place].of(self.sent)
    }

    /// The labels that were read.
    pub(super) fn labels(&self) -> Labels<'t> {
        let values = (0..self.values.len()).map(|place| self.value(place));
        let labels = self.names.iter().zip(values);
        labels.map(|(name, value)| Label { name, value }).collect()
    }

    /// Where the labels written last begin in the output.
    pub(super) fn written_at(&self) -> usize {
        self.written.start
    }

    /// The output lost its first `by` bytes, none of which are of the labels written last.
    pub(super) fn move_back(&mut self, by: usize) {
        self.written.start -= by;
        self.written.end -= by;
    }

    /// The identity of the series written last, whose name is at `start`:
    /// without the label that has no value. `full` is a buffer.
    pub(super) fn series<'s>(&self, out: &'s str, start: usize, full: &'s mut String) -> &'s str {
        let form = self.last.map(|last| &self.forms[last]);
        let Some((form, empty)) = form.and_then(|form| Some((form, form.empty?))) else {
            return &out[start..];
        };
        let slot = form.slots.get(empty.piece);
        let end = slot.map_or(self.written.end, |slot| self.written.start + slot.at);
        let cut = end - empty.back;
        full.clear();
        full.push_str(&out[start..cut]);
        full.push_str(&out[cut + empty.len..]);
        full
    }

    /// The value of the label that tells the components of a family of this
    /// kind apart.
    pub(super) fn component(&self, kind: Kind) -> Option<&'t str> {
        let (label, _) = component_label(kind)?;
        let place = self.names.iter().position(|name| *name == label)?;
        Some(self.values[place].of(self.sent))
    }

    /// Begins to fill the cache from a sample whose labels are in the order of
    /// the sender. `rest` is the line after the name. The cache is not usable
    /// before [`LabelCache::finish`].
    pub(super) fn begin(&mut self, rest: &'t str, sample: &Sample<'t>, labels: &Labels<'t>) {
        self.is_filled = false;
        self.last = None;
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

    /// Finishes filling the cache. `shown` are the sample's and the added labels in canonical
    /// order. The cache stays unusable if one of the sample's labels has no value, or if several
    /// of the added ones have none.
    pub(super) fn finish(&mut self, shown: &[(Cow<'_, str>, &str)]) {
        self.is_filled = self.fill(PLAIN, shown).is_some();
    }

    /// Notes that the labels were written as they are, from an offset of the output on.
    pub(super) fn note_plain(&mut self, out: &str, start: usize) {
        if !self.is_filled {
            return;
        }
        self.note_written(PLAIN, (start, out.len()));
        debug_assert!({
            let form = &self.forms[PLAIN];
            let mut again = String::new();
            let mut pieces = form.pieces.iter().map(|piece| piece.of(&form.pieces_text));
            again.extend(pieces.next());
            for (slot, piece) in form.slots.iter().zip(pieces) {
                assert_eq!(again.len(), slot.at);
                again += self.value(slot.value);
                again += piece;
            }
            again == out[start..]
        });
    }

    /// Adds a form for the labels that were read, which become `shown`, and for the metric's name
    /// if it changes. Values that are slices of the line come from it, and all else is the same in
    /// each line of that form. The form is kept for other lines if it is used `again`.
    pub(super) fn add_form(
        &mut self,
        name: Option<Arc<str>>,
        shown: &[(Cow<'_, str>, &str)],
        again: bool,
    ) -> Option<usize> {
        let mut form = ONCE;
        if again {
            form = self.forms.len();
            self.forms.push(Form::default());
        }
        self.fill(form, shown)?;
        self.forms[form].name = name;
        Some(form)
    }

    /// Cuts labels into values and the text between them.
    fn fill(&mut self, form: usize, shown: &[(Cow<'_, str>, &str)]) -> Option<()> {
        if self.last == Some(form) {
            self.last = None;
        }
        let Form {
            name: _,
            pieces,
            pieces_text: text,
            slots,
            empty,
        } = &mut self.forms[form];
        text.clear();
        pieces.clear();
        slots.clear();
        *empty = None;
        let mut start = 0;
        let mut values = 0;
        // Position of the label without a value.
        let mut empty_at = 0;
        for (place, (name, value)) in shown.iter().enumerate() {
            let first = place == 0;
            let label_at = text.len();
            text.push(if first { '{' } else { ',' });
            text.push_str(name);
            text.push_str("=\"");
            let mut sent = self.values.iter().map(|sent| sent.of(self.sent));
            if let Some(sent) = sent.position(|sent| std::ptr::eq(sent, *value)) {
                if value.is_empty() {
                    return None;
                }
                slots.push(ValuePlace {
                    value: sent,
                    at: text.len() + values,
                });
                values += value.len();
                pieces.push(Span {
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
                if empty.is_some() {
                    return None;
                }
                let alone = shown.len() == 1;
                // With the comma on one of its sides, or with both braces.
                empty_at = label_at + usize::from(first && !alone);
                *empty = Some(EmptyLabel {
                    piece: slots.len(),
                    back: 0,
                    len: text.len() - label_at + usize::from(alone),
                });
            }
        }
        if !shown.is_empty() {
            text.push('}');
        }
        pieces.push(Span {
            start,
            end: text.len(),
        });
        if let Some(empty) = empty {
            empty.back = pieces[empty.piece].end - empty_at;
        }
        Some(())
    }
}

/// Length of the common prefix of two byte strings.
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
