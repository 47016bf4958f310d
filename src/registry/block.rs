//! A block: some series of one family, rendered together.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::histogram::Histogram;
use super::labels::LabelTexts;
use super::patch::LineValue;
use super::state::{State, Summary};
use super::window::Window;
use crate::exposition::Kind;

/// Series in a block at most. Where some of very many series change here and
/// there, small blocks are less to render, and cost 300 bytes each.
pub const PLACES: usize = 32;

/// A block takes no more series once it shows so many lines, ...
const LINES: usize = 128;

/// ... or has so many bytes of labels, so that one change renders little.
const LABELS: usize = 16 << 10;

/// A time that never comes.
pub const NEVER: u64 = u64::MAX;

/// Series by place. A place keeps its series for as long as that lives; the
/// place of one that is gone is taken by the next new one.
#[derive(Debug)]
pub struct Block {
    labels: LabelTexts,
    values: Values,
    /// By place, where they have one: what their gauge shows is in `values`.
    windows: BTreeMap<u8, Box<Window>>,
    /// When each series goes. Empty where none ever does.
    deadlines: Vec<u64>,
    /// The places that have a series, a bit for each.
    live: u32,
    /// Lines it shows.
    lines: usize,
    stale: Stale,
    /// What it stands under in the queue of those with series that go, ...
    pub expiry: u64,
    /// ... and of those with windows.
    pub aging: u64,
    /// What it stands for in the sum of all that is to be rendered: 0 unless it
    /// is among the changed.
    pub counted: u8,
    /// Whether it has ever been rendered: then its text is in the output.
    pub shown: bool,
    /// See [`Registry::set_hint`](super::Registry::set_hint).
    pub hint: u64,
}

/// What has changed since the block was rendered last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// Values, and nothing else: of the series in these places, a bit for each.
    Values(u32),
    /// Lines have come or gone, or it was never rendered.
    All,
}

impl Stale {
    /// Series to render, at most.
    pub fn count(self) -> u8 {
        match self {
            Stale::Values(places) => places.count_ones() as u8,
            Stale::All => PLACES as u8,
        }
    }

    fn add(&mut self, place: usize) {
        if let Stale::Values(places) = self {
            *places |= bit(place);
        }
    }
}

fn bit(place: usize) -> u32 {
    1 << place
}

/// The places whose bits are set, in order.
fn places_of(mut bits: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = (bits != 0).then_some(bits.trailing_zeros() as usize);
        bits &= bits.wrapping_sub(1);
        place
    })
}

/// What the series are, by place. Those of holes mean nothing.
#[derive(Debug, Clone)]
pub enum Values {
    Numbers(Vec<f64>),
    Histograms(Vec<Histogram>),
    Summaries(Vec<Summary>),
}

impl Block {
    pub fn new(kind: Kind) -> Self {
        Block {
            labels: LabelTexts::new(),
            values: match kind {
                Kind::Histogram => Values::Histograms(Vec::new()),
                Kind::Summary => Values::Summaries(Vec::new()),
                _ => Values::Numbers(Vec::new()),
            },
            windows: BTreeMap::new(),
            deadlines: Vec::new(),
            live: 0,
            lines: 0,
            stale: Stale::All,
            expiry: NEVER,
            aging: NEVER,
            counted: 0,
            shown: false,
            hint: 0,
        }
    }

    pub fn labels(&self) -> &LabelTexts {
        &self.labels
    }

    pub fn values(&self) -> &Values {
        &self.values
    }

    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// What is to be rendered of it.
    pub fn stale(&self) -> Stale {
        self.stale
    }

    /// Takes note that it is to be rendered whole.
    pub fn spoil(&mut self) {
        self.stale = Stale::All;
    }

    /// Takes note that somebody renders it as it is now.
    pub fn settle(&mut self) {
        self.stale = Stale::Values(0);
        self.counted = 0;
        self.shown = true;
    }

    /// Something of all that a change of the series in that place looks at.
    pub fn touch(&self, place: usize) -> u64 {
        let labels = self.labels.bytes(place).unwrap_or_default();
        let ends = [labels.first(), labels.last()].map(|end| u64::from(*end.unwrap_or(&0)));
        let value = match &self.values {
            Values::Numbers(numbers) => numbers.get(place).map(|number| number.to_bits()),
            Values::Histograms(histograms) => {
                let first = histograms.get(place).and_then(|it| it.counts.first());
                first.map(|count| count.to_bits())
            }
            Values::Summaries(summaries) => summaries
                .get(place)
                .and_then(|summary| Some(summary.sum?.to_bits())),
        };
        self.expiry ^ ends[0] ^ ends[1] ^ value.unwrap_or_default()
    }

