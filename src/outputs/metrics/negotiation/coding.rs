//! Negotiates gzip by `Accept-Encoding`.

use hyper::header::{ACCEPT_ENCODING, HeaderMap};

/// Whether the client prefers gzip to plain text (RFC 9110, section 12.5.3). Without the header
/// or with `q=0` it does not; `*` stands for codings that are not named; at equal quality, gzip
/// is preferred.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let mut gzip = None;
    let mut identity = None;
    let mut any = None;
    for value in headers.get_all(ACCEPT_ENCODING) {
        let Ok(value) = value.to_str() else { continue };
        for item in value.split(',') {
            let mut parts = item.split(';');
            let coding = parts.next().unwrap_or_default().trim();
            let quality = parts.find_map(quality).unwrap_or(1.0);
            if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
                gzip = Some(quality);
            } else if coding.eq_ignore_ascii_case("identity") {
                identity = Some(quality);
            } else if coding == "*" {
                any = Some(quality);
            }
        }
    }
    let gzip = gzip.or(any).unwrap_or(0.0);
    // Plain text that is not named comes after every coding that is.
    let identity = identity.unwrap_or(0.0);
    gzip > 0.0 && gzip >= identity
}

/// The quality in a parameter `q`.
fn quality(parameter: &str) -> Option<f32> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    // An invalid quality means not acceptable.
    Some(value.trim().parse().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn qualities_wildcards_and_identity_count() {
        let cases = [
            (None, false),
            (Some(""), false),
            (Some("gzip"), true),
            (Some("GZip"), true),
            (Some("x-gzip"), true),
            (Some("deflate, br"), false),
            (Some("deflate, gzip;q=1.0, *;q=0.5"), true),
            (Some("gzip;q=0"), false),
            (Some("gzip; q=0.000"), false),
            (Some("gzip;q=0, *"), false),
            (Some("*"), true),
            (Some("*;q=0"), false),
            (Some("identity"), false),
            (Some("identity, gzip"), true),
            (Some("identity;q=1, gzip;q=0.5"), false),
            (Some("identity;q=0, *"), true),
            (Some("gzip;q=nonsense"), false),
        ];
        for (value, expected) in cases {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(value));
            }
            assert_eq!(accepts_gzip(&headers), expected, "{value:?}");
        }
    }
}
