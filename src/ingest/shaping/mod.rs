//! Shaping: changes metrics as `[[shape]]` says, before they are stored.
//!
//! A text in the usual form is shaped while it is parsed, one sample at a time. Any other text is
//! shaped as text, before it is parsed or passed through; the result is the same. All checks and
//! limits apply to the result. Updates of aggregated families are shaped one by one.
//!
//! - [`config`]: the settings;
//! - [`step`]: one step, which adds labels or applies rules;
//! - [`samples`]: all steps for a sample that is parsed;
//! - [`rewrite`]: one step for a whole text; [`heads`]: the metadata of renamed families;
//! - [`updates`]: the same for one update of an aggregated series;
//! - [`stages`]: the steps as they are shown to people;
//! - [`lenient`]: removes the lines that cannot be read.

pub mod config;
mod heads;
pub mod lenient;
mod rewrite;
mod samples;
mod stages;
mod step;
mod updates;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use super::{Group, Rejection};
use crate::exposition::{InputFormat, SampleLabels, ShapedCounts};
use crate::reason::Reason;
use crate::settings::pattern::Pattern;
use crate::store::{Producer, SectionId};
use crate::telemetry::ShapingStats;
use config::{Input, Selection, Shape};
use step::Step;

pub use heads::Layout;
pub use lenient::Skipped;
pub use samples::Samples;
pub use updates::Series;

/// Why a text cannot be shaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapingProblem {
    /// The line, from 1.
    pub line: usize,
    /// The word for the log and the metrics.
    pub reason: Reason,
    /// What is wrong.
    pub message: String,
}

impl ShapingProblem {
    /// The rejection of a sender's text.
    pub fn reject(&self, sender: &impl std::fmt::Display) -> Rejection {
        let ShapingProblem {
            line,
            reason,
            message,
        } = self;
        let message = format!("{sender}, line {line}: {message}");
        Rejection::new(*reason, &message).at(*line, None)
    }
}

/// All `[[shape]]` entries, and counters of what they did.
#[derive(Debug, Default)]
pub struct Shapes {
    /// The entries, in order.
    pub list: Vec<Shape>,
    /// The counters.
    pub stats: Arc<ShapingStats>,
}

impl Shapes {
    /// Counts the changes made to a text.
    pub fn count(&self, counts: ShapedCounts) {
        self.stats.dropped.add(counts.dropped);
        self.stats.changed.add(counts.changed);
    }
}

/// The entries that apply to one sender, in order.
#[derive(Debug, Clone, Default)]
pub struct Shaping<'s> {
    shapes: Vec<&'s Shape>,
    is_lenient: bool,
}

/// Labels of a sender, besides those of its samples.
#[derive(Debug, Clone, Copy)]
pub enum SenderLabels<'l> {
    /// Labels of a target, which its samples get first.
    Target(&'l SampleLabels),
    /// Labels of a group or of a path, unescaped. Samples get them later, and they override the
    /// samples' own. Rules can match them but not change them.
    Group(&'l [(&'l str, &'l str)]),
}

/// A text after shaping.
#[derive(Debug)]
pub struct Shaped<'t> {
    /// The text.
    pub text: Cow<'t, str>,
    /// Counts of dropped and changed samples.
    pub counts: ShapedCounts,
    /// Lines that steps could concern and that cannot be read, so that they stay as they are.
    pub unread: u64,
}

impl Shaped<'_> {
    /// Whether shaping changed the text.
    pub fn is_changed(&self) -> bool {
        matches!(self.text, Cow::Owned(_))
    }
}

impl<'s> Shaping<'s> {
    /// The entries for an app or a target. `listener` is the address or path where its text
    /// arrived.
    pub fn of_section(shapes: &'s [Shape], id: &SectionId, listener: Option<&str>) -> Self {
        let is_named = |patterns: &[Pattern]| patterns.iter().any(|it| it.matches(&id.name));
        match id.producer {
            Producer::Target => Shaping::of(shapes, (Input::Targets, listener), |shape| {
                is_named(&shape.selection.targets)
            }),
            _ => Shaping::of(shapes, (Input::Apps, listener), |shape| {
                is_named(&shape.selection.apps)
            }),
        }
    }

    /// The entries for a group that is pushed to a listener.
    pub fn of_group(shapes: &'s [Shape], group: &Group, listener: Option<&str>) -> Self {
        Shaping::of(shapes, (Input::Groups, listener), |shape| {
            let mut groups = shape.selection.groups.iter();
            groups.any(|it| it.selectors.matches(group))
        })
    }

    /// The entries for metrics of an input that arrive at a listener.
    pub fn of_input(shapes: &'s [Shape], input: Input, listener: Option<&str>) -> Self {
        Shaping::of(shapes, (input, listener), |_| false)
    }

