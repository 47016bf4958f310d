//! Regular expressions of selectors, as in Prometheus. Their length, their compiled
//! size, the length of matched values and the total time of a request are limited.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use regex::{Regex, RegexBuilder};

use crate::clock;

/// The longest pattern, in bytes.
pub const MAX_PATTERN_LENGTH: usize = 1024;

/// The longest value that is matched, in bytes. With a pattern of the largest size, a
/// byte takes a microsecond at worst.
const MAX_VALUE_LENGTH: usize = 16 << 10;

/// The size of the engine's cache, as a multiple of the compiled size.
const CACHE_FACTOR: usize = 4;

/// The time limit for matching all patterns of a request. Usual patterns take some
/// milliseconds for a hundred thousand groups.
const MAX_TIME: Duration = Duration::from_secs(2);

/// The time that matching the patterns of one request has taken, in nanoseconds.
#[derive(Debug, Clone, Default)]
pub struct TimeBudget(Arc<AtomicU64>);

impl TimeBudget {
    /// Whether the time limit is reached, so that nothing is matched any more.
    pub fn is_exhausted(&self) -> bool {
        u128::from(self.0.load(Ordering::Relaxed)) >= MAX_TIME.as_nanos()
    }

    fn spend(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// A regular expression that must match the whole value, as in Prometheus.
#[derive(Debug, Clone)]
pub struct Pattern {
    regex: Regex,
    time: TimeBudget,
}

impl Pattern {
    /// Compiles a pattern to at most `max_size` bytes.
    ///
    /// # Errors
    ///
    /// The pattern is not valid, or too large; the message is for the client.
    pub fn new(pattern: &str, max_size: usize, time: &TimeBudget) -> Result<Self, String> {
        if pattern.len() > MAX_PATTERN_LENGTH {
            return Err(format!(
                "a regular expression has {} bytes; the limit is {MAX_PATTERN_LENGTH}",
                pattern.len()
            ));
        }
        let build = |pattern: &str, max_size: usize| {
            RegexBuilder::new(pattern)
                .size_limit(max_size)
                .dfa_size_limit(max_size.saturating_mul(CACHE_FACTOR))
                .build()
        };
        let describe = |error: regex::Error| match error {
            regex::Error::CompiledTooBig(_) => format!(
                "the regular expression {pattern:?} takes too much memory, alone or with the \
                 others in the request"
            ),
            error => {
                let error = error.to_string();
                let cause = error.lines().last().unwrap_or_default();
                format!("{pattern:?} is not a valid regular expression: {cause}")
            }
        };
        let ascii = with_ascii_classes(pattern);
        // The pattern must be valid by itself: `a)|(b` would become valid within the
        // brackets below. A size limit of 0 parses it without compiling it.
        match build(&ascii, 0) {
            Ok(_) | Err(regex::Error::CompiledTooBig(_)) => {}
            Err(error) => return Err(describe(error)),
        }
        Ok(Pattern {
            regex: build(&format!("^(?s:{ascii})$"), max_size).map_err(describe)?,
            time: time.clone(),
        })
    }

    /// Whether the pattern matches a value. `None` if the value is too long or the
    /// time limit is reached.
    pub fn matches(&self, value: &str) -> Option<bool> {
        if value.len() > MAX_VALUE_LENGTH || self.time.is_exhausted() {
            return None;
        }
        let start = clock::tick();
        let matches = self.regex.is_match(value);
        self.time.spend(start.elapsed());
        Some(matches)
    }
}

/// Replaces classes such as `\w` with their ASCII versions, as in Prometheus. The
/// Unicode versions compile to a hundred times the size.
fn with_ascii_classes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            // A class can be nested in another one.
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
        let pattern = Pattern::new(pattern, 64 << 10, &TimeBudget::default()).unwrap();
        pattern.matches(value)
    }

    #[test]
    fn classes_are_ascii_and_can_be_nested() {
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
    fn expensive_patterns_are_neither_compiled_nor_matched() {
        let error =
            |pattern: &str| Pattern::new(pattern, 64 << 10, &TimeBudget::default()).unwrap_err();
        assert!(error("(.?){1000}y.*").contains("too much memory"));
        assert!(error(&"x".repeat(MAX_PATTERN_LENGTH + 1)).contains("the limit is 1024"));
        assert_eq!(matches("x*", &"x".repeat(MAX_VALUE_LENGTH)), Some(true));
        assert_eq!(matches("x*", &"x".repeat(MAX_VALUE_LENGTH + 1)), None);
        let time = TimeBudget::default();
        let pattern = Pattern::new("x", 64 << 10, &time).unwrap();
        assert_eq!(pattern.matches("x"), Some(true));
        assert!(!time.is_exhausted());
        time.spend(MAX_TIME);
        assert!(time.is_exhausted());
        assert_eq!(pattern.matches("x"), None);
    }
}
