//! The labels of a group, as paths, batches and the store name it.

use std::collections::BTreeMap;
use std::iter::Peekable;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use percent_encoding::percent_decode_str;

use crate::exposition::{unescape, write_label_value};

/// What tells a group from others: its labels, `job` among them.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    labels: BTreeMap<String, String>,
    /// Whether series are given an `instance`, an empty one where there is none.
    instance: bool,
}

/// Why a path names no group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathError {
    /// It is no path of a push at all.
    NotAPush,
    /// It is one, with this wrong.
    Bad(String),
}

/// Labels of one group.
const MOST_LABELS: usize = 64;

/// After a label's name: the value is base64, for what a path cannot hold.
const BASE64: &str = "@base64";

/// Base64 for URLs (RFC 4648, section 5). Like the reference, it accepts any leftover bits.
const BASE64_URL: GeneralPurpose =
    GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

impl Group {
    /// The group of `job/<job>{/<label>/<value>}`, what follows `/metrics/` in
    /// a path, not decoded yet: it is split first, so `%2F` is part of a value.
    ///
    /// A slash at the end is an empty value where a value is due. Anywhere
    /// else an empty segment is refused: Pushgateway redirects to the path
    /// without it, which few senders follow, and which would give the values
    /// after it to other labels.
    pub fn of_path(path: &str, utf8_names: bool) -> Result<Self, PathError> {
        let bad = |problem: String| Err(PathError::Bad(problem));
        let mut segments = path.split('/').peekable();
        let first = segments.next().unwrap_or_default();
        let (first, encoded) = name_of(first)?;
        if first != "job" || segments.peek().is_none() {
            return Err(PathError::NotAPush);
        }
        let job = value_of("job", segments.next().unwrap_or_default(), encoded)?;
        if job.is_empty() {
            return bad("the path names no job: it must be /metrics/job/<job>".to_owned());
        }
        let mut labels = BTreeMap::new();
        while let Some(segment) = segments.next() {
            let last = segments.peek().is_none();
            if segment.is_empty() && last {
                // `/metrics/job/x/`. After a value it is one name too many.
                if labels.is_empty() {
                    break;
                }
                return bad("the path ends in a label without a name".to_owned());
            }
            take_pair(&mut labels, segment, &mut segments, utf8_names)?;
        }
        // The first job holds, whatever follows.
        labels.insert("job".to_owned(), job);
        Ok(Group {
            labels,
            instance: true,
        })
    }

