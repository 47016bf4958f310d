//! Regular expressions of Go, as Prometheus has them, in the syntax of the `regex` crate.
//!
//! Both descend from RE2. The differences that are translated:
//!
//! - `\w`, `\d`, `\s` and `\b` mean ASCII characters in Go;
//! - `\Q…\E` quotes a text, and `\<` is `<`;
//! - a brace that begins no repetition stands for itself;
//! - in classes, `[`, `&` and `~` stand for themselves.
//!
//! Source: <https://github.com/google/re2/wiki/Syntax>.

use std::iter::Peekable;
use std::str::CharIndices;

/// The ASCII classes, without their brackets, since they can be within others.
const CLASSES: [(char, &str); 3] = [('w', "0-9A-Za-z_"), ('d', "0-9"), ('s', "\\t\\n\\f\\r ")];

/// A translated expression that matches whole values only, line feeds included.
pub fn anchored(translated: &str) -> String {
    format!("^(?s:{translated})$")
}

/// Why a pattern cannot be used: it is invalid, or `too_big` to compile.
pub fn explain(pattern: &str, error: &regex::Error, too_big: impl FnOnce() -> String) -> String {
    if matches!(error, regex::Error::CompiledTooBig(_)) {
        return too_big();
    }
    // The last line has the cause; those before it quote the pattern.
    let error = error.to_string();
    let cause = error.lines().last().unwrap_or_default();
    let cause = cause.strip_prefix("error: ").unwrap_or(cause);
    format!("{pattern:?} is not a valid regular expression: {cause}")
}

/// Translates an expression. What is not valid in Go stays invalid.
pub fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => escape(&mut out, pattern, &mut chars, false),
            '[' => class(&mut out, pattern, &mut chars),
            '{' if !is_repetition(&pattern[at..]) => out.push_str("\\{"),
            c => out.push(c),
        }
    }
    out
}

/// Translates a class whose bracket was read.
fn class(out: &mut String, pattern: &str, chars: &mut Peekable<CharIndices<'_>>) {
    out.push('[');
    if chars.next_if(|(_, c)| *c == '^').is_some() {
        out.push('^');
    }
    // A bracket at the beginning stands for itself.
    if chars.next_if(|(_, c)| *c == ']').is_some() {
        out.push_str("\\]");
    }
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => escape(out, pattern, chars, true),
            '[' => match posix_class(&pattern[at..]) {
                Some(name) => {
                    out.push_str(name);
                    // Without the bracket that was read.
                    for _ in 1..name.len() {
                        chars.next();
                    }
                }
                None => out.push_str("\\["),
            },
            '&' | '~' => {
                out.push('\\');
                out.push(c);
            }
            ']' => {
                out.push(']');
                return;
            }
            c => out.push(c),
        }
    }
}

/// A class such as `[:alpha:]` at the beginning of the text.
fn posix_class(text: &str) -> Option<&str> {
    let name = text.strip_prefix("[:")?;
    let end = name.find(":]")?;
    let letters = |c: char| c.is_ascii_lowercase() || c == '^';
    name[..end].chars().all(letters).then(|| &text[..end + 4])
}

/// Translates an escape whose backslash was read.
fn escape(out: &mut String, pattern: &str, chars: &mut Peekable<CharIndices<'_>>, in_class: bool) {
    let Some((at, c)) = chars.next() else {
        out.push('\\');
        return;
    };
    let class = CLASSES
        .iter()
        .find(|(name, _)| *name == c.to_ascii_lowercase());
    match (class, c) {
        (Some((_, class)), c) if c.is_ascii_uppercase() => out.push_str(&format!("[^{class}]")),
        (Some((_, class)), _) if in_class => out.push_str(class),
        (Some((_, class)), _) => out.push_str(&format!("[{class}]")),
        (None, 'b') if !in_class => out.push_str("(?-u:\\b)"),
        (None, '<' | '>') => out.push(c),
        (None, 'Q') if !in_class => {
            let rest = &pattern[at + 1..];
            let end = rest.find("\\E").unwrap_or(rest.len());
            out.push_str(&regex::escape(&rest[..end]));
            let after = at + 1 + (end + 2).min(rest.len());
            while chars.next_if(|(at, _)| *at < after).is_some() {}
        }
        (None, 'x' | 'p' | 'P') => {
            out.push('\\');
            out.push(c);
            // The braces hold a number or a name.
            if chars.peek().is_some_and(|(_, c)| *c == '{') {
                for (_, c) in chars.by_ref() {
                    out.push(c);
                    if c == '}' {
                        break;
                    }
                }
            }
        }
        (None, c) => {
            out.push('\\');
            out.push(c);
        }
    }
}

/// Whether the text begins with a repetition such as `{2}`, `{2,}` or `{2,3}`.
fn is_repetition(text: &str) -> bool {
    let Some((inner, _)) = text.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
        return false;
    };
    let (least, most) = inner.split_once(',').unwrap_or((inner, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !least.is_empty() && digits(least) && digits(most)
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    #[test]
    fn differences_of_go_are_translated() {
        for (pattern, value, matches) in [
            // Classes are of ASCII characters.
            (r"\w+", "az_09", true),
            (r"\w+", "é", false),
            (r"\d", "٣", false),
            (r"\D", "٣", true),
            (r"[\w.]+", "a.b", true),
            (r"[^\d]+", "ab", true),
            (r"[\W]", "-", true),
            (r"[\W]", "a", false),
            (r"\s", "\u{a0}", false),
            (r"a\b.*", "a b", true),
            // Quoted texts.
            (r"\Qa.b\E.", "a.bc", true),
            (r"\Qa.b\E.", "axbc", false),
            (r"\Qa.b", "a.b", true),
            (r"\<a\>", "<a>", true),
            // Braces.
            ("a{2}", "aa", true),
            ("a{1,}", "aaa", true),
            ("{a}", "{a}", true),
            ("a{,2}", "a{,2}", true),
            (r"\x{41}", "A", true),
            (r"[\x{41}{}]+", "A{}", true),
            // Classes.
            ("[[]", "[", true),
            ("[]a]+", "]a", true),
            ("[^]a]", "b", true),
            ("[[:alpha:]]+", "ab", true),
            ("[[:^alpha:]_]+", "1_", true),
            ("[a&&b]+", "a&b", true),
            ("[a~~b]+", "a~b", true),
            (r"[\]a]+", "a]", true),
            // Line feeds.
            ("a.b", "a\nb", true),
        ] {
            let regex = Regex::new(&anchored(&translate(pattern))).unwrap();
            assert_eq!(regex.is_match(value), matches, "{pattern} {value:?}");
        }
    }

    #[test]
    fn errors_stay_errors() {
        for pattern in ["(", "a)", "[", "[a", r"\", "*", r"\y", r"\x{", "(?<n>a"] {
            assert!(Regex::new(&translate(pattern)).is_err(), "{pattern}");
        }
    }
}
