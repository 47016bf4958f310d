//! Finds the value of a name in a text: after blanks, quotes and the marks of
//! Markdown, HTML and YAML.
//!
//! A value may be on the next line, as in YAML. A heading ends in `:` too
//! (`Your new token:`), so text on the next line counts as the value only after
//! `:`, and only if it is quoted or a single word that is not itself a `name=`
//! or `name:`.
//!
//! Skipped text holds no secret, so each byte is skipped a few times at most.
//! Text that is searched for the end of a value is redacted. The cost is
//! therefore linear in the text.

use std::ops::Range;

/// Names whose values reach to the end of the line.
const WHOLE_LINE: [&str; 4] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
];

/// Words before a secret that say how it is used.
const SCHEMES: [&str; 5] = ["bearer", "basic", "digest", "token", "apikey"];

/// Marks of Markdown and YAML that may be alone before a value.
const MARKS: &str = "*_~|>+-";

/// HTML elements around names and values.
const TAGS: [&str; 19] = [
    "b", "i", "u", "s", "em", "strong", "code", "tt", "pre", "span", "br", "p", "div", "td", "th",
    "font", "small", "kbd", "mark",
];

/// HTML entities for blanks and quotes.
const ENTITIES: [&str; 5] = ["&nbsp;", "&quot;", "&#34;", "&#39;", "&apos;"];

/// Maximum number of bytes of a tag that are examined.
const LONGEST_TAG: usize = 64;

/// Maximum number of bytes between a name and its sign that are examined.
const LONGEST_GAP: usize = 256;

/// Maximum number of line breaks between a sign and its value: one line may be empty.
const MOST_BREAKS: usize = 2;

fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n')
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() && !is_break(c)
}

/// A text without the quotes, marks, tags and blanks at its end.
pub fn skipped_back(text: &str) -> &str {
    let least = text.len().saturating_sub(LONGEST_GAP);
    let mut rest = text;
    while rest.len() > least {
        let skipped = rest.trim_end_matches(|c: char| is_blank(c) || "\"'`*~\\".contains(c));
        let skipped = ENTITIES
            .iter()
            .find_map(|entity| skipped.strip_suffix(entity))
            .or_else(|| {
                let tag = skipped.bytes().rev().take(LONGEST_TAG);
                let length = tag.take_while(|byte| *byte != b'<').count() + 1;
                let tag = skipped.len().checked_sub(length)?;
                (tag_length(skipped.get(tag..)?)? == length).then(|| &skipped[..tag])
            })
            .unwrap_or(skipped);
        if skipped.len() == rest.len() {
            break;
        }
        rest = skipped;
    }
    rest
}

/// Length of the tag or entity at the beginning of a text.
fn tag_length(text: &str) -> Option<usize> {
    if let Some(entity) = ENTITIES.iter().find(|entity| text.starts_with(**entity)) {
        return Some(entity.len());
    }
    let inner = text.strip_prefix('<')?;
    let end = inner
        .bytes()
        .take(LONGEST_TAG)
        .position(|byte| byte == b'>')?;
    let inner = &inner[..end];
    let name = inner.strip_prefix('/').unwrap_or(inner);
    let name = name.split([' ', '/']).next().unwrap_or_default();
    let known = TAGS.iter().any(|tag| tag.eq_ignore_ascii_case(name));
    known.then_some(end + 2)
}

/// The range of the value that begins at `start`, after blanks and marks,
/// without its quotes. With `breaks` it may be on the next line.
pub fn value_at(text: &str, start: usize, name: &str, breaks: bool) -> Range<usize> {
    let Some(start) = value_start(text, start, breaks) else {
        return start..start;
    };
    let value = &text[start..];
    let (escape, quoted) = match value.strip_prefix('\\') {
        Some(rest) => ("\\", rest),
        None => ("", value),
    };
    let is_quote = |c: &char| matches!(c, '"' | '\'' | '`');
    if let Some(quote) = quoted.chars().next().filter(is_quote) {
        let start = start + escape.len() + 1;
        let end = quoted_end(&text[start..], quote, !escape.is_empty());
        return start..start + end;
    }
    if let Some(listed) = value.strip_prefix('[') {
        let end = start + 1 + list_end(listed);
        // A password may begin like that.
        let more = word_at(text, (end + 1).min(text.len()));
        return if more.is_empty() {
            start + 1..end
        } else {
            start..more.end
        };
    }
    if let Some(pointed) = value.strip_prefix('<') {
        let ends = |c: char| c == '>' || c.is_whitespace();
        let end = pointed.find(ends).unwrap_or(pointed.len());
        return start + 1..start + 1 + end;
    }
    let is_line = WHOLE_LINE
        .iter()
        .any(|whole| name.eq_ignore_ascii_case(whole));
    if is_line {
        let end = value.find(['\r', '\n', '"']).unwrap_or(value.len());
        return start..start + end;
    }
    let word = word_at(text, start);
    let after = &text[word.end..];
    let next = after.trim_start_matches(is_blank);
    if is_scheme(&text[word.clone()]) && next.len() < after.len() {
        return word_at(text, text.len() - next.len());
    }
    word
}

