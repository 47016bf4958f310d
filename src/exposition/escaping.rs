//! Escaping schemes: how names are shown to readers that know the legacy
//! characters only (`[a-zA-Z0-9_:]`). Prometheus names a scheme in `Accept`.
//!
//! Only names that need quotes are escaped; legacy names are the same in every
//! scheme. So two names can become one: `disk.free` is `disk_dot_free` under
//! `dots`, which can be a name of its own. [`aliases`] lists the other names
//! under which a name is shown.
//!
//! Source: <https://prometheus.io/docs/instrumenting/escaping_schemes/>.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::canonical::{is_plain_label, is_plain_name};
use super::unescape;

/// An escaping scheme.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Escaping {
    /// `allow-utf-8`: names are unchanged and quoted where they need it.
    AllowUtf8,
    /// `underscores`: every character outside the legacy set becomes `_`.
    #[default]
    Underscores,
    /// `dots`: `.` becomes `_dot_`; `_` and every character outside the legacy
    /// set become `__`.
    Dots,
    /// `values`: the name gets the prefix `U__`, `_` becomes `__`, and every
    /// character outside the legacy set becomes its code point in hexadecimal
    /// between underscores.
    Values,
}

impl Escaping {
    /// All schemes, in the order of their discriminants.
    pub const ALL: [Escaping; 4] = [
        Escaping::AllowUtf8,
        Escaping::Underscores,
        Escaping::Dots,
        Escaping::Values,
    ];

    /// The schemes in which no name needs quotes.
    pub(super) const LEGACY: [Escaping; 3] =
        [Escaping::Underscores, Escaping::Dots, Escaping::Values];

    /// The keyword of the scheme in `escaping=`.
    pub fn as_str(self) -> &'static str {
        match self {
            Escaping::AllowUtf8 => "allow-utf-8",
            Escaping::Underscores => "underscores",
            Escaping::Dots => "dots",
            Escaping::Values => "values",
        }
    }

    /// The scheme with that keyword.
    pub fn from_keyword(word: &str) -> Option<Escaping> {
        Escaping::ALL
            .into_iter()
            .find(|escaping| escaping.as_str() == word)
    }

    /// The name of a metric under this scheme. `name` has no text escapes.
    pub fn metric(self, unescaped: &str) -> Cow<'_, str> {
        if self == Escaping::AllowUtf8 || is_plain_name(unescaped) {
            return Cow::Borrowed(unescaped);
        }
        Cow::Owned(self.escape(unescaped, true))
    }

    /// The name of a label under this scheme. `name` has no text escapes.
    pub fn label(self, unescaped: &str) -> Cow<'_, str> {
        if self == Escaping::AllowUtf8 || is_plain_label(unescaped) {
            return Cow::Borrowed(unescaped);
        }
        Cow::Owned(self.escape(unescaped, false))
    }

    /// The name of a sample under this scheme. Only the family's name is
    /// escaped; a suffix such as `_sum` is kept, since it tells readers what
    /// the sample is.
    pub(super) fn sample(self, family: Option<&str>, unescaped: &str) -> String {
        let suffix = family.and_then(|family| Some((family, unescaped.strip_prefix(family)?)));
        match suffix {
            Some((family, suffix)) if is_plain_name(suffix) => {
                format!("{}{suffix}", self.metric(family))
            }
            _ => self.metric(unescaped).into_owned(),
        }
    }

    fn escape(self, unescaped: &str, is_metric: bool) -> String {
        let mut name = String::with_capacity(2 * unescaped.len() + 3);
        if self == Escaping::Values {
            name.push_str("U__");
        }
        for (place, c) in unescaped.chars().enumerate() {
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

/// The names under which a metric is shown besides its own and the one with
/// underscores. Empty if the name needs no quotes. `name` is escaped as in
/// text.
pub fn aliases(name: &str) -> Vec<String> {
    if is_plain_name(name) {
        return Vec::new();
    }
    let unescaped = unescape(name);
    [Escaping::Dots, Escaping::Values]
        .map(|escaping| escaping.metric(&unescaped).into_owned())
        .into()
}

/// A name that two labels of a sample share under one of the schemes, or that
/// one of them shares with `__name__`. `names` are escaped as in text.
pub(super) fn shared_label<'n>(names: &(impl Iterator<Item = &'n str> + Clone)) -> Option<String> {
    Escaping::LEGACY.into_iter().find_map(|escaping| {
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
    fn names_are_escaped_as_prometheus_does() {
        let cases = [
            // A name, and the same name with underscores, dots and values.
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
            let shown = Escaping::LEGACY.map(|it| it.metric(name).into_owned());
            assert_eq!(shown, expected, "{name}");
            assert_eq!(Escaping::AllowUtf8.metric(name), name);
        }
    }

    #[test]
    fn colons_are_allowed_in_metric_names_only() {
        assert_eq!(Escaping::Underscores.label("a:b"), "a_b");
        assert_eq!(Escaping::Dots.label("a:b"), "a__b");
        assert_eq!(Escaping::Values.label("a:b"), "U__a_3a_b");
        assert_eq!(Escaping::Values.label("a_b"), "a_b");
    }

    #[test]
    fn suffixes_of_samples_are_kept() {
        let dots = |family, name| Escaping::Dots.sample(family, name);
        assert_eq!(dots(Some("my.h"), "my.h_bucket"), "my_dot_h_bucket");
        assert_eq!(dots(Some("my.h"), "my.h"), "my_dot_h");
        assert_eq!(dots(None, "my.h_bucket"), "my_dot_h__bucket");
        assert_eq!(dots(Some("other"), "my.h_bucket"), "my_dot_h__bucket");
    }

    #[test]
    fn labels_that_share_a_name_in_any_scheme_are_found() {
        let shared = |names: &[&str]| shared_label(&names.iter().copied());
        assert_eq!(shared(&["a", "a.b"]), None);
        assert_eq!(shared(&["a_b", "a.b"]), Some("a_b".to_owned()));
        assert_eq!(shared(&["a_dot_b", "a.b"]), Some("a_dot_b".to_owned()));
        assert_eq!(shared(&["U__a_2e_b", "a.b"]), Some("U__a_2e_b".to_owned()));
        assert_eq!(shared(&["..name.."]), Some("__name__".to_owned()));
    }
}
