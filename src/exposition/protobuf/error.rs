//! Why a body is refused, and where.

use std::borrow::Cow;
use std::fmt;

/// A fault in a body. It displays as `family 2 ("up"), byte 71: expected a
/// counter, found a gauge`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// From 1; `None` where the fault lies between families.
    pub family: Option<usize>,
    /// As far as it was read before the fault, and cut where it is very long.
    pub name: Option<String>,
    /// In the body, from 0.
    pub offset: usize,
    pub expected: Cow<'static, str>,
    pub found: String,
    /// Whether there is too much of something, and nothing else is wrong.
    pub is_limit: bool,
}

impl std::error::Error for DecodeError {}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(family) = self.family {
            write!(f, "family {family}")?;
            if let Some(name) = &self.name {
                write!(f, " ({name:?})")?;
            }
            f.write_str(", ")?;
        }
        let DecodeError {
            offset,
            expected,
            found,
            ..
        } = self;
        write!(f, "byte {offset}: expected {expected}, found {found}")
    }
}

/// A fault whose family is not known yet. It is passed in a box, which keeps
/// the results that carry none small.
#[derive(Debug)]
pub(super) struct FieldError {
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

    /// A fault of a body that has too much of something.
    #[cold]
    pub fn of_limit(offset: usize, expected: impl Into<Cow<'static, str>>) -> Box<Self> {
        let fault = FieldError::new(offset, expected, "more");
        Box::new(FieldError {
            is_limit: true,
            ..*fault
        })
    }

    /// The same with the family it lies in, the `number`th.
    pub fn of(self, number: Option<usize>, name: Option<&str>) -> DecodeError {
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

/// A text of the sender's, cut to what an error shows.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
