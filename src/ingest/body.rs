//! Bodies of pushes become families.

use bytes::Bytes;
use memchr::memchr_iter;

use super::media::Media;
use super::{Admission, Group, Rejection};
use crate::exposition::{
    AddedLabel, CanonicalOptions, FamilyText, InputFormat, Kind, LabelConflict, ParseError,
    TextLimits, TimestampPolicy, canonicalize_as, plain_name, protobuf, write_label_value,
};
use crate::reason::Reason;
use crate::store::MemoryBudget;
use crate::telemetry::OWN_PREFIX;

/// A plain body, with what its headers say of it.
#[derive(Debug, Clone, Copy)]
pub struct Body<'b> {
    /// Empty where there is none.
    pub content_type: &'b str,
    pub bytes: &'b Bytes,
}

/// The families that each group has beside what is pushed. Pushed ones of
/// these names are passed over.
pub const TIMES: [&str; 2] = ["push_failure_time_seconds", "push_time_seconds"];

/// Bytes of one family of one group, its labels included: the store's pages
/// take no more in one piece.
const LONGEST_FRAGMENT: usize = 1 << 30;

/// A group's labels as they stand in a text.
#[derive(Debug)]
pub struct Escaped {
    labels: Vec<(String, String)>,
    instance: bool,
}

impl Escaped {
    pub fn of(group: &Group) -> Self {
        let escaped = |text: &str| {
            let mut out = String::with_capacity(text.len());
            write_label_value(&mut out, text);
            out
        };
        let labels = group.labels().iter();
        Escaped {
            labels: labels
                .map(|(name, value)| (escaped(name), escaped(value)))
                .collect(),
            instance: group.has_instance(),
        }
    }

    /// What is put on each sample: the group's labels over its own, and for a
    /// group an `instance` where there is none.
    pub(crate) fn added(&self) -> Vec<AddedLabel<'_>> {
        let mut added: Vec<AddedLabel<'_>> = self
            .labels
            .iter()
            .map(|(name, value)| AddedLabel {
                name,
                value,
                conflict: LabelConflict::Override,
            })
            .collect();
        if self.instance && !self.labels.iter().any(|(name, _)| name == "instance") {
            added.push(AddedLabel {
                name: "instance",
                value: "",
                conflict: LabelConflict::Keep,
            });
        }
        added
    }
}

impl Admission {
    /// The families that a body pushes into a group, as far as they can be
    /// read. Whether they may be there is for [`Admission::check_family`] to say, and
    /// whether they fit beside others for the store.
    pub(crate) fn families(
        &self,
        group: &Group,
        body: Body<'_>,
    ) -> Result<Vec<FamilyText>, Rejection> {
        self.families_with(group, body, TimestampPolicy::Refuse, || {
            MemoryBudget::UNLIMITED
        })
    }

    /// Like [`Admission::families`], with what becomes of timestamps. `room` tells
    /// what memory there is for the text; it is asked where the text may be
    /// much, since the store checks it again in any case.
    pub(crate) fn families_with(
        &self,
        group: &Group,
        body: Body<'_>,
        timestamps: TimestampPolicy,
        room: impl FnOnce() -> MemoryBudget,
    ) -> Result<Vec<FamilyText>, Rejection> {
        let media = Media::of(body.content_type)?;
        let bytes = body.bytes;
        let most = most_text(group, media, bytes);
        if most > self.exposition.max_text.min(LITTLE_TEXT) {
            let room = room();
            let enough = self.exposition.max_text.min(room.left);
            let least = least_text(group, media, bytes, enough);
            self.fits_in(group, least, room)?;
        }
        if media == Media::Protobuf {
            let limits = protobuf::DecodeLimits {
                families: self.exposition.max_families,
                text: self.exposition.max_text,
            };
            let decoded = protobuf::decode(bytes, &limits).map_err(|fault| {
                let reason = match fault.is_limit {
                    true => Reason::TooLarge,
                    false => Reason::Malformed,
                };
                Rejection::new(reason, &format!("{}, {fault}", shown(group)))
            })?;
            let text = (&*decoded.text, InputFormat::Text, "");
            let mut families = self.text_families(group, text, timestamps)?;
            protobuf::attach_native_histograms(&mut families, decoded.natives, |labels| {
                merge_added(group, labels);
            });
            return Ok(families);
        }
        let text = std::str::from_utf8(bytes).map_err(|fault| {
            let lines = bytes[..fault.valid_up_to()]
                .iter()
                .filter(|byte| **byte == b'\n');
            let line = lines.count() + 1;
            let message = format!("{}, line {line}: the text is not UTF-8", shown(group));
            Rejection::new(Reason::InvalidUtf8, &message).at(line, None)
        })?;
        let (text, format) = media.read(text);
        let told = media.how_read(format);
        self.text_families(group, (&text, format, told), timestamps)
    }

