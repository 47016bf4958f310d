//! Aggregated series as text, in the canonical form.

mod patch;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use self::patch::patch;
use super::BlockId;
use super::block::{Block, BlockValues, Dirty};
use super::labels::LabelTexts;
use super::series::SeriesState;
use super::series::histogram::Histogram;
use super::series::summary::Summary;
use crate::exposition::{
    NativeHistogram, label_pairs, needs_quotes, write_bound, write_number, write_series,
};

/// A copy of what has changed in a block. It is rendered while the registry changes further.
#[derive(Debug)]
pub struct DirtyBlock {
    /// The block.
    pub id: BlockId,
    /// Name of the family, escaped as in [`Update::family`](super::Update::family).
    pub family: Arc<str>,
    /// Number of the block within its family. Blocks are shown in the order of
    /// their numbers.
    pub number: u32,
    /// See [`Registry::set_hint`](super::Registry::set_hint).
    pub hint: u64,
    content: DirtyContent,
}

#[derive(Debug)]
enum DirtyContent {
    /// All series of the block.
    Whole(Box<(LabelTexts, BlockValues)>),
    /// A range of [`DirtyBlocks::lines`](super::DirtyBlocks::lines).
    Lines(Range<usize>),
}

/// A line of a block's text, counted from 0, with its new value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LineValue {
    /// Number of the line.
    pub line: u32,
    /// The value that it shows now.
    pub value: f64,
}

/// Buffers for rendering, reused from block to block.
#[derive(Debug, Default)]
pub struct RenderBuffers {
    /// A rendered text, or a number.
    text: String,
    patched: Vec<u8>,
}

impl DirtyBlock {
    /// Copies what is dirty in a block. Lines with new values are appended to
    /// `lines`.
    pub(super) fn new(
        id: BlockId,
        family: &Arc<str>,
        block: &Block,
        lines: &mut Vec<LineValue>,
    ) -> Self {
        let content = match block.dirty() {
            Dirty::Whole => {
                DirtyContent::Whole(Box::new((block.labels().clone(), block.values().clone())))
            }
            Dirty::Values(slots) => {
                let start = lines.len();
                block.line_values(slots, lines);
                DirtyContent::Lines(start..lines.len())
            }
        };
        DirtyBlock {
            id,
            family: Arc::clone(family),
            number: id.1,
            hint: block.hint,
            content,
        }
    }

    /// The lines of all series. `None` if only values have changed; then the last text must be
    /// [patched](DirtyBlock::patch).
    pub fn render(&self, buffers: &mut RenderBuffers) -> Option<Bytes> {
        match &self.content {
            DirtyContent::Whole(whole) => {
                Some(self.render_whole(&whole.0, &whole.1, &mut buffers.text))
            }
            DirtyContent::Lines(_) => None,
        }
    }

    /// The lines of all series, made from `before`, the block's last text. `lines` are the
    /// [`DirtyBlocks::lines`](super::DirtyBlocks::lines) that were taken together with this block.
    ///
    /// `None` if the block must be rendered whole, or if `before` does not have the lines: then ask
    /// for the whole block with [`Registry::mark_dirty`](super::Registry::mark_dirty).
    pub fn patch<'b>(
        &self,
        lines: &[LineValue],
        before: &[u8],
        buffers: &'b mut RenderBuffers,
    ) -> Option<&'b [u8]> {
        match &self.content {
            DirtyContent::Whole(_) => None,
            DirtyContent::Lines(range) => patch(before, lines.get(range.clone())?, buffers),
        }
    }

    fn render_whole(&self, labels: &LabelTexts, values: &BlockValues, out: &mut String) -> Bytes {
        let writer = SeriesWriter::new(&self.family);
        out.clear();
        let mut le_labels = LeLabels::default();
        for (slot, labels) in labels.iter() {
            match values {
                BlockValues::Numbers(numbers) => writer.number(out, labels, numbers[slot]),
                BlockValues::Histograms(histograms) => {
                    writer.histogram(out, labels, &histograms[slot], &mut le_labels);
                }
                BlockValues::Summaries(summaries) => writer.summary(out, labels, &summaries[slot]),
            }
        }
        // Of exact size, since the output keeps it until the block changes.
        Bytes::copy_from_slice(out.as_bytes())
    }
}

/// A copy of a block whose native histograms have changed.
#[derive(Debug)]
pub struct ChangedNatives {
    /// The block.
    pub id: BlockId,
    /// Name of the family, escaped as in [`Update::family`](super::Update::family).
    pub family: Arc<str>,
    labels: LabelTexts,
    values: BlockValues,
}

