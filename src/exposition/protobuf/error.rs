//! Mistakes in a body, with their positions.

use std::borrow::Cow;

/// A mistake in a body. It displays as `family 2 ("up"), byte 71: expected a
/// counter, found a gauge`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}byte {offset}: expected {expected}, found {found}",
    family_text(*family, name.as_deref())
)]
pub struct DecodeError {
    /// Number of the family, from 1; `None` if the mistake is between families.
    pub family: Option<usize>,
    /// The family's name, if it was read before the mistake; long names are
    /// cut.
    pub name: Option<String>,
    /// Byte of the body, from 0.
    pub offset: usize,
    /// What the schema or a limit requires.
    pub expected: Cow<'static, str>,
    /// What the body has.
    pub found: String,
    /// Whether a limit is exceeded; nothing else is wrong then.
    pub is_limit: bool,
}

/// The family of an error, for a message.
fn family_text(family: Option<usize>, name: Option<&str>) -> String {
    match (family, name) {
        (None, _) => String::new(),
        (Some(family), None) => format!("family {family}, "),
        (Some(family), Some(name)) => format!("family {family} ({name:?}), "),
    }
}

/// A mistake whose family is not known yet. It is passed in a box, which keeps
/// results without one small.
#[derive(Debug)]
pub(crate) struct FieldError {
    pub offset: usize,
    pub expected: Cow<'static, str>,
    pub found: String,
    is_limit: bool,
}

/// Characters of a name that an error shows.
const SHOWN: usize = 80;

impl FieldError {
    #[cold]
    pub fn new(
        offset: usize,
        expected: impl Into<Cow<'static, str>>,
        found: impl Into<String>,
    ) -> Box<Self> {
        Box::new(FieldError {
            offset,
            expected: expected.into(),
            found: found.into(),
            is_limit: false,
        })
    }

    /// The error for a limit that is exceeded.
    #[cold]
    pub fn limit(offset: usize, expected: impl Into<Cow<'static, str>>) -> Box<Self> {
        let error = FieldError::new(offset, expected, "more");
        Box::new(FieldError {
            is_limit: true,
            ..*error
        })
    }

    /// The error with its family, which is number `number`.
    pub fn in_family(self, number: Option<usize>, name: Option<&str>) -> DecodeError {
        DecodeError {
            family: number,
            name: name.filter(|name| !name.is_empty()).map(shown),
            offset: self.offset,
            expected: self.expected,
            found: self.found,
            is_limit: self.is_limit,
        }
    }
}

/// A sender's text, cut for an error.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
