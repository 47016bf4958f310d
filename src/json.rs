//! Messages of JSON errors.

/// The message of an error without its position, which callers report separately.
pub fn cause(error: &serde_json::Error) -> String {
    let mut message = error.to_string();
    if let Some(end) = message.rfind(" at line ") {
        message.truncate(end);
    }
    message
}
