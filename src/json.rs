//! Errors of JSON texts, in the words of their readers.

/// The message of an error without the position that it ends with. Readers have a field or words
/// of their own for it.
pub fn cause(error: &serde_json::Error) -> String {
    let mut message = error.to_string();
    if let Some(end) = message.rfind(" at line ") {
        message.truncate(end);
    }
    message
}