    pub fn has_room(&self) -> bool {
        (self.live.count_ones() as usize) < PLACES
            && self.lines < LINES
            && self.labels.len() < LABELS
    }

    /// What the series in that place is.
    pub fn state(&self, place: usize) -> State {
        if let Some(window) = self.windows.get(&(place as u8)) {
            return State::Window(window.clone());
        }
        match &self.values {
            Values::Numbers(numbers) => State::Value(numbers[place]),
            Values::Histograms(histograms) => State::Histogram(histograms[place].clone()),
            Values::Summaries(summaries) => State::Summary(summaries[place]),
        }
    }

    /// Whether the series in that place is shown in the same lines, but for
    /// their values, and kept in the same way as such a state is.
    pub fn is_like(&self, place: usize, state: &State) -> bool {
        match (&self.values, state) {
            (Values::Numbers(_), State::Value(_)) => !self.windows.contains_key(&(place as u8)),
            (Values::Numbers(_), State::Window(_)) => self.windows.contains_key(&(place as u8)),
            (Values::Histograms(histograms), State::Histogram(other)) => {
                let own = &histograms[place];
                own.sum.is_some() == other.sum.is_some()
                    && own.parts.is_some() == other.parts.is_some()
                    && (Arc::ptr_eq(&own.bounds, &other.bounds) || own.bounds == other.bounds)
            }
            (Values::Summaries(summaries), State::Summary(other)) => {
                let own = summaries[place];
                own.sum.is_some() == other.sum.is_some()
                    && own.count.is_some() == other.count.is_some()
            }
            _ => false,
        }
    }

    /// When the series in that place goes.
    #[cfg(test)]
    pub fn deadline(&self, place: usize) -> u64 {
        self.deadlines.get(place).copied().unwrap_or(NEVER)
    }

    /// Adds a series, and returns its place.
    pub fn insert(&mut self, labels: &str, state: State, deadline: u64, now: u64) -> usize {
        let place = self.labels.insert(labels);
        self.live |= bit(place);
        self.stale = Stale::All;
        self.write(place, state, deadline, now);
        if !self.has_room() {
            self.shrink();
        }
        place
    }

    /// Makes the series in that place what it is from now on.
    pub fn set(&mut self, place: usize, state: State, deadline: u64, now: u64) {
        let number = self.number(place);
        if number.is_none() && !self.is_like(place, &state) {
            self.stale = Stale::All;
        }
        self.lines -= self.lines_of(place);
        self.write(place, state, deadline, now);
        // A number that stays as it was is shown already.
        if number.is_none() || number != self.number(place) {
            self.stale.add(place);
        }
    }

    /// The bits of a series' one number, where it is one.
    fn number(&self, place: usize) -> Option<u64> {
        match &self.values {
            Values::Numbers(numbers) => Some(numbers[place].to_bits()),
            _ => None,
        }
    }

    fn write(&mut self, place: usize, state: State, deadline: u64, now: u64) {
        self.lines += state.lines();
        if !self.windows.is_empty() {
            self.windows.remove(&(place as u8));
        }
        match (&mut self.values, state) {
            (Values::Numbers(numbers), State::Value(value)) => put(numbers, place, value),
            (Values::Numbers(numbers), State::Window(mut window)) => {
                window.advance(now);
                put(numbers, place, window.value());
                self.windows.insert(place as u8, window);
            }
            (Values::Histograms(histograms), State::Histogram(it)) => put(histograms, place, it),
            (Values::Summaries(summaries), State::Summary(it)) => put(summaries, place, it),
            // The family's kind says which of these its series are.
            (_, state) => debug_assert!(false, "a series of another kind: {state:?}"),
        }
        if deadline != NEVER && self.deadlines.len() <= place {
            self.deadlines.resize(place + 1, NEVER);
        }
        if let Some(own) = self.deadlines.get_mut(place) {
            *own = deadline;
        }
    }

    /// Removes the series in that place.
    pub fn remove(&mut self, place: usize) {
        self.lines -= self.lines_of(place);
        self.live &= !bit(place);
        self.stale = Stale::All;
        self.labels.remove(place);
        self.windows.remove(&(place as u8));
        if let Some(deadline) = self.deadlines.get_mut(place) {
            *deadline = NEVER;
        }
        if let Values::Histograms(histograms) = &mut self.values {
            histograms[place] = Histogram::default();
        }
    }

    /// Lines that the series in that place is shown in.
    fn lines_of(&self, place: usize) -> usize {
        match &self.values {
            Values::Numbers(_) => 1,
            Values::Histograms(histograms) => histograms[place].lines(),
            Values::Summaries(summaries) => summaries[place].lines(),
        }
    }

