//! The query of a URL.

use percent_encoding::percent_decode_str;

/// The values of a parameter, decoded, in order.
pub fn values(query: &str, name: &str) -> Vec<String> {
    query
        .split('&')
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key) == name).then(|| decode(value))
        })
        .collect()
}

/// The first value of a parameter.
pub fn value(query: &str, name: &str) -> Option<String> {
    values(query, name).into_iter().next()
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
    }
}