    /// Bytes of text that a body becomes, labels included, or 0 where they are
    /// `enough` or less.
    pub fn text_size(&self, labels: &Group, body: Body<'_>, enough: usize) -> usize {
        let media = Media::of(body.content_type);
        media.map_or(0, |media| least_text(labels, media, body.bytes, enough))
    }

    /// Whether a push may become `text` bytes of text (`exposition.max_text`).
    pub fn may_become(&self, text: usize) -> bool {
        text <= self.exposition.max_text
    }

    /// Whether a text of at least `least` bytes may be made.
    fn fits_in(&self, group: &Group, least: usize, room: MemoryBudget) -> Result<(), Rejection> {
        let most = self.exposition.max_text;
        if least > most {
            let message = format!(
                "the push becomes at least {least} bytes of text with all labels, and may have \
                 {most} (exposition.max_text), so push fewer series or shorter labels: {}",
                shown(group)
            );
            return Err(Rejection::new(Reason::TooLarge, &message));
        }
        if least > room.left {
            let message = format!(
                "the push becomes at least {least} bytes of text with all labels, and of the {} \
                 that may be held (exposition.max_total) {} are left: {}",
                room.limit,
                room.left,
                shown(group)
            );
            return Err(Rejection::new(Reason::TooManyBytes, &message));
        }
        Ok(())
    }

    fn text_families(
        &self,
        group: &Group,
        (text, format, how_read): (&str, InputFormat, &str),
        timestamps: TimestampPolicy,
    ) -> Result<Vec<FamilyText>, Rejection> {
        let mut families = self
            .canonicalize(&Escaped::of(group), (text, format), timestamps)
            .map_err(|fault| {
                let reason = Reason::from(&fault);
                let how_read = match reason {
                    Reason::InvalidText => how_read,
                    _ => "",
                };
                let hint = match is_joined(text) {
                    true => " (the body is one line: with curl, --data-binary keeps line feeds)",
                    false => "",
                };
                let message = format!("{}, {fault}{how_read}{hint}", shown(group));
                let told = Rejection::new(reason, &message).at(fault.line, Some(fault.column));
                // What is well-formed and still refused.
                match reason {
                    Reason::Timestamp | Reason::DuplicateSeries => told.noted(),
                    _ => told,
                }
            })?;
        families.retain(|family| !TIMES.contains(&&*family.name));
        Ok(families)
    }

    /// A text with the group's labels on every sample.
    pub(crate) fn canonicalize(
        &self,
        labels: &Escaped,
        (text, format): (&str, InputFormat),
        timestamps: TimestampPolicy,
    ) -> Result<Vec<FamilyText>, ParseError> {
        let config = &self.exposition;
        let added = labels.added();
        let normal = CanonicalOptions {
            limits: TextLimits {
                families: config.max_families,
                samples: config.max_samples,
                labels: config.max_labels,
                label_name: config.max_label_length,
                label_value: config.max_label_length,
                text: config.max_text,
            },
            added: &added,
            timestamps,
            hash: &self.hash,
        };
        canonicalize_as(text, format, &normal)
    }

    /// Why nobody may push a family of that name, if it is so.
    pub(crate) fn reserved(&self, name: &str) -> Option<String> {
        // No other character than its own becomes the first one.
        let may_be = self.own_metrics && name.starts_with(&OWN_PREFIX[..1]);
        let own = may_be && plain_name(name).starts_with(OWN_PREFIX);
        own.then(|| format!("{name} is a name of the proxy's own metrics (exporter.own_metrics)"))
    }

