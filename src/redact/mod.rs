//! Redacts secrets before a request or a URL is shown or logged. Pure.
//!
//! A value is redacted because of its name. A few secrets are recognized without one: the user of a
//! URL, the token of a bearer, the path of some webhooks. When in doubt, too much is redacted: a
//! lost word of a message costs less than a leaked password.
//!
//! [`value`] finds where the value of a name begins and ends.

mod value;

use std::borrow::Cow;
use std::mem;
use std::ops::Range;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use url::Url;

use self::value::{skipped_back, value_at, word_at};

/// Replacement for a secret.
pub const REDACTED: &str = "***";

/// Parts of names of secrets. Only the letters and digits of a name are
/// compared.
const SECRET_PARTS: [&str; 21] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "authorization",
    "authkey",
    "apikey",
    "accesskey",
    "accountkey",
    "signingkey",
    "privatekey",
    "routingkey",
    "servicekey",
    "integrationkey",
    "credential",
    "bearer",
    "cookie",
    "sessionid",
    "signature",
];

/// Words of names of secrets. Other names contain them as parts of longer
/// words.
const SECRET_WORDS: [&str; 7] = ["auth", "pass", "pwd", "pw", "sig", "jwt", "csrf"];

/// Hosts, and the prefixes of their paths after which a secret follows.
const SECRET_PATHS: [(&str, &str); 5] = [
    ("hooks.slack.com", "services/"),
    ("hooks.slack.com", "workflows/"),
    ("discord.com", "api/webhooks/"),
    ("discordapp.com", "api/webhooks/"),
    ("api.telegram.org", "bot"),
];

/// Members of an object that name another member, in lower case.
const NAME_MEMBERS: [&str; 6] = ["name", "key", "title", "field", "header", "variable"];

/// Members of an object that hold the value of the named one.
const VALUE_MEMBERS: [&str; 3] = ["value", "values", "val"];

/// Maximum number of levels of percent-encoding that are decoded.
const DEEPEST: usize = 3;

/// Maximum number of bytes of a name that are examined, which keeps the cost linear in the text.
const LONGEST_NAME: usize = 128;

/// Whether a value of that name is a secret. The name is that of a header, a
/// parameter or a JSON member. Separators and case do not matter, except that
/// case separates words: `dbPass` contains the word `Pass`, `compass` does not.
pub fn is_secret_name(name: &str) -> bool {
    let plain: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let is_word = |word: &str| {
        SECRET_WORDS
            .iter()
            .any(|secret| word.eq_ignore_ascii_case(secret))
    };
    !plain.is_empty() && SECRET_PARTS.iter().any(|part| plain.contains(part))
        || name
            .split(|c: char| !c.is_ascii_alphanumeric())
            .flat_map(words)
            .any(is_word)
}

/// The words of a name in camel case: `dbPass`, `DBPass`.
fn words(name: &str) -> impl Iterator<Item = &str> {
    let bytes = name.as_bytes();
    let begins = move |at: &usize| {
        let (before, here) = (bytes[at - 1], bytes[*at]);
        let last_capital = bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase);
        here.is_ascii_uppercase() && (!before.is_ascii_uppercase() || last_capital)
    };
    let ends = (1..bytes.len()).filter(begins).chain([bytes.len()]);
    ends.scan(0, |start, end| Some(&name[mem::replace(start, end)..end]))
}

