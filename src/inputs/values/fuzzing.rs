//! Properties of the bodies of `/create` and `/update`, for tests and `fuzz/`.

use super::families_json::{JsonLimits, decode};

const LIMITS: JsonLimits = JsonLimits {
    families: 20,
    values: 100,
    labels: 10,
    length: 100,
};

/// JSON of families: accepted bodies are JSON, and rejections have a position.
pub fn values(json: &[u8]) {
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(json).is_ok();
    match decode(json, LIMITS) {
        Ok((families, _)) => {
            assert!(is_json);
            assert!(families.len() <= LIMITS.families);
        }
        Err(rejection) => {
            assert!(!rejection.message.is_empty() && rejection.line.is_some());
        }
    }
}
