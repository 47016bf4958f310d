//! The door: what every text goes through before it is stored.
//!
//! A text is checked alone here, at the cost of its own size, and brought into
//! the form it is kept in. Whether it fits beside the others is the store's to
//! say, under its lock and at the same cost.

use super::config::{self, Exposition, Mode};
use super::{Admission, Rejection};
use crate::exposition::{
    AddedLabel, CanonicalOptions, Content, Escaping, Families, InputFormat, LabelConflict,
    OutputFormat, ParseError, Text, TextLimits, TimestampPolicy, canonicalize_as, detect_format,
    plain_name, write_label_value,
};
use crate::reason::Reason;
use crate::store::{InspectionRules, SectionId};
use crate::telemetry::OWN_PREFIX;

/// Bytes of one family of one app, its labels included.
const LONGEST_FRAGMENT: usize = 1 << 30;

impl Admission {
    /// Whether texts are read here, which takes long where they are large.
    pub fn reads_texts(&self) -> bool {
        self.exposition.mode == Mode::Merged || self.exposition.validate
    }

    /// The content that an app or target exposes with this text. `format` is
    /// what the sender calls it; `None` where it says nothing.
    pub fn admit(
        &self,
        id: &SectionId,
        text: Text,
        format: Option<InputFormat>,
    ) -> Result<Content, Rejection> {
        match (self.exposition.mode, format) {
            // The output is text: OpenMetrics among it would spoil all of it.
            (Mode::Verbatim, Some(InputFormat::OpenMetrics)) => self.convert(id, &text),
            (Mode::Verbatim, _) if !self.exposition.validate => Ok(Content::Verbatim(text)),
            // It will be read as text, whatever it says it is.
            (Mode::Verbatim, _) => {
                let (limits, hash) = (self.limits(), &self.hash);
                let families =
                    Families::parse_with(text.as_str(), InputFormat::Text, &limits, hash)
                        .map_err(|fault| invalid(id, &fault))?;
                match families.verbatim_problem() {
                    Some(fault) => Err(invalid(id, fault)),
                    None => Ok(Content::Verbatim(text)),
                }
            }
            (Mode::Merged, _) => self.families_of_text(id, &text, format),
        }
    }

    /// What the texts of one message may have together.
    pub fn left(&self) -> Left<'_> {
        Left {
            config: &self.exposition,
            text: 0,
        }
    }

    /// OpenMetrics as text format 0.0.4.
    fn convert(&self, id: &SectionId, text: &Text) -> Result<Content, Rejection> {
        let normal = CanonicalOptions {
            limits: self.limits(),
            added: &[],
            timestamps: TimestampPolicy::Keep,
            hash: &self.hash,
        };
        let families = canonicalize_as(text.as_str(), InputFormat::OpenMetrics, &normal)
            .map_err(|fault| invalid(id, &fault))?;
        let mut converted = Vec::with_capacity(text.len());
        for family in families {
            converted.extend_from_slice(&family.head());
            converted.extend_from_slice(&family.samples.into_bytes());
        }
        // Whole lines of what was UTF-8.
        let converted = String::from_utf8_lossy(&converted);
        let shown = OutputFormat::Text(Escaping::AllowUtf8).convert(&converted, None);
        let text = shown.as_deref().unwrap_or(&converted);
        Ok(Content::Verbatim(Text::new(text)))
    }

    fn families_of_text(
        &self,
        id: &SectionId,
        text: &Text,
        format: Option<InputFormat>,
    ) -> Result<Content, Rejection> {
        let mut app = String::new();
        write_label_value(&mut app, &id.name);
        let label = &self.exposition.app_label;
        let added = [AddedLabel {
            name: label,
            value: &app,
            conflict: LabelConflict::Rename,
        }];
        let normal = CanonicalOptions {
            limits: self.limits(),
            added: if label.is_empty() { &[] } else { &added },
            timestamps: match self.exposition.timestamps {
                config::Timestamps::Keep => TimestampPolicy::Keep,
                config::Timestamps::Strip => TimestampPolicy::Strip,
            },
            hash: &self.hash,
        };
        let format = format.unwrap_or_else(|| detect_format(text.as_str()));
        let families =
            canonicalize_as(text.as_str(), format, &normal).map_err(|fault| invalid(id, &fault))?;
        let reserved =
            |family: &str| self.own_metrics && plain_name(family).starts_with(OWN_PREFIX);
        if let Some(family) = families.iter().find(|family| reserved(&family.name)) {
            let message = format!(
                "{id}, line {}: {} is a name of the proxy's own metrics (exporter.own_metrics)",
                family.line, family.name
            );
            return Err(Rejection::new(Reason::ReservedName, &message));
        }
        // The store's pages take no more in one piece.
        if families
            .iter()
            .any(|family| family.samples.len() > LONGEST_FRAGMENT)
        {
            let message = format!("{id}: a family has more than {LONGEST_FRAGMENT} bytes");
            return Err(Rejection::new(Reason::TooManyBytes, &message));
        }
        Ok(Content::Families(families))
    }

    fn limits(&self) -> TextLimits {
        limits(&self.exposition)
    }
}

