//! Pushed bodies as families.

use bytes::Bytes;
use memchr::memchr_iter;

use super::config::PushTimestamps;
use super::media::MediaType;
use super::reading::{ReadError, Reading};
use super::shaping::config::Input;
use super::shaping::{SenderLabels, Shaping};
use super::{Admission, Group, MAX_FAMILY_BYTES, Rejection, reject_family, reserved_name};
use crate::exposition::{
    AddedLabel, FamilyText, InputFormat, Kind, LabelConflict, ParseProblem, TimestampPolicy,
    protobuf, write_label_value,
};
use crate::reason::Reason;
use crate::store::MemoryLeft;

/// A decompressed body and its media type.
#[derive(Debug, Clone, Copy)]
pub struct Body<'b> {
    /// The `Content-Type`; empty if there is none.
    pub content_type: &'b str,
    /// The body, decompressed.
    pub bytes: &'b Bytes,
}

/// The names of the two families that the proxy adds to each group. Pushed families
/// with these names are ignored.
pub const PUSH_TIME_FAMILIES: [&str; 2] = ["push_failure_time_seconds", "push_time_seconds"];

/// Text up to this size is made without asking the store for its memory budget.
const SMALL_TEXT: usize = 1 << 20;

/// The labels of a group, escaped as in the text format.
#[derive(Debug)]
pub struct EscapedLabels {
    labels: Vec<(String, String)>,
    instance: bool,
}

impl EscapedLabels {
    /// Escapes the labels of a group.
    pub fn of(group: &Group) -> Self {
        let escaped = |text: &str| {
            let mut out = String::with_capacity(text.len());
            write_label_value(&mut out, text);
            out
        };
        let labels = group.labels().iter();
        EscapedLabels {
            labels: labels
                .map(|(name, value)| (escaped(name), escaped(value)))
                .collect(),
            instance: group.has_instance(),
        }
    }

    /// The labels to add to each sample. They override the sample's own; an empty
    /// `instance` is added if a group's sample has none.
    pub fn added(&self) -> Vec<AddedLabel<'_>> {
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
    /// Parses a body that is added to aggregated families. `listener` is the address or path where
    /// it arrived. [`Admission::check_family`] checks whether the group can have the families, and
    /// the store whether they fit beside others.
    ///
    /// # Errors
    ///
    /// The body cannot be parsed, or exceeds a limit of `[exposition]`.
    pub fn families(
        &self,
        group: &Group,
        body: Body<'_>,
        listener: Option<&str>,
    ) -> Result<Vec<FamilyText>, Rejection> {
        let timestamps = match self.aggregation.timestamps {
            PushTimestamps::Reject => TimestampPolicy::Refuse,
            // Aggregated values have no timestamps.
            PushTimestamps::Strip | PushTimestamps::Keep => TimestampPolicy::Strip,
        };
        let shaping = Shaping::of_input(&self.shapes.list, Input::Aggregate, listener);
        self.families_with(group, body, (timestamps, shaping), || MemoryLeft::UNLIMITED)
    }

    /// Like [`Admission::families`], for a push to a group, with a budget as for
    /// [`Admission::families_with`].
    ///
    /// # Errors
    ///
    /// As for [`Admission::families_with`].
    pub fn group_families(
        &self,
        group: &Group,
        body: Body<'_>,
        listener: Option<&str>,
        budget: impl FnOnce() -> MemoryLeft,
    ) -> Result<Vec<FamilyText>, Rejection> {
        let timestamps = match self.aggregation.timestamps {
            PushTimestamps::Reject => TimestampPolicy::Refuse,
            PushTimestamps::Strip => TimestampPolicy::Strip,
            PushTimestamps::Keep => TimestampPolicy::Keep,
        };
        let shaping = Shaping::of_group(&self.shapes.list, group, listener);
        self.families_with(group, body, (timestamps, shaping), budget)
    }

    /// Like [`Admission::families`], with an explicit policy for timestamps and explicit shaping.
    /// `budget` returns the memory left for the text. It is called only if the text can be large,
    /// since the store checks the actual size again.
    ///
    /// # Errors
    ///
    /// The body cannot be parsed, or exceeds a limit of `[exposition]` or the budget.
    pub fn families_with(
        &self,
        group: &Group,
        body: Body<'_>,
        (timestamps, shaping): (TimestampPolicy, Shaping<'_>),
        budget: impl FnOnce() -> MemoryLeft,
    ) -> Result<Vec<FamilyText>, Rejection> {
        let media_type = MediaType::parse(body.content_type)?;
        let bytes = body.bytes;
        let max_size = max_text_size(group, media_type, bytes);
        if max_size > self.exposition.max_text.min(SMALL_TEXT) {
            let budget = budget();
            let threshold = self.exposition.max_text.min(budget.left);
            let min_size = min_text_size(group, media_type, bytes, threshold);
            self.check_text_size(group, min_size, budget)?;
        }
        if media_type == MediaType::Protobuf {
            let limits = protobuf::DecodeLimits {
                families: self.exposition.max_families,
                text: self.exposition.max_text,
            };
            let decoded = protobuf::decode(bytes, &limits).map_err(|error| {
                let reason = match error.is_limit {
                    true => Reason::TooLarge,
                    false => Reason::Malformed,
                };
                Rejection::new(reason, &format!("{group}, {error}"))
            })?;
            let mut natives = decoded.natives;
            if !shaping.is_empty() {
                natives.retain_mut(|native| shaping.apply_to_native(group, native));
            }
            let text = &decoded.text;
            let mut families = self.decoded_families(group, text, timestamps, shaping)?;
            protobuf::attach_native_histograms(&mut families, natives, |labels| {
                override_labels(group, labels);
            });
            return Ok(families);
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let lines = bytes[..error.valid_up_to()]
                .iter()
                .filter(|byte| **byte == b'\n');
            let line = lines.count() + 1;
            let message = format!("{group}, line {line}: the text is not UTF-8");
            Rejection::new(Reason::InvalidUtf8, &message).at(line, None)
        })?;
        let (text, format) = media_type.read(text);
        let format_note = media_type.format_note(format);
        self.text_families(group, (&text, format, format_note), timestamps, shaping)
    }