    /// Any labels, `{<label>/<value>}`, or none, for pushes that need no group.
    /// The same rules hold, but for `job`, and a slash at the end is none.
    pub fn of_labels_path(path: &str, utf8_names: bool) -> Result<Self, PathError> {
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

    /// The group of these labels, which are to be as a path could give them.
    pub fn of_labels(labels: BTreeMap<String, String>, utf8_names: bool) -> Result<Self, String> {
        if labels.get("job").is_none_or(String::is_empty) {
            return Err("a group needs a label \"job\" that is not empty".to_owned());
        }
        if labels.len() > MOST_LABELS {
            return Err(format!("a group has at most {MOST_LABELS} labels"));
        }
        if let Some(name) = labels.keys().find(|name| !is_name(name, utf8_names)) {
            return Err(wrong_name(name));
        }
        Ok(Group {
            labels,
            instance: true,
        })
    }

    /// Reads what [`Group::key`] wrote. `None` where it is something else.
    pub fn of_key(key: &str) -> Option<Self> {
        let mut rest = key.strip_prefix('{')?.strip_suffix('}')?;
        let mut labels = BTreeMap::new();
        while !rest.is_empty() {
            let quoted = rest.starts_with('"');
            let (name, after) = match quoted {
                true => until_quote(&rest[1..])?,
                false => rest.split_at_checked(rest.find('=')?)?,
            };
            let value = after.strip_prefix("=\"")?;
            let (value, after) = until_quote(value)?;
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

    /// Whether its series have an `instance`, if only an empty one, as
    /// Pushgateway has it.
    pub fn has_instance(&self) -> bool {
        self.instance
    }

    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// The group in one text, the same for the same labels: `{a="b",job="x"}`,
    /// escaped as in the text format.
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

/// Takes a label whose name is `segment` and whose value comes next.
fn take_pair<'p>(
    labels: &mut BTreeMap<String, String>,
    segment: &'p str,
    segments: &mut Peekable<impl Iterator<Item = &'p str>>,
    utf8_names: bool,
) -> Result<(), PathError> {
    let bad = |problem: String| Err(PathError::Bad(problem));
    let (name, encoded) = name_of(segment)?;
    let name = label_name(&name, utf8_names)?;
    let Some(value) = segments.next() else {
        return bad(format!("the path has no value for the label {name:?}"));
    };
    if value.is_empty() && !encoded && segments.peek().is_some() {
        return bad(format!(
            "the path has no value for the label {name:?}; an empty one is {name}@base64/="
        ));
    }
    let value = value_of(&name, value, encoded)?;
    labels.insert(name, value);
    if labels.len() > MOST_LABELS {
        return bad(format!("the path has more than {MOST_LABELS} labels"));
    }
    Ok(())
}

/// Splits before the next quote that is not escaped, and drops it.
fn until_quote(text: &str) -> Option<(&str, &str)> {
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

/// A part of a path as it is meant. A percent sign that begins no byte is
/// refused rather than kept: who forgot to encode it would find another value
/// under the group's name.
fn decoded(segment: &str) -> Result<String, PathError> {
    let cut = |code: &str| {
        let digits = code.get(..2).map(str::as_bytes);
        !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if segment.split('%').skip(1).any(cut) {
        return Err(PathError::Bad(format!(
            "a % in the path is not followed by two digits of base 16, in {segment:?}; the \
             character itself is %25"
        )));
    }
    let text = percent_decode_str(segment).decode_utf8();
    text.map(Into::into)
        .map_err(|_| PathError::Bad("the path is not UTF-8 once it is decoded".to_owned()))
}

/// The name that a segment gives, and whether its value is base64.
fn name_of(segment: &str) -> Result<(String, bool), PathError> {
    let mut name = decoded(segment)?;
    let encoded = name.ends_with(BASE64);
    if encoded {
        name.truncate(name.len() - BASE64.len());
    }
    Ok((name, encoded))
}

fn value_of(name: &str, segment: &str, encoded: bool) -> Result<String, PathError> {
    let value = decoded(segment)?;
    if !encoded {
        return Ok(value);
    }
    let bytes = BASE64_URL
        .decode(value.trim_end_matches('='))
        .map_err(|_| {
            PathError::Bad(format!(
                "the value of {name}{BASE64} is not base64 for URLs (with - and _): {value:?}"
            ))
        })?;
    String::from_utf8(bytes).map_err(|_| {
        PathError::Bad(format!(
            "the value of {name}{BASE64} is not UTF-8 once it is decoded"
        ))
    })
}

fn label_name(written: &str, utf8_names: bool) -> Result<String, PathError> {
    let name = match written.strip_prefix("U__").filter(|_| utf8_names) {
        Some(escaped) => unescape_name(escaped).unwrap_or_else(|| written.to_owned()),
        None => written.to_owned(),
    };
    if is_name(&name, utf8_names) {
        Ok(name)
    } else {
        Err(PathError::Bad(wrong_name(&name)))
    }
}

fn wrong_name(name: &str) -> String {
    format!(
        "{name:?} is no name for a label of a group: letters, digits and _ make one, no digit \
         first, and no __"
    )
}

fn is_name(name: &str, utf8_names: bool) -> bool {
    let other = |name: &str| utf8_names && !name.contains('\0');
    !name.is_empty() && !name.starts_with("__") && (is_legacy(name) || other(name))
}

fn is_legacy(name: &str) -> bool {
    let begins = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let mut bytes = name.bytes();
    bytes.next().is_some_and(begins) && bytes.all(|byte| begins(byte) || byte.is_ascii_digit())
}

/// Undoes the escaping of names after `U__`: `_2e_` is the character of that
/// number in base 16, `__` an underscore. `None` where it is none.
fn unescape_name(escaped: &str) -> Option<String> {
    let mut name = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('_') {
        name.push_str(&rest[..at]);
        let (code, after) = rest[at + 1..].split_once('_')?;
        if code.is_empty() {
            name.push('_');
        } else {
            // No number of more digits is a character.
            let code = Some(code).filter(|code| code.len() <= 6)?;
            name.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
        }
        rest = after;
    }
    name.push_str(rest);
    Some(name)
}

impl std::fmt::Display for PathError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PathError::NotAPush => f.write_str("a push goes to /metrics/job/<job>"),
            PathError::Bad(problem) => f.write_str(problem),
        }
    }
}

#[cfg(test)]
mod tests;