/// Redacts strings and numbers under secret names at any depth, and what
/// [`redact_text`] finds in other strings and in names. A pair such as
/// `{"name": "password", "value": "x"}` counts as `{"password": "x"}`.
pub fn redact_json(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(redacted) = redact_text(text) {
                *text = redacted;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(redact_json),
        Value::Object(members) => {
            let one_of =
                |keys: &[&str], name: &str| keys.iter().any(|key| key.eq_ignore_ascii_case(name));
            let names_secret = members.iter().any(|(key, name)| {
                one_of(&NAME_MEMBERS, key) && name.as_str().is_some_and(is_secret_name)
            });
            for (name, value) in members.iter_mut() {
                if is_secret_name(name) || (names_secret && one_of(&VALUE_MEMBERS, name)) {
                    hide(value);
                } else {
                    redact_json(value);
                }
            }
            redact_names(members);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Redacts a whole value and keeps its shape.
fn hide(value: &mut Value) {
    match value {
        Value::String(_) | Value::Number(_) => *value = Value::from(REDACTED),
        Value::Array(values) => values.iter_mut().for_each(hide),
        Value::Object(members) => {
            members.values_mut().for_each(hide);
            redact_names(members);
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn redact_names(members: &mut Map<String, Value>) {
    let has_secret = |name: &String| matches!(redact_text(name), Cow::Owned(_));
    if !members.keys().any(has_secret) {
        return;
    }
    for (place, (name, value)) in mem::take(members).into_iter().enumerate() {
        let mut redacted = redact_text(&name).into_owned();
        if members.contains_key(&redacted) {
            redacted = format!("{redacted} ({place})");
        }
        members.insert(redacted, value);
    }
}

/// Redacts secrets in any text: values after a secret name and `=` or `:`,
/// quoted or not, as in queries, forms, headers, logs, markup and JSON; users
/// and passwords of URLs; bearer tokens; paths of known webhooks.
/// Percent-encoded ones are found too, but then everything up to the next blank
/// or `&` is redacted with the value.
pub fn redact_text(text: &str) -> Cow<'_, str> {
    let mut redacted = String::new();
    let mut done = 0;
    let mut at = 0;
    // A name does not extend back over the sign of another one.
    let mut named = 0;
    while let Some(found) = text[at..].find(['=', ':', ' ', '\t', '/', '%']) {
        let start = at + found;
        let sign = Sign::at(text, start);
        let secret = sign.as_ref().and_then(|sign| secret_at(text, sign, named));
        if let Some(sign) = sign.filter(|sign| matches!(sign.is, '=' | ':')) {
            named = sign.end;
        }
        let Some(secret) = secret.filter(|secret| !secret.is_empty()) else {
            at = start + 1;
            continue;
        };
        redacted.push_str(&text[done..secret.start]);
        redacted.push_str(REDACTED);
        done = secret.end;
        at = secret.end;
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    redacted.push_str(&text[done..]);
    Cow::Owned(redacted)
}

/// A URL without its user, its fragment, and the values of query parameters
/// with secret names.
pub fn redact_url(url: &Url) -> String {
    let mut redacted = url.clone();
    redacted.set_fragment(None);
    // Only URLs without a host refuse this, and those have no user.
    if !url.username().is_empty() || url.password().is_some() {
        let _ = redacted.set_username(REDACTED);
        let _ = redacted.set_password(None);
    }
    if let Some(query) = url.query() {
        redacted.set_query(Some(&redact_query(query)));
    }
    redacted.into()
}

/// Whether the values of a query parameter of this name are secret.
pub fn is_secret_parameter(name: &str) -> bool {
    is_secret_name(name) || name.eq_ignore_ascii_case("key")
}

/// A query without the values of parameters with secret names. A parameter
/// `key` counts as secret here, since many services call their tokens so.
pub fn redact_query(query: &str) -> Cow<'_, str> {
    let is_secret = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let name = percent_decode_str(name).decode_utf8_lossy();
        !value.is_empty() && is_secret_parameter(&name)
    };
    if !query.split('&').any(is_secret) {
        return Cow::Borrowed(query);
    }
    let shown = query
        .split('&')
        .map(|parameter| match parameter.split_once('=') {
            Some((name, _)) if is_secret(parameter) => Cow::Owned(format!("{name}={REDACTED}")),
            _ => Cow::Borrowed(parameter),
        });
    Cow::Owned(shown.collect::<Vec<_>>().join("&"))
}

/// A character after which a secret may follow.
struct Sign {
    start: usize,
    end: usize,
    is: char,
    /// Levels of percent-encoding.
    depth: usize,
}

impl Sign {
    fn at(text: &str, start: usize) -> Option<Self> {
        let rest = &text[start..];
        let (is, length, depth) = match rest.strip_prefix('%') {
            None => (rest.chars().next()?, 1, 0),
            Some(mut hex) => {
                let mut depth = 1;
                while let Some(inner) = hex.strip_prefix("25").filter(|_| depth < DEEPEST) {
                    hex = inner;
                    depth += 1;
                }
                let byte = u8::from_str_radix(hex.get(..2)?, 16).ok()?;
                (char::from(byte), rest.len() - hex.len() + 2, depth)
            }
        };
        let end = start + length;
        Some(Sign {
            start,
            end,
            is,
            depth,
        })
    }
}

/// The first character of a text and its length in bytes. It may be plain, a
/// slash after the backslashes of JSON, or percent-encoded at `depth` levels.
fn seen(text: &str, depth: usize) -> Option<(char, usize)> {
    let plain = text.trim_start_matches('\\');
    if plain.len() < text.len() && text.len() - plain.len() <= DEEPEST && plain.starts_with('/') {
        return Some(('/', text.len() - plain.len() + 1));
    }
    if depth > 0
        && text.starts_with('%')
        && let Some(sign) = Sign::at(text, 0).filter(|sign| sign.depth == depth)
    {
        return Some((sign.is, sign.end));
    }
    text.chars().next().map(|c| (c, c.len_utf8()))
}

/// The range of the secret after a sign. `named` is the earliest byte of its
/// name, since text before it may have been redacted.
fn secret_at(text: &str, sign: &Sign, named: usize) -> Option<Range<usize>> {
    let before = &text[..sign.start];
    match sign.is {
        ' ' | '\t' => {
            let word = before.rsplit(|c: char| !c.is_ascii_alphanumeric()).next()?;
            // An encoded blank or quote before the word ends in two digits.
            let word = word.get(word.len().saturating_sub("bearer".len())..)?;
            word.eq_ignore_ascii_case("bearer")
                .then(|| value_at(text, sign.end, word, false))
        }
        '/' => secret_path(text, sign),
        '=' | ':' => {
            let mut name = Cow::Borrowed(name_before(&text[named..sign.start]));
            for _ in 0..sign.depth.max(1) {
                name = Cow::Owned(percent_decode_str(&name).decode_utf8_lossy().into_owned());
            }
            if is_secret_name(&name) {
                return Some(value_at(text, sign.end, &name, sign.is == ':'));
            }
            (sign.is == ':').then(|| user(text, sign)).flatten()
        }
        _ => None,
    }
}

/// The user and password of a URL whose scheme ends at the sign.
fn user(text: &str, sign: &Sign) -> Option<Range<usize>> {
    let mut at = sign.end;
    for _ in 0..2 {
        let (c, length) = seen(&text[at..], sign.depth)?;
        if c != '/' {
            return None;
        }
        at += length;
    }
    let start = at;
    let mut end = None;
    while let Some((c, length)) = seen(&text[at..], sign.depth) {
        let ends = "/?#\"'<>\\".contains(c) || c.is_whitespace();
        // An encoded URL has no plain `&` of its own.
        if ends || (c == '&' && sign.depth > 0) {
            break;
        }
        // A password may contain an unencoded `@`.
        if c == '@' {
            end = Some(at);
        }
        at += length;
    }
    end.map(|end| start..end)
}

/// The secret in a webhook's path, whose first slash is given. The host may
/// have a port.
fn secret_path(text: &str, slash: &Sign) -> Option<Range<usize>> {
    let host = text[..slash.start].trim_end_matches('\\');
    let unported = host.trim_end_matches(|c: char| c.is_ascii_digit());
    let host = ["%25253A", "%253A", "%3A", ":"]
        .iter()
        .find_map(|colon| without(unported, colon))
        .unwrap_or(host);
    let host = host.strip_suffix('.').unwrap_or(host);
    SECRET_PATHS.iter().find_map(|(of, path)| {
        without(host, of)?;
        let mut at = slash.end;
        for wanted in path.chars() {
            let (c, length) = seen(&text[at..], slash.depth)?;
            if !c.eq_ignore_ascii_case(&wanted) {
                return None;
            }
            at += length;
        }
        Some(word_at(text, at))
    })
}

/// The text before `end`, in any case.
fn without<'t>(text: &'t str, end: &str) -> Option<&'t str> {
    let (start, tail) = text.split_at_checked(text.len().checked_sub(end.len())?)?;
    tail.eq_ignore_ascii_case(end).then_some(start)
}

/// The name at the end of a text, before quotes, marks and blanks.
fn name_before(text: &str) -> &str {
    let text = skipped_back(text);
    let of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.%[]".contains(byte);
    let length = text.bytes().rev().take(LONGEST_NAME);
    let length = length.take_while(|byte| of_name(byte)).count();
    &text[text.len() - length..]
}

#[cfg(test)]
mod tests;
