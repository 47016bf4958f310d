//! Secrets are hidden before a request is shown or logged. Pure.
//!
//! What counts is the name that a value stands under; only a few secrets are
//! known by where they stand alone (a URL's user, a bearer's token, the path of
//! some web hooks). Where it is not sure, rather too much is hidden than too
//! little: what is lost is a word of a message, not a password.

use std::borrow::Cow;
use std::ops::Range;

use percent_encoding::percent_decode_str;
use serde_json::Value;

/// What stands where a secret was.
const MASK: &str = "***";

/// A name with one of these in it, its letters and digits alone looked at, is
/// that of a secret.
const SECRET_PARTS: [&str; 18] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "authorization",
    "authkey",
    "apikey",
    "accesskey",
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

/// And so is one with one of these as a whole word: others have them inside.
const SECRET_WORDS: [&str; 7] = ["auth", "pass", "pwd", "pw", "sig", "jwt", "csrf"];

/// In text, a value of these goes on to the end of the line.
const WHOLE_LINE: [&str; 4] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
];

/// What stands before the secret in a value that says how it is used.
const SCHEMES: [&str; 5] = ["bearer", "basic", "digest", "token", "apikey"];

/// URLs whose path is a secret from there on.
const SECRET_PATHS: [&str; 5] = [
    "hooks.slack.com/services/",
    "hooks.slack.com/workflows/",
    "discord.com/api/webhooks/",
    "discordapp.com/api/webhooks/",
    "api.telegram.org/bot",
];

/// Bytes of a name that are looked at, back from where its value begins. So the
/// cost stays linear in the text.
const LONGEST_NAME: usize = 128;

/// Whether a value of that name (a header, a parameter, a key of JSON) is to be
/// hidden. Case, and what stands between its words, do not matter.
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
    SECRET_PARTS.iter().any(|part| plain.contains(part))
        || name
            .split(|c: char| !c.is_ascii_alphanumeric())
            .any(is_word)
}