impl ChangedNatives {
    pub(super) fn new(id: BlockId, family: &Arc<str>, block: &Block) -> Self {
        ChangedNatives {
            id,
            family: Arc::clone(family),
            labels: block.labels().clone(),
            values: block.values().clone(),
        }
    }

    /// All native histograms of the block.
    pub fn encode(&self) -> Vec<NativeHistogram> {
        let BlockValues::Histograms(histograms) = &self.values else {
            return Vec::new();
        };
        let natives = self.labels.iter().filter_map(|(slot, labels)| {
            Some(NativeHistogram {
                labels: Box::from(labels),
                histogram: Bytes::from(histograms[slot].native_message()?),
                gauge: false,
            })
        });
        natives.collect()
    }
}

/// Calls `f` with each line that a series is shown in, without its value.
pub(super) fn each_line(
    family: &str,
    labels: &str,
    state: &SeriesState,
    buffer: &mut String,
    mut f: impl FnMut(&str),
) {
    let writer = SeriesWriter::new(family);
    buffer.clear();
    match state {
        SeriesState::Number(_) | SeriesState::Window(_) => writer.number(buffer, labels, 0.0),
        SeriesState::Histogram(histogram) => {
            writer.histogram(buffer, labels, histogram, &mut LeLabels::default());
        }
        SeriesState::Summary(summary) => writer.summary(buffer, labels, summary),
    }
    for line in buffer.lines() {
        // Values have no spaces.
        f(line.rsplit_once(' ').map_or(line, |(series, _)| series));
    }
}

/// The `le` labels of a histogram, kept for the next one with the same bounds.
#[derive(Debug, Default)]
struct LeLabels {
    bounds: Arc<[f64]>,
    texts: Vec<String>,
}

impl LeLabels {
    fn of(&mut self, bounds: &Arc<[f64]>) -> &[String] {
        if !Arc::ptr_eq(&self.bounds, bounds) || self.texts.is_empty() {
            self.bounds = Arc::clone(bounds);
            self.texts.clear();
            for bound in bounds.iter().chain(&[f64::INFINITY]) {
                let mut text = String::from("le=\"");
                write_bound(&mut text, *bound);
                text.push('"');
                self.texts.push(text);
            }
        }
        &self.texts
    }
}

/// Writes series of one family.
#[derive(Debug)]
struct SeriesWriter<'n> {
    family: &'n str,
    is_quoted: bool,
}

impl<'n> SeriesWriter<'n> {
    fn new(family: &'n str) -> Self {
        SeriesWriter {
            family,
            is_quoted: needs_quotes(family),
        }
    }

    fn number(&self, out: &mut String, labels: &str, value: f64) {
        self.line(out, "", [labels, "", ""], value);
    }

    fn histogram(
        &self,
        out: &mut String,
        labels: &str,
        histogram: &Histogram,
        le_labels: &mut LeLabels,
    ) {
        let (before, after) = split_at(labels, "le");
        let counts = histogram.counts.iter().chain([&histogram.count]);
        for (le, count) in le_labels.of(&histogram.bounds).iter().zip(counts) {
            self.line(out, "_bucket", [before, le, after], *count);
        }
        if let Some(sum) = histogram.sum {
            self.line(out, "_sum", [labels, "", ""], sum);
        }
        self.line(out, "_count", [labels, "", ""], histogram.count);
    }

    fn summary(&self, out: &mut String, labels: &str, summary: &Summary) {
        if let Some(quantiles) = &summary.quantiles {
            let (before, after) = split_at(labels, "quantile");
            let mut label = String::new();
            for (quantile, value) in quantiles.spec().quantiles.iter().zip(quantiles.values()) {
                label.clear();
                label.push_str("quantile=\"");
                write_bound(&mut label, *quantile);
                label.push('"');
                self.line(out, "", [before, &label, after], value);
            }
        }
        if let Some(sum) = summary.sum {
            self.line(out, "_sum", [labels, "", ""], sum);
        }
        if let Some(count) = summary.count {
            self.line(out, "_count", [labels, "", ""], count);
        }
    }

    fn line(&self, out: &mut String, suffix: &str, labels: [&str; 3], value: f64) {
        write_series(out, [self.family, suffix], self.is_quoted, labels);
        out.push(' ');
        write_number(out, value);
        out.push('\n');
    }
}

/// Splits labels, which are sorted by name, where the label `name` belongs. So a series has only
/// one spelling, and one hash.
fn split_at<'l>(labels: &'l str, name: &str) -> (&'l str, &'l str) {
    let mut pairs = label_pairs(labels);
    loop {
        let at = pairs.offset();
        match pairs.next() {
            Some(label) if label.name < name => {}
            _ => return (labels[..at].trim_end_matches(','), &labels[at..]),
        }
    }
}
