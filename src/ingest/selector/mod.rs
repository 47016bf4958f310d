//! Label selectors of Prometheus, for groups and for series.

mod pattern;

use std::borrow::Cow;

use super::Group;
use pattern::{Pattern, TimeBudget};

/// Selectors, one of which must match.
#[derive(Debug, Clone, Default)]
pub struct Selectors {
    selectors: Vec<Selector>,
    time: TimeBudget,
}

/// A selector such as `{job="x",instance=~"a.*"}`, whose matchers must all match.
#[derive(Debug, Clone)]
struct Selector {
    matchers: Vec<Matcher>,
}

#[derive(Debug, Clone)]
struct Matcher {
    label: String,
    test: Test,
    /// Whether the test must fail.
    negated: bool,
}

#[derive(Debug, Clone)]
enum Test {
    Equal(String),
    Match(Pattern),
}

/// The label with the name of a metric.
const NAME: &str = "__name__";

/// The error for the name of a metric in a selector of groups.
const NO_NAMES: &str = "groups have labels and no name, such as {job=\"backup\"}";

/// Maximum number of selectors in one request.
const MAX_SELECTORS: usize = 64;

/// Maximum number of matchers in one request.
const MAX_MATCHERS: usize = 64;

/// Maximum number of bytes of all selectors in one request.
const MAX_LENGTH: usize = 16 << 10;

/// Maximum number of bytes of all compiled regular expressions in one request.
const MAX_COMPILED_SIZE: usize = 256 << 10;

impl Selectors {
    /// Parses selectors for groups. Compiling their regular expressions takes too long
    /// for a thread that serves requests.
    ///
    /// # Errors
    ///
    /// A selector is not valid, or a limit is exceeded; the message is for the client.
    pub fn for_groups(texts: &[String]) -> Result<Self, String> {
        Selectors::parse(texts, false)
    }

    /// Like [`Selectors::for_groups`], for series: a selector can begin with the name
    /// of the metric.
    ///
    /// # Errors
    ///
    /// As [`Selectors::for_groups`].
    pub fn for_series(texts: &[String]) -> Result<Self, String> {
        Selectors::parse(texts, true)
    }

    /// Parses a selector for series from a setting, without a limit on its matching time.
    ///
    /// # Errors
    ///
    /// As [`Selectors::for_groups`]; the message is the rest of a sentence.
    pub fn for_setting(text: &str) -> Result<Self, String> {
        Selectors::of_setting(text, true)
    }

    /// Like [`Selectors::for_setting`], for groups.
    ///
    /// # Errors
    ///
    /// As [`Selectors::for_setting`].
    pub fn for_group_setting(text: &str) -> Result<Self, String> {
        Selectors::of_setting(text, false)
    }

    fn of_setting(text: &str, named: bool) -> Result<Self, String> {
        Selectors::compile(&[text.to_owned()], named, TimeBudget::unlimited())
            .map_err(|problem| format!("must be a selector: {problem}"))
    }

    fn parse(texts: &[String], named: bool) -> Result<Self, String> {
        Selectors::compile(texts, named, TimeBudget::default())
    }

    fn compile(texts: &[String], named: bool, time: TimeBudget) -> Result<Self, String> {
        if texts.len() > MAX_SELECTORS {
            return Err(format!("a request has at most {MAX_SELECTORS} selectors"));
        }
        if texts.iter().map(String::len).sum::<usize>() > MAX_LENGTH {
            return Err(format!(
                "the selectors of a request have at most {MAX_LENGTH} bytes together"
            ));
        }
        let mut parsed = Vec::new();
        let mut remaining = MAX_MATCHERS;
        for text in texts {
            let matchers = parse_selector(text, remaining, named)?;
            remaining -= matchers.len();
            parsed.push(matchers);
        }
        // Equal shares make the result independent of the order of the selectors.
        let patterns = parsed.iter().flatten().filter(|it| it.is_pattern);
        let share = MAX_COMPILED_SIZE / patterns.count().max(1);
        let compile = |matchers: Vec<ParsedMatcher>| {
            let matchers = matchers.into_iter().map(|it| it.compile(share, &time));
            Ok(Selector {
                matchers: matchers.collect::<Result<_, String>>()?,
            })
        };
        Ok(Selectors {
            selectors: parsed
                .into_iter()
                .map(compile)
                .collect::<Result<_, String>>()?,
            time,
        })
    }

    /// Whether there is no selector.
    pub fn is_empty(&self) -> bool {
        self.selectors.is_empty()
    }

    /// Whether regular expressions have used up their time, so that nothing matches
    /// any more.
    pub fn are_out_of_time(&self) -> bool {
        self.time.is_exhausted()
    }

    /// Whether a selector matches the labels of a group.
    pub fn matches(&self, group: &Group) -> bool {
        let labels = group.labels();
        self.match_values(|label| labels.get(label).map_or("", String::as_str).into())
    }

    /// Whether a selector matches labels, whose values `value` returns by name. A
    /// missing label has an empty value, as in Prometheus.
    pub fn match_values<'v>(&self, value: impl Fn(&str) -> Cow<'v, str>) -> bool {
        self.selectors
            .iter()
            .any(|selector| selector.matches(&value))
    }
}