    /// Adds the lines of the text that show other values now, if the series in
    /// these places have changed, to `lines`. They are where the block was
    /// rendered last, since then nothing else has changed.
    pub fn changed_lines(&self, places: u32, lines: &mut Vec<LineValue>) {
        let mut number = 0;
        match &self.values {
            Values::Numbers(numbers) => {
                for place in places_of(places) {
                    let before = self.live & (bit(place) - 1);
                    let value = numbers[place];
                    let number = before.count_ones();
                    lines.push(LineValue { number, value });
                }
            }
            Values::Histograms(histograms) => {
                for place in places_of(self.live) {
                    let histogram = &histograms[place];
                    if places & bit(place) != 0 {
                        let numbered = (number..).zip(histogram.values());
                        lines.extend(numbered.map(|(number, value)| LineValue { number, value }));
                    }
                    number += histogram.lines() as u32;
                }
            }
            Values::Summaries(summaries) => {
                for place in places_of(self.live) {
                    let summary = summaries[place];
                    if places & bit(place) != 0 {
                        let numbered = (number..).zip(summary.values());
                        lines.extend(numbered.map(|(number, value)| LineValue { number, value }));
                    }
                    number += summary.lines() as u32;
                }
            }
        }
    }

    /// The places of series whose time is up.
    pub fn overdue(&self, now: u64) -> Vec<usize> {
        let places = self.deadlines.iter().enumerate();
        places
            .filter(|(_, deadline)| **deadline <= now)
            .map(|(place, _)| place)
            .collect()
    }

    /// When the next series goes.
    pub fn next_deadline(&self) -> u64 {
        self.deadlines.iter().copied().min().unwrap_or(NEVER)
    }

    /// When a window next shows something else.
    pub fn next_aging(&self) -> u64 {
        let due = self.windows.values().filter_map(|window| window.due());
        due.min().unwrap_or(NEVER)
    }

    /// Moves windows on to `now`.
    pub fn age(&mut self, now: u64) {
        let Values::Numbers(numbers) = &mut self.values else {
            return;
        };
        for (place, window) in &mut self.windows {
            window.advance(now);
            let place = usize::from(*place);
            let shown = std::mem::replace(&mut numbers[place], window.value());
            if shown.to_bits() != numbers[place].to_bits() {
                self.stale.add(place);
            }
        }
    }

    /// Gives back memory that was kept for more series.
    fn shrink(&mut self) {
        self.labels.rebuild(self.labels.len());
        match &mut self.values {
            Values::Numbers(numbers) => numbers.shrink_to_fit(),
            Values::Histograms(histograms) => histograms.shrink_to_fit(),
            Values::Summaries(summaries) => summaries.shrink_to_fit(),
        }
    }
}

/// Sets what is in a place, which is there or is the next.
fn put<T>(values: &mut Vec<T>, place: usize, value: T) {
    match values.get_mut(place) {
        Some(there) => *there = value,
        None => values.push(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_series_that_are_gone_are_taken_again() {
        let mut block = Block::new(Kind::Gauge);
        for number in 0..PLACES {
            assert!(block.has_room());
            let labels = format!("number=\"{number}\"");
            let place = block.insert(&labels, State::Value(number as f64), NEVER, 0);
            assert_eq!(place, number);
        }
        assert!(!block.has_room());
        let whole = block.labels().room();
        for place in 10..PLACES {
            block.remove(place);
            assert_eq!(block.labels().get(place), None);
        }
        assert!(block.labels().room() < whole * 2 / 3, "dead text is left");
        assert_eq!(block.labels().get(9), Some("number=\"9\""));
        assert_eq!(block.insert("", State::Value(5.0), 7, 0), 10);
        assert_eq!(block.labels().get(10), Some(""));
        assert_eq!(block.state(10), State::Value(5.0));
        assert_eq!((block.deadline(10), block.deadline(11)), (7, NEVER));
        assert!(block.overdue(6).is_empty());
        assert_eq!(block.overdue(7), [10]);
        assert_eq!(block.labels().iter().count(), 11);
    }

    #[test]
    fn a_block_of_histograms_has_fewer_series() {
        let mut block = Block::new(Kind::Histogram);
        let histogram = Histogram {
            bounds: (0..30).map(f64::from).collect(),
            counts: vec![0.0; 30].into(),
            count: 0.0,
            sum: Some(0.0),
            parts: None,
        };
        let mut series = 0;
        while block.has_room() {
            let labels = format!("number=\"{series}\"");
            block.insert(&labels, State::Histogram(histogram.clone()), NEVER, 0);
            series += 1;
        }
        assert_eq!(series, 4);
        block.set(0, State::Histogram(Histogram::default()), NEVER, 0);
        assert!(block.has_room());
    }
}
