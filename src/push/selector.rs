//! Which groups are meant: Prometheus' selectors of series, on the labels of
//! groups.

use regex::{Regex, RegexBuilder};

use super::Group;

/// `{job="x",instance=~"a.*"}`: all matchers must hold.
#[derive(Debug, Clone)]
pub struct Selector {
    matchers: Vec<Matcher>,
}

#[derive(Debug, Clone)]
struct Matcher {
    label: String,
    test: Test,
    /// The test must fail.
    negated: bool,
}

#[derive(Debug, Clone)]
enum Test {
    Equal(String),
    Match(Regex),
}

/// Matchers in one selector; bytes of a selector, and of a regular expression
/// once it is compiled.
const MOST_MATCHERS: usize = 64;
const LONGEST: usize = 16 << 10;
const LARGEST_REGEX: usize = 1 << 20;

impl Selector {
    /// Reads a selector. The braces must be there, and a metric's name must
    /// not: groups have none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let told = |problem: String| format!("{problem} in the selector {text:?}");
        if text.len() > LONGEST {
            return Err(format!("a selector has at most {LONGEST} bytes"));
        }
        let mut rest = text
            .trim()
            .strip_prefix('{')
            .ok_or_else(|| told("expected {label=\"value\"}, found no {".to_owned()))?
            .trim_start();
        let mut matchers = Vec::new();
        loop {
            if let Some(after) = rest.strip_prefix('}') {
                if after.is_empty() {
                    return Ok(Selector { matchers });
                }
                return Err(told(format!("expected the end after }}, found {after:?}")));
            }
            if matchers.len() >= MOST_MATCHERS {
                return Err(told(format!(
                    "expected at most {MOST_MATCHERS} matchers, found more"
                )));
            }
            let (matcher, after) = matcher(rest).map_err(told)?;
            matchers.push(matcher);
            rest = after.trim_start();
            match rest.strip_prefix(',') {
                Some(after) => rest = after.trim_start(),
                None if rest.starts_with('}') => {}
                None => return Err(told(format!("expected , or }}, found {rest:?}"))),
            }
        }
    }

    /// A label that a group has not is empty, as Prometheus has it.
    pub fn matches(&self, group: &Group) -> bool {
        self.matchers.iter().all(|matcher| {
            let value = group
                .labels()
                .get(&matcher.label)
                .map_or("", String::as_str);
            let holds = match &matcher.test {
                Test::Equal(expected) => value == expected,
                Test::Match(expected) => expected.is_match(value),
            };
            holds != matcher.negated
        })
    }
}

fn matcher(text: &str) -> Result<(Matcher, &str), String> {
    let (label, rest) = match text.chars().next() {
        Some('"' | '\'' | '`') => quoted(text)?,
        _ => {
            let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let (name, rest) = text.split_at(end.unwrap_or(text.len()));
            (name.to_owned(), rest)
        }
    };
    if label.is_empty() {
        return Err(format!("expected the name of a label, found {text:?}"));
    }
    let rest = rest.trim_start();
    let operators = [
        ("=~", true, false),
        ("!~", true, true),
        ("!=", false, true),
        ("=", false, false),
    ];
    let found = operators
        .into_iter()
        .find(|(operator, ..)| rest.starts_with(operator));
    let Some((operator, pattern, negated)) = found else {
        return Err(format!(
            "expected =, !=, =~ or !~ after {label:?}, found {rest:?}"
        ));
    };
    let (value, rest) = quoted(rest[operator.len()..].trim_start())?;
    let test = if pattern {
        Test::Match(anchored(&value)?)
    } else {
        Test::Equal(value)
    };
    let matcher = Matcher {
        label,
        test,
        negated,
    };
    Ok((matcher, rest))
}

/// A pattern that must match the whole value, as Prometheus has it.
fn anchored(pattern: &str) -> Result<Regex, String> {
    // Alone first: `a)|(b` is none, though it would be one between brackets.
    let build = |pattern: &str| {
        RegexBuilder::new(pattern)
            .size_limit(LARGEST_REGEX)
            .dfa_size_limit(LARGEST_REGEX)
            .build()
            .map_err(|problem| {
                let problem = problem.to_string();
                let last = problem.lines().last().unwrap_or_default().to_owned();
                format!("{pattern:?} is no regular expression that is taken: {last}")
            })
    };
    build(pattern)?;
    build(&format!("^(?s:{pattern})$"))
}

/// Text in quotes, with the escapes of PromQL that texts need.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let quote = text
        .chars()
        .next()
        .filter(|c| matches!(c, '"' | '\'' | '`'));
    let quote = quote.ok_or_else(|| format!("expected text in quotes, found {text:?}"))?;
    let mut out = String::new();
    let mut chars = text[1..].char_indices();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Ok((out, &text[at + 2..]));
        }
        if c != '\\' || quote == '`' {
            out.push(c);
            continue;
        }
        match chars.next().map(|(_, c)| c) {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some(c @ ('\\' | '"' | '\'')) => out.push(c),
            other => {
                let found = other.map(String::from).unwrap_or_default();
                return Err(format!(
                    "expected an escape (\\\\, \\\", \\', \\n, \\r, \\t), found \\{found}"
                ));
            }
        }
    }
    Err(format!("expected {quote} at the end of the text {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(path: &str) -> Group {
        Group::of_path(path, false).unwrap()
    }

    #[test]
    fn selectors_are_prometheus_own() {
        let x = group("job/x/instance/a.1");
        for (selector, expected) in [
            ("{}", true),
            (" { job = \"x\" , } ", true),
            ("{job='x'}", true),
            ("{job=`x`}", true),
            ("{\"job\"=\"x\"}", true),
            ("{job=\"y\"}", false),
            ("{job!=\"y\"}", true),
            ("{job=\"x\",instance=~\"a.*\"}", true),
            // The whole value must match.
            ("{instance=~\"a\"}", false),
            ("{instance=~\"a|a.1\"}", true),
            ("{instance!~\"a.+\"}", false),
            ("{instance=\"a\\\\.1\"}", false),
            ("{instance=~\"a\\\\.1\"}", true),
            // A label that is not there is empty.
            ("{zone=\"\"}", true),
            ("{zone!=\"\"}", false),
            ("{zone=~\".*\"}", true),
            ("{zone=~\".+\"}", false),
        ] {
            assert_eq!(
                Selector::parse(selector).unwrap().matches(&x),
                expected,
                "{selector}"
            );
        }
    }

    #[test]
    fn what_is_no_selector_is_told() {
        for (text, words) in [
            ("", "found no {"),
            ("job=\"x\"", "found no {"),
            ("up{job=\"x\"}", "found no {"),
            ("{job}", "expected =, !=, =~ or !~"),
            ("{job=x}", "expected text in quotes"),
            ("{job=\"x}", "expected \" at the end"),
            ("{job=\"x\"", "expected , or }"),
            ("{job=\"x\"} or", "expected the end"),
            ("{=\"x\"}", "expected the name of a label"),
            ("{job=\"\\x\"}", "expected an escape"),
            ("{job=~\"(\"}", "is no regular expression"),
            ("{job=~\"a)|(b\"}", "is no regular expression"),
            ("{job=~\"(a{1000}){1000}\"}", "is no regular expression"),
        ] {
            let fault = Selector::parse(text).unwrap_err();
            assert!(fault.contains(words), "{text}: {fault}");
        }
    }

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,20}|[{}a=~!\"'`\\\\, (é]{0,20}") {
            if let Ok(selector) = Selector::parse(&text) {
                selector.matches(&group("job/x"));
            }
        }
    }
}
