//! Rules with regular expressions, in the order of the file.

use regex::{Captures, Regex, RegexBuilder, RegexSet, RegexSetBuilder};

use super::SourceType;
use crate::relabel::go_syntax;

/// The limit on memory of one compiled regular expression, in bytes.
const MAX_COMPILED_SIZE: usize = 1 << 20;

/// The limit on memory of the set of all expressions, in bytes. Beyond it, they are tried
/// one by one.
const MAX_SET_SIZE: usize = 16 << 20;

/// The limit on the length of a regular expression, in bytes.
const MAX_LENGTH: usize = 16 << 10;

#[derive(Debug, Default)]
pub(super) struct Regexes {
    rules: Vec<RegexRule>,
    /// The set of all expressions, which finds the matching ones in one pass.
    set: Option<RegexSet>,
}

#[derive(Debug)]
struct RegexRule {
    rule: u32,
    source: Option<SourceType>,
    regex: Regex,
}

/// Compiles an expression in Go's syntax. It matches anywhere in a name.
///
/// # Errors
///
/// The expression is invalid or too large. The error completes a sentence.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > MAX_LENGTH {
        return Err(format!(
            "has {} bytes; the limit is {MAX_LENGTH}",
            pattern.len()
        ));
    }
    let translated = go_syntax::translate(pattern);
    let regex = RegexBuilder::new(&translated)
        .size_limit(MAX_COMPILED_SIZE)
        .build();
    regex.map_err(|error| {
        let too_big = || format!("{pattern:?} takes more than {MAX_COMPILED_SIZE} bytes of memory");
        go_syntax::explain(pattern, &error, too_big)
    })
}

impl Regexes {
    pub(super) fn add(&mut self, regex: Regex, source: Option<SourceType>, rule: u32) {
        self.rules.push(RegexRule {
            rule,
            source,
            regex,
        });
    }

    /// Builds the set. Call this after the last rule is added.
    pub(super) fn finish(&mut self) {
        let patterns = self.rules.iter().map(|rule| rule.regex.as_str());
        if self.rules.len() > 1 {
            let set = RegexSetBuilder::new(patterns)
                .size_limit(MAX_SET_SIZE)
                .build();
            self.set = set.ok();
        }
    }

    /// Finds the first rule that matches.
    pub(super) fn find(&self, name: &str, source: SourceType) -> Option<u32> {
        let fits = |rule: &&RegexRule| rule.source.is_none_or(|own| own == source);
        let found = match &self.set {
            Some(set) => {
                let matches = set.matches(name);
                matches.iter().map(|index| &self.rules[index]).find(fits)
            }
            None => {
                let mut rules = self.rules.iter().filter(fits);
                rules.find(|rule| rule.regex.is_match(name))
            }
        };
        found.map(|found| found.rule)
    }

    /// The captures of a rule in a name that matches it.
    pub(super) fn captures<'n>(&self, rule: u32, name: &'n str) -> Option<Captures<'n>> {
        let index = self
            .rules
            .binary_search_by_key(&rule, |own| own.rule)
            .ok()?;
        self.rules[index].regex.captures(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_match_counts_with_and_without_a_set() {
        let mut regexes = Regexes::default();
        for (rule, source, pattern) in [
            (3, Some(SourceType::Gauge), r"b+"),
            (5, None, r"a(\w+)\.(x)?"),
            (6, None, "b"),
        ] {
            regexes.add(compile(pattern).unwrap(), source, rule);
        }
        for finished in [false, true] {
            if finished {
                regexes.finish();
                assert!(regexes.set.is_some());
            }
            assert_eq!(regexes.find("zabb.", SourceType::Gauge), Some(3));
            assert_eq!(regexes.find("zabb.", SourceType::Counter), Some(5));
            assert_eq!(regexes.find("zab", SourceType::Counter), Some(6));
            assert_eq!(regexes.find("z", SourceType::Counter), None);
        }
        let captures = regexes.captures(5, "zabb.").unwrap();
        assert_eq!((&captures[0], &captures[1]), ("abb.", "bb"));
        assert!(captures.get(2).is_none());
    }

    #[test]
    fn expressions_are_checked() {
        for (pattern, words) in [
            ("(", "not a valid regular expression"),
            ("a{1000}{1000}", "bytes of memory"),
        ] {
            let problem = compile(pattern).unwrap_err();
            assert!(problem.contains(words), "{problem}");
        }
        assert!(
            compile(&"a".repeat(MAX_LENGTH + 1))
                .unwrap_err()
                .contains("limit")
        );
    }
}
