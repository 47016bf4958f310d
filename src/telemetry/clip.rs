//! Truncation and escaping of text that can come from senders.

use std::borrow::Cow;

/// The maximum length of a message in bytes. Messages are logged, sent back to the
/// sender and kept with the app.
const MAX_MESSAGE: usize = 400;

/// Escapes hidden characters and truncates the message to a length fit for logs.
pub fn clip(message: &str) -> String {
    clip_to(MAX_MESSAGE, message, " ...")
}

/// Escapes hidden characters and truncates the text to about `max` bytes. `cut` is
/// appended to a truncated text.
pub fn clip_to(max: usize, text: &str, cut: &str) -> String {
    let mut clipped = String::with_capacity(text.len().min(max + 8));
    for c in text.chars() {
        if clipped.len() >= max {
            clipped.push_str(cut);
            break;
        }
        push_shown(&mut clipped, c);
    }
    clipped
}

/// Escapes hidden characters.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        push_shown(&mut out, c);
    }
    Cow::Owned(out)
}

fn push_shown(out: &mut String, c: char) {
    if is_hidden(c) {
        out.extend(c.escape_default());
    } else {
        out.push(c);
    }
}

/// Whether a character is invisible or changes how others are shown: control
/// characters, separators of lines and paragraphs, direction marks, joiners, fillers,
/// selectors and tags. These are Unicode's categories Cc, Cf, Zl and Zp, and its
/// property `Default_Ignorable_Code_Point`.
pub fn is_hidden(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    matches!(c,
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{34f}'
        | '\u{600}'..='\u{605}'
        | '\u{61c}'
        | '\u{6dd}'
        | '\u{70f}'
        | '\u{890}'..='\u{891}'
        | '\u{8e2}'
        | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{110bd}'
        | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_truncated_and_escaped() {
        assert_eq!(clip("plain é"), "plain é");
        assert_eq!(clip("a\n\u{1b}[31m"), "a\\n\\u{1b}[31m");
        assert_eq!(
            clip("a\u{202e}b\u{200b}c\u{feff}"),
            "a\\u{202e}b\\u{200b}c\\u{feff}"
        );
        // Accents, other scripts and symbols are kept.
        let plain = "e\u{301} हिन्दी עברית 日本語 ☃ 😀";
        assert!(matches!(escaped(plain), Cow::Borrowed(_)));
        let long = clip(&"é".repeat(100_000));
        assert!(
            long.len() < MAX_MESSAGE + 8 && long.ends_with(" ..."),
            "{}",
            long.len()
        );
    }
}
