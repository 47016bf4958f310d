//! Which groups or series are meant: Prometheus' selectors, on the labels of
//! groups or on those of series.

mod pattern;

use std::borrow::Cow;

use super::Group;
use pattern::{Pattern, Spent};

/// Selectors, any of which may match.
#[derive(Debug, Clone, Default)]
pub struct Selectors {
    selectors: Vec<Selector>,
    spent: Spent,
}

/// `{job="x",instance=~"a.*"}`: all matchers must hold.
#[derive(Debug, Clone)]
struct Selector {
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
    Match(Pattern),
}

/// What all selectors of one request have together: selectors, matchers,
/// bytes, and bytes of regular expressions once they are compiled.
const MOST_SELECTORS: usize = 64;
const MOST_MATCHERS: usize = 64;
const LONGEST: usize = 16 << 10;
const LARGEST_REGEXES: usize = 256 << 10;

impl Selectors {
    /// Reads the selectors of a request for groups, and compiles their regular
    /// expressions, which takes too long for a thread that serves.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        Selectors::of(texts, false)
    }

    /// Those of a request for series, which may name the metric first.
    pub fn of_series(texts: &[String]) -> Result<Self, String> {
        Selectors::of(texts, true)
    }

    fn of(texts: &[String], named: bool) -> Result<Self, String> {
        if texts.len() > MOST_SELECTORS {
            return Err(format!("a request has at most {MOST_SELECTORS} selectors"));
        }
        if texts.iter().map(String::len).sum::<usize>() > LONGEST {
            return Err(format!(
                "the selectors of a request have at most {LONGEST} bytes together"
            ));
        }
        let mut written = Vec::new();
        let mut left = MOST_MATCHERS;
        for text in texts {
            let matchers = read(text, left, named)?;
            left -= matchers.len();
            written.push(matchers);
        }
        // Each has an equal share, so that their order does not count.
        let patterns = written.iter().flatten().filter(|it| it.is_pattern);
        let share = LARGEST_REGEXES / patterns.count().max(1);
        let spent = Spent::default();
        let compiled = |matchers: Vec<Written>| {
            let matchers = matchers.into_iter().map(|it| it.compiled(share, &spent));
            Ok(Selector {
                matchers: matchers.collect::<Result<_, String>>()?,
            })
        };
        Ok(Selectors {
            selectors: written
                .into_iter()
                .map(compiled)
                .collect::<Result<_, String>>()?,
            spent,
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.selectors.is_empty()
    }

    /// Whether patterns took so long that nothing is matched any more.
    pub fn are_spent(&self) -> bool {
        self.spent.is_all()
    }

    /// Whether one of them matches the labels of a group.
    pub fn matches(&self, group: &Group) -> bool {
        let labels = group.labels();
        self.match_values(|label| labels.get(label).map_or("", String::as_str).into())
    }

    /// Whether one of them matches what has these values of labels; one that is
    /// not there is empty, as Prometheus has it.
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
            let holds = match &matcher.test {
                Test::Equal(expected) => Some(value == *expected),
                Test::Match(pattern) => pattern.matches(&value),
            };
            // What is not known selects nothing, negated or not.
            holds.is_some_and(|holds| holds != matcher.negated)
        })
    }
}

/// A matcher as it is written: what a pattern may take when it is compiled is
/// known once all have been read.
#[derive(Debug)]
struct Written {
    label: String,
    value: String,
    is_pattern: bool,
    negated: bool,
}

impl Written {
    /// One for the name of the metric.
    fn name(value: String) -> Self {
        Written {
            label: "__name__".to_owned(),
            value,
            is_pattern: false,
            negated: false,
        }
    }

    fn compiled(self, most: usize, spent: &Spent) -> Result<Matcher, String> {
        Ok(Matcher {
            test: match self.is_pattern {
                true => Test::Match(Pattern::new(&self.value, most, spent)?),
                false => Test::Equal(self.value),
            },
            label: self.label,
            negated: self.negated,
        })
    }
}

/// Reads a selector with at most `most` matchers. Where it is `named`, a
/// metric's name may stand before the braces, or alone, or in quotes within
/// them. Otherwise there are braces and no name: groups have none.
fn read(text: &str, most: usize, named: bool) -> Result<Vec<Written>, String> {
    let told = |problem: String| format!("{problem} in the selector {text:?}");
    let mut rest = text.trim();
    let mut matchers = Vec::new();
    if named {
        let stands = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let end = rest.find(|c| !stands(c)).unwrap_or(rest.len());
        if end > 0 {
            matchers.push(Written::name(rest[..end].to_owned()));
            rest = rest[end..].trim_start();
            if rest.is_empty() {
                return Ok(matchers);
            }
        }
    }
    rest = rest
        .strip_prefix('{')
        .ok_or_else(|| told("expected {label=\"value\"}, found no {".to_owned()))?
        .trim_start();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            if after.is_empty() {
                return Ok(matchers);
            }
            return Err(told(format!("expected the end after }}, found {after:?}")));
        }
        if matchers.len() >= most {
            return Err(told(format!(
                "expected at most {MOST_MATCHERS} matchers in the request, found more"
            )));
        }
        let quoted_name = quoted_name(rest).filter(|_| named && matchers.is_empty());
        let (matcher, after) = match quoted_name {
            Some(name) => name,
            None => matcher(rest).map_err(told)?,
        };
        matchers.push(matcher);
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.starts_with('}') => {}
            None => return Err(told(format!("expected , or }}, found {rest:?}"))),
        }
    }
}