    /// A lower bound on the bytes of text that a body becomes, including `labels` on
    /// each sample; 0 if the text cannot exceed `threshold` bytes.
    pub fn text_size(&self, labels: &Group, body: Body<'_>, threshold: usize) -> usize {
        let media_type = MediaType::parse(body.content_type);
        media_type.map_or(0, |it| min_text_size(labels, it, body.bytes, threshold))
    }

    /// Whether a push can become `bytes` of text (`exposition.max_text`).
    pub fn allows_text_size(&self, bytes: usize) -> bool {
        bytes <= self.exposition.max_text
    }

    /// Checks a text of at least `min_size` bytes against the limit and the budget.
    fn check_text_size(
        &self,
        group: &Group,
        min_size: usize,
        budget: MemoryLeft,
    ) -> Result<(), Rejection> {
        let limit = self.exposition.max_text;
        if min_size > limit {
            let message = format!(
                "the push becomes at least {min_size} bytes of text with all labels; the limit is \
                 {limit} (exposition.max_text), so push fewer series or shorter labels: {group}"
            );
            return Err(Rejection::new(Reason::TooLarge, &message));
        }
        if min_size > budget.left {
            let message = format!(
                "the push becomes at least {min_size} bytes of text with all labels; {} of {} \
                 bytes are left (exposition.max_total): {group}",
                budget.left, budget.limit
            );
            return Err(Rejection::new(Reason::TooManyBytes, &message));
        }
        Ok(())
    }

    fn text_families(
        &self,
        group: &Group,
        (text, format, format_note): (&str, InputFormat, &str),
        timestamps: TimestampPolicy,
        shaping: Shaping<'_>,
    ) -> Result<Vec<FamilyText>, Rejection> {
        let read = self.read_group(group, (text, format), timestamps, shaping);
        let mut families = read.map_err(|error| {
            error.reject(group, |error| {
                let reason = Reason::from(error);
                let format_note = match reason {
                    Reason::InvalidText => format_note,
                    _ => "",
                };
                let hint = match lacks_line_feeds(text) {
                    true => " (the body is one line: with curl, --data-binary keeps line feeds)",
                    false => "",
                };
                let message = format!("{group}, {error}{format_note}{hint}");
                let rejection = Rejection::new(reason, &message).at(error.line, Some(error.column));
                // These texts are well-formed, but not accepted in a group.
                match reason {
                    Reason::Timestamp | Reason::DuplicateSeries => rejection.recorded(),
                    _ => rejection,
                }
            })
        })?;
        families.retain(|family| !PUSH_TIME_FAMILIES.contains(&&*family.name));
        Ok(families)
    }

    /// The families of a text that was decoded from protobuf. The sender never saw the
    /// text, so an error names the family instead of a line.
    fn decoded_families(
        &self,
        group: &Group,
        text: &str,
        timestamps: TimestampPolicy,
        shaping: Shaping<'_>,
    ) -> Result<Vec<FamilyText>, Rejection> {
        let read = self.read_group(group, (text, InputFormat::Text), timestamps, shaping);
        let mut families = read.map_err(|error| {
            let error = match error {
                ReadError::Sent(error) | ReadError::Shaped(error) => error,
                ReadError::Shaping(problem) => {
                    let family = family_at(text, problem.line);
                    let message = format!("{group}, family {family}: {}", problem.message);
                    return Rejection::new(problem.reason, &message);
                }
            };
            let reason = Reason::from(&error);
            let family = family_at(text, error.line);
            let problem = match error.problem {
                ParseProblem::DuplicateSeries { .. } => "a series comes twice".to_owned(),
                other => other.to_string(),
            };
            let message = format!("{group}, family {family}: {problem}");
            let rejection = Rejection::new(reason, &message);
            match reason {
                Reason::Timestamp | Reason::DuplicateSeries => rejection.recorded(),
                _ => rejection,
            }
        })?;
        families.retain(|family| !PUSH_TIME_FAMILIES.contains(&&*family.name));
        for family in &mut families {
            family.line = 0;
        }
        Ok(families)
    }

