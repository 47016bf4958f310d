//! Errors of YAML files, in the words of the settings and with their positions.

use std::borrow::Cow;
use std::fmt;

use serde_saphyr::{Error, Location, MessageFormatter, UserMessageFormatter};

/// An error in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlProblem {
    /// The line and the column, from 1, if known.
    pub at: Option<(usize, usize)>,
    /// What is wrong. It quotes no secrets.
    pub message: String,
}

impl YamlProblem {
    /// A problem at a location.
    pub fn at(location: &Location, message: impl Into<String>) -> Self {
        YamlProblem {
            at: Some(position(location)),
            message: message.into(),
        }
    }
}

/// The line and the column of a location.
pub fn position(location: &Location) -> (usize, usize) {
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    (number(location.line()), number(location.column()))
}

impl From<&Error> for YamlProblem {
    fn from(error: &Error) -> Self {
        // The snippet of the file could show a password.
        let error = error.without_snippet();
        let message = error.render_with_formatter(&PlainWords);
        // The message ends with the position, which has a field of its own here.
        let message = message.split(" at line ").next().unwrap_or_default();
        match error.location() {
            Some(location) => YamlProblem::at(&location, message),
            None => YamlProblem {
                at: None,
                message: message.to_owned(),
            },
        }
    }
}

impl fmt::Display for YamlProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.at {
            Some((line, column)) => write!(f, " at line {line}, column {column}"),
            None => Ok(()),
        }
    }
}

/// Replaces the words of the library that only its users understand.
struct PlainWords;

impl MessageFormatter for PlainWords {
    fn format_message<'a>(&self, error: &'a Error) -> Cow<'a, str> {
        match error {
            Error::DuplicateMappingKey { key: Some(key), .. } => {
                Cow::Owned(format!("the key {key:?} is there twice"))
            }
            Error::DuplicateMappingKey { key: None, .. } => Cow::Borrowed("a key is there twice"),
            Error::MultipleDocuments { .. } => {
                Cow::Borrowed("must be one YAML document: nothing may follow a line with ---")
            }
            Error::Unexpected { expected, .. } if *expected == "sequence start" => {
                Cow::Borrowed("must be a list")
            }
            Error::Unexpected { expected, .. } if *expected == "mapping start" => {
                Cow::Borrowed("must be a table of keys and values")
            }
            Error::InvalidScalar { ty, .. } if ty.starts_with('u') => {
                Cow::Borrowed("must be a whole number, not negative")
            }
            Error::InvalidScalar { ty, .. } if ty.starts_with('i') => {
                Cow::Borrowed("must be a whole number")
            }
            Error::InvalidScalar { ty, .. } if ty.starts_with('f') => {
                Cow::Borrowed("must be a number")
            }
            Error::InvalidScalar { ty, .. } if ty.starts_with('b') => {
                Cow::Borrowed("must be true or false")
            }
            Error::NullIntoString { .. } => Cow::Borrowed("must be a text, not empty"),
            other => UserMessageFormatter.format_message(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Written {
        text: String,
        count: u32,
        number: i64,
        share: f64,
        is_set: bool,
        list: Vec<String>,
        table: BTreeMap<String, String>,
    }

    #[test]
    fn errors_are_in_plain_words_with_their_position() {
        for (text, line, column, message) in [
            (
                "count: 1\ncount: 2\n",
                2,
                1,
                "the key \"count\" is there twice",
            ),
            (
                "count: 1\n---\ncount: 2\n",
                3,
                1,
                "must be one YAML document: nothing may follow a line with ---",
            ),
            ("list: a\n", 1, 7, "must be a list"),
            ("table: a\n", 1, 8, "must be a table of keys and values"),
            ("- a\n", 1, 1, "must be a table of keys and values"),
            ("count: -1\n", 1, 8, "must be a whole number, not negative"),
            ("number: x\n", 1, 9, "must be a whole number"),
            ("share: x\n", 1, 8, "must be a number"),
            ("is_set: x\n", 1, 9, "must be true or false"),
            ("text:\n", 1, 5, "must be a text, not empty"),
        ] {
            let error = serde_saphyr::from_str::<Written>(text).unwrap_err();
            let problem = YamlProblem::from(&error);
            assert_eq!(problem.message, message, "{text:?}");
            assert_eq!(problem.at, Some((line, column)), "{text:?}");
        }
        let unknown = serde_saphyr::from_str::<Written>("cuont: 1\n").unwrap_err();
        let problem = YamlProblem::from(&unknown);
        assert!(problem.message.contains("cuont"), "{problem:?}");
    }
}
