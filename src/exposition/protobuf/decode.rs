//! Decodes a body of delimited messages to text.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::error::{DecodeError, FieldError, shown};
use super::family_writer::FamilyWriter;
use super::field::family;
use super::metric_type;
use super::wire::Reader;
use crate::exposition::{FamilyText, NativeHistogram, labels_text, parse_labels};

/// Limits on one body.
#[derive(Debug, Clone, Copy)]
pub struct DecodeLimits {
    /// Families of the body.
    pub families: usize,
    /// Bytes of the text. It can be far longer than the body, since each bucket
    /// of a histogram repeats all of its labels in text.
    pub text: usize,
}

/// A body as text 0.0.4, and what text cannot show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DecodedBody {
    /// Metadata and samples of all families, each family once. If the text is
    /// rejected later, the sender's messages are wrong. Labels are sorted, with
    /// `le` and `quantile` after them. A timestamp is written if the message
    /// has one, even 0.
    pub text: String,
    /// The native histograms, in the order of the text.
    pub natives: Vec<DecodedNative>,
}

/// A native histogram of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedNative {
    /// The family's name as in the text: escaped, without quotes.
    pub family: String,
    /// The histogram, with the labels as sent.
    pub native: NativeHistogram,
}

/// Decodes a whole body. Of a family that comes twice the last one counts, as
/// in Pushgateway; its type must be the same. A family without metrics is left
/// out.
///
/// Gauge histograms are written like other histograms, as in Prometheus' own
/// text; the native part kept beside the text marks them. Exemplars, units and
/// creation times outside native histograms are left out, since text cannot
/// show them.
///
/// Memory use is linear in the size of the body and the text.
///
/// # Errors
///
/// A message that is not of the schema, a family that text cannot show, or a
/// limit that is exceeded.
pub fn decode(body: &[u8], limits: &DecodeLimits) -> Result<DecodedBody, DecodeError> {
    let mut out = TextOutput::new(limits.text);
    let mut messages = Reader::new(body, 0);
    let mut count = 0;
    while !messages.is_empty() {
        count += 1;
        if count > limits.families {
            let expected = format!(
                "at most {} families (exposition.max_families)",
                limits.families
            );
            return Err(FieldError::limit(messages.offset(), expected).in_family(None, None));
        }
        let (message, start) = messages
            .delimited("the length of a family")
            .map_err(|error| error.in_family(Some(count), None))?;
        let mut name = "";
        read_family(&Reader::new(message, start), count, &mut name, &mut out)
            .map_err(|error| error.in_family(Some(count), Some(name)))?;
    }
    out.finish()
}

/// Attaches the native histograms of a body to its families after they became canonical. `relabel`
/// makes the same changes to unescaped labels, in any order, as were made to the labels of the
/// samples.
pub fn attach_native_histograms(
    families: &mut [FamilyText],
    natives: Vec<DecodedNative>,
    mut relabel: impl FnMut(&mut Vec<(String, String)>),
) {
    if natives.is_empty() {
        return;
    }
    let places: HashMap<Arc<str>, usize> = families
        .iter()
        .enumerate()
        .map(|(place, family)| (Arc::clone(&family.name), place))
        .collect();
    for DecodedNative { family, native } in natives {
        let labels = parse_labels(&native.labels);
        let (Some(place), Some(mut labels)) = (places.get(&*family), labels) else {
            continue;
        };
        relabel(&mut labels);
        families[*place].natives.push(NativeHistogram {
            labels: labels_text(&labels).into(),
            ..native
        });
    }
}

/// The text while it is written.
pub(super) struct TextOutput {
    pub(super) text: String,
    limit: usize,
    pub(super) natives: Vec<DecodedNative>,
    /// The index in `families` of the family that counts, by unescaped name.
    by_name: HashMap<String, usize>,
    families: Vec<WrittenFamily>,
    /// Whether a family was replaced by a later one.
    replaced: bool,
}

/// A family that was written.
struct WrittenFamily {
    name: String,
    kind: u64,
    text: Range<usize>,
    natives: Range<usize>,
    /// Byte of the body at which it begins.
    offset: usize,
    number: usize,
}

