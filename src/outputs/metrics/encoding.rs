//! `Accept-Encoding`: whether gzip may be sent.

use hyper::header::{ACCEPT_ENCODING, HeaderMap};

/// Whether the client prefers gzip to the plain text, by RFC 9110, section
/// 12.5.3: an absent header, and `q=0`, mean no; `*` stands for what is not
/// named; where both are as welcome, gzip is sent.
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
    // Plain text is always acceptable unless it is said not to be, and is
    // second to anything that is asked for by name.
    let identity = identity.unwrap_or(0.0);
    gzip > 0.0 && gzip >= identity
}

fn quality(parameter: &str) -> Option<f32> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    // What cannot be read is taken as unwelcome.
    Some(value.trim().parse().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn qualities_wildcards_and_identity_are_heeded() {
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
