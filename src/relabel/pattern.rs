//! The regular expression of a rule, which must match a whole value.

use regex::{Regex, RegexBuilder};

use super::go_syntax;

/// The longest regular expression, in bytes.
const MAX_LENGTH: usize = 16 << 10;

/// Maximum memory of one compiled regular expression, in bytes.
const MAX_COMPILED_SIZE: usize = 1 << 20;

/// A compiled regular expression. Usual forms are matched without the engine.
#[derive(Debug, Clone)]
pub enum Pattern {
    /// `.*`, or `(.*)` if it is a capture: all values.
    All { captures: bool },
    /// `one|other`: one of these values.
    OneOf(Box<[Box<str>]>),
    /// `begin.*`: values that begin with this text.
    Prefix(Box<str>),
    /// Anything else.
    Regex(Box<Compiled>),
}

/// A regular expression in the engine.
#[derive(Debug, Clone)]
pub struct Compiled {
    regex: Regex,
    /// Whether it matches the empty value, which missing labels have.
    matches_empty: bool,
}

/// The captures of a value. Number 0 is the whole value.
#[derive(Debug)]
pub enum Captures<'v> {
    /// Only the whole value, and again as number 1 if `first`.
    Whole { value: &'v str, first: bool },
    /// What the engine found.
    Found(regex::Captures<'v>),
}

impl<'v> Captures<'v> {
    /// The capture of a number; empty if it does not exist or matched nothing.
    pub fn get(&self, number: usize) -> &'v str {
        match self {
            Captures::Whole { value, first } => match number {
                0 => value,
                1 if *first => value,
                _ => "",
            },
            Captures::Found(found) => found.get(number).map_or("", |it| it.as_str()),
        }
    }
}

impl Pattern {
    /// Compiles a regular expression in Go's syntax.
    ///
    /// # Errors
    ///
    /// It is not valid or too large, as the rest of a sentence.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!(
                "has {} bytes; the limit is {MAX_LENGTH}",
                text.len()
            ));
        }
        let is_literal = |text: &str| !text.contains(is_special);
        match text {
            ".*" => return Ok(Pattern::All { captures: false }),
            "(.*)" => return Ok(Pattern::All { captures: true }),
            _ => {}
        }
        if text.split('|').all(is_literal) {
            return Ok(Pattern::OneOf(text.split('|').map(Box::from).collect()));
        }
        if let Some(begin) = text.strip_suffix(".*").filter(|begin| is_literal(begin)) {
            return Ok(Pattern::Prefix(Box::from(begin)));
        }
        let build = |text: &str, size: usize| RegexBuilder::new(text).size_limit(size).build();
        let describe = |error| {
            let too_big =
                || format!("{text:?} takes more than {MAX_COMPILED_SIZE} bytes of memory");
            go_syntax::explain(text, &error, too_big)
        };
        let translated = go_syntax::translate(text);
        // It must be valid by itself: `a)|(b` would become valid within the brackets of
        // the anchored form. A size limit of 0 parses it without compiling it.
        match build(&translated, 0) {
            Ok(_) | Err(regex::Error::CompiledTooBig(_)) => {}
            Err(error) => return Err(describe(error)),
        }
        let regex = build(&go_syntax::anchored(&translated), MAX_COMPILED_SIZE);
        let regex = regex.map_err(describe)?;
        let matches_empty = regex.is_match("");
        Ok(Pattern::Regex(Box::new(Compiled {
            regex,
            matches_empty,
        })))
    }

    /// Whether the whole value matches.
    pub fn is_match(&self, value: &str) -> bool {
        match self {
            Pattern::All { .. } => true,
            Pattern::OneOf(values) => values.iter().any(|it| **it == *value),
            Pattern::Prefix(begin) => value.starts_with(&**begin),
            Pattern::Regex(compiled) => match value {
                "" => compiled.matches_empty,
                value => compiled.regex.is_match(value),
            },
        }
    }

    /// The captures of a value that matches.
    pub fn captures<'v>(&self, value: &'v str) -> Option<Captures<'v>> {
        match self {
            Pattern::Regex(compiled) if value.is_empty() && !compiled.matches_empty => None,
            Pattern::Regex(compiled) => compiled.regex.captures(value).map(Captures::Found),
            Pattern::All { captures: first } => Some(Captures::Whole {
                value,
                first: *first,
            }),
            _ => self.is_match(value).then_some(Captures::Whole {
                value,
                first: false,
            }),
        }
    }

    /// The number of the capture of a name.
    pub fn group(&self, name: &str) -> Option<usize> {
        match self {
            Pattern::Regex(compiled) => {
                let mut names = compiled.regex.capture_names();
                names.position(|it| it == Some(name))
            }
            _ => None,
        }
    }
}

/// Whether a character means more than itself in a regular expression.
pub fn is_special(c: char) -> bool {
    matches!(
        c,
        '\\' | '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$'
    )
}
