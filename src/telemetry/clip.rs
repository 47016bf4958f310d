//! Messages about what a sender sent, kept short and clean.

/// The longest message, in bytes: it goes into the log, back to the sender,
/// and is kept with the app.
const LONGEST: usize = 400;

/// The message with control characters escaped, cut where it is too long.
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
        if c.is_control() {
            clipped.extend(c.escape_default());
        } else {
            clipped.push(c);
        }
    }
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_and_cleaned() {
        assert_eq!(clip("plain é"), "plain é");
        assert_eq!(clip("a\n\u{1b}[31m"), "a\\n\\u{1b}[31m");
        let long = clip(&"é".repeat(100_000));
        assert!(
            long.len() < LONGEST + 8 && long.ends_with(" ..."),
            "{}",
            long.len()
        );
    }
}
