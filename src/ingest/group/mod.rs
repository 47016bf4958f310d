//! The labels of a pushed group: read from a path, from a batch, or from the name
//! of its section in the store.

use std::collections::BTreeMap;
use std::fmt;
use std::iter::Peekable;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use percent_encoding::percent_decode_str;

use super::Rejection;
use crate::exposition::{unescape, write_label_value};
use crate::reason::Reason;

/// The labels that identify a pushed group, including `job`; or the labels that an
/// aggregating push adds to its series.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    labels: BTreeMap<String, String>,
    /// Whether series without an `instance` get an empty one.
    instance: bool,
}

/// Maximum number of labels of one group.
const MAX_LABELS: usize = 64;

/// The message about a path that names no group.
pub const NO_JOB: &str = "a push goes to /metrics/job/<job>";

/// The suffix of a label name whose value is base64, for values that a path cannot
/// hold.
const BASE64_SUFFIX: &str = "@base64";

/// Base64 for URLs (RFC 4648, section 5). Like the reference, it accepts any leftover bits.
const BASE64_URL: GeneralPurpose =
    GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

impl Group {
    /// Reads `job/<job>{/<label>/<value>}`, the percent-encoded rest of a path after
    /// `/metrics/`. The path is split before it is decoded, so `%2F` is part of a
    /// value. With `utf8_names`, label names can be escaped with `U__`.
    ///
    /// A trailing slash where a value is expected is an empty value. Any other empty
    /// segment is an error: Pushgateway redirects to the path without it, which few
    /// clients follow, and which would shift the values after it to other labels.
    ///
    /// # Errors
    ///
    /// The path does not begin with a job, or a label in it is not valid.
    pub fn from_path(path: &str, utf8_names: bool) -> Result<Self, Rejection> {
        let mut segments = path.split('/').peekable();
        let first = segments.next().unwrap_or_default();
        let (first, encoded) = parse_name(first)?;
        if first != "job" || segments.peek().is_none() {
            return Err(reject(NO_JOB));
        }
        let job = parse_value("job", segments.next().unwrap_or_default(), encoded)?;
        if job.is_empty() {
            return Err(reject(
                "the job in the path is empty: use /metrics/job/<job>",
            ));
        }
        let mut labels = BTreeMap::new();
        while let Some(segment) = segments.next() {
            let is_last = segments.peek().is_none();
            if segment.is_empty() && is_last {
                // `/metrics/job/x/` is allowed; after other labels, the slash begins
                // a label without a name.
                if labels.is_empty() {
                    break;
                }
                return Err(reject("the path ends in a label without a name"));
            }
            take_pair(&mut labels, segment, &mut segments, utf8_names)?;
        }
        // The first job wins over later ones.
        labels.insert("job".to_owned(), job);
        Ok(Group {
            labels,
            instance: true,
        })
    }

    /// Reads `{<label>/<value>}`, labels that do not need a `job`, for aggregating
    /// pushes. Otherwise like [`Group::from_path`], and a trailing slash is ignored.
    ///
    /// # Errors
    ///
    /// A label in the path is not valid.
    pub fn from_labels_path(path: &str, utf8_names: bool) -> Result<Self, Rejection> {
        let mut segments = path.split('/').peekable();
        let mut labels = BTreeMap::new();
        while let Some(segment) = segments.next() {
            if !(segment.is_empty() && segments.peek().is_none()) {
                take_pair(&mut labels, segment, &mut segments, utf8_names)?;
            }
        }
        Ok(Group {
            labels,
            instance: false,
        })
    }

    /// The group with these labels, under the same rules as for a path.
    ///
    /// # Errors
    ///
    /// The job is missing or empty, a name is not valid, or there are too many
    /// labels.
    pub fn from_labels(
        labels: BTreeMap<String, String>,
        utf8_names: bool,
    ) -> Result<Self, Rejection> {
        if labels.get("job").is_none_or(String::is_empty) {
            return Err(reject("a group needs a label \"job\" that is not empty"));
        }
        if labels.len() > MAX_LABELS {
            let message = format!("a group has at most {MAX_LABELS} labels");
            return Err(reject(&message));
        }
        if let Some(name) = labels.keys().find(|name| !is_valid(name, utf8_names)) {
            return Err(invalid_name(name));
        }
        Ok(Group {
            labels,
            instance: true,
        })
    }

    /// Reads a text that [`Group::key`] wrote. `None` if it is not such a text.
    pub fn from_key(key: &str) -> Option<Self> {
        let mut rest = key.strip_prefix('{')?.strip_suffix('}')?;
        let mut labels = BTreeMap::new();
        while !rest.is_empty() {
            let quoted = rest.starts_with('"');
            let (name, after) = match quoted {
                true => split_at_quote(&rest[1..])?,
                false => rest.split_at_checked(rest.find('=')?)?,
            };
            let value = after.strip_prefix("=\"")?;
            let (value, after) = split_at_quote(value)?;
            labels.insert(unescape(name).into_owned(), unescape(value).into_owned());
            rest = match after.strip_prefix(',') {
                Some(more) => more,
                None if after.is_empty() => after,
                None => return None,
            };
        }
        Some(Group {
            labels,
            instance: true,
        })
    }

    /// Whether series without an `instance` get an empty one, as in Pushgateway.
    pub fn has_instance(&self) -> bool {
        self.instance
    }

