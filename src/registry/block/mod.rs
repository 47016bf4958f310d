//! A block: a few series of one family, rendered together.

mod change;
pub mod parts;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::labels::LabelTexts;
use super::render::LineValue;
use super::series::SeriesState;
use super::series::histogram::Histogram;
use super::series::summary::Summary;
use super::series::window::Window;
use super::time::{NEVER, Nanos};
use crate::exposition::Kind;

/// Maximum number of series in a block. Where a few of very many series change, small blocks leave
/// less to render; each costs 300 bytes.
pub const SLOTS: usize = 32;

/// A block with at least this many lines takes no more series, so that one
/// change leaves little to render.
const MAX_LINES: usize = 128;

/// A block with at least this many bytes of labels takes no more series.
const MAX_LABEL_BYTES: usize = 16 << 10;

/// Series by slot. A series keeps its slot; a new series takes the first free
/// one.
///
/// The exact state of a block, which is all that has to be stored to restore
/// it, is in `labels`, `values`, `windows` and `deadlines`; [`Block::state`]
/// reads that of one series. The other fields follow from it, or describe what
/// the output shows.
#[derive(Debug)]
pub struct Block {
    labels: LabelTexts,
    values: BlockValues,
    /// Windows by slot. The numbers that they show are also in `values`.
    windows: BTreeMap<u8, Box<Window>>,
    /// When each series expires, by slot. Slots past the end never do.
    deadlines: Vec<Nanos>,
    /// Occupied slots, a bit for each.
    occupied: u32,
    /// Number of lines that the series are shown in.
    lines: usize,
    dirty: Dirty,
    /// The block's key in the registry's queue of expiring blocks.
    pub expiry: Nanos,
    /// The block's key in the registry's queue of blocks with windows.
    pub window_step: Nanos,
    /// What the block contributes to the registry's number of dirty series.
    pub counted_dirty: u8,
    /// Whether the output has a text of the block.
    pub is_shown: bool,
    /// The series with native buckets; a bit for each slot.
    native_slots: u32,
    /// Whether the output may have native histograms of the block.
    shows_natives: bool,
    /// Whether the block is in the registry's list of changed native histograms.
    pub natives_changed: bool,
    /// Whether the block waits to be copied for storage.
    pub is_noted: bool,
    /// See [`Registry::set_hint`](super::Registry::set_hint).
    pub hint: u64,
}

/// The values of a block's series, by slot. Values of free slots mean nothing.
#[derive(Debug, Clone)]
pub enum BlockValues {
    Numbers(Vec<f64>),
    Histograms(Vec<Histogram>),
    Summaries(Vec<Summary>),
}

impl BlockValues {
    /// Frees the memory of the value in a free slot.
    pub fn clear(&mut self, slot: usize) {
        match self {
            BlockValues::Numbers(_) => {}
            BlockValues::Histograms(histograms) => histograms[slot] = Histogram::default(),
            BlockValues::Summaries(summaries) => summaries[slot] = Summary::default(),
        }
    }
}

/// What has changed in a block since it was last taken for rendering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dirty {
    /// Only values, of the series in these slots; a bit for each.
    Values(u32),
    /// The lines themselves, or the block was never taken.
    Whole,
}

impl Dirty {
    /// Upper bound of the series to render.
    pub fn series(self) -> u8 {
        match self {
            Dirty::Values(slots) => slots.count_ones() as u8,
            Dirty::Whole => SLOTS as u8,
        }
    }

    fn add(&mut self, slot: usize) {
        if let Dirty::Values(slots) = self {
            *slots |= bit(slot);
        }
    }
}

fn bit(slot: usize) -> u32 {
    1 << slot
}

/// The slots whose bits are set, in order.
fn slots_of(mut bits: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let slot = (bits != 0).then_some(bits.trailing_zeros() as usize);
        bits &= bits.wrapping_sub(1);
        slot
    })
}