impl TextOutput {
    fn new(limit: usize) -> Self {
        TextOutput {
            text: String::new(),
            limit,
            natives: Vec::new(),
            by_name: HashMap::new(),
            families: Vec::new(),
            replaced: false,
        }
    }

    /// Checks that `more` bytes fit into the text.
    pub(super) fn check_length(&self, more: usize, offset: usize) -> Result<(), Box<FieldError>> {
        if self.text.len() + more > self.limit {
            let expected = format!(
                "metrics of at most {} bytes as text (exposition.max_text)",
                self.limit
            );
            return Err(FieldError::limit(offset, expected));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<DecodedBody, DecodeError> {
        self.check_names()?;
        if self.replaced {
            let mut text = String::with_capacity(self.text.len());
            let mut natives = Vec::with_capacity(self.natives.len());
            for (place, family) in self.families.iter().enumerate() {
                if self.by_name.get(&family.name) == Some(&place) {
                    text.push_str(&self.text[family.text.clone()]);
                    natives.extend_from_slice(&self.natives[family.natives.clone()]);
                }
            }
            self.text = text;
            self.natives = natives;
        }
        Ok(DecodedBody {
            text: self.text,
            natives: self.natives,
        })
    }

    /// No family may have the name of another's component: text could not tell
    /// their samples apart.
    fn check_names(&self) -> Result<(), DecodeError> {
        for (name, place) in &self.by_name {
            let family = &self.families[*place];
            let parts: &[&str] = match family.kind {
                metric_type::HISTOGRAM | metric_type::GAUGE_HISTOGRAM => {
                    &["_bucket", "_sum", "_count"]
                }
                metric_type::SUMMARY => &["_sum", "_count"],
                _ => &[],
            };
            for part in parts {
                let taken = format!("{name}{part}");
                if let Some(other) = self.by_name.get(&taken) {
                    let expected = "no other family named like a component of this one";
                    let found = format!(
                        "family {} ({:?})",
                        self.families[*other].number,
                        shown(&taken)
                    );
                    let error = FieldError::new(family.offset, expected, found);
                    return Err(error.in_family(Some(family.number), Some(name)));
                }
            }
        }
        Ok(())
    }
}

/// Reads the message of one family and writes it. `name` is set as soon as it
/// is known, for errors.
fn read_family<'b>(
    message: &Reader<'b>,
    number: usize,
    name: &mut &'b str,
    out: &mut TextOutput,
) -> Result<(), Box<FieldError>> {
    let offset = message.offset();
    let mut help = "";
    let mut kind = metric_type::COUNTER;
    let mut metrics = 0;
    let mut fields = message.clone();
    while let Some(field) = fields.next()? {
        match field.number {
            family::NAME => *name = field.text("a family's name")?,
            family::HELP => help = field.text("a family's help")?,
            family::TYPE => {
                kind = field.unsigned("a family's type")?;
                if kind > metric_type::GAUGE_HISTOGRAM {
                    let expected = "a family's type from 0 to 5";
                    return Err(FieldError::new(field.offset, expected, kind.to_string()));
                }
            }
            family::METRIC => metrics += 1,
            _ => {}
        }
    }
    if name.is_empty() || name.contains('\0') {
        let found = if name.is_empty() { "none" } else { "NUL in it" };
        return Err(FieldError::new(offset, "a family's name", found));
    }
    if let Some(place) = out.by_name.get(*name)
        && out.families[*place].kind != kind
    {
        let expected = format!(
            "the type of family {} of this name, {}",
            out.families[*place].number, out.families[*place].kind
        );
        return Err(FieldError::new(offset, expected, kind.to_string()));
    }
    let text = out.text.len();
    let natives = out.natives.len();
    if metrics > 0 {
        let mut writer = FamilyWriter::new(out, name, kind);
        writer.write(message, help)?;
    }
    let place = out.families.len();
    out.families.push(WrittenFamily {
        name: (*name).to_owned(),
        kind,
        text: text..out.text.len(),
        natives: natives..out.natives.len(),
        offset,
        number,
    });
    out.replaced |= out.by_name.insert((*name).to_owned(), place).is_some();
    Ok(())
}