/// A metric's name in quotes, as it stands where a matcher would.
fn quoted_name(text: &str) -> Option<(Written, &str)> {
    let (name, rest) = quoted(text).ok()?;
    let ends = rest.trim_start().starts_with([',', '}']);
    ends.then(|| (Written::name(name), rest))
}

fn matcher(text: &str) -> Result<(Written, &str), String> {
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
    let Some((operator, is_pattern, negated)) = found else {
        return Err(format!(
            "expected =, !=, =~ or !~ after {label:?}, found {rest:?}"
        ));
    };
    let (value, rest) = quoted(rest[operator.len()..].trim_start())?;
    let matcher = Written {
        label,
        value,
        is_pattern,
        negated,
    };
    Ok((matcher, rest))
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

    fn parse(text: &str) -> Result<Selectors, String> {
        Selectors::parse(&[text.to_owned()])
    }

    #[test]
    fn all_selectors_of_a_request_share_its_limits() {
        let x = group("job/x");
        let many = |text: &str, count: usize| Selectors::parse(&vec![text.to_owned(); count]);
        let two = [r#"{job="y"}"#, r#"{job=~"x|z"}"#].map(str::to_owned);
        assert!(Selectors::parse(&two).unwrap().matches(&x));
        assert!(!Selectors::parse(&two[..1]).unwrap().matches(&x));
        assert!(many("{}", 64).unwrap().matches(&x));
        assert!(many(r#"{job=~"x.*"}"#, 64).unwrap().matches(&x));
        let fine = r#"{job=~"(?:.?){20}-\\w{1,10}|x"}"#;
        assert!(many(fine, 1).unwrap().matches(&x));
        let long = format!("{{job=\"{}\"}}", "x".repeat(1000));
        for (text, count, words) in [
            ("{}", 65, "at most 64 selectors"),
            (r#"{job="x",zone="y",a="b"}"#, 22, "at most 64 matchers"),
            (&long, 17, "at most 16384 bytes"),
            (fine, 64, "too much memory"),
        ] {
            let fault = many(text, count).unwrap_err();
            assert!(fault.contains(words), "{text}: {fault}");
        }
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
            assert_eq!(parse(selector).unwrap().matches(&x), expected, "{selector}");
        }
    }

    #[test]
    fn series_may_be_named() {
        let series = |label: &str| match label {
            "__name__" => "my.hits".into(),
            "job" => "x".into(),
            _ => "".into(),
        };
        let plain = |label: &str| match label {
            "__name__" => "hits:total_2".into(),
            _ => "".into(),
        };
        let of = |text: &str| Selectors::of_series(&[text.to_owned()]);
        for (text, dotted, other) in [
            ("{}", true, true),
            ("hits:total_2", false, true),
            ("hits:total_2{}", false, true),
            ("hits:total_2 { job=\"\" }", false, true),
            ("hits:total_2{job=\"x\"}", false, false),
            ("{\"my.hits\"}", true, false),
            ("{\"my.hits\", job=\"x\"}", true, false),
            ("{\"my.hits\", job=\"y\"}", false, false),
            ("{\"job\"=\"x\"}", true, false),
            ("{__name__=~\"my.*|hits.*\"}", true, true),
            ("{job!=\"\"}", true, false),
        ] {
            let selectors = of(text).unwrap();
            assert_eq!(selectors.match_values(series), dotted, "{text}");
            assert_eq!(selectors.match_values(plain), other, "{text}");
        }
        for text in [
            "",
            "my.hits",
            "hits total",
            "hits{",
            "{\"a\",\"b\"}",
            "hits{}x",
        ] {
            assert!(of(text).is_err(), "{text}");
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
            ("{job=~\"(.?){1000}y.*\"}", "too much memory"),
        ] {
            let fault = parse(text).unwrap_err();
            assert!(fault.contains(words), "{text}: {fault}");
        }
    }

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,20}|[{}a=~!\"'`\\\\, (é]{0,20}") {
            if let Ok(selector) = parse(&text) {
                selector.matches(&group("job/x"));
            }
        }
    }
}