impl Selector {
    fn matches<'v>(&self, value: &impl Fn(&str) -> Cow<'v, str>) -> bool {
        self.matchers.iter().all(|matcher| {
            let value = value(&matcher.label);
            let matches = match &matcher.test {
                Test::Equal(expected) => Some(value == *expected),
                Test::Match(pattern) => pattern.matches(&value),
            };
            // An unknown result selects nothing, negated or not.
            matches.is_some_and(|matches| matches != matcher.negated)
        })
    }
}

/// A matcher before its regular expression is compiled. The size limit of each expression depends
/// on how many there are.
#[derive(Debug)]
struct ParsedMatcher {
    label: String,
    value: String,
    is_pattern: bool,
    negated: bool,
}

impl ParsedMatcher {
    /// A matcher for the name of the metric.
    fn name(value: String) -> Self {
        ParsedMatcher {
            label: NAME.to_owned(),
            value,
            is_pattern: false,
            negated: false,
        }
    }

    fn compile(self, max_size: usize, time: &TimeBudget) -> Result<Matcher, String> {
        Ok(Matcher {
            test: match self.is_pattern {
                true => Test::Match(Pattern::new(&self.value, max_size, time)?),
                false => Test::Equal(self.value),
            },
            label: self.label,
            negated: self.negated,
        })
    }
}

/// Parses a selector with at most `max_matchers` matchers. If it can be `named`, the name of the
/// metric comes before the braces, without braces, or quoted within them.
fn parse_selector(
    text: &str,
    max_matchers: usize,
    named: bool,
) -> Result<Vec<ParsedMatcher>, String> {
    let in_selector = |problem: String| format!("{problem} in the selector {text:?}");
    let mut rest = text.trim();
    let mut matchers = Vec::new();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
    let is_whole = matches!(rest[end..].trim_start().chars().next(), None | Some('{'));
    if end > 0 && !named && is_whole {
        return Err(in_selector(NO_NAMES.to_owned()));
    }
    if end > 0 && named {
        matchers.push(ParsedMatcher::name(rest[..end].to_owned()));
        rest = rest[end..].trim_start();
        if rest.is_empty() {
            return Ok(matchers);
        }
    }
    rest = rest
        .strip_prefix('{')
        .ok_or_else(|| in_selector("expected {label=\"value\"}, found no \"{\"".to_owned()))?
        .trim_start();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            if after.is_empty() {
                return Ok(matchers);
            }
            return Err(in_selector(format!(
                "expected the end after \"}}\", found {after:?}"
            )));
        }
        if matchers.len() >= max_matchers {
            return Err(in_selector(format!(
                "expected at most {MAX_MATCHERS} matchers in the request, found more"
            )));
        }
        let quoted_name = parse_quoted_name(rest).filter(|_| matchers.is_empty());
        let (matcher, after) = match quoted_name {
            Some(name) => name,
            None => parse_matcher(rest).map_err(in_selector)?,
        };
        if !named && matcher.label == NAME {
            return Err(in_selector(NO_NAMES.to_owned()));
        }
        matchers.push(matcher);
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.starts_with('}') => {}
            None => {
                let found = shown(rest);
                return Err(in_selector(format!(
                    "expected \",\" or \"}}\", found {found}"
                )));
            }
        }
    }
}

/// What an error message says about the rest of a selector.
fn shown(rest: &str) -> String {
    match rest {
        "" => "the end".to_owned(),
        rest => format!("{rest:?}"),
    }
}

/// Parses the quoted name of a metric among the matchers.
fn parse_quoted_name(text: &str) -> Option<(ParsedMatcher, &str)> {
    let (name, rest) = parse_quoted(text).ok()?;
    let ends = rest.trim_start().starts_with([',', '}']);
    ends.then(|| (ParsedMatcher::name(name), rest))
}

fn parse_matcher(text: &str) -> Result<(ParsedMatcher, &str), String> {
    let (label, rest) = match text.chars().next() {
        Some('"' | '\'' | '`') => parse_quoted(text)?,
        _ => {
            let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let (name, rest) = text.split_at(end.unwrap_or(text.len()));
            (name.to_owned(), rest)
        }
    };
    if label.is_empty() {
        return Err(format!("expected a label name, found {}", shown(text)));
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
    let Some((operator, is_pattern, negated)) = found else {
        return Err(format!(
            "expected \"=\", \"!=\", \"=~\" or \"!~\" after {label:?}, found {}",
            shown(rest)
        ));
    };
    let (value, rest) = parse_quoted(rest[operator.len()..].trim_start())?;
    let matcher = ParsedMatcher {
        label,
        value,
        is_pattern,
        negated,
    };
    Ok((matcher, rest))
}

/// Parses a quoted text with the common escapes of PromQL.
fn parse_quoted(text: &str) -> Result<(String, &str), String> {
    let quote = text
        .chars()
        .next()
        .filter(|c| matches!(c, '"' | '\'' | '`'));
    let quote = quote.ok_or_else(|| format!("expected text in quotes, found {}", shown(text)))?;
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
    Err(format!(
        "expected {quote} at the end of the text, found {text:?}"
    ))
}

#[cfg(test)]
mod tests;
