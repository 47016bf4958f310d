//! Admission of the texts of apps and targets, verbatim or as families.

use std::borrow::Cow;

use super::config::{self, Exposition, Mode};
use super::reading::{ReadError, Reading, Remembered};
use super::shaping::{Layout, SenderLabels, Shaping, Skipped, lenient};
use super::{Admission, MAX_FAMILY_BYTES, Rejection, reserved_name, text_limits};
use crate::exposition::{
    AddedLabel, CanonicalOptions, Content, Escaping, Families, FamilyText, InputFormat, KnownText,
    LabelConflict, OutputFormat, ParseError, SampleLabels, Text, TimestampPolicy, canonicalize_as,
    detect_format, write_label_value,
};
use crate::reason::Reason;
use crate::store::{InspectionRules, SectionId};
use crate::telemetry::OWN_PREFIX;

impl Admission {
    /// Whether admission parses texts, which is slow for large ones.
    pub fn parses_texts(&self) -> bool {
        let shapes = !self.shapes.list.is_empty();
        self.exposition.mode == Mode::Merged || self.exposition.validate || shapes
    }

    /// Checks the text of an app or a target, and returns the content to store.
    /// `format` is the declared format; `None` if the sender declares none.
    ///
    /// # Errors
    ///
    /// In merged mode, with `validate`, or for OpenMetrics: the text is not valid or
    /// exceeds a limit of `[exposition]`.
    pub fn admit(
        &self,
        id: &SectionId,
        text: Text,
        format: Option<InputFormat>,
    ) -> Result<Content, Rejection> {
        self.admit_with(&SampleLabels::default(), id, text, format, None)
    }

    /// Like [`admit`](Self::admit), for a text that an app sent to `listener`.
    ///
    /// # Errors
    ///
    /// As for [`admit`](Self::admit).
    pub fn admit_from(
        &self,
        listener: &str,
        id: &SectionId,
        text: Text,
    ) -> Result<Content, Rejection> {
        let shaping = Shaping::of_section(&self.shapes.list, id, Some(listener));
        self.admit_shaped(&SampleLabels::default(), id, (text, None), shaping, None)
    }

    /// Like [`admit`](Self::admit), with `labels` on each sample, for a sender whose last text is
    /// `remembered`.
    ///
    /// # Errors
    ///
    /// As for [`admit`](Self::admit).
    pub fn admit_with(
        &self,
        labels: &SampleLabels,
        id: &SectionId,
        text: Text,
        format: Option<InputFormat>,
        remembered: Option<&mut Remembered>,
    ) -> Result<Content, Rejection> {
        let shaping = Shaping::of_section(&self.shapes.list, id, None);
        self.admit_shaped(labels, id, (text, format), shaping, remembered)
    }

    fn admit_shaped(
        &self,
        labels: &SampleLabels,
        id: &SectionId,
        (text, format): (Text, Option<InputFormat>),
        shaping: Shaping<'_>,
        remembered: Option<&mut Remembered>,
    ) -> Result<Content, Rejection> {
        let mut nothing = None;
        let (known, logged) = match remembered {
            Some(it) => (Some(&mut it.text), &mut it.skipped),
            None => (None, &mut nothing),
        };
        match (self.exposition.mode, format) {
            // OpenMetrics within the text output would make all of it invalid.
            (Mode::Verbatim, Some(InputFormat::OpenMetrics)) => {
                self.convert(id, &text, labels, (shaping, logged))
            }
            (Mode::Verbatim, _) => {
                if self.exposition.validate && !shaping.is_lenient() {
                    self.validate(text.as_str())
                        .map_err(|error| invalid(id, &error))?;
                }
                match (shaping.is_empty(), labels.is_empty()) {
                    (true, true) => Ok(Content::Verbatim(text)),
                    (true, false) => Ok(Content::Verbatim(labels.add_to(&text))),
                    (false, _) => {
                        self.shape_verbatim(id, (&text, format), labels, (&shaping, logged))
                    }
                }
            }
            (Mode::Merged, _) => {
                let memory = (known, logged);
                self.families_of_text(id, (&text, format), labels, shaping, memory)
            }
        }
    }

