//! Parameters in the query of a URL.

use hyper::header::{ACCEPT, HeaderMap};
use url::form_urlencoded;

/// All values of a parameter, decoded, in order.
pub fn values(query: &str, name: &str) -> Vec<String> {
    form_urlencoded::parse(query.as_bytes())
        .filter(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
        .collect()
}

/// The first value of a parameter, decoded.
pub fn value(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

/// The names of all parameters, decoded, in order.
pub fn names(query: &str) -> Vec<String> {
    form_urlencoded::parse(query.as_bytes())
        .map(|(key, _)| key.into_owned())
        .collect()
}

/// Parses a boolean parameter: `1`, `true` or no value is true; `0`, `false` or no
/// parameter is false.
///
/// # Errors
///
/// The value is another one.
pub fn flag(query: &str, name: &str) -> Result<bool, String> {
    match value(query, name).as_deref() {
        None | Some("0" | "false") => Ok(false),
        Some("" | "1" | "true") => Ok(true),
        Some(other) => Err(format!("{name} must be 0 or 1, not {other:?}")),
    }
}

/// Parses `format`: true for `json`, false for `text`, `None` without the parameter.
fn json(query: &str) -> Result<Option<bool>, String> {
    match value(query, "format").as_deref() {
        None => Ok(None),
        Some("json") => Ok(Some(true)),
        Some("text") => Ok(Some(false)),
        Some(other) => Err(format!("format must be json or text, not {other:?}")),
    }
}

/// Whether the client asks for JSON: by the parameter `format`, or else by `Accept`.
///
/// # Errors
///
/// `format` is neither `json` nor `text`.
pub fn wants_json(query: &str, headers: &HeaderMap) -> Result<bool, String> {
    let accepted = || headers.get(ACCEPT)?.to_str().ok();
    let asked = json(query)?;
    Ok(asked.unwrap_or_else(|| accepted().is_some_and(|it| it.contains("application/json"))))
}

/// Whether the client prefers a page to text and JSON: `Accept` names HTML before both, and
/// the query has no `format`. Accepting any type does not count as a preference.
pub fn wants_page(query: &str, headers: &HeaderMap) -> bool {
    if value(query, "format").is_some() {
        return false;
    }
    let accepted: Vec<&str> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let accepted = accepted.join(",");
    let weight = |media: &str| weight_of(&accepted, media);
    weight("text/html") > weight("application/json").max(weight("text/plain"))
}

/// The weight of a media type in `Accept`, in thousandths; 0 if it is not listed.
fn weight_of(accepted: &str, media: &str) -> u32 {
    let weight = |item: &str| {
        let mut parts = item.split(';').map(str::trim);
        let named = parts.next()?;
        if !named.eq_ignore_ascii_case(media) {
            return None;
        }
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        let weight = weight.map_or(Some(1.0), |weight| weight.parse::<f32>().ok())?;
        Some((weight.clamp(0.0, 1.0) * 1000.0) as u32)
    };
    accepted.split(',').filter_map(weight).max().unwrap_or(0)
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
        assert_eq!(value("&&=x&a=%ff%4", "a").as_deref(), Some("\u{fffd}%4"));
    }

    #[test]
    fn browsers_prefer_pages() {
        let wants = |query: &str, accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            wants_page(query, &headers)
        };
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        assert!(wants("", browser));
        assert!(wants("kind=app", "TEXT/HTML"));
        assert!(wants("", "application/json;q=0.5, text/html; q=0.6"));
        assert!(!wants("format=json", browser));
        for other in [
            "*/*",
            "text/*",
            "application/json",
            "text/plain, text/html",
            "text/html;q=0",
            "text/html;q=x",
            "text/html;q=0.5, application/json",
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
        ] {
            assert!(!wants("", other), "{other}");
        }
        assert!(!wants_page("", &HeaderMap::new()));
    }

    #[test]
    fn unknown_values_are_rejected() {
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
