//! Replacements: texts with references to captures, as Go's `Regexp.Expand` has them.

use std::borrow::Cow;

use super::bounds::MAX_SERIES;
use super::pattern::Captures;

/// A replacement that was parsed once.
///
/// `$1` and `${1}` stand for the capture of that number, `$name` and `${name}` for the one
/// of that name, and `$$` for a dollar sign. `$1x` is the capture named `1x`. A capture that
/// does not exist is empty. A dollar sign before anything else stands for itself.
#[derive(Debug, Clone)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    /// The capture of this number.
    Capture(usize),
}

impl Template {
    /// Parses a template. `group` gives the number of the capture of a name.
    pub fn new(text: &str, group: impl Fn(&str) -> Option<usize>) -> Self {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            plain.push_str(&rest[..dollar]);
            let after = &rest[dollar + 1..];
            if let Some(escaped) = after.strip_prefix('$') {
                plain.push('$');
                rest = escaped;
            } else if let Some((name, after)) = reference(after) {
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.extend(number(name).or_else(|| group(name)).map(Piece::Capture));
                rest = after;
            } else {
                plain.push('$');
                rest = after;
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Template(pieces)
    }

    /// The text, if it refers to no captures.
    pub fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text with the captures in it.
    pub fn expand<'a>(&'a self, captures: &Captures<'a>) -> Cow<'a, str> {
        self.expand_with(|number| captures.get(number))
    }

    /// The text with the captures that `capture` gives by their numbers.
    pub fn expand_with<'a>(&'a self, capture: impl Fn(usize) -> &'a str) -> Cow<'a, str> {
        match self.0.as_slice() {
            [] => Cow::Borrowed(""),
            [one] => Cow::Borrowed(one.text(&capture)),
            pieces => {
                let mut text = String::new();
                for piece in pieces {
                    if text.len() > MAX_SERIES {
                        // No result of this length is accepted.
                        break;
                    }
                    text.push_str(piece.text(&capture));
                }
                Cow::Owned(text)
            }
        }
    }
}

impl Piece {
    fn text<'a>(&'a self, capture: impl Fn(usize) -> &'a str) -> &'a str {
        match self {
            Piece::Text(text) => text,
            Piece::Capture(number) => capture(*number),
        }
    }
}

/// Splits the name of a reference off the text after its dollar sign.
fn reference(text: &str) -> Option<(&str, &str)> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let (name, rest) = match text.strip_prefix('{') {
        Some(braced) => braced.split_once('}')?,
        None => text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len())),
    };
    (!name.is_empty() && name.chars().all(is_name)).then_some((name, rest))
}

/// The number of a reference. As in Go, numbers have no leading zeros.
fn number(name: &str) -> Option<usize> {
    let digits = name.bytes().all(|byte| byte.is_ascii_digit());
    let leading = name.len() > 1 && name.starts_with('0');
    (digits && !leading).then(|| name.parse().unwrap_or(usize::MAX))
}