    /// The labels by name, unescaped.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Names and values of the labels.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let labels = self.labels.iter();
        labels.map(|(name, value)| (&**name, &**value))
    }

    /// The labels as one text, such as `{a="b",job="x"}`, sorted by name and escaped
    /// as in the text format. Equal labels give equal keys.
    pub fn key(&self) -> String {
        let mut key = String::from("{");
        for (name, value) in &self.labels {
            if key.len() > 1 {
                key.push(',');
            }
            if is_legacy(name) {
                key.push_str(name);
            } else {
                key.push('"');
                write_label_value(&mut key, name);
                key.push('"');
            }
            key.push_str("=\"");
            write_label_value(&mut key, value);
            key.push('"');
        }
        key.push('}');
        key
    }
}

/// The group as messages name it: `group {job="x"}`, or `the body` without labels.
impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.labels.is_empty() {
            true => f.write_str("the body"),
            false => write!(f, "group {}", self.key()),
        }
    }
}

/// Reads the label named by `segment`, whose value is the next segment.
fn take_pair<'p>(
    labels: &mut BTreeMap<String, String>,
    segment: &'p str,
    segments: &mut Peekable<impl Iterator<Item = &'p str>>,
    utf8_names: bool,
) -> Result<(), Rejection> {
    let (name, encoded) = parse_name(segment)?;
    let name = label_name(&name, utf8_names)?;
    let Some(value) = segments.next() else {
        let message = format!("the path has no value for the label {name:?}");
        return Err(reject(&message));
    };
    if value.is_empty() && !encoded && segments.peek().is_some() {
        let message = format!(
            "the path has no value for the label {name:?}; an empty one is {name}@base64/="
        );
        return Err(reject(&message));
    }
    let value = parse_value(&name, value, encoded)?;
    labels.insert(name, value);
    if labels.len() > MAX_LABELS {
        let message = format!("the path has more than {MAX_LABELS} labels");
        return Err(reject(&message));
    }
    Ok(())
}

/// Splits at the next unescaped quote and drops the quote.
fn split_at_quote(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some((&text[..at], &text[at + 1..])),
            _ => {}
        }
    }
    None
}

/// Percent-decodes a segment. A percent sign without two hexadecimal digits is an
/// error: a client that forgets to encode one would otherwise store a different
/// value.
fn decode_segment(segment: &str) -> Result<String, Rejection> {
    let is_incomplete = |code: &str| {
        let digits = code.get(..2).map(str::as_bytes);
        !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if segment.split('%').skip(1).any(is_incomplete) {
        let message = format!(
            "a % in the path is not followed by two hexadecimal digits, in {segment:?}; write \
             the character itself as %25"
        );
        return Err(reject(&message));
    }
    let text = percent_decode_str(segment).decode_utf8();
    text.map(Into::into)
        .map_err(|_| reject("the decoded path is not UTF-8"))
}

/// The label name in a segment, and whether its value is base64.
fn parse_name(segment: &str) -> Result<(String, bool), Rejection> {
    let mut name = decode_segment(segment)?;
    let encoded = name.ends_with(BASE64_SUFFIX);
    if encoded {
        name.truncate(name.len() - BASE64_SUFFIX.len());
    }
    Ok((name, encoded))
}

fn parse_value(name: &str, segment: &str, encoded: bool) -> Result<String, Rejection> {
    let value = decode_segment(segment)?;
    if !encoded {
        return Ok(value);
    }
    let bytes = BASE64_URL
        .decode(value.trim_end_matches('='))
        .map_err(|_| {
            reject(&format!(
                "the value of {name}{BASE64_SUFFIX} is not base64 for URLs (with - and _): {value:?}"
            ))
        })?;
    String::from_utf8(bytes).map_err(|_| {
        reject(&format!(
            "the decoded value of {name}{BASE64_SUFFIX} is not UTF-8"
        ))
    })
}

fn label_name(written: &str, utf8_names: bool) -> Result<String, Rejection> {
    let name = match written.strip_prefix("U__").filter(|_| utf8_names) {
        Some(escaped) => unescape_name(escaped).unwrap_or_else(|| written.to_owned()),
        None => written.to_owned(),
    };
    if is_valid(&name, utf8_names) {
        Ok(name)
    } else {
        Err(invalid_name(&name))
    }
}

fn reject(message: &str) -> Rejection {
    Rejection::new(Reason::BadLabels, message)
}

fn invalid_name(name: &str) -> Rejection {
    reject(&format!(
        "{name:?} is not a valid name for a label of a group: use letters, digits and _, and \
         begin with neither a digit nor __"
    ))
}

fn is_valid(name: &str, utf8_names: bool) -> bool {
    let is_utf8 = |name: &str| utf8_names && !name.contains('\0');
    !name.is_empty() && !name.starts_with("__") && (is_legacy(name) || is_utf8(name))
}

/// Whether a name has only the characters that were valid before UTF-8 names.
fn is_legacy(name: &str) -> bool {
    let begins = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let mut bytes = name.bytes();
    bytes.next().is_some_and(begins) && bytes.all(|byte| begins(byte) || byte.is_ascii_digit())
}

/// Undoes the escaping that follows `U__`: `_2e_` is the character with that
/// hexadecimal number, `__` is an underscore. `None` if an escape is not valid.
fn unescape_name(escaped: &str) -> Option<String> {
    let mut name = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('_') {
        name.push_str(&rest[..at]);
        let (code, after) = rest[at + 1..].split_once('_')?;
        if code.is_empty() {
            name.push('_');
        } else {
            // The largest code point has six digits.
            let code = Some(code).filter(|code| code.len() <= 6)?;
            name.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
        }
        rest = after;
    }
    name.push_str(rest);
    Some(name)
}

#[cfg(test)]
mod tests;