impl Block {
    /// An empty block of a family of this type.
    pub fn new(kind: Kind) -> Self {
        Block {
            labels: LabelTexts::new(),
            values: match kind {
                Kind::Histogram => BlockValues::Histograms(Vec::new()),
                Kind::Summary => BlockValues::Summaries(Vec::new()),
                _ => BlockValues::Numbers(Vec::new()),
            },
            windows: BTreeMap::new(),
            deadlines: Vec::new(),
            occupied: 0,
            lines: 0,
            dirty: Dirty::Whole,
            expiry: NEVER,
            window_step: NEVER,
            counted_dirty: 0,
            is_shown: false,
            native_slots: 0,
            shows_natives: false,
            natives_changed: false,
            is_noted: false,
            hint: 0,
        }
    }

    pub fn labels(&self) -> &LabelTexts {
        &self.labels
    }

    pub fn values(&self) -> &BlockValues {
        &self.values
    }

    pub fn is_empty(&self) -> bool {
        self.occupied == 0
    }

    /// What must be rendered.
    pub fn dirty(&self) -> Dirty {
        self.dirty
    }

    /// Requires that the whole block is rendered.
    pub fn mark_dirty(&mut self) {
        self.dirty = Dirty::Whole;
    }

    /// Records that the block has been taken for rendering as it is.
    pub fn mark_taken(&mut self) {
        self.dirty = Dirty::Values(0);
        self.counted_dirty = 0;
        self.is_shown = true;
    }

    /// Records that the output has a text of the block, and perhaps native histograms, which may be
    /// outdated.
    pub fn mark_shown(&mut self) {
        self.is_shown = true;
        self.shows_natives = true;
    }

    /// Whether native histograms of the block are shown or will be.
    pub fn has_natives(&self) -> bool {
        self.native_slots != 0 || self.shows_natives
    }

    /// Records that the native histograms of the block have been taken.
    pub fn mark_natives_taken(&mut self) {
        self.natives_changed = false;
        self.shows_natives = self.native_slots != 0;
    }

    /// Reads the memory that a change of the series in a slot reads, so that it is in the cache.
    /// The sum that it returns has no meaning, but keeps the reads from being removed.
    pub fn prefetch(&self, slot: usize) -> u64 {
        let labels = self.labels.bytes(slot).unwrap_or_default();
        let ends = [labels.first(), labels.last()].map(|end| u64::from(*end.unwrap_or(&0)));
        self.prefetch_value(slot) ^ ends[0] ^ ends[1]
    }

    /// Like [`prefetch`](Self::prefetch) without the labels, for a series whose place is known.
    pub fn prefetch_value(&self, slot: usize) -> u64 {
        let value = match &self.values {
            BlockValues::Numbers(numbers) => numbers.get(slot).map(|number| number.to_bits()),
            BlockValues::Histograms(histograms) => {
                let first = histograms.get(slot).and_then(|it| it.counts.first());
                first.map(|count| count.to_bits())
            }
            BlockValues::Summaries(summaries) => summaries
                .get(slot)
                .and_then(|summary| Some(summary.sum?.to_bits())),
        };
        self.expiry ^ value.unwrap_or_default()
    }

    /// Whether the block takes another series.
    pub fn has_room(&self) -> bool {
        (self.occupied.count_ones() as usize) < SLOTS
            && self.lines < MAX_LINES
            && self.labels.len() < MAX_LABEL_BYTES
    }

    /// The exact state of the series in a slot.
    pub fn state(&self, slot: usize) -> SeriesState {
        if let Some(window) = self.windows.get(&(slot as u8)) {
            return SeriesState::Window(window.clone());
        }
        match &self.values {
            BlockValues::Numbers(numbers) => SeriesState::Number(numbers[slot]),
            BlockValues::Histograms(histograms) => SeriesState::Histogram(histograms[slot].clone()),
            BlockValues::Summaries(summaries) => SeriesState::Summary(summaries[slot].clone()),
        }
    }