    fn of(
        shapes: &'s [Shape],
        (input, listener): (Input, Option<&str>),
        is_named: impl Fn(&Shape) -> bool,
    ) -> Self {
        let concerns = |shape: &&Shape| {
            let it = &shape.selection;
            let mut listeners = it.listeners.iter();
            *it == Selection::default()
                || it.inputs.contains(&input)
                || listener.is_some_and(|at| listeners.any(|pattern| pattern.matches(at)))
                || is_named(shape)
        };
        let shapes: Vec<&Shape> = shapes.iter().filter(concerns).collect();
        let is_lenient = !input.is_added_up() && shapes.iter().any(|shape| shape.lenient);
        Shaping { shapes, is_lenient }
    }

    /// Whether no entry applies.
    pub fn is_empty(&self) -> bool {
        self.shapes.is_empty()
    }

    /// Whether lines that cannot be read are left out.
    pub fn is_lenient(&self) -> bool {
        self.is_lenient
    }

    /// Shapes a text from a sender with these `labels`.
    ///
    /// # Errors
    ///
    /// A rule leaves a sample without a valid name, or the text becomes too long.
    pub fn apply<'t>(
        &self,
        text: &'t str,
        format: InputFormat,
        labels: SenderLabels<'_>,
        (layout, max_size): (Layout, usize),
    ) -> Result<Shaped<'t>, ShapingProblem> {
        let mut shaped = Shaped {
            text: Cow::Borrowed(text),
            counts: ShapedCounts::default(),
            unread: 0,
        };
        for step in self.steps(labels) {
            if !step.added.is_empty() {
                add_labels(&mut shaped, &step, format, max_size)?;
                continue;
            }
            let rewritten = step.apply(&shaped.text, format, layout)?;
            shaped.counts.dropped += rewritten.dropped;
            shaped.counts.changed += rewritten.changed;
            // Each step meets the same lines.
            shaped.unread = shaped.unread.max(rewritten.unread);
            if let Some(text) = rewritten.text {
                shaped.text = Cow::Owned(text);
            }
        }
        Ok(shaped)
    }

    /// Shapes samples of text 0.0.4 while they are parsed, with the same result as
    /// [`apply`](Self::apply).
    pub fn samples<'l>(&'l self, labels: SenderLabels<'l>) -> Samples<'l> {
        Samples::new(self.steps(labels))
    }

    /// The steps in order, each of which adds labels or applies rules.
    fn steps<'l>(&self, labels: SenderLabels<'l>) -> Vec<Step<'l>>
    where
        's: 'l,
    {
        let adding = |added: &'l SampleLabels| {
            (!added.is_empty()).then(|| Step {
                added,
                ..Step::default()
            })
        };
        let (group, of_target): (&[(&str, &str)], _) = match labels {
            SenderLabels::Group(group) => (group, None),
            SenderLabels::Target(labels) => (&[], adding(labels)),
        };
        let of_shapes = self.shapes.iter().flat_map(|shape| {
            let rest = Step {
                added: Step::default().added,
                ..shape.step(group)
            };
            [adding(&shape.labels), rest.does_more().then_some(rest)]
        });
        of_target.into_iter().chain(of_shapes.flatten()).collect()
    }
}

impl Shape {
    /// The step for samples of a group with the labels `group`.
    fn step<'s>(&'s self, group: &'s [(&'s str, &'s str)]) -> Step<'s> {
        Step {
            added: &self.labels,
            keep: &self.keep,
            drop: &self.drop,
            rules: &self.rules,
            screen: &self.screen,
            group,
        }
    }
}

/// Adds labels to all samples of a text.
fn add_labels(
    shaped: &mut Shaped<'_>,
    step: &Step<'_>,
    format: InputFormat,
    max_size: usize,
) -> Result<(), ShapingProblem> {
    let labels = step.added;
    // Check the size before allocating.
    let lines = memchr::memchr_iter(b'\n', shaped.text.as_bytes()).count() + 1;
    let more = lines.saturating_mul(labels.labels().len() + 3);
    if shaped.text.len().saturating_add(more) > max_size {
        return Err(ShapingProblem {
            line: 1,
            reason: Reason::TooLarge,
            message: format!(
                "the text can become longer than {max_size} bytes with the labels that are added \
                 (exposition.max_text)"
            ),
        });
    }
    let text = match format {
        // Most lines get labels without being parsed.
        InputFormat::Text => Some(labels.add_to_lines(&shaped.text)),
        InputFormat::OpenMetrics => step.apply(&shaped.text, format, Layout::Lines)?.text,
    };
    if let Some(text) = text {
        shaped.text = Cow::Owned(text);
    }
    Ok(())
}
