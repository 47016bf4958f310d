//! Numbers that keep all their bits.

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::exposition::number_text;

/// A number that is stored exactly. Formats for people write numbers that JSON lacks as texts:
/// `"NaN"`, `"+Inf"`, `"-Inf"`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Exact(pub f64);

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() && !self.0.is_finite() {
            return serializer.serialize_str(&number_text(self.0));
        }
        serializer.serialize_f64(self.0)
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return deserializer.deserialize_any(NumberOrText);
        }
        f64::deserialize(deserializer).map(Exact)
    }
}

struct NumberOrText;

impl Visitor<'_> for NumberOrText {
    type Value = Exact;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, \"NaN\", \"+Inf\" or \"-Inf\"")
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Exact, E> {
        Ok(Exact(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Exact, E> {
        Ok(Exact(number as f64))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Exact, E> {
        Ok(Exact(number as f64))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Exact, E> {
        match text {
            "NaN" => Ok(Exact(f64::NAN)),
            "+Inf" => Ok(Exact(f64::INFINITY)),
            "-Inf" => Ok(Exact(f64::NEG_INFINITY)),
            _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_both_kinds_of_formats() {
        let negative_nan = f64::from_bits(f64::NAN.to_bits() | 1 << 63 | 1);
        for number in [0.0, -0.0, 0.1, 1e300, -5.0, f64::INFINITY, negative_nan] {
            let bytes = postcard::to_allocvec(&Exact(number)).unwrap();
            let back: Exact = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(back.0.to_bits(), number.to_bits());
            let text = serde_json::to_string(&Exact(number)).unwrap();
            let back: Exact = serde_json::from_str(&text).unwrap();
            let equal = back.0.to_bits() == number.to_bits();
            assert!(equal || back.0.is_nan() && number.is_nan(), "{text}");
        }
        assert!(serde_json::from_str::<Exact>("\"one\"").is_err());
    }
}
