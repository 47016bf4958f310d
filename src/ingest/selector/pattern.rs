//! Regular expressions of selectors, as in Prometheus. Their length, their compiled
//! size, the length of matched values and the total time of a request are limited.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use regex::{Regex, RegexBuilder};

use crate::clock;
use crate::relabel::go_syntax;

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

/// The time spent on matching the patterns of one request, in nanoseconds. `None` sets no limit.
#[derive(Debug, Clone)]
pub struct TimeBudget(Option<Arc<AtomicU64>>);

impl Default for TimeBudget {
    fn default() -> Self {
        TimeBudget(Some(Arc::default()))
    }
}

impl TimeBudget {
    /// No limit.
    pub fn unlimited() -> Self {
        TimeBudget(None)
    }

    /// Whether the time limit is reached, so that nothing is matched any more.
    pub fn is_exhausted(&self) -> bool {
        let spent = self.0.as_ref().map(|spent| spent.load(Ordering::Relaxed));
        spent.is_some_and(|spent| u128::from(spent) >= MAX_TIME.as_nanos())
    }

    /// Runs `work`, and counts its time.
    fn measure<T>(&self, work: impl FnOnce() -> T) -> T {
        let Some(spent) = &self.0 else { return work() };
        let start = clock::tick();
        let result = work();
        let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        spent.fetch_add(nanos, Ordering::Relaxed);
        result
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
        let describe = |error| {
            let too_big = || {
                format!(
                    "the regular expression {pattern:?} takes too much memory, alone or with the \
                     others in the request"
                )
            };
            go_syntax::explain(pattern, &error, too_big)
        };
        let translated = go_syntax::translate(pattern);
        // The pattern must be valid by itself: `a)|(b` would become valid within the
        // brackets below. A size limit of 0 parses it without compiling it.
        match build(&translated, 0) {
            Ok(_) | Err(regex::Error::CompiledTooBig(_)) => {}
            Err(error) => return Err(describe(error)),
        }
        Ok(Pattern {
            regex: build(&go_syntax::anchored(&translated), max_size).map_err(describe)?,
            time: time.clone(),
        })
    }

    /// Whether the pattern matches a value. `None` if the value is too long or the
    /// time limit is reached.
    pub fn matches(&self, value: &str) -> Option<bool> {
        if value.len() > MAX_VALUE_LENGTH || self.time.is_exhausted() {
            return None;
        }
        Some(self.time.measure(|| self.regex.is_match(value)))
    }
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
        let spent = time.0.as_ref().unwrap();
        spent.store(MAX_TIME.as_nanos() as u64, Ordering::Relaxed);
        assert!(time.is_exhausted());
        assert_eq!(pattern.matches("x"), None);
    }
}