    /// Reads a text with the labels of a group on every sample.
    fn read_group(
        &self,
        group: &Group,
        (text, format): (&str, InputFormat),
        timestamps: TimestampPolicy,
        shaping: Shaping<'_>,
    ) -> Result<Vec<FamilyText>, ReadError> {
        let escaped = EscapedLabels::of(group);
        let labels: Vec<(&str, &str)> = match shaping.is_empty() {
            true => Vec::new(),
            false => group.pairs().collect(),
        };
        let reading = Reading {
            shaping,
            labels: SenderLabels::Group(&labels),
            added: &escaped.added(),
            timestamps,
        };
        self.read_families(group, text, format, &reading, (None, &mut None))
    }

    /// Checks whether a group can have a family.
    ///
    /// # Errors
    ///
    /// The name is reserved, or a label of the group is `le` or `quantile` and the
    /// family needs that label itself.
    pub fn check_family(&self, group: &Group, family: &FamilyText) -> Result<(), Rejection> {
        let name = &family.name;
        if self.is_reserved(name) {
            let problem = reserved_name(name);
            return Err(reject_family(group, family, Reason::ReservedName, &problem));
        }
        let label = match family.kind {
            Kind::Histogram | Kind::GaugeHistogram => "le",
            Kind::Summary => "quantile",
            _ => "",
        };
        if group.labels().contains_key(label) {
            let kind = family.kind.with_article();
            let problem = format!(
                "{name} is {kind}, which needs the label {label}, but {label} is a label of the group"
            );
            return Err(reject_family(group, family, Reason::BadLabels, &problem));
        }
        Ok(())
    }
}

/// An upper bound on the bytes of text that a body becomes, from its length alone. A
/// protobuf message has none.
fn max_text_size(group: &Group, media_type: MediaType, bytes: &[u8]) -> usize {
    // The shortest sample: a name, a space, a digit and a line feed.
    const SHORTEST_SAMPLE: usize = 4;
    if media_type == MediaType::Protobuf {
        return usize::MAX;
    }
    let samples = bytes.len() / SHORTEST_SAMPLE + 1;
    let labels = samples.saturating_mul(label_bytes(group));
    bytes.len().saturating_add(labels)
}

/// A lower bound on the bytes of text that a body becomes, with the labels of its group on each
/// sample. Samples are counted only if the text can exceed `threshold` bytes; otherwise the result
/// is 0.
fn min_text_size(group: &Group, media_type: MediaType, bytes: &[u8], threshold: usize) -> usize {
    let labels = label_bytes(group);
    if media_type == MediaType::Protobuf {
        let measured = protobuf::measure(bytes);
        let labels = measured.samples.saturating_mul(labels);
        return measured.bytes.saturating_add(labels);
    }
    if max_text_size(group, media_type, bytes) <= threshold {
        return 0;
    }
    let is_sample = |line: &[u8]| line.first().is_some_and(|it| !b"# \t\r".contains(it));
    let (mut size, mut start) = (0_usize, 0);
    for end in memchr_iter(b'\n', bytes).chain([bytes.len()]) {
        let line = &bytes[start..end];
        if is_sample(line) {
            size = size.saturating_add(line.len() + labels);
        }
        start = end + 1;
    }
    size
}

/// The bytes of labels that a group adds to each sample.
fn label_bytes(group: &Group) -> usize {
    let labels = group.labels().iter();
    labels.map(|(name, value)| name.len() + value.len()).sum()
}

/// Checks that the store can hold a family of a group, in its final form.
///
/// # Errors
///
/// The family is too long.
pub fn check_family_size(group: &Group, family: &FamilyText) -> Result<(), Rejection> {
    if family.samples.len() <= MAX_FAMILY_BYTES {
        return Ok(());
    }
    let name = &family.name;
    let problem = format!("{name} has more than {MAX_FAMILY_BYTES} bytes");
    Err(reject_family(group, family, Reason::TooManyBytes, &problem))
}

/// The name of the family of a line, in a decoded text. Each family there has a `TYPE`.
fn family_at(text: &str, line: usize) -> &str {
    let before: Vec<&str> = text.lines().take(line).collect();
    let mut lines = before.iter().rev();
    let head = lines.find_map(|line| line.strip_prefix("# TYPE "));
    head.and_then(|head| head.rsplit_once(' '))
        .map_or("", |(name, _)| name)
}

/// Whether a text has lost its line feeds, as `curl -d` removes them, so that all of
/// it is a comment.
fn lacks_line_feeds(text: &str) -> bool {
    let line = text.trim_end_matches('\n');
    line.starts_with("# TYPE ") && !line.contains('\n')
}

/// Adds the labels of a group to `labels`, as [`EscapedLabels::added`] adds them to samples.
fn override_labels(group: &Group, labels: &mut Vec<(String, String)>) {
    labels.retain(|(name, _)| !group.labels().contains_key(name));
    for (name, value) in group.labels() {
        labels.push((name.clone(), value.clone()));
    }
    if group.has_instance() && !labels.iter().any(|(name, _)| name == "instance") {
        labels.push(("instance".to_owned(), String::new()));
    }
}