    /// Whether a family may be in a group.
    pub(crate) fn check_family(&self, group: &Group, family: &FamilyText) -> Result<(), Rejection> {
        let told = |reason, problem: String| Err(told(group, family, reason, &problem));
        let name = &family.name;
        if let Some(problem) = self.reserved(name) {
            return told(Reason::ReservedName, problem);
        }
        let part = match family.kind {
            Kind::Histogram | Kind::GaugeHistogram => "le",
            Kind::Summary => "quantile",
            _ => "",
        };
        if group.labels().contains_key(part) {
            let kind = family.kind.with_article();
            let problem = format!(
                "{name} is {kind}, whose parts {part} tells apart, and {part} is a label of the group"
            );
            return told(Reason::BadLabels, problem);
        }
        Ok(())
    }
}

/// Text up to this size is made without first asking the store for room.
const LITTLE_TEXT: usize = 1 << 20;

/// Bytes of labels that a group adds to each sample.
fn added(group: &Group) -> usize {
    let labels = group.labels().iter();
    labels.map(|(name, value)| name.len() + value.len()).sum()
}

/// The most bytes of text that a body may become, without looking at it. A
/// message may become any length.
fn most_text(group: &Group, media: Media, bytes: &[u8]) -> usize {
    // Bytes of the shortest sample: a name, a blank, a digit, a line feed.
    const SHORTEST: usize = 4;
    if media == Media::Protobuf {
        return usize::MAX;
    }
    let samples = bytes.len() / SHORTEST + 1;
    bytes
        .len()
        .saturating_add(samples.saturating_mul(added(group)))
}

/// The least bytes of text that a body becomes, with the labels of its group on
/// each sample. It is not counted, and 0, where it cannot be more than `enough`.
fn least_text(group: &Group, media: Media, bytes: &[u8], enough: usize) -> usize {
    let added = added(group);
    if media == Media::Protobuf {
        let measured = protobuf::measure(bytes);
        let added = measured.samples.saturating_mul(added);
        return measured.bytes.saturating_add(added);
    }
    if most_text(group, media, bytes) <= enough {
        return 0;
    }
    let is_sample = |line: &[u8]| line.first().is_some_and(|it| !b"# \t\r".contains(it));
    let (mut least, mut start) = (0_usize, 0);
    for end in memchr_iter(b'\n', bytes).chain([bytes.len()]) {
        let line = &bytes[start..end];
        if is_sample(line) {
            least = least.saturating_add(line.len() + added);
        }
        start = end + 1;
    }
    least
}

/// Whether the store can hold a family of a group, once it is as it stays.
pub fn fits(group: &Group, family: &FamilyText) -> Result<(), Rejection> {
    if family.samples.len() <= LONGEST_FRAGMENT {
        return Ok(());
    }
    let name = &family.name;
    let problem = format!("{name} has more than {LONGEST_FRAGMENT} bytes");
    Err(told(group, family, Reason::TooManyBytes, &problem))
}

/// Whether a text has lost its line feeds, as `curl -d` drops them: all of it
/// is the comment that it begins with.
fn is_joined(text: &str) -> bool {
    let line = text.trim_end_matches('\n');
    line.starts_with("# TYPE ") && !line.contains('\n')
}

/// What is wrong with a family that could be read.
pub fn told(group: &Group, family: &FamilyText, reason: Reason, problem: &str) -> Rejection {
    let line = family.line;
    let message = format!("{}, line {line}: {problem}", shown(group));
    Rejection::new(reason, &message).at(line, None).noted()
}

/// A group in messages.
pub fn shown(group: &Group) -> String {
    if group.labels().is_empty() {
        return "the body".to_owned();
    }
    format!("group {}", group.key())
}

/// Does to labels what is done to those of samples.
fn merge_added(group: &Group, labels: &mut Vec<(String, String)>) {
    labels.retain(|(name, _)| !group.labels().contains_key(name));
    for (name, value) in group.labels() {
        labels.push((name.clone(), value.clone()));
    }
    if group.has_instance() && !labels.iter().any(|(name, _)| name == "instance") {
        labels.push(("instance".to_owned(), String::new()));
    }
}
