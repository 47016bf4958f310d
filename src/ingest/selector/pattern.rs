//! Regular expressions of selectors, as Prometheus reads them, within bounds:
//! of their length, of what they take compiled, of the values they are matched
//! with, and of the time that all of a request take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use regex::{Regex, RegexBuilder};

use crate::clock;

/// Bytes of one pattern.
pub const LONGEST: usize = 1024;

/// Bytes of a value that is matched. With a pattern of the largest size, a byte
/// takes a microsecond at worst.
const LONGEST_VALUE: usize = 16 << 10;

/// What the engine may cache to go on fast, as a multiple of the pattern.
const CACHE: usize = 4;

/// How long all patterns of a request may take together. Sane ones take some
/// milliseconds for a hundred thousand groups.
const MOST_TIME: Duration = Duration::from_secs(2);

/// The time that patterns of one request have taken.
#[derive(Debug, Clone, Default)]
pub struct Spent(Arc<AtomicU64>);

impl Spent {
    /// Whether nothing is matched any more.
    pub fn is_all(&self) -> bool {
        u128::from(self.0.load(Ordering::Relaxed)) >= MOST_TIME.as_nanos()
    }

    fn add(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// A pattern that must match the whole value, as Prometheus has it.
#[derive(Debug, Clone)]
pub struct Pattern {
    regex: Regex,
    spent: Spent,
}

impl Pattern {
    /// Compiles a pattern, which may take at most `most` bytes when compiled.
    pub fn new(pattern: &str, most: usize, spent: &Spent) -> Result<Self, String> {
        if pattern.len() > LONGEST {
            return Err(format!(
                "a regular expression has {} bytes, and at most {LONGEST} are taken",
                pattern.len()
            ));
        }
        let build = |pattern: &str, most: usize| {
            RegexBuilder::new(pattern)
                .size_limit(most)
                .dfa_size_limit(most.saturating_mul(CACHE))
                .build()
        };
        let told = |problem: regex::Error| {
            let problem = match problem {
                regex::Error::CompiledTooBig(_) => {
                    "it takes too much memory, or with others in the request does".to_owned()
                }
                problem => {
                    let problem = problem.to_string();
                    problem.lines().last().unwrap_or_default().to_owned()
                }
            };
            format!("{pattern:?} is no regular expression that is taken: {problem}")
        };
        let ascii = in_ascii(pattern);
        // Alone first: `a)|(b` is none, though it would be one between brackets.
        // It is read only: compiling it ends where it begins.
        match build(&ascii, 0) {
            Ok(_) | Err(regex::Error::CompiledTooBig(_)) => {}
            Err(problem) => return Err(told(problem)),
        }
        Ok(Pattern {
            regex: build(&format!("^(?s:{ascii})$"), most).map_err(told)?,
            spent: spent.clone(),
        })
    }

    /// Whether it matches; `None` where that is not found out, since the value
    /// is too long or all time is spent.
    pub fn matches(&self, value: &str) -> Option<bool> {
        if value.len() > LONGEST_VALUE || self.spent.is_all() {
            return None;
        }
        let began = clock::tick();
        let matches = self.regex.is_match(value);
        self.spent.add(began.elapsed());
        Some(matches)
    }
}

/// The pattern with classes such as `\w` of ASCII alone, as Prometheus has
/// them. Those of all scripts are a hundred times larger.
fn in_ascii(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            // A class may stand in another one.
            Some('w') => out.push_str("[0-9A-Za-z_]"),
            Some('W') => out.push_str("[^0-9A-Za-z_]"),
            Some('d') => out.push_str("[0-9]"),
            Some('D') => out.push_str("[^0-9]"),
            Some('s') => out.push_str("[\\t\\n\\f\\r ]"),
            Some('S') => out.push_str("[^\\t\\n\\f\\r ]"),
            escaped => {
                out.push('\\');
                out.extend(escaped);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, value: &str) -> Option<bool> {
        let pattern = Pattern::new(pattern, 64 << 10, &Spent::default()).unwrap();
        pattern.matches(value)
    }

    #[test]
    fn classes_are_of_ascii_and_may_stand_in_others() {
        for (pattern, value, expected) in [
            (r"\w+", "aZ_9", true),
            (r"\w+", "é", false),
            (r"\W", "é", true),
            (r"[\w-]+", "a-b", true),
            (r"[^\d]+", "ab", true),
            (r"[^\d]+", "a1", false),
            (r"\d+\s\S", "12 x", true),
            (r"\D\\w", r"x\w", true),
            (r".{2}", "éé", true),
        ] {
            assert_eq!(matches(pattern, value), Some(expected), "{pattern} {value}");
        }
    }

    #[test]
    fn what_would_take_long_is_not_compiled_and_not_matched() {
        let told = |pattern: &str| Pattern::new(pattern, 64 << 10, &Spent::default()).unwrap_err();
        assert!(told("(.?){1000}y.*").contains("too much memory"));
        assert!(told(&"x".repeat(LONGEST + 1)).contains("at most 1024"));
        assert_eq!(matches("x*", &"x".repeat(LONGEST_VALUE)), Some(true));
        assert_eq!(matches("x*", &"x".repeat(LONGEST_VALUE + 1)), None);
        let spent = Spent::default();
        let pattern = Pattern::new("x", 64 << 10, &spent).unwrap();
        assert_eq!(pattern.matches("x"), Some(true));
        assert!(!spent.is_all());
        spent.add(MOST_TIME);
        assert!(spent.is_all());
        assert_eq!(pattern.matches("x"), None);
    }
}
