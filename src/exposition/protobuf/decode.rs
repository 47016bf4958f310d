//! A body of delimited messages becomes text.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::error::{DecodeError, FieldError, shown};
use super::field::family;
use super::lines::FamilyWriter;
use super::metric_type;
use super::wire::Reader;
use crate::exposition::{FamilyText, NativeHistogram, labels_text, parse_labels};

/// What one body may hold.
#[derive(Debug, Clone, Copy)]
pub struct DecodeLimits {
    pub families: usize,
    /// Bytes of the text. It can be far longer than the body: in text each
    /// bucket of a histogram has all of its labels.
    pub text: usize,
}

/// A body as text 0.0.4, and what text cannot say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Heads and samples of all families, each family once. It can be read,
    /// and where it is refused its senders' messages are at fault. Labels are
    /// sorted, and `le` and `quantile` follow them. A timestamp stands where
    /// the message has one, 0 too.
    pub text: String,
    /// In the order of the text.
    pub natives: Vec<DecodedNative>,
}

/// A native histogram of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedNative {
    /// As the text has it: escaped, without quotes.
    pub family: String,
    pub native: NativeHistogram,
}

/// Reads a body to its end. Of a family that is there twice the last one
/// holds, as Pushgateway has it. A family without metrics is none.
///
/// Gauge histograms are written like other histograms, as Prometheus' own text
/// has them; the native part kept beside the text marks them. Exemplars,
/// units and times of creation of all that is not native are left out: text has
/// no place for them.
///
/// Uses memory for the body's size and the text's a few times over.
pub fn decode(body: &[u8], limits: &DecodeLimits) -> Result<Decoded, DecodeError> {
    let mut out = Output::new(limits.text);
    let mut messages = Reader::new(body, 0);
    let mut count = 0;
    while !messages.is_empty() {
        count += 1;
        if count > limits.families {
            let expected = format!(
                "at most {} families (exposition.max_families)",
                limits.families
            );
            return Err(FieldError::of_limit(messages.offset(), expected).of(None, None));
        }
        let (message, start) = messages
            .delimited("the length of a family")
            .map_err(|fault| fault.of(Some(count), None))?;
        let mut name = "";
        read_family(&Reader::new(message, start), count, &mut name, &mut out)
            .map_err(|fault| fault.of(Some(count), Some(name)))?;
    }
    out.finish()
}

/// Gives the families of a body's text, once they are in normal form, their
/// native histograms. `relabel` does to labels, without escapes and in any
/// order, what was done to those of the samples.
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

/// The text, while it grows.
pub(super) struct Output {
    pub(super) text: String,
    limit: usize,
    pub(super) natives: Vec<DecodedNative>,
    /// By name as it is meant: where in `families` the one that holds is.
    by_name: HashMap<String, usize>,
    families: Vec<Written>,
    /// Whether some family was replaced by a later one.
    replaced: bool,
}

/// A family that was written.
struct Written {
    name: String,
    kind: u64,
    text: Range<usize>,
    natives: Range<usize>,
    /// Where it is in the body.
    offset: usize,
    number: usize,
}

impl Output {
    fn new(limit: usize) -> Self {
        Output {
            text: String::new(),
            limit,
            natives: Vec::new(),
            by_name: HashMap::new(),
            families: Vec::new(),
            replaced: false,
        }
    }

    /// Whether the text is still short enough; `more` is about to be added.
    pub(super) fn hold(&self, more: usize, offset: usize) -> Result<(), Box<FieldError>> {
        if self.text.len() + more > self.limit {
            let expected = format!(
                "metrics of at most {} bytes as text (exposition.max_text)",
                self.limit
            );
            return Err(FieldError::of_limit(offset, expected));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Decoded, DecodeError> {
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
        Ok(Decoded {
            text: self.text,
            natives: self.natives,
        })
    }

    /// No family may have the name of another's part: text could not tell
    /// whose sample it is.
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
                    let expected = "no other family named like a part of this one";
                    let found = format!(
                        "family {} ({:?})",
                        self.families[*other].number,
                        shown(&taken)
                    );
                    let fault = FieldError::new(family.offset, expected, found);
                    return Err(fault.of(Some(family.number), Some(name)));
                }
            }
        }
        Ok(())
    }
}

/// Reads one family's message and writes it. `name` is set as soon as it is
/// known, for errors.
fn read_family<'b>(
    message: &Reader<'b>,
    number: usize,
    name: &mut &'b str,
    out: &mut Output,
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
    let text = out.text.len();
    let natives = out.natives.len();
    if metrics > 0 {
        let mut writer = FamilyWriter::new(out, name, kind);
        writer.write(message, help)?;
    }
    let place = out.families.len();
    out.families.push(Written {
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
