//! Admission of the texts of apps and targets, verbatim or as families.

use super::config::{self, Exposition, Mode};
use super::{Admission, MAX_FAMILY_BYTES, Rejection, reserved_name, text_limits};
use crate::exposition::{
    AddedLabel, CanonicalOptions, Content, Escaping, Families, FamilyText, InputFormat,
    LabelConflict, OutputFormat, ParseError, SampleLabels, Text, TimestampPolicy, canonicalize_as,
    detect_format, write_label_value,
};
use crate::reason::Reason;
use crate::store::{InspectionRules, SectionId};
use crate::telemetry::OWN_PREFIX;

impl Admission {
    /// Whether admission parses texts, which takes long for large ones.
    pub fn parses_texts(&self) -> bool {
        self.exposition.mode == Mode::Merged || self.exposition.validate
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
        self.admit_with(&SampleLabels::default(), id, text, format)
    }

    /// Like [`admit`](Self::admit), with `labels` on each sample.
    ///
    /// # Errors
    ///
    /// Those of [`admit`](Self::admit).
    pub fn admit_with(
        &self,
        labels: &SampleLabels,
        id: &SectionId,
        text: Text,
        format: Option<InputFormat>,
    ) -> Result<Content, Rejection> {
        let verbatim = |text: Text| {
            Ok(Content::Verbatim(match labels.is_empty() {
                true => text,
                false => labels.add_to(&text),
            }))
        };
        match (self.exposition.mode, format) {
            // OpenMetrics within the text output would make all of it invalid.
            (Mode::Verbatim, Some(InputFormat::OpenMetrics)) => self.convert(id, &text, labels),
            (Mode::Verbatim, _) if !self.exposition.validate => verbatim(text),
            // Verbatim text is served as text 0.0.4, so it is validated as that.
            (Mode::Verbatim, _) => {
                let (limits, hash) = (self.text_limits(), &self.hash);
                let families =
                    Families::parse_with(text.as_str(), InputFormat::Text, &limits, hash)
                        .map_err(|error| invalid(id, &error))?;
                match families.verbatim_problem() {
                    Some(error) => Err(invalid(id, error)),
                    None => verbatim(text),
                }
            }
            (Mode::Merged, _) => self.families_of_text(id, &text, format, labels),
        }
    }

    /// The budget for the texts of one message.
    pub fn message_budget(&self) -> MessageBudget<'_> {
        MessageBudget {
            config: &self.exposition,
            used: 0,
        }
    }

    /// Converts OpenMetrics to text format 0.0.4.
    fn convert(
        &self,
        id: &SectionId,
        text: &Text,
        labels: &SampleLabels,
    ) -> Result<Content, Rejection> {
        let added: Vec<AddedLabel<'_>> = labels.added().collect();
        let options = CanonicalOptions {
            limits: self.text_limits(),
            added: &added,
            timestamps: TimestampPolicy::Keep,
            hash: &self.hash,
        };
        let families = canonicalize_as(text.as_str(), InputFormat::OpenMetrics, &options)
            .map_err(|error| invalid(id, &error))?;
        let mut converted = Vec::with_capacity(text.len());
        for family in families {
            converted.extend_from_slice(&family.head());
            converted.extend_from_slice(&family.samples.into_bytes());
        }
        // These are whole lines of UTF-8, so nothing is lost.
        let converted = String::from_utf8_lossy(&converted);
        let text = OutputFormat::Text(Escaping::AllowUtf8).convert(&converted, None);
        let text = text.as_deref().unwrap_or(&converted);
        Ok(Content::Verbatim(Text::new(text)))
    }

    fn families_of_text(
        &self,
        id: &SectionId,
        text: &Text,
        format: Option<InputFormat>,
        labels: &SampleLabels,
    ) -> Result<Content, Rejection> {
        let mut app = String::new();
        write_label_value(&mut app, &id.name);
        let label = &self.exposition.app_label;
        let mut added: Vec<AddedLabel<'_>> = labels.added().collect();
        // A label of the settings of a target comes before the one of all apps.
        if !label.is_empty() && added.iter().all(|added| added.name != label) {
            added.push(AddedLabel {
                name: label,
                value: &app,
                conflict: LabelConflict::Rename,
            });
        }
        let options = CanonicalOptions {
            limits: self.text_limits(),
            added: &added,
            timestamps: match self.exposition.timestamps {
                config::Timestamps::Keep => TimestampPolicy::Keep,
                config::Timestamps::Strip => TimestampPolicy::Strip,
            },
            hash: &self.hash,
        };
        let format = format.unwrap_or_else(|| detect_format(text.as_str()));
        let families = canonicalize_as(text.as_str(), format, &options)
            .map_err(|error| invalid(id, &error))?;
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

/// The rules for inspecting verbatim texts in the background. They find what
/// admission would reject with `validate`.
pub fn inspection_rules(config: &Exposition, own_metrics: bool) -> InspectionRules {
    InspectionRules {
        limits: text_limits(config),
        reserved: own_metrics.then_some(OWN_PREFIX),
    }
}

/// Limits the text of one message that has the texts of several apps.
#[derive(Debug)]
pub struct MessageBudget<'d> {
    config: &'d Exposition,
    /// Bytes of the texts so far.
    used: usize,
}

impl MessageBudget<'_> {
    /// Counts the text of one more app. Verbatim text is not counted, since it is no
    /// longer than the message itself.
    ///
    /// # Errors
    ///
    /// The message has more text than the limit (`exposition.max_text`).
    pub fn take(&mut self, id: &SectionId, content: Content) -> Result<Content, Rejection> {
        if let Content::Families(families) = &content {
            self.used += families
                .iter()
                .map(|family| family.samples.len())
                .sum::<usize>();
        }
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
