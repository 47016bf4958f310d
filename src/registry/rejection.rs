//! Why a batch changed nothing.

use crate::exposition::counted;

use crate::exposition::write_number;

/// Why a batch changed nothing. Texts of senders are cut short in here.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Rejection {
    #[error("family {family} is {kind} here, and {held} already")]
    KindConflict {
        family: String,
        kind: &'static str,
        held: &'static str,
    },
    #[error(
        "family {family} has no type yet and cannot become a counter: {left} of its values are \
         below 0 or not finite"
    )]
    Uncountable { family: String, left: usize },
    #[error("family {family} cannot be {change}, since it is {kind}")]
    WrongChange {
        family: String,
        kind: &'static str,
        change: &'static str,
    },
    #[error("{name:?} is not a valid family name")]
    Name { name: String },
    #[error("series {series}: {what} is {}, and must be {need}", number_text(*value))]
    Value {
        series: String,
        what: &'static str,
        value: f64,
        need: &'static str,
    },
    #[error("series {series}: {problem}")]
    Buckets {
        series: String,
        problem: &'static str,
    },
    #[error(
        "series {series}: its bounds differ from the existing ones{more} (push.bucket_conflict)"
    )]
    BoundsConflict { series: String, more: &'static str },
    #[error("series {series}: label {label} is reserved, since the family is {kind}")]
    ReservedLabel {
        series: String,
        label: &'static str,
        kind: &'static str,
    },
    #[error(
        "cannot add series {series}: the limit of {} is reached (push.max_families)",
        counted(*.limit, "family", "families")
    )]
    TooManyFamilies { series: String, limit: usize },
    #[error("cannot add series {series}: the limit of {limit} series is reached (push.max_series)")]
    TooManySeries { series: String, limit: usize },
    #[error(
        "cannot add series {series}: the limit of {limit} series of one family is reached (push.max_series_per_family)"
    )]
    TooManySeriesOfFamily { series: String, limit: usize },
    #[error("series {series}: its labels have {size} bytes, and the limit is {limit}")]
    LabelsTooLong {
        series: String,
        size: usize,
        limit: usize,
    },
    #[error("series {series}: it has {bounds} bounds, and the limit is {limit}")]
    TooManyBounds {
        series: String,
        bounds: usize,
        limit: usize,
    },
}

/// A number as it stands in a text: `+Inf` and not `inf`.
fn number_text(value: f64) -> String {
    let mut text = String::new();
    write_number(&mut text, value);
    text
}

/// A family's name for people, cut short.
pub fn family_text(name: &str) -> String {
    const LONGEST: usize = 100;
    let mut text = String::with_capacity(name.len().min(LONGEST + 8));
    push_clipped(&mut text, name, LONGEST);
    text
}

/// Name and labels, cut short.
pub(super) fn series_text(name: &str, labels: &str) -> String {
    const LONGEST: usize = 160;
    let mut text = family_text(name);
    if !labels.is_empty() {
        text.push('{');
        push_clipped(&mut text, labels, LONGEST);
        text.push('}');
    }
    text
}

fn push_clipped(out: &mut String, text: &str, longest: usize) {
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    for c in text[..end].chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    if end < text.len() {
        out.push_str(" ...");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_senders_are_cut_and_cleaned() {
        assert_eq!(series_text("m", ""), "m");
        assert_eq!(series_text("m", "a=\"b\""), "m{a=\"b\"}");
        let long = series_text(&"é".repeat(500), &"\u{1b}".repeat(500));
        assert!(long.len() < 1200 && long.contains(" ..."), "{long}");
        assert!(!long.contains('\u{1b}'));
    }
}