    /// Whether `state` is shown in the same lines as the series in a slot, with
    /// other values, and takes the same memory.
    pub fn has_same_shape(&self, slot: usize, state: &SeriesState) -> bool {
        match (&self.values, state) {
            (BlockValues::Numbers(_), SeriesState::Number(_)) => {
                !self.windows.contains_key(&(slot as u8))
            }
            (BlockValues::Numbers(_), SeriesState::Window(_)) => {
                self.windows.contains_key(&(slot as u8))
            }
            (BlockValues::Histograms(histograms), SeriesState::Histogram(other)) => {
                let own = &histograms[slot];
                own.sum.is_some() == other.sum.is_some()
                    && own.fractions.is_some() == other.fractions.is_some()
                    && own.native_weight() == other.native_weight()
                    && (Arc::ptr_eq(&own.bounds, &other.bounds) || own.bounds == other.bounds)
            }
            (BlockValues::Summaries(summaries), SeriesState::Summary(other)) => {
                summaries[slot].has_same_shape(other)
            }
            _ => false,
        }
    }

    /// When the series in a slot expires.
    #[cfg(test)]
    pub fn deadline(&self, slot: usize) -> Nanos {
        self.deadlines.get(slot).copied().unwrap_or(NEVER)
    }

    /// Adds a series, and returns its slot. See [`Block::has_room`].
    pub fn insert(
        &mut self,
        labels: &str,
        state: SeriesState,
        deadline: Nanos,
        now: Nanos,
    ) -> usize {
        let slot = self.labels.insert(labels);
        self.occupied |= bit(slot);
        self.dirty = Dirty::Whole;
        self.write(slot, state, deadline, now);
        if !self.has_room() {
            self.shrink();
        }
        slot
    }

    /// Replaces the state of the series in a slot.
    pub fn set(&mut self, slot: usize, state: SeriesState, deadline: Nanos, now: Nanos) {
        let before = self.number_bits(slot);
        if before.is_none() && !self.has_same_shape(slot, &state) {
            self.dirty = Dirty::Whole;
        }
        self.lines -= self.lines_of(slot);
        self.write(slot, state, deadline, now);
        // A number that stays the same need not be rendered.
        if before.is_none() || before != self.number_bits(slot) {
            self.dirty.add(slot);
        }
    }

    /// The bits of a number; `None` for a histogram or a summary.
    fn number_bits(&self, slot: usize) -> Option<u64> {
        match &self.values {
            BlockValues::Numbers(numbers) => Some(numbers[slot].to_bits()),
            _ => None,
        }
    }

    fn write(&mut self, slot: usize, state: SeriesState, deadline: Nanos, now: Nanos) {
        self.lines += state.lines();
        if !self.windows.is_empty() {
            self.windows.remove(&(slot as u8));
        }
        match (&mut self.values, state) {
            (BlockValues::Numbers(numbers), SeriesState::Number(value)) => {
                put(numbers, slot, value);
            }
            (BlockValues::Numbers(numbers), SeriesState::Window(mut window)) => {
                window.advance(now);
                put(numbers, slot, window.value());
                self.windows.insert(slot as u8, window);
            }
            (BlockValues::Histograms(histograms), SeriesState::Histogram(histogram)) => {
                self.native_slots &= !bit(slot);
                self.native_slots |= u32::from(histogram.native.is_some()) << slot;
                put(histograms, slot, histogram);
            }
            (BlockValues::Summaries(summaries), SeriesState::Summary(summary)) => {
                put(summaries, slot, summary);
            }
            // The type of a family decides which of these its series are.
            (_, state) => debug_assert!(false, "a series of another type: {state:?}"),
        }
        self.set_deadline(slot, deadline);
    }

    fn set_deadline(&mut self, slot: usize, deadline: Nanos) {
        if deadline != NEVER && self.deadlines.len() <= slot {
            self.deadlines.resize(slot + 1, NEVER);
        }
        if let Some(own) = self.deadlines.get_mut(slot) {
            *own = deadline;
        }
    }

    /// Removes the series in a slot.
    pub fn remove(&mut self, slot: usize) {
        self.lines -= self.lines_of(slot);
        self.occupied &= !bit(slot);
        self.native_slots &= !bit(slot);
        self.dirty = Dirty::Whole;
        self.labels.remove(slot);
        self.windows.remove(&(slot as u8));
        if let Some(deadline) = self.deadlines.get_mut(slot) {
            *deadline = NEVER;
        }
        self.values.clear(slot);
    }