    /// Checks the text of a file as node_exporter's textfile collector does: it must be valid, and
    /// have no timestamps.
    ///
    /// # Errors
    ///
    /// The text is not valid, exceeds a limit of `[exposition]`, or has a timestamp.
    pub fn check_file(&self, id: &SectionId, text: &Text) -> Result<(), Rejection> {
        let options = CanonicalOptions {
            limits: self.text_limits(),
            added: &[],
            timestamps: TimestampPolicy::Refuse,
            hash: &self.hash,
        };
        let checked = canonicalize_as(text.as_str(), InputFormat::Text, &options);
        checked.map(drop).map_err(|error| invalid(id, &error))
    }

    /// The budget for the texts of one message.
    pub fn message_budget(&self) -> MessageBudget<'_> {
        MessageBudget {
            config: &self.exposition,
            counts_verbatim: !self.shapes.list.is_empty(),
            used: 0,
        }
    }

    /// Checks a verbatim text as text 0.0.4, since it is served as that.
    fn validate(&self, text: &str) -> Result<(), ParseError> {
        let (limits, hash) = (self.text_limits(), &self.hash);
        let families = Families::parse_with(text, InputFormat::Text, &limits, hash)?;
        families
            .verbatim_problem()
            .map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Shapes a text that is passed through. It is served as text 0.0.4, but its samples are found
    /// in the format that it was sent in, so that rules reach those with exemplars.
    fn shape_verbatim(
        &self,
        id: &SectionId,
        (text, format): (&Text, Option<InputFormat>),
        labels: &SampleLabels,
        (shaping, logged): (&Shaping<'_>, &mut Option<Reason>),
    ) -> Result<Content, Rejection> {
        let sent = match shaping.is_lenient() {
            true => lenient::tidy(text.as_str()),
            false => text.as_str().into(),
        };
        let format = format.unwrap_or_else(|| detect_format(&sent));
        let limits = (Layout::Compact, self.exposition.max_text);
        let labels = SenderLabels::Target(labels);
        let mut shaped = shaping
            .apply(&sent, format, labels, limits)
            .map_err(|problem| problem.reject(id))?;
        if shaping.is_lenient() {
            let (limits, keep) = (self.text_limits(), TimestampPolicy::Keep);
            let (text, served) = (&shaped.text, InputFormat::Text);
            let cleaned = lenient::clean(text, served, &limits, keep, &self.hash, Layout::Compact)
                .map_err(|error| invalid(id, &error))?;
            let mut skipped = Skipped::default();
            if let Some(cleaned) = cleaned {
                shaped.text = cleaned.0.into();
                skipped = cleaned.1;
            }
            self.note_skipped(id, &skipped, logged);
        } else if self.exposition.validate && shaped.is_changed() {
            self.validate(&shaped.text)
                .map_err(|error| ReadError::Shaped(error).reject(id, |error| invalid(id, error)))?;
        }
        self.shapes.count(shaped.counts);
        if !shaping.is_lenient() {
            self.shapes.stats.unread.add(shaped.unread);
        }
        let is_changed = shaped.is_changed() || matches!(sent, Cow::Owned(_));
        Ok(Content::Verbatim(match is_changed {
            true => Text::of_string(shaped.text.into_owned()),
            false => text.clone(),
        }))
    }

    /// Converts OpenMetrics to text format 0.0.4.
    fn convert(
        &self,
        id: &SectionId,
        text: &Text,
        labels: &SampleLabels,
        (shaping, logged): (Shaping<'_>, &mut Option<Reason>),
    ) -> Result<Content, Rejection> {
        let added: Vec<AddedLabel<'_>> = labels.added().collect();
        let reading = reading_of(shaping, (labels, &added), TimestampPolicy::Keep);
        let (format, memory) = (InputFormat::OpenMetrics, (None, logged));
        let families = self.read_section(id, text, format, &reading, memory)?;
        let mut converted = Vec::with_capacity(text.len());
        for family in families {
            converted.extend_from_slice(&family.head());
            converted.extend_from_slice(&family.samples.into_bytes());
        }
        // The text consists of whole lines of UTF-8, so nothing is lost.
        let converted = String::from_utf8_lossy(&converted);
        let text = OutputFormat::Text(Escaping::AllowUtf8).convert(&converted, None);
        let text = text.as_deref().unwrap_or(&converted);
        Ok(Content::Verbatim(Text::new(text)))
    }

    fn families_of_text(
        &self,
        id: &SectionId,
        (text, format): (&Text, Option<InputFormat>),
        labels: &SampleLabels,
        shaping: Shaping<'_>,
        memory: (Option<&mut KnownText>, &mut Option<Reason>),
    ) -> Result<Content, Rejection> {
        let mut app = String::new();
        write_label_value(&mut app, &id.name);
        let label = &self.exposition.app_label;
        let mut added: Vec<AddedLabel<'_>> = labels.added().collect();
        // A label from the settings of a target overrides the app label.
        if !label.is_empty() && added.iter().all(|added| added.name != label) {
            added.push(AddedLabel {
                name: label,
                value: &app,
                conflict: LabelConflict::Rename,
            });
        }
        let timestamps = match self.exposition.timestamps {
            config::Timestamps::Keep => TimestampPolicy::Keep,
            config::Timestamps::Strip => TimestampPolicy::Strip,
        };
        let format = format.unwrap_or_else(|| detect_format(text.as_str()));
        let reading = reading_of(shaping, (labels, &added), timestamps);
        let families = self.read_section(id, text, format, &reading, memory)?;
        if let Some(family) = families.iter().find(|it| self.is_reserved(&it.name)) {
            let (line, problem) = (family.line, reserved_name(&family.name));
            let message = format!("{id}, line {line}: {problem}");
            return Err(Rejection::new(Reason::ReservedName, &message));
        }
        let is_too_long = |family: &FamilyText| family.samples.len() > MAX_FAMILY_BYTES;
        if families.iter().any(is_too_long) {
            let message = format!("{id}: a family has more than {MAX_FAMILY_BYTES} bytes");
            return Err(Rejection::new(Reason::TooManyBytes, &message));
        }
        Ok(Content::Families(families))
    }
}

impl Admission {
    fn read_section(
        &self,
        id: &SectionId,
        text: &Text,
        format: InputFormat,
        reading: &Reading<'_>,
        memory: (Option<&mut KnownText>, &mut Option<Reason>),
    ) -> Result<Vec<FamilyText>, Rejection> {
        self.read_families(id, text.as_str(), format, reading, memory)
            .map_err(|error| error.reject(id, |error| invalid(id, error)))
    }
}

/// How to read the text of an app or a target. `added` are all labels for its samples, beginning
/// with the target's `labels`.
fn reading_of<'r>(
    shaping: Shaping<'r>,
    (labels, added): (&'r SampleLabels, &'r [AddedLabel<'r>]),
    timestamps: TimestampPolicy,
) -> Reading<'r> {
    // Shaping adds the target's labels, so that rules find them.
    let in_text = match shaping.is_empty() {
        true => 0,
        false => labels.added().count(),
    };
    Reading {
        shaping,
        labels: SenderLabels::Target(labels),
        added: &added[in_text..],
        timestamps,
    }
}

/// The rules for inspecting verbatim texts in the background. They find what
/// admission would reject with `validate`.
pub fn inspection_rules(config: &Exposition, own_metrics: bool) -> InspectionRules {
    InspectionRules {
        limits: text_limits(config),
        reserved: own_metrics.then_some(OWN_PREFIX),
    }
}

/// Limits the text of one message with the texts of several apps.
#[derive(Debug)]
pub struct MessageBudget<'d> {
    config: &'d Exposition,
    /// Whether verbatim texts can become longer than the message, by added labels.
    counts_verbatim: bool,
    /// Bytes of the texts so far.
    used: usize,
}

impl MessageBudget<'_> {
    /// Counts the text of one more app. Verbatim text that is not shaped is no longer than the
    /// message, and not counted.
    ///
    /// # Errors
    ///
    /// The message has more text than the limit (`exposition.max_text`).
    pub fn take(&mut self, id: &SectionId, content: Content) -> Result<Content, Rejection> {
        self.used += match &content {
            Content::Families(families) => {
                let samples = families.iter().map(|family| family.samples.len());
                samples.sum::<usize>()
            }
            Content::Verbatim(text) if self.counts_verbatim => text.len(),
            Content::Verbatim(_) => 0,
        };
        let limit = self.config.max_text;
        if self.used > limit {
            let message = format!(
                "with {id} the message has more than {limit} bytes of text with all labels \
                 (exposition.max_text): send its apps in several messages"
            );
            return Err(Rejection::new(Reason::TooLarge, &message));
        }
        Ok(content)
    }
}

fn invalid(id: &SectionId, error: &ParseError) -> Rejection {
    Rejection::new(Reason::from(error), &format!("{id}, {error}"))
}

#[cfg(test)]
mod tests;
