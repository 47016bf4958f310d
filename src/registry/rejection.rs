//! Why a batch is rejected.

use std::fmt;

use crate::exposition::{counted, write_number};

/// Why the registry rejects a batch, which then changes nothing.
///
/// Names and labels from senders are shortened and cleaned of control
/// characters, so the messages may be logged and sent back.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// The update has a type that the family does not have.
    #[error("family {family} is {kind} here, and {held} already")]
    KindConflict {
        /// Name of the family.
        family: String,
        /// Type of the update, with its article.
        kind: &'static str,
        /// Type of the family, with its article.
        held: &'static str,
    },
    /// An untyped family would become a counter, but has values that no counter
    /// can have.
    #[error(
        "family {family} has no type yet and cannot become a counter: {values} of its values are \
         below 0 or not finite"
    )]
    NotACounter {
        /// Name of the family.
        family: String,
        /// Number of such values.
        values: usize,
    },
    /// The change is not possible for the type of the family.
    #[error("family {family} cannot be {change}, since it is {kind}")]
    UnsupportedChange {
        /// Name of the family.
        family: String,
        /// Type of the family, with its article.
        kind: &'static str,
        /// The change, as the end of "cannot be ...".
        change: &'static str,
    },
    /// The name of a new family is not valid, or too long.
    #[error("{name:?} is not a valid family name")]
    InvalidName {
        /// The name.
        name: String,
    },
    /// A number is not in the range that it must be in.
    #[error("series {series}: {what} is {}, but must be {need}", number_text(*value))]
    InvalidValue {
        /// Name and labels of the series.
        series: String,
        /// What the number is.
        what: &'static str,
        /// The number.
        value: f64,
        /// The range.
        need: &'static str,
    },
    /// A pushed histogram or summary contradicts itself.
    #[error("series {series}: {problem}")]
    Inconsistent {
        /// Name and labels of the series.
        series: String,
        /// The contradiction, as a sentence about the series.
        problem: &'static str,
    },
    /// The bounds of a histogram differ from the existing ones in a way that the
    /// [`BoundsPolicy`](super::BoundsPolicy) does not allow.
    #[error(
        "series {series}: its bounds differ from the existing ones{more} (push.bucket_conflict)"
    )]
    BoundsConflict {
        /// Name and labels of the series.
        series: String,
        /// Continuation of the message.
        more: &'static str,
    },
    /// A new series has a label that its type uses itself: `le`, `quantile`.
    #[error("series {series}: label {label} is reserved, since the family is {kind}")]
    ReservedLabel {
        /// Name and labels of the series.
        series: String,
        /// Name of the label.
        label: &'static str,
        /// Type of the family, with its article.
        kind: &'static str,
    },
    /// [`RegistryLimits::families`](super::RegistryLimits::families) is reached.
    #[error(
        "cannot add series {series}: the limit of {} is reached (push.max_families)",
        counted(*.limit, "family", "families")
    )]
    TooManyFamilies {
        /// Name and labels of the first series that is too many.
        series: String,
        /// The limit.
        limit: usize,
    },
    /// [`RegistryLimits::series`](super::RegistryLimits::series) is reached.
    #[error("cannot add series {series}: the limit of {limit} series is reached (push.max_series)")]
    TooManySeries {
        /// Name and labels of a series that is too many.
        series: String,
        /// The limit.
        limit: usize,
    },
    /// [`RegistryLimits::series_per_family`](super::RegistryLimits::series_per_family)
    /// is reached.
    #[error(
        "cannot add series {series}: the limit of {limit} series of one family is reached (push.max_series_per_family)"
    )]
    TooManySeriesOfFamily {
        /// Name and labels of a series that is too many.
        series: String,
        /// The limit.
        limit: usize,
    },
    /// [`RegistryLimits::label_bytes`](super::RegistryLimits::label_bytes) is
    /// exceeded.
    #[error("series {series}: its labels take {size} bytes; the limit is {limit}")]
    LabelsTooLong {
        /// Name and labels of the series.
        series: String,
        /// Bytes of its labels.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// [`RegistryLimits::bounds`](super::RegistryLimits::bounds) is exceeded.
    #[error("series {series}: it has {bounds} bucket bounds; the limit is {limit}")]
    TooManyBounds {
        /// Name and labels of the series.
        series: String,
        /// Number of its bounds.
        bounds: usize,
        /// The limit.
        limit: usize,
    },
}

/// A number as the text format writes it: `+Inf`, not `inf`.
fn number_text(value: f64) -> String {
    let mut text = String::new();
    write_number(&mut text, value);
    text
}

/// Name and labels of a series. Displays them for messages: shortened, and
/// without control characters.
#[derive(Debug, Clone, Copy)]
pub struct SeriesName<'a> {
    family: &'a str,
    labels: &'a str,
}

impl<'a> SeriesName<'a> {
    pub const fn new(family: &'a str, labels: &'a str) -> Self {
        SeriesName { family, labels }
    }

    pub fn family(self) -> &'a str {
        self.family
    }

    /// # Errors
    ///
    /// [`Rejection::InvalidValue`] if `value` is infinite or NaN.
    pub fn check_finite(self, what: &'static str, value: f64) -> Result<(), Rejection> {
        if value.is_finite() {
            return Ok(());
        }
        Err(self.invalid_value(what, value, "finite"))
    }

    /// # Errors
    ///
    /// [`Rejection::InvalidValue`] if `value` cannot be a count.
    pub fn check_count(self, what: &'static str, value: f64) -> Result<(), Rejection> {
        if value.is_finite() && value >= 0.0 {
            return Ok(());
        }
        Err(self.invalid_value(what, value, "finite and not below 0"))
    }

    pub fn invalid_value(self, what: &'static str, value: f64, need: &'static str) -> Rejection {
        Rejection::InvalidValue {
            series: self.to_string(),
            what,
            value,
            need,
        }
    }

    pub fn inconsistent(self, problem: &'static str) -> Rejection {
        Rejection::Inconsistent {
            series: self.to_string(),
            problem,
        }
    }

    pub fn bounds_conflict(self, more: &'static str) -> Rejection {
        Rejection::BoundsConflict {
            series: self.to_string(),
            more,
        }
    }
}

impl fmt::Display for SeriesName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST_LABELS: usize = 160;
        let mut text = family_text(self.family);
        if !self.labels.is_empty() {
            text.push('{');
            push_clipped(&mut text, self.labels, LONGEST_LABELS);
            text.push('}');
        }
        f.write_str(&text)
    }
}

/// The name of a family for messages: shortened, and without control characters.
pub fn family_text(name: &str) -> String {
    const LONGEST_NAME: usize = 100;
    let mut text = String::with_capacity(name.len().min(LONGEST_NAME + 8));
    push_clipped(&mut text, name, LONGEST_NAME);
    text
}

/// Appends at most `longest` bytes of `text`, with control characters escaped.
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
    fn names_from_senders_are_shortened_and_cleaned() {
        let name = |family: &str, labels: &str| SeriesName::new(family, labels).to_string();
        assert_eq!(name("m", ""), "m");
        assert_eq!(name("m", "a=\"b\""), "m{a=\"b\"}");
        let long = name(&"é".repeat(500), &"\u{1b}".repeat(500));
        assert!(long.len() < 1200 && long.contains(" ..."), "{long}");
        assert!(!long.contains('\u{1b}'));
    }
}
