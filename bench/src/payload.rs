//! Texts to push, about 93 bytes a series, and the messages that carry them.

use std::fmt::Write;

/// Value of an app's first series. All values have as many digits, so that a text keeps its length
/// when its values change.
pub const FIRST_VALUE: u64 = 1_234_567;

/// One family of `series` series, whose values grow with `version`.
pub fn app_text(app: &str, series: usize, version: u64) -> String {
    let mut text = String::from(
        "# HELP load_requests_total Requests handled.\n# TYPE load_requests_total counter\n",
    );
    for number in 0..series {
        let value = FIRST_VALUE + version + number as u64;
        let _ = writeln!(
            text,
            "load_requests_total{{app=\"{app}\",code=\"200\",handler=\"/api/v1/items\",series=\"{number:04}\"}} {value}"
        );
    }
    text
}

/// The JSON document that carries a text.
pub fn json_document(app: &str, text: &str) -> Vec<u8> {
    serde_json::json!({ app: text }).to_string().into_bytes()
}

/// One message of `schema/metric_data.capnp`, in one segment.
pub fn capnp_message(app: &str, text: &str) -> Vec<u8> {
    let words = |text: &str| (text.len() + 1).div_ceil(8) as u32;
    let pointer = |offset: u32, text: &str| [offset << 2 | 1, (text.len() as u32 + 1) << 3 | 2];
    let head = [[0, 3 + words(app) + words(text)], [0, 2 << 16]];
    let pointers = [pointer(1, app), pointer(words(app), text)];
    let mut message: Vec<u8> = head
        .iter()
        .chain(&pointers)
        .flatten()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    for text in [app, text] {
        let end = message.len() + 8 * words(text) as usize;
        message.extend_from_slice(text.as_bytes());
        message.resize(end, 0);
    }
    message
}