/// Hides what stands under secret names at any depth, strings and numbers, and
/// what [`mask_text`] finds in other strings. A pair such as
/// `{"name": "password", "value": "x"}` counts as `{"password": "x"}`.
pub fn mask_json(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(masked) = mask_text(text) {
                *text = masked;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(mask_json),
        Value::Object(members) => {
            let names_secret = ["name", "key", "title"].iter().any(|key| {
                let name = members.get(*key).and_then(Value::as_str);
                name.is_some_and(is_secret_name)
            });
            for (name, value) in members.iter_mut() {
                if is_secret_name(name) || (names_secret && name == "value") {
                    hide(value);
                } else {
                    mask_json(value);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Hides a value whatever it is, and keeps its shape.
fn hide(value: &mut Value) {
    match value {
        Value::String(_) | Value::Number(_) => *value = Value::from(MASK),
        Value::Array(values) => values.iter_mut().for_each(hide),
        Value::Object(members) => members.values_mut().for_each(hide),
        Value::Null | Value::Bool(_) => {}
    }
}

/// Hides in a text of any sort: values that stand after a secret name and `=`
/// or `:`, quoted or not, as in queries, forms, headers, logs and JSON; users
/// and passwords of URLs; tokens of bearers; paths of known web hooks.
pub fn mask_text(text: &str) -> Cow<'_, str> {
    let mut masked = String::new();
    let mut done = 0;
    let mut at = 0;
    while let Some(found) = text[at..].find(['=', ':', ' ']) {
        let sign = at + found;
        let Some(secret) = secret_at(text, sign).filter(|secret| !secret.is_empty()) else {
            at = sign + 1;
            continue;
        };
        masked.push_str(&text[done..secret.start]);
        masked.push_str(MASK);
        done = secret.end;
        at = secret.end;
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    masked.push_str(&text[done..]);
    Cow::Owned(masked)
}

/// Where the secret stands that the sign there tells of. Its name may have been
/// taken for a secret itself.
fn secret_at(text: &str, sign: usize) -> Option<Range<usize>> {
    let before = &text[..sign];
    let after = &text[sign + 1..];
    if text.as_bytes()[sign] == b' ' {
        let word = before.rsplit(|c: char| !c.is_ascii_alphanumeric()).next()?;
        return word
            .eq_ignore_ascii_case("bearer")
            .then(|| word_at(text, sign + 1));
    }
    if let Some(url) = after.strip_prefix("//") {
        let start = text.len() - url.len();
        let ends = |c: char| "/?#\"'<>\\".contains(c) || c.is_whitespace();
        let authority = &url[..url.find(ends).unwrap_or(url.len())];
        // A password may have been written with an `@` in it.
        if let Some(end) = authority.rfind('@') {
            return Some(start..start + end);
        }
        let path = SECRET_PATHS.iter().find(|path| url.starts_with(**path))?;
        return Some(word_at(text, start + path.len()));
    }
    let name = name_before(before);
    let decoded = percent_decode_str(name).decode_utf8_lossy();
    is_secret_name(&decoded).then(|| value_at(text, sign + 1, &decoded))
}

/// The name that a text ends with, but for a quote and blanks.
fn name_before(text: &str) -> &str {
    let text = text.trim_end_matches(' ');
    let text = text.strip_suffix(['"', '\'']).unwrap_or(text);
    let text = text.strip_suffix('\\').unwrap_or(text);
    let of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.%[]".contains(byte);
    let length = text.bytes().rev().take(LONGEST_NAME);
    let length = length.take_while(|byte| of_name(byte)).count();
    &text[text.len() - length..]
}

/// The value that begins there, after blanks, without its quotes.
fn value_at(text: &str, start: usize, name: &str) -> Range<usize> {
    let value = text[start..].trim_start_matches([' ', '\t']);
    let start = text.len() - value.len();
    let (escape, quoted) = match value.strip_prefix('\\') {
        Some(rest) => ("\\", rest),
        None => ("", value),
    };
    if let Some(quote) = quoted.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let start = start + escape.len() + 1;
        let end = quoted_end(&text[start..], quote, !escape.is_empty());
        return start..start + end;
    }
    let is_line = WHOLE_LINE
        .iter()
        .any(|whole| name.eq_ignore_ascii_case(whole));
    if is_line {
        let end = value.find(['\r', '\n', '"']).unwrap_or(value.len());
        return start..start + end;
    }
    let word = word_at(text, start);
    let is_scheme = SCHEMES
        .iter()
        .any(|scheme| text[word.clone()].eq_ignore_ascii_case(scheme));
    if is_scheme && text[word.end..].starts_with(' ') {
        return word_at(text, word.end + 1);
    }
    word
}

/// How long a quoted value is. In a text that is quoted itself the quotes of
/// its values are escaped, and so is the one that ends it.
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

/// The word that begins there. A password may hold most signs, so only few end
/// it; those that close something, or go on after it, are no part of its end.
fn word_at(text: &str, start: usize) -> Range<usize> {
    let ends = |c: char| c.is_whitespace() || "&\"'<>".contains(c);
    let rest = &text[start..];
    let word = &rest[..rest.find(ends).unwrap_or(rest.len())];
    let word = word.trim_end_matches([',', ';', '.', ')', ']', '}', '{', '[', '\\']);
    start..start + word.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in [
            "password",
            "Authorization",
            "Proxy-Authorization",
            "Cookie",
            "X-Api-Key",
            "api_key",
            "apikey",
            "routing_key",
            "slackToken",
            "credentials",
            "client-secret",
            "X-Auth",
            "db.pass",
            "X-Amz-Signature",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in [
            "",
            "host",
            "compass",
            "author",
            "dedup_key",
            "key",
            "design",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn text_keeps_all_but_secrets() {
        for (text, masked) in [
            ("/echo?a=1&token=x%20y&b=2", "/echo?a=1&token=***&b=2"),
            ("?api%5Fkey=x#y&a=1", "?api%5Fkey=***&a=1"),
            ("(password=p[4](s;s,)", "(password=***,)"),
            (
                "{\"credentials\": {\"a\": 1}, \"token\":5,\"b\":2}",
                "{\"credentials\": {\"a\": 1}, \"token\":***,\"b\":2}",
            ),
            ("user=me&password=a=b", "user=me&password=***"),
            ("see http://me:p@w@h:1/a?b", "see http://***@h:1/a?b"),
            ("redis://:pw@h", "redis://***@h"),
            ("Authorization: Basic YTpi", "Authorization: ***"),
            ("cookie: a=b; c=d\r\nHost: h", "cookie: ***\r\nHost: h"),
            ("sent Bearer abc.def to x", "sent Bearer *** to x"),
            ("x-token: Bearer abc, then", "x-token: Bearer ***, then"),
            (
                "{\"secret\": \"a\\\"b\", \"c\": 1",
                "{\"secret\": \"***\", \"c\": 1",
            ),
            ("{'pwd' : 'a b'}", "{'pwd' : '***'}"),
            (
                "\\\"token\\\":\\\"x\\\",\\\"a\\\":1",
                "\\\"token\\\":\\\"***\\\",\\\"a\\\":1",
            ),
            (
                "https://hooks.slack.com/services/T0/B0/XX now",
                "https://hooks.slack.com/services/*** now",
            ),
            ("pw: \"token\":\"x\"", "pw: \"***\":\"***\""),
            ("password=", "password="),
            ("secret=\"open", "secret=\"***"),
        ] {
            assert_eq!(mask_text(text), masked);
        }
        for text in [
            "",
            "a=b",
            "http://h:9090/metrics?a=1@2",
            "at 10:20: é=ü",
            ": = ://",
        ] {
            assert!(matches!(mask_text(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn json_keeps_its_shape() {
        let mut value = json!({
            "routing_key": "x", "password": 123, "token": null, "ok": true,
            "credentials": {"user": "a", "more": ["b", 1, false]},
            "alerts": [{"labels": {"alertname": "TokenGone"}, "url": "http://a:b@h/?sig=1"}],
            "fields": [{"title": "API key", "value": "x"}, {"title": "Host", "value": "h"}],
        });
        mask_json(&mut value);
        let masked = json!({
            "routing_key": "***", "password": "***", "token": null, "ok": true,
            "credentials": {"user": "***", "more": ["***", "***", false]},
            "alerts": [{"labels": {"alertname": "TokenGone"}, "url": "http://***@h/?sig=***"}],
            "fields": [{"title": "API key", "value": "***"}, {"title": "Host", "value": "h"}],
        });
        assert_eq!(value, masked);
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "([a-z]|token|bearer|[=: \\\\\"'&@/é]|://){0,40}") {
            let masked = mask_text(&text);
            prop_assert!(masked.len() <= text.len() + 3 * text.len());
        }

        #[test]
        fn a_secret_is_gone_wherever_it_stands(before in "[a-z =&\"{:]{0,20}", after in "[ &a-z\"}]{0,20}") {
            for form in ["&password=S3CR3T", " \"token\":\"S3CR3T\"", " http://u:S3CR3T@h/"] {
                let text = format!("{before}{form}{after}");
                prop_assert!(!mask_text(&text).contains("S3CR3T"), "{}", text);
            }
        }
    }
}