/// What verbatim texts are held against in the background: what admission would
/// refuse if texts were validated.
pub fn rules(config: &Exposition, own_metrics: bool) -> InspectionRules {
    InspectionRules {
        limits: limits(config),
        reserved: own_metrics.then_some(OWN_PREFIX),
    }
}

fn limits(config: &Exposition) -> TextLimits {
    TextLimits {
        families: config.max_families,
        samples: config.max_samples,
        labels: config.max_labels,
        label_name: config.max_label_length,
        label_value: config.max_label_length,
        text: config.max_text,
    }
}

/// Counts the texts of a message that names several apps.
#[derive(Debug)]
pub struct Left<'d> {
    config: &'d Exposition,
    /// Bytes so far.
    text: usize,
}

impl Left<'_> {
    /// Counts one more, or says that there is too much. Text that is passed
    /// through is no longer than the message that brought it.
    pub fn take(&mut self, id: &SectionId, content: Content) -> Result<Content, Rejection> {
        if let Content::Families(families) = &content {
            self.text += families
                .iter()
                .map(|family| family.samples.len())
                .sum::<usize>();
        }
        let most = self.config.max_text;
        if self.text > most {
            let message = format!(
                "with {id} the message has more than {most} bytes of text with all labels \
                 (exposition.max_text): send its apps one by one"
            );
            return Err(Rejection::new(Reason::TooLarge, &message));
        }
        Ok(content)
    }
}

