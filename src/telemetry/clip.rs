//! Messages about what a sender sent, kept short and clean.

use std::borrow::Cow;

/// The longest message, in bytes: it goes into the log, back to the sender,
/// and is kept with the app.
const LONGEST: usize = 400;

/// The message with what is hidden escaped, cut where it is too long.
pub fn clip(message: &str) -> String {
    clip_to(LONGEST, message, " ...")
}

/// The same for any text and length, with a sign for what was cut off.
pub fn clip_to(longest: usize, text: &str, cut: &str) -> String {
    let mut clipped = String::with_capacity(text.len().min(longest + 8));
    for c in text.chars() {
        if clipped.len() >= longest {
            clipped.push_str(cut);
            break;
        }
        push_shown(&mut clipped, c);
    }
    clipped
}

/// The text with characters escaped that a reader would not see, or that would
/// change how the rest is seen.
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

/// Control characters, ends of lines and paragraphs, marks that turn the
/// direction of text, joiners, fillers, selectors and tags: of Unicode's
/// categories Cc, Cf, Zl and Zp, and what it calls ignorable by default.
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
    fn messages_are_cut_and_cleaned() {
        assert_eq!(clip("plain é"), "plain é");
        assert_eq!(clip("a\n\u{1b}[31m"), "a\\n\\u{1b}[31m");
        assert_eq!(
            clip("a\u{202e}b\u{200b}c\u{feff}"),
            "a\\u{202e}b\\u{200b}c\\u{feff}"
        );
        // What people write stays: accents, other scripts, symbols.
        let plain = "e\u{301} हिन्दी עברית 日本語 ☃ 😀";
        assert!(matches!(escaped(plain), Cow::Borrowed(_)));
        let long = clip(&"é".repeat(100_000));
        assert!(
            long.len() < LONGEST + 8 && long.ends_with(" ..."),
            "{}",
            long.len()
        );
    }
}
