//! Base64 for URLs (RFC 4648, section 5), as far as paths need it.

/// The bytes of a text in base64, its `=` at the end aside. `None` where it
/// has other characters, or bits that are of no byte.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0);
    for digit in text.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    // One digit alone is no byte. Bits that are left over say nothing; the
    // reference takes them whatever they are.
    (held < 6).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_decodes_with_and_without_padding() {
        for (text, bytes) in [
            ("", Some(&b""[..])),
            ("=", Some(b"")),
            ("eA==", Some(b"x")),
            ("eA", Some(b"x")),
            ("YWI=", Some(b"ab")),
            ("YWJj", Some(b"abc")),
            ("L3Zhci90bXA=", Some(b"/var/tmp")),
            ("-_-_", Some(b"\xfb\xff\xbf")),
            ("e", None),
            ("YWJjZ", None),
            ("e*A", None),
            ("+/", None),
            ("eA=A", None),
        ] {
            assert_eq!(decode(text).as_deref(), bytes, "{text}");
        }
    }
}