    /// Number of lines that the series in a slot is shown in.
    fn lines_of(&self, slot: usize) -> usize {
        match &self.values {
            BlockValues::Numbers(_) => 1,
            BlockValues::Histograms(histograms) => histograms[slot].lines(),
            BlockValues::Summaries(summaries) => summaries[slot].lines(),
        }
    }

    /// Appends the lines of the series in `slots`, with their new values.
    ///
    /// Lines are numbered as in the text that was rendered last, which has the
    /// same lines as long as the block is not [`Dirty::Whole`].
    pub fn line_values(&self, slots: u32, lines: &mut Vec<LineValue>) {
        let mut line = 0;
        match &self.values {
            BlockValues::Numbers(numbers) => {
                for slot in slots_of(slots) {
                    let before = self.occupied & (bit(slot) - 1);
                    lines.push(LineValue {
                        line: before.count_ones(),
                        value: numbers[slot],
                    });
                }
            }
            BlockValues::Histograms(histograms) => {
                for slot in slots_of(self.occupied) {
                    let histogram = &histograms[slot];
                    if slots & bit(slot) != 0 {
                        let values = (line..).zip(histogram.values());
                        lines.extend(values.map(|(line, value)| LineValue { line, value }));
                    }
                    line += histogram.lines() as u32;
                }
            }
            BlockValues::Summaries(summaries) => {
                for slot in slots_of(self.occupied) {
                    let summary = &summaries[slot];
                    if slots & bit(slot) != 0 {
                        let values = (line..).zip(summary.values());
                        lines.extend(values.map(|(line, value)| LineValue { line, value }));
                    }
                    line += summary.lines() as u32;
                }
            }
        }
    }

    /// Slots of the series that have expired.
    pub fn expired(&self, now: Nanos) -> Vec<usize> {
        let slots = self.deadlines.iter().enumerate();
        slots
            .filter(|(_, deadline)| **deadline <= now)
            .map(|(slot, _)| slot)
            .collect()
    }

    /// When the next series expires.
    pub fn next_deadline(&self) -> Nanos {
        self.deadlines.iter().copied().min().unwrap_or(NEVER)
    }

    /// When a window next shows another value.
    pub fn next_window_step(&self) -> Nanos {
        let steps = self
            .windows
            .values()
            .filter_map(|window| window.next_step());
        let summaries = match &self.values {
            BlockValues::Summaries(summaries) => summaries.as_slice(),
            _ => &[],
        };
        steps
            .chain(summaries.iter().map(Summary::next_step))
            .min()
            .unwrap_or(NEVER)
    }

    /// Moves all windows, including those of quantiles, on to `now`.
    pub fn advance_windows(&mut self, now: Nanos) {
        if let BlockValues::Summaries(summaries) = &mut self.values {
            for (slot, summary) in summaries.iter_mut().enumerate() {
                let quantiles = summary.quantiles.as_mut();
                if quantiles.is_some_and(|quantiles| quantiles.advance(now)) {
                    self.dirty.add(slot);
                }
            }
        }
        let BlockValues::Numbers(numbers) = &mut self.values else {
            return;
        };
        for (slot, window) in &mut self.windows {
            window.advance(now);
            let slot = usize::from(*slot);
            let before = std::mem::replace(&mut numbers[slot], window.value());
            if before.to_bits() != numbers[slot].to_bits() {
                self.dirty.add(slot);
            }
        }
    }

    /// Frees memory that is reserved for more series.
    fn shrink(&mut self) {
        self.labels.rebuild(self.labels.len());
        match &mut self.values {
            BlockValues::Numbers(numbers) => numbers.shrink_to_fit(),
            BlockValues::Histograms(histograms) => histograms.shrink_to_fit(),
            BlockValues::Summaries(summaries) => summaries.shrink_to_fit(),
        }
    }
}

/// Sets the value of a slot, which is an existing one or the next.
fn put<T>(values: &mut Vec<T>, slot: usize, value: T) {
    match values.get_mut(slot) {
        Some(own) => *own = value,
        None => values.push(value),
    }
}
