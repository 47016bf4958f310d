//! Patterns for names in settings.

use serde::{Serialize, Serializer};

use super::document::Node;
use super::value::text;

/// A pattern in which `*` matches any characters, or none. There is no escape: a name with a star
/// is matched by the pattern of the same text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern of a text.
    pub fn new(text: impl Into<String>) -> Self {
        Pattern(text.into())
    }

    /// The pattern as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a name matches.
    pub fn matches(&self, name: &str) -> bool {
        matches(&self.0, name)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

/// A pattern that is not empty.
///
/// # Errors
///
/// The value is not a text, or empty.
pub fn pattern(node: &Node) -> Result<Pattern, String> {
    match text(node)?.as_str() {
        "" => Err("must be a name, in which * matches any characters, not \"\"".to_owned()),
        written => Ok(Pattern::new(written)),
    }
}

/// Whether a name matches a pattern, in which `*` matches any characters. Takes time
/// linear in the name for each `*`.
pub fn matches(pattern: &str, name: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut left) = name.strip_prefix(begin) else {
        return false;
    };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in middle.split('*') {
        // The first occurrence leaves the longest rest to match.
        let Some(at) = left.find(piece) else {
            return false;
        };
        left = &left[at + piece.len()..];
    }
    left.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_any_characters() {
        for (pattern, name) in [
            ("a", "a"),
            ("*", ""),
            ("*", "a/b"),
            ("shop-*", "shop-"),
            ("shop-*", "shop-front"),
            ("*-db", "main-db"),
            ("a*b*c", "a-b-b-c"),
        ] {
            assert!(Pattern::new(pattern).matches(name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("a", "ab"),
            ("shop-*", "shop"),
            ("shop-*", "a-shop-b"),
            ("*-db", "main-db2"),
            ("a*a", "a"),
            ("a*b*c", "a-c-b"),
        ] {
            assert!(!Pattern::new(pattern).matches(name), "{pattern} {name}");
        }
    }
}
