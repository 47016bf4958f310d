//! How names are shown to readers of the old character set: the escaping
//! schemes that Prometheus names in `Accept`.
//!
//! Only names that need quotes are escaped; those of the old character set are
//! the same in every scheme. So two names may meet: `disk.free` is
//! `disk_dot_free` with dots, which can be a name of its own. [`aliases`] tells
//! under which other names a name is shown.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::canonical::{is_plain_label, is_plain_name};
use super::unescape;

/// A scheme, by its word in `escaping=`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Escaping {
    /// `allow-utf-8`: names stand in quotes where they need them.
    AllowUtf8,
    /// `underscores`: every other character becomes `_`.
    #[default]
    Underscores,
    /// `dots`: `.` becomes `_dot_`, `_` and every other character `__`.
    Dots,
    /// `values`: `U__` goes before the name, `_` becomes `__`, and every other
    /// character its code point in hexadecimal digits between underscores.
    Values,
}

impl Escaping {
    pub const ALL: [Escaping; 4] = [
        Escaping::AllowUtf8,
        Escaping::Underscores,
        Escaping::Dots,
        Escaping::Values,
    ];

    /// The schemes in which no name needs quotes.
    pub(super) const OLD_CHARACTERS: [Escaping; 3] =
        [Escaping::Underscores, Escaping::Dots, Escaping::Values];

    pub fn as_str(self) -> &'static str {
        match self {
            Escaping::AllowUtf8 => "allow-utf-8",
            Escaping::Underscores => "underscores",
            Escaping::Dots => "dots",
            Escaping::Values => "values",
        }
    }

    pub fn from_keyword(word: &str) -> Option<Escaping> {
        Escaping::ALL
            .into_iter()
            .find(|escaping| escaping.as_str() == word)
    }

    /// A metric's name, without text escapes, as this scheme shows it.
    pub fn metric(self, meant: &str) -> Cow<'_, str> {
        if self == Escaping::AllowUtf8 || is_plain_name(meant) {
            return Cow::Borrowed(meant);
        }
        Cow::Owned(self.escape(meant, true))
    }

    /// A label's name, without text escapes, as this scheme shows it.
    pub fn label(self, meant: &str) -> Cow<'_, str> {
        if self == Escaping::AllowUtf8 || is_plain_label(meant) {
            return Cow::Borrowed(meant);
        }
        Cow::Owned(self.escape(meant, false))
    }

    /// The name of a metric's sample: of the family's name only, as far as the
    /// sample's begins with it. What follows, such as `_sum`, says what the
    /// sample is to readers.
    pub(super) fn sample(self, family: Option<&str>, meant: &str) -> String {
        let suffix = family.and_then(|family| Some((family, meant.strip_prefix(family)?)));
        match suffix {
            Some((family, suffix)) if is_plain_name(suffix) => {
                format!("{}{suffix}", self.metric(family))
            }
            _ => self.metric(meant).into_owned(),
        }
    }

    fn escape(self, meant: &str, is_metric: bool) -> String {
        let mut name = String::with_capacity(2 * meant.len() + 3);
        if self == Escaping::Values {
            name.push_str("U__");
        }
        for (place, c) in meant.chars().enumerate() {
            let stands = c.is_ascii_alphabetic()
                || (c.is_ascii_digit() && place > 0)
                || (c == ':' && is_metric);
            match (self, c) {
                _ if stands => name.push(c),
                (Escaping::Dots | Escaping::Values, '_') => name.push_str("__"),
                (Escaping::Dots, '.') => name.push_str("_dot_"),
                (Escaping::Dots, _) => name.push_str("__"),
                (Escaping::Values, c) => {
                    let _ = write!(name, "_{:x}_", u32::from(c));
                }
                _ => name.push('_'),
            }
        }
        name
    }
}

/// The names beside its own and the one with underscores under which a metric
/// is shown; none where no character needs quotes. `name` is as text has it,
/// escaped.
pub fn aliases(name: &str) -> Vec<String> {
    if is_plain_name(name) {
        return Vec::new();
    }
    let meant = unescape(name);
    [Escaping::Dots, Escaping::Values]
        .map(|escaping| escaping.metric(&meant).into_owned())
        .into()
}

/// A label name that two of a sample's labels would share in one of the
/// schemes, or that would then be the metric's. `names` are escaped as text is.
pub(super) fn shared_label<'n>(names: &(impl Iterator<Item = &'n str> + Clone)) -> Option<String> {
    Escaping::OLD_CHARACTERS.into_iter().find_map(|escaping| {
        let mut names: Vec<String> = names
            .clone()
            .map(|name| escaping.label(&unescape(name)).into_owned())
            .collect();
        names.push("__name__".to_owned());
        names.sort_unstable();
        let pair = names.windows(2).find(|pair| pair[0] == pair[1])?;
        Some(pair[0].clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_the_reference_does() {
        let cases = [
            // A name, and it with underscores, dots and values.
            ("disk_free", ["disk_free", "disk_free", "disk_free"]),
            (
                "disk.free",
                ["disk_free", "disk_dot_free", "U__disk_2e_free"],
            ),
            ("a_b.c", ["a_b_c", "a__b_dot_c", "U__a__b_2e_c"]),
            ("1m", ["_m", "__m", "U___31_m"]),
            ("m1 é", ["m1__", "m1____", "U__m1_20__e9_"]),
            ("a:b-c", ["a:b_c", "a:b__c", "U__a:b_2d_c"]),
            ("漢😀", ["__", "____", "U___6f22__1f600_"]),
        ];
        for (name, expected) in cases {
            let shown = Escaping::OLD_CHARACTERS.map(|it| it.metric(name).into_owned());
            assert_eq!(shown, expected, "{name}");
            assert_eq!(Escaping::AllowUtf8.metric(name), name);
        }
    }

    #[test]
    fn a_colon_can_stand_in_names_of_metrics_only() {
        assert_eq!(Escaping::Underscores.label("a:b"), "a_b");
        assert_eq!(Escaping::Dots.label("a:b"), "a__b");
        assert_eq!(Escaping::Values.label("a:b"), "U__a_3a_b");
        assert_eq!(Escaping::Values.label("a_b"), "a_b");
    }

    #[test]
    fn suffixes_of_samples_stay() {
        let dots = |family, name| Escaping::Dots.sample(family, name);
        assert_eq!(dots(Some("my.h"), "my.h_bucket"), "my_dot_h_bucket");
        assert_eq!(dots(Some("my.h"), "my.h"), "my_dot_h");
        assert_eq!(dots(None, "my.h_bucket"), "my_dot_h__bucket");
        assert_eq!(dots(Some("other"), "my.h_bucket"), "my_dot_h__bucket");
    }

    #[test]
    fn labels_that_meet_in_any_scheme_are_found() {
        let shared = |names: &[&str]| shared_label(&names.iter().copied());
        assert_eq!(shared(&["a", "a.b"]), None);
        assert_eq!(shared(&["a_b", "a.b"]), Some("a_b".to_owned()));
        assert_eq!(shared(&["a_dot_b", "a.b"]), Some("a_dot_b".to_owned()));
        assert_eq!(shared(&["U__a_2e_b", "a.b"]), Some("U__a_2e_b".to_owned()));
        assert_eq!(shared(&["..name.."]), Some("__name__".to_owned()));
    }
}