fn invalid(id: &SectionId, fault: &ParseError) -> Rejection {
    Rejection::new(Reason::from(fault), &format!("{id}, {fault}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::config::Aggregation;
    use crate::store::Producer;

    fn app(name: &str) -> SectionId {
        SectionId::new(name, Producer::App)
    }

    fn admission(mode: Mode, change: impl FnOnce(&mut Exposition)) -> Admission {
        let mut exposition = Exposition {
            mode,
            ..Exposition::default()
        };
        change(&mut exposition);
        let hash = std::hash::RandomState::new();
        Admission::new(exposition, Aggregation::default(), true, hash)
    }

    const BAD: &str = "ok 1\nm{a=\"b\" 1\n";

    #[test]
    fn verbatim_text_is_let_in_as_it_is() {
        let admission = admission(Mode::Verbatim, |_| {});
        let Ok(Content::Verbatim(text)) = admission.admit(&app("a"), Text::new(BAD), None) else {
            panic!("it is refused");
        };
        assert_eq!(text.bytes(), BAD);
    }

    #[test]
    fn validation_refuses_what_prometheus_would() {
        let admission = admission(Mode::Verbatim, |config| config.validate = true);
        let refused = admission
            .admit(&app("a"), Text::new(BAD), None)
            .unwrap_err();
        assert_eq!(refused.reason, Reason::InvalidText);
        assert!(
            refused.message.starts_with("app \"a\", line 2, column "),
            "{}",
            refused.message
        );
        let twice = admission
            .admit(&app("a"), Text::new("m 1\nm 2\n"), None)
            .unwrap_err();
        assert_eq!(twice.reason, Reason::DuplicateSeries);
        assert!(matches!(
            admission.admit(&app("a"), Text::new("m 1\n"), None),
            Ok(Content::Verbatim(_))
        ));
    }

    #[test]
    fn merged_text_is_taken_apart_and_labelled() {
        let admission = admission(Mode::Merged, |config| config.app_label = "app".to_owned());
        let Ok(Content::Families(families)) = admission.admit(&app("x\"y"), Text::new("m 1"), None)
        else {
            panic!("it is refused");
        };
        assert_eq!(families[0].samples.bytes(), "m{app=\"x\\\"y\"} 1\n");
        let own = admission
            .admit(&app("a"), Text::new("exporter_proxy_apps 1"), None)
            .unwrap_err();
        assert_eq!(own.reason, Reason::ReservedName);
    }

    #[test]
    fn texts_of_one_message_have_a_bound_together() {
        let admission = admission(Mode::Merged, |config| config.max_text = 30);
        let mut left = admission.left();
        let text = || {
            admission
                .admit(&app("a"), Text::new("m{a=\"1\"} 1\n"), None)
                .unwrap()
        };
        left.take(&app("a"), text()).unwrap();
        left.take(&app("b"), text()).unwrap();
        let refused = left.take(&app("c"), text()).unwrap_err();
        assert_eq!(refused.reason, Reason::TooLarge);
        let words = "more than 30 bytes of text with all labels (exposition.max_text)";
        assert!(refused.message.contains(words), "{}", refused.message);
    }

    #[test]
    fn families_are_bounded_in_merged_and_validated_mode() {
        for mode in [Mode::Merged, Mode::Verbatim] {
            let admission = admission(mode, |config| {
                config.max_families = 2;
                config.validate = true;
            });
            let refused = admission
                .admit(&app("a"), Text::new("m 1\nn 1\no 1\n"), None)
                .unwrap_err();
            assert_eq!(refused.reason, Reason::TooManySamples);
            let words =
                "line 3, column 1: expected at most 2 families in a text (exposition.max_families)";
            assert!(refused.message.contains(words), "{}", refused.message);
            assert!(
                admission
                    .admit(&app("a"), Text::new("m 1\nn 1\n"), None)
                    .is_ok()
            );
        }
    }

    #[test]
    fn limits_are_named() {
        let admission = admission(Mode::Merged, |config| config.max_samples = 1);
        let refused = admission
            .admit(&app("a"), Text::new("m 1\nn 1\n"), None)
            .unwrap_err();
        assert_eq!(refused.reason, Reason::TooManySamples);
        assert!(
            refused.message.contains("at most 1 sample in a text"),
            "{}",
            refused.message
        );
    }

    const OPEN_METRICS: &str = "# TYPE a counter\n# HELP a h\na_total 1 # {t=\"x\"} 1\na_created 5\n\
        # TYPE v stateset\nv{v=\"on\"} 1\nv{v=\"off\"} 0\n# EOF\n";

    #[test]
    fn open_metrics_becomes_text_where_text_is_passed_through() {
        let target = SectionId::new("t", Producer::Target);
        for validate in [false, true] {
            let admission = admission(Mode::Verbatim, |config| config.validate = validate);
            let sent = Text::new(OPEN_METRICS);
            let Ok(Content::Verbatim(text)) =
                admission.admit(&target, sent, Some(InputFormat::OpenMetrics))
            else {
                panic!("it is refused");
            };
            assert_eq!(
                text.bytes(),
                "# HELP a_total h\n# TYPE a_total counter\na_total 1\n\
                 # TYPE v gauge\nv{v=\"on\"} 1\nv{v=\"off\"} 0\n"
            );
            let cut = Text::new(OPEN_METRICS.strip_suffix("# EOF\n").unwrap());
            let refused = admission
                .admit(&target, cut, Some(InputFormat::OpenMetrics))
                .unwrap_err();
            assert_eq!(refused.reason, Reason::InvalidText);
            assert!(
                refused.message.starts_with("target \"t\", line "),
                "{}",
                refused.message
            );
        }
    }

    #[test]
    fn a_format_that_is_named_is_not_guessed() {
        let admission = admission(Mode::Merged, |_| {});
        let text = || Text::new("# TYPE a untyped\na 1\n# EOF\n");
        assert!(
            admission
                .admit(&app("a"), text(), Some(InputFormat::Text))
                .is_ok()
        );
        assert!(admission.admit(&app("a"), text(), None).is_err());
    }
}