fn is_scheme(word: &str) -> bool {
    let word = word.trim_matches(|c| MARKS.contains(c));
    SCHEMES
        .iter()
        .any(|scheme| word.eq_ignore_ascii_case(scheme))
}

/// The position of the value, if there is one. Marks directly before it may be
/// part of it.
fn value_start(text: &str, start: usize, breaks: bool) -> Option<usize> {
    let mut at = start;
    let mut broken = 0;
    loop {
        let rest = &text[at..];
        let c = rest.chars().next()?;
        if is_blank(c) {
            at += c.len_utf8();
        } else if is_break(c) {
            let rest = rest.strip_prefix("\r\n").unwrap_or(&rest[1..]);
            at = text.len() - rest.len();
            broken += 1;
            if !breaks || broken > MOST_BREAKS {
                return None;
            }
        } else if let Some(length) = tag_length(rest) {
            at += length;
        } else {
            let after = rest.trim_start_matches(|c| MARKS.contains(c));
            let alone = after
                .chars()
                .next()
                .is_none_or(|c| c.is_whitespace() || c == '<');
            if after.len() == rest.len() || !alone {
                return (broken == 0 || is_alone(rest)).then_some(at);
            }
            at = text.len() - after.len();
        }
    }
}

/// Whether a text begins with a value that is alone on its line.
fn is_alone(text: &str) -> bool {
    if text.starts_with(['"', '\'', '`', '\\']) {
        return true;
    }
    let line = &text[..text.find(is_break).unwrap_or(text.len())];
    let mut words = line.split_whitespace();
    let (Some(word), second, None) = (words.next(), words.next(), words.next()) else {
        return false;
    };
    if second.is_some() {
        return is_scheme(word);
    }
    let of_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let after = word.trim_start_matches(of_name);
    // Padding of base64 may follow the value.
    let padded = after.trim_start_matches('=');
    !after.starts_with(':') && (padded.is_empty() || padded.len() == after.len())
}

/// Length of a quoted value. With `escaped`, the text is itself quoted, and the
/// quotes of its values are escaped.
fn quoted_end(text: &str, quote: char, escaped: bool) -> usize {
    let mut slashes = 0;
    for (at, c) in text.char_indices() {
        if c == quote && escaped && slashes == 1 {
            return at - 1;
        }
        if c == quote && !escaped && slashes % 2 == 0 {
            return at;
        }
        slashes = if c == '\\' { slashes + 1 } else { 0 };
    }
    text.len()
}

/// Length of the inside of a list: everything, if the list has no end.
fn list_end(text: &str) -> usize {
    let mut depth = 1;
    let mut slashes = 0;
    let mut quoted = false;
    let mut escaped = None;
    for (at, c) in text.char_indices() {
        match c {
            '"' => {
                // The first quote shows whether the text is itself quoted.
                let escaped = *escaped.get_or_insert(slashes == 1);
                let counts = if escaped {
                    slashes == 1
                } else {
                    slashes % 2 == 0
                };
                quoted ^= counts;
            }
            '[' if !quoted => depth += 1,
            ']' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
        slashes = if c == '\\' { slashes + 1 } else { 0 };
    }
    text.len()
}

/// The range of the word that begins at `start`. A password may contain most
/// characters, so only a few end it. Closing marks at its end are not part of
/// it.
pub fn word_at(text: &str, start: usize) -> Range<usize> {
    let ends = |c: char| c.is_whitespace() || "&\"'<>".contains(c);
    let rest = &text[start..];
    let word = &rest[..rest.find(ends).unwrap_or(rest.len())];
    let word = word.trim_end_matches([',', ';', '.', ')', ']', '}', '{', '[', '\\']);
    start..start + word.len()
}
