//! Living series as text.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::BlockId;
use super::block::{Block, Stale, Values};
use super::histogram::Histogram;
use super::labels::LabelTexts;
use super::patch::{LineValue, RenderBuffers, patched};
use super::state::{State, Summary};
use crate::exposition::{label_pairs, needs_quotes, write_bound, write_number, write_series};

/// What has changed of a block up to one moment, to be rendered, or written into
/// the text before, while the registry goes on.
#[derive(Debug)]
pub struct DirtyBlock {
    pub id: BlockId,
    pub family: Arc<str>,
    /// Tells the family's blocks apart. Those of lower numbers come first.
    pub number: u32,
    /// See [`Registry::set_hint`](super::Registry::set_hint).
    pub hint: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    /// All series.
    Whole(Box<(LabelTexts, Values)>),
    /// Lines whose values have changed, where they lie among all that were
    /// taken together.
    Lines(Range<usize>),
}

impl DirtyBlock {
    /// Copies what has changed: values, or all of it with its labels, which are
    /// shared.
    pub(super) fn of(
        id: BlockId,
        name: &Arc<str>,
        block: &Block,
        lines: &mut Vec<LineValue>,
    ) -> Self {
        let what = match block.stale() {
            Stale::All => What::Whole(Box::new((block.labels().clone(), block.values().clone()))),
            Stale::Values(places) => {
                let start = lines.len();
                block.changed_lines(places, lines);
                What::Lines(start..lines.len())
            }
        };
        DirtyBlock {
            id,
            family: Arc::clone(name),
            number: id.1,
            hint: block.hint,
            what,
        }
    }

    /// The lines of all series, in normal text, where all of it was taken.
    /// Otherwise it is to be [patched](DirtyBlock::patch).
    pub fn render(&self, scratch: &mut RenderBuffers) -> Option<Bytes> {
        match &self.what {
            What::Whole(whole) => Some(self.render_whole(&whole.0, &whole.1, &mut scratch.text)),
            What::Lines(_) => None,
        }
    }

    /// The lines of all series, made from the text that was made last. `lines`
    /// are those that were taken with it. `None` where they cannot be: see
    /// [`Registry::mark_dirty`](super::Registry::mark_dirty).
    pub fn patch<'s>(
        &self,
        lines: &[LineValue],
        before: &[u8],
        scratch: &'s mut RenderBuffers,
    ) -> Option<&'s [u8]> {
        match &self.what {
            What::Whole(_) => None,
            What::Lines(range) => patched(before, lines.get(range.clone())?, scratch),
        }
    }

    fn render_whole(&self, labels: &LabelTexts, values: &Values, out: &mut String) -> Bytes {
        let pen = Pen::new(&self.family);
        out.clear();
        let mut bounds = BoundTexts::default();
        for (place, labels) in labels.iter() {
            match values {
                Values::Numbers(numbers) => pen.number(out, labels, numbers[place]),
                Values::Histograms(histograms) => {
                    pen.histogram(out, labels, &histograms[place], &mut bounds);
                }
                Values::Summaries(summaries) => pen.summary(out, labels, summaries[place]),
            }
        }
        // Of exact size: this is kept until the block changes.
        Bytes::copy_from_slice(out.as_bytes())
    }
}

/// Calls `with` for each line that a series is shown in, without its value.
pub(super) fn each_series(
    name: &str,
    labels: &str,
    state: &State,
    scratch: &mut String,
    mut with: impl FnMut(&str),
) {
    let pen = Pen::new(name);
    scratch.clear();
    match state {
        State::Value(_) | State::Window(_) => pen.number(scratch, labels, 0.0),
        State::Histogram(histogram) => {
            pen.histogram(scratch, labels, histogram, &mut BoundTexts::default());
        }
        State::Summary(summary) => pen.summary(scratch, labels, *summary),
    }
    for line in scratch.lines() {
        // Values have no blanks.
        with(line.rsplit_once(' ').map_or(line, |(series, _)| series));
    }
}

/// The labels `le` of a histogram's bounds, kept for the next with the same.
#[derive(Debug, Default)]
struct BoundTexts {
    bounds: Arc<[f64]>,
    texts: Vec<String>,
}

impl BoundTexts {
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

/// Writes the series of one family.
#[derive(Debug)]
struct Pen<'n> {
    name: &'n str,
    quoted: bool,
}

impl<'n> Pen<'n> {
    fn new(name: &'n str) -> Self {
        Pen {
            name,
            quoted: needs_quotes(name),
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
        bounds: &mut BoundTexts,
    ) {
        let (before, after) = around_le(labels);
        let counts = histogram.counts.iter().chain([&histogram.count]);
        for (le, count) in bounds.of(&histogram.bounds).iter().zip(counts) {
            self.line(out, "_bucket", [before, le, after], *count);
        }
        if let Some(sum) = histogram.sum {
            self.line(out, "_sum", [labels, "", ""], sum);
        }
        self.line(out, "_count", [labels, "", ""], histogram.count);
    }

    fn summary(&self, out: &mut String, labels: &str, summary: Summary) {
        if let Some(sum) = summary.sum {
            self.line(out, "_sum", [labels, "", ""], sum);
        }
        if let Some(count) = summary.count {
            self.line(out, "_count", [labels, "", ""], count);
        }
    }

    fn line(&self, out: &mut String, suffix: &str, labels: [&str; 3], value: f64) {
        write_series(out, [self.name, suffix], self.quoted, labels);
        out.push(' ');
        write_number(out, value);
        out.push('\n');
    }
}

/// The labels before `le` and those after it, in the order of names: so a
/// series is written, and known, in one way only.
fn around_le(labels: &str) -> (&str, &str) {
    let mut pairs = label_pairs(labels);
    loop {
        let at = pairs.offset();
        match pairs.next() {
            Some(label) if label.name < "le" => {}
            _ => return (labels[..at].trim_end_matches(','), &labels[at..]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn le_stands_among_the_labels_by_its_name() {
        for (labels, before, after) in [
            ("", "", ""),
            ("a=\"1\"", "a=\"1\"", ""),
            ("z=\"1\"", "", "z=\"1\""),
            ("a=\",\",b=\"2,\",m=\"3\"", "a=\",\",b=\"2,\"", "m=\"3\""),
            ("\"a.b\"=\"1\",lf=\"2\"", "\"a.b\"=\"1\"", "lf=\"2\""),
        ] {
            assert_eq!(around_le(labels), (before, after), "{labels}");
        }
    }

    #[test]
    fn every_line_of_a_histogram_is_a_series() {
        let histogram = Histogram {
            bounds: Arc::from([0.005, 1.0]),
            counts: Box::new([1.0, 2.0]),
            count: 3.0,
            sum: Some(2.5),
            parts: None,
        };
        let mut lines = Vec::new();
        let state = State::Histogram(histogram);
        let mut scratch = String::new();
        let mut take = |series: &str| lines.push(series.to_owned());
        each_series("h", "a=\"1\",z=\" 2\"", &state, &mut scratch, &mut take);
        let number = State::Value(1.0);
        each_series("my.g", "", &number, &mut scratch, &mut take);
        assert_eq!(
            lines,
            [
                "h_bucket{a=\"1\",le=\"0.005\",z=\" 2\"}",
                "h_bucket{a=\"1\",le=\"1\",z=\" 2\"}",
                "h_bucket{a=\"1\",le=\"+Inf\",z=\" 2\"}",
                "h_sum{a=\"1\",z=\" 2\"}",
                "h_count{a=\"1\",z=\" 2\"}",
                "{\"my.g\"}",
            ]
        );
    }
}
