//! Names in base64, for paths that every client sends unchanged: some clients encode special
//! characters of a path and some do not, and a slash would end a segment.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The URL-safe alphabet, written without padding and read with or without it.
const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The name in base64.
pub fn encoded(name: &str) -> String {
    ENGINE.encode(name)
}

/// Decodes a name in base64; `None` if it is not valid.
pub fn decoded(base64: &str) -> Option<String> {
    String::from_utf8(ENGINE.decode(base64).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_only_characters_that_paths_keep() {
        for name in [
            "a",
            "external_poll: h:1/a b?c=\u{e9}",
            "{job=\"x\"}",
            "~~>>??",
        ] {
            let base64 = encoded(name);
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
            assert!(base64.chars().all(plain), "{base64}");
            assert_eq!(decoded(&base64).as_deref(), Some(name));
        }
        assert_eq!(decoded("YQ==").as_deref(), Some("a"));
        for wrong in ["a b", "Y", "__79"] {
            assert_eq!(decoded(wrong), None, "{wrong}");
        }
    }
}
