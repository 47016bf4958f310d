//! The query of a URL.

use percent_encoding::percent_decode_str;

/// The values of a parameter, decoded, in order.
pub fn values(query: &str, name: &str) -> Vec<String> {
    pairs(query)
        .filter(|(key, _)| decode(key) == name)
        .map(|(_, value)| decode(value))
        .collect()
}

/// The first value of a parameter.
pub fn value(query: &str, name: &str) -> Option<String> {
    values(query, name).into_iter().next()
}

/// The names of all parameters, decoded, in order. Nothing between two `&` is
/// no parameter.
pub fn names(query: &str) -> Vec<String> {
    let given = query.split('&').filter(|pair| !pair.is_empty());
    given
        .map(|pair| decode(pair.split_once('=').map_or(pair, |(key, _)| key)))
        .collect()
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// A parameter that is on or off; without a value it is on.
pub fn flag(query: &str, name: &str) -> Result<bool, String> {
    match value(query, name).as_deref() {
        None | Some("0" | "false") => Ok(false),
        Some("" | "1" | "true") => Ok(true),
        Some(other) => Err(format!("{name} must be 0 or 1, not {other:?}")),
    }
}

/// Whether `format` asks for JSON (`true`) or text; `None` without it.
pub fn json(query: &str) -> Result<Option<bool>, String> {
    match value(query, "format").as_deref() {
        None => Ok(None),
        Some("json") => Ok(Some(true)),
        Some("text") => Ok(Some(false)),
        Some(other) => Err(format!("format must be json or text, not {other:?}")),
    }
}

fn decode(text: &str) -> String {
    let blanks = text.replace('+', " ");
    percent_decode_str(&blanks).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_kept_in_order() {
        let query = "name[]=a&name%5B%5D=b%26c&app=x+y&flag";
        assert_eq!(values(query, "name[]"), ["a", "b&c"]);
        assert_eq!(value(query, "app").as_deref(), Some("x y"));
        assert_eq!(value(query, "flag").as_deref(), Some(""));
        assert_eq!(value(query, "other"), None);
        assert!(values("", "a").is_empty());
        assert_eq!(names(query), ["name[]", "name[]", "app", "flag"]);
        assert_eq!(names("&=x&"), [""]);
    }

    #[test]
    fn values_that_mean_nothing_are_told() {
        assert_eq!(flag("wide=1", "wide"), Ok(true));
        assert_eq!(flag("wide", "wide"), Ok(true));
        assert_eq!(flag("wide=0", "wide"), Ok(false));
        assert_eq!(json(""), Ok(None));
        assert_eq!(json("format=json"), Ok(Some(true)));
        assert_eq!(json("format=text"), Ok(Some(false)));
        assert!(flag("wide=yes", "wide").is_err());
        for query in ["format=xml", "format=JSON", "format"] {
            assert!(json(query).is_err(), "{query}");
        }
    }
}
